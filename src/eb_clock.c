/* eb_clock: see eb_clock.h. */
#include "eb_clock.h"

#include <time.h>

#if defined(CLOCK_MONOTONIC_COARSE)  /* Linux */
#define COARSE CLOCK_MONOTONIC_COARSE
#else
#define COARSE CLOCK_MONOTONIC
#endif

static int64_t microseconds (clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) return 0;  /* only for an unknown clock */
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t milliseconds (clockid_t clock) {
  return microseconds(clock) / EB_US_IN_MS;
}

eb_ms eb_clock_now (void) {
  return milliseconds(CLOCK_MONOTONIC);
}

eb_us eb_clock_us (void) {
  return microseconds(CLOCK_MONOTONIC);
}

eb_ms eb_clock_coarse (void) {
  return milliseconds(COARSE);
}

int64_t eb_clock_wall_ms (void) {
  return milliseconds(CLOCK_REALTIME);
}
