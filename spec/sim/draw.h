/* draw: the chance in a run, all of it from one seed: the same seed, the same run. */
#ifndef SIM_DRAW_H
#define SIM_DRAW_H

#include <stdbool.h>
#include <stdint.h>

typedef struct draw {
  uint64_t state;
} draw;

static inline void draw_init (draw *d, uint64_t seed) { d->state = seed; }

/* splitmix64: neighbouring seeds give unlike runs. */
static inline uint64_t draw_bits (draw *d) {
  uint64_t x = d->state += UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
  return x ^ (x >> 31);
}

/* 0 .. n-1; n at least 1. */
static inline unsigned draw_below (draw *d, unsigned n) { return (unsigned)((draw_bits(d) >> 32) * n >> 32); }

static inline bool draw_chance (draw *d, unsigned per_mille) { return draw_below(d, 1000) < per_mille; }

#endif
