/* eb_wake: see eb_wake.h. */
#include "eb_wake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

/* EB_NO_EVENTFD: so that the pipe is tested on Linux too. */
#if defined(__linux__) && !defined(EB_NO_EVENTFD)
#define USE_EVENTFD 1
#include <sys/eventfd.h>
#endif

#if defined(USE_EVENTFD)

static bool make (int fds[2]) {
  fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fds[0] >= 0;
}

#elif defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__) || \
    defined(__OpenBSD__) || defined(__DragonFly__)

static bool make (int fds[2]) {
  return pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0;
}

#else

static bool prepare (int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
         fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static bool make (int fds[2]) {
  if (pipe(fds) != 0) return false;
  if (prepare(fds[0]) && prepare(fds[1])) return true;
  int saved = errno;
  close(fds[0]);
  close(fds[1]);
  errno = saved;
  return false;
}

#endif

bool eb_wake_init (eb_wake *w) {
  int fds[2];
  if (!make(fds)) {
    w->read_fd = w->write_fd = -1;
    return false;
  }
  w->read_fd = fds[0];
  w->write_fd = fds[1];
  return true;
}

void eb_wake_fini (eb_wake *w) {
  if (w == NULL) return;
  if (w->write_fd >= 0 && w->write_fd != w->read_fd) close(w->write_fd);
  if (w->read_fd >= 0) close(w->read_fd);
  w->read_fd = w->write_fd = -1;
}

void eb_wake_ring (const eb_wake *w) {
  /* An eventfd takes 8 bytes at a time; to a pipe they are just bytes. */
  static const uint64_t one = 1;
  int saved = errno;  /* a signal handler must leave it alone */
  while (write(w->write_fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
  errno = saved;
}

void eb_wake_clear (const eb_wake *w) {
  unsigned char rings[512];
  int saved = errno;
  for (;;) {
    ssize_t n = read(w->read_fd, rings, sizeof rings);
    if (n < 0 && errno == EINTR) continue;
    /* One read empties an eventfd; a pipe is empty when less came than fits. */
    if (n < (ssize_t)sizeof rings) break;
  }
  errno = saved;
}
