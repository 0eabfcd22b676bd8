/* eb_clock: the two clocks.
**
** The session never reads a clock: it is given 'now', in milliseconds. Only the I/O
** thread, the bus and the binding call these. A program's waits are counted in
** microseconds: whoever wakes a millisecond late each time, to publish at a steady
** pace, publishes in bunches. Thread: any.
*/
#ifndef EB_CLOCK_H
#define EB_CLOCK_H

#include <stdint.h>

/* A moment on the monotonic clock, in milliseconds. */
typedef int64_t eb_ms;

#define EB_NEVER INT64_MAX

/* Such a moment, or how long something takes, in microseconds. */
typedef int64_t eb_us;
enum { EB_US_IN_MS = 1000 };

eb_ms eb_clock_now (void);       /* monotonic */
eb_us eb_clock_us (void);        /* of the same clock */
int64_t eb_clock_wall_ms (void); /* since 1970, UTC */

/* The monotonic clock as of the kernel's last tick, at a fifth of the cost: never after
** eb_clock_now, and EB_CLOCK_GRAIN before it at most unless the machine stood still. */
enum { EB_CLOCK_GRAIN = 10 };
eb_ms eb_clock_coarse (void);

/* t + ms, not beyond EB_NEVER. */
static inline eb_ms eb_ms_after (eb_ms t, int64_t ms) {
  return ms >= EB_NEVER - t ? EB_NEVER : t + ms;
}
static inline eb_ms eb_ms_min (eb_ms a, eb_ms b) { return a < b ? a : b; }
static inline eb_us eb_us_min (eb_us a, eb_us b) { return a < b ? a : b; }

#endif
