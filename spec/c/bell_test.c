/* eb_bell: whoever connects reads a byte for each ring, and nothing is left in the file system. */
#include "../../src/eb_bell.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

static int connect_to (const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

static bool readable (int fd) {
  struct pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

static long drain (int fd) {
  char bytes[4096];
  return (long)recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
}

TEST(a_ring_is_a_byte_and_the_end_is_an_end) {
  eb_bell b;
  eb_error err;
  eb_bell_init(&b);
  eb_bell_ring(&b);  /* nobody is there */
  CHECK(eb_bell_listen(&b, &err));
  int fd = connect_to(b.path);
  CHECK(fd >= 0);
  CHECK(eb_bell_take(&b, &err));
  CHECK_INT(drain(fd), 1);  /* what came before is not missed */
  CHECK(!readable(fd));
  eb_bell_ring(&b);
  eb_bell_ring(&b);
  CHECK_INT(drain(fd), 2);
  eb_bell_fini(&b);
  CHECK_INT(drain(fd), 0);
  eb_bell_fini(&b);
  close(fd);
}

TEST(nothing_is_left_behind) {
  eb_bell b;
  eb_error err;
  char path[EB_BELL_PATH];
  eb_bell_init(&b);
  for (int taken = 0; taken < 2; taken++) {
    CHECK(eb_bell_listen(&b, &err));
    memcpy(path, b.path, sizeof path);
    CHECK(access(path, F_OK) == 0);
    int fd = taken ? connect_to(path) : -1;
    CHECK(eb_bell_take(&b, &err) == (taken == 1));
    CHECK(access(path, F_OK) != 0 && access(b.folder, F_OK) != 0);
    if (fd >= 0) close(fd);
  }
  CHECK(eb_bell_listen(&b, &err));
  eb_bell_fini(&b);
  CHECK(access(b.folder, F_OK) != 0);
}

TEST(a_new_connection_takes_the_place_of_the_old) {
  eb_bell b;
  eb_error err;
  eb_bell_init(&b);
  CHECK(eb_bell_listen(&b, &err));
  int first = connect_to(b.path);
  CHECK(eb_bell_take(&b, &err));
  CHECK_INT(drain(first), 1);
  close(first);
  eb_bell_ring(&b);  /* to nobody: no signal ends the process */
  CHECK(eb_bell_listen(&b, &err));
  int second = connect_to(b.path);
  CHECK(eb_bell_take(&b, &err));
  CHECK_INT(drain(second), 1);
  eb_bell_fini(&b);
  close(second);
}

TEST(a_full_socket_never_blocks_the_ringer) {
  eb_bell b;
  eb_error err;
  eb_bell_init(&b);
  CHECK(eb_bell_listen(&b, &err));
  int fd = connect_to(b.path);
  CHECK(eb_bell_take(&b, &err));
  for (int i = 0; i < 100000; i++) eb_bell_ring(&b);
  CHECK(readable(fd));
  eb_bell_fini(&b);
  close(fd);
}

TEST(a_folder_that_cannot_be_used_is_not) {
  eb_bell b;
  eb_error err;
  char longer[300];
  memset(longer, 'x', sizeof longer - 1);
  longer[sizeof longer - 1] = '\0';
  setenv("TMPDIR", longer, 1);
  eb_bell_init(&b);
  CHECK(eb_bell_listen(&b, &err));
  CHECK(strncmp(b.path, "/tmp/", 5) == 0);
  unsetenv("TMPDIR");
  eb_bell_fini(&b);
}

int main (void) {
  RUN(a_ring_is_a_byte_and_the_end_is_an_end);
  RUN(nothing_is_left_behind);
  RUN(a_new_connection_takes_the_place_of_the_old);
  RUN(a_full_socket_never_blocks_the_ringer);
  RUN(a_folder_that_cannot_be_used_is_not);
  return check_done();
}
