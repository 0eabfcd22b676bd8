/* eb_bell: see eb_bell.h. */
#include "eb_bell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0  /* there SO_NOSIGPIPE does it */
#endif

void eb_bell_init (eb_bell *b) {
  memset(b, 0, sizeof *b);
  atomic_init(&b->peer, -1);
  b->listener = -1;
}

static void expect_nobody (eb_bell *b) {
  if (b->listener < 0) return;
  close(b->listener);
  b->listener = -1;
  unlink(b->path);
  rmdir(b->folder);
}

void eb_bell_fini (eb_bell *b) {
  expect_nobody(b);
  int peer = atomic_exchange(&b->peer, -1);
  if (peer >= 0) close(peer);
}

static bool prepare (int fd) {
#ifdef SO_NOSIGPIPE
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
         fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* mkdtemp gives a folder that nobody else may enter. */
static bool make_folder (eb_bell *b, const char *parent) {
  int n = snprintf(b->folder, sizeof b->folder, "%s/eventbus.XXXXXX", parent);
  if (n < 0 || (size_t)n + sizeof "/bell" > sizeof b->path) {
    errno = ENAMETOOLONG;
    return false;
  }
  if (mkdtemp(b->folder) == NULL) return false;
  memcpy(b->path, b->folder, (size_t)n);
  memcpy(b->path + n, "/bell", sizeof "/bell");
  return true;
}

static bool bind_to (const eb_bell *b) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  size_t n = strlen(b->path) + 1;
  if (n > sizeof at.sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(at.sun_path, b->path, n);
  return bind(b->listener, (struct sockaddr *)&at, sizeof at) == 0 &&
         listen(b->listener, 1) == 0;
}

bool eb_bell_listen (eb_bell *b, eb_error *err) {
  expect_nobody(b);
  const char *tmp = getenv("TMPDIR");
  bool made = tmp != NULL && *tmp != '\0' && make_folder(b, tmp);
  if (!made && !make_folder(b, "/tmp"))
    return eb_error_set(err, EB_ERR_CONNECTION,
                        "no folder for a socket in TMPDIR or /tmp: %s",
                        strerror(errno));
  b->listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (b->listener >= 0 && prepare(b->listener) && bind_to(b)) return true;
  int why = errno;
  if (b->listener < 0)
    rmdir(b->folder);
  else
    expect_nobody(b);
  return eb_error_set(err, EB_ERR_CONNECTION, "no socket in %s: %s", b->folder,
                      strerror(why));
}

bool eb_bell_take (eb_bell *b, eb_error *err) {
  int fd = b->listener < 0 ? -1 : accept(b->listener, NULL, NULL);
  int why = b->listener < 0 ? ENOTCONN : errno;
  expect_nobody(b);
  if (fd >= 0 && !prepare(fd)) {
    why = errno;
    close(fd);
    fd = -1;
  }
  if (fd < 0)
    return eb_error_set(err, EB_ERR_CONNECTION, "nobody has connected: %s",
                        strerror(why));
  /* The number must never be free while another thread may ring it. */
  int old = atomic_load(&b->peer);
  if (old >= 0) {
    bool replaced = dup2(fd, old) >= 0 && prepare(old);
    why = errno;
    close(fd);
    if (!replaced)
      return eb_error_set(err, EB_ERR_CONNECTION, "%s", strerror(why));
  } else {
    atomic_store(&b->peer, fd);
  }
  eb_bell_ring(b);
  return true;
}

void eb_bell_ring (const eb_bell *b) {
  int peer = atomic_load(&b->peer);
  if (peer < 0) return;
  int saved = errno;
  while (send(peer, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
  errno = saved;
}
