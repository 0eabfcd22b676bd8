/* eb_wake: rings from other threads and from signal handlers reach poll, and
** none is lost. Build it again with -DEB_NO_EVENTFD for the pipe. */
#include "../../src/eb_wake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"

static bool readable (const eb_wake *w, int wait_ms) {
  struct pollfd p = {w->read_fd, POLLIN, 0};
  int n;
  while ((n = poll(&p, 1, wait_ms)) < 0 && errno == EINTR) {
  }
  return n == 1;
}

TEST(is_readable_from_the_ring_to_the_clear) {
  eb_wake w;
  CHECK(eb_wake_init(&w));
  CHECK(!readable(&w, 0));
  eb_wake_ring(&w);
  eb_wake_ring(&w);
  CHECK(readable(&w, 0));
  CHECK(readable(&w, 0));
  eb_wake_clear(&w);
  CHECK(!readable(&w, 0));
  eb_wake_clear(&w);  /* when nobody rang: does not block */
  eb_wake_ring(&w);
  CHECK(readable(&w, 0));
  eb_wake_fini(&w);
}

TEST(descriptors_do_not_block_and_end_at_exec) {
  eb_wake w;
  CHECK(eb_wake_init(&w));
  CHECK(fcntl(w.read_fd, F_GETFL) & O_NONBLOCK);
  CHECK(fcntl(w.write_fd, F_GETFL) & O_NONBLOCK);
  CHECK(fcntl(w.read_fd, F_GETFD) & FD_CLOEXEC);
  CHECK(fcntl(w.write_fd, F_GETFD) & FD_CLOEXEC);
  eb_wake_fini(&w);
}

TEST(fini_is_idempotent) {
  eb_wake w, never = {-1, -1};
  CHECK(eb_wake_init(&w));
  int fd = w.read_fd;
  eb_wake_fini(&w);
  CHECK(fcntl(fd, F_GETFD) == -1);
  int other = dup(0);  /* takes the number: a second close would hit it */
  eb_wake_fini(&w);
  eb_wake_fini(&never);
  eb_wake_fini(NULL);
  CHECK(other == -1 || fcntl(other, F_GETFD) != -1);
  if (other >= 0) close(other);
}

TEST(a_full_pipe_never_blocks_the_ringer) {
  eb_wake w;
  CHECK(eb_wake_init(&w));
  errno = 0;
  for (int i = 0; i < 200000; i++) eb_wake_ring(&w);
  CHECK_INT(errno, 0);
  CHECK(readable(&w, 0));
  eb_wake_clear(&w);
  CHECK(!readable(&w, 0));
  eb_wake_fini(&w);
}

TEST(says_so_when_descriptors_are_out) {
  struct rlimit old, none;
  eb_wake w = {7, 7};
  CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
  none = old;
  none.rlim_cur = 0;
  CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  bool made = eb_wake_init(&w);
  int why = errno;
  setrlimit(RLIMIT_NOFILE, &old);
  CHECK(!made);
  CHECK_INT(why, EMFILE);
  CHECK(w.read_fd == -1 && w.write_fd == -1);
}

/* The protocol of every user: publish, ring; clear, then look. */
enum { RINGERS = 4, RINGS = 20000 };

static eb_wake shared;
static atomic_int published;

static void *ringer (void *unused) {
  (void)unused;
  for (int i = 0; i < RINGS; i++) {
    atomic_fetch_add(&published, 1);
    eb_wake_ring(&shared);
  }
  return NULL;
}

TEST(no_ring_of_many_threads_is_lost) {
  pthread_t threads[RINGERS];
  int seen = 0;
  bool late = false;
  atomic_store(&published, 0);
  CHECK(eb_wake_init(&shared));
  for (int i = 0; i < RINGERS; i++)
    CHECK(pthread_create(&threads[i], NULL, ringer, NULL) == 0);
  while (seen < RINGERS * RINGS && !late) {
    late = !readable(&shared, 10000);
    eb_wake_clear(&shared);
    seen = atomic_load(&published);
  }
  for (int i = 0; i < RINGERS; i++) pthread_join(threads[i], NULL);
  eb_wake_fini(&shared);
  CHECK(!late);
  CHECK_INT(seen, RINGERS * RINGS);
}

static void on_signal (int number) {
  (void)number;
  eb_wake_ring(&shared);
}

TEST(a_signal_handler_may_ring) {
  struct sigaction act = {0}, old;
  act.sa_handler = on_signal;
  CHECK(eb_wake_init(&shared));
  CHECK(sigaction(SIGUSR1, &act, &old) == 0);
  errno = E2BIG;
  raise(SIGUSR1);
  CHECK_INT(errno, E2BIG);
  CHECK(readable(&shared, 1000));
  sigaction(SIGUSR1, &old, NULL);
  eb_wake_fini(&shared);
}

int main (void) {
  RUN(is_readable_from_the_ring_to_the_clear);
  RUN(descriptors_do_not_block_and_end_at_exec);
  RUN(fini_is_idempotent);
  RUN(a_full_pipe_never_blocks_the_ringer);
  RUN(says_so_when_descriptors_are_out);
  RUN(no_ring_of_many_threads_is_lost);
  RUN(a_signal_handler_may_ring);
  return check_done();
}
