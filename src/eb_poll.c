/* eb_poll: see eb_poll.h. */
#include "eb_poll.h"

#include <time.h>

int eb_poll (struct pollfd *fds, nfds_t n, eb_us now, eb_us end) {
  eb_us us = end > now ? end - now : 0;
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
  struct timespec t = {.tv_sec = (time_t)(us / 1000000),
                       .tv_nsec = (long)(us % 1000000 * 1000)};
  return ppoll(fds, n, &t, NULL);
#else
  return poll(fds, n, (int)((us + EB_US_IN_MS - 1) / EB_US_IN_MS));
#endif
}
