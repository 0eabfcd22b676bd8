/* eb_backoff: how long to wait before the next try.
**
** Exponential with jitter: each delay lies between half of and the whole of
** base * 2^n, at most 'cap'. Pure: randomness is a seed the caller gives.
*/
#ifndef EB_BACKOFF_H
#define EB_BACKOFF_H

#include <stdint.h>

typedef struct eb_backoff {
  int64_t base_ms;
  int64_t cap_ms;
  unsigned tries;   /* since the last reset */
  uint64_t random;  /* state of the generator, never 0 */
} eb_backoff;

void eb_backoff_init (eb_backoff *b, int64_t base_ms, int64_t cap_ms,
                      uint64_t seed);
int64_t eb_backoff_next (eb_backoff *b);  /* milliseconds; counts a try */
void eb_backoff_reset (eb_backoff *b);    /* after a success */

#endif
