/* eb_clock: the two clocks, in milliseconds.
**
** The session never reads a clock: it is given 'now'. Only the I/O thread and
** the binding call these. Thread: any.
*/
#ifndef EB_CLOCK_H
#define EB_CLOCK_H

#include <stdint.h>

/* A moment on the monotonic clock, in milliseconds. */
typedef int64_t eb_ms;

#define EB_NEVER INT64_MAX

eb_ms eb_clock_now (void);       /* monotonic */
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

#endif
