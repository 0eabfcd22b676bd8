/* eb_backoff: see eb_backoff.h. */
#include "eb_backoff.h"

#include <limits.h>

/* splitmix64: seeds that differ in one bit (two processes, two buses) must not
** give delays that resemble each other. */
static uint64_t mixed (uint64_t x) {
  x += UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
  return x ^ (x >> 31);
}

/* xorshift64*: never 0 when begun with something else. */
static uint64_t draw (eb_backoff *b) {
  uint64_t x = b->random;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  b->random = x;
  return x * UINT64_C(0x2545F4914F6CDD1D);
}

/* min(base * 2^tries, cap), without overflow. */
static int64_t whole_delay (const eb_backoff *b) {
  int64_t delay = b->base_ms;
  for (unsigned n = b->tries; n > 0 && delay < b->cap_ms; n--)
    delay = delay > b->cap_ms / 2 ? b->cap_ms : delay * 2;
  return delay < b->cap_ms ? delay : b->cap_ms;
}

void eb_backoff_init (eb_backoff *b, int64_t base_ms, int64_t cap_ms,
                      uint64_t seed) {
  b->base_ms = base_ms < 1 ? 1 : base_ms;  /* 0 would spin */
  b->cap_ms = cap_ms < 1 ? 1 : cap_ms;
  b->tries = 0;
  b->random = mixed(seed);
  if (b->random == 0) b->random = 1;
}

int64_t eb_backoff_next (eb_backoff *b) {
  int64_t delay = whole_delay(b);
  int64_t half = delay / 2;
  if (b->tries < UINT_MAX) b->tries++;
  return delay - half + (int64_t)(draw(b) % ((uint64_t)half + 1));
}

void eb_backoff_reset (eb_backoff *b) {
  b->tries = 0;
}
