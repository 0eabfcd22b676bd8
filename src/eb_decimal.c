/* eb_decimal: see eb_decimal.h. */
#include "eb_decimal.h"

#include <math.h>
#include <string.h>

typedef struct eb_power {
  uint64_t hi;
  uint64_t lo;
} eb_power;

#include "eb_decimal_powers.h"

enum {
  FIRST_POWER = -342,
  LAST_VALUE = 308,    /* no double is 10^309 or more */
  LAST_EXACT = 55,     /* 5^55 is the last that 128 bits hold */
  FRACTION_BITS = 52,
  BIAS = 1075          /* of the exponent of a significand that is whole */
};

static const uint64_t HIDDEN = UINT64_C(1) << FRACTION_BITS;

__extension__ typedef unsigned __int128 uint128;

static eb_power power_of (int q) { return powers[q - FIRST_POWER]; }

/* floor(log2(10^e)) and floor(log10(2^e)), the latter of 3/4 * 2^e when asked:
** exact over all exponents of doubles. Shifts of negative numbers are those of
** every compiler that has 128 bits. */
static int log2_of_power10 (int e) { return (e * 1741647) >> 19; }
static int log10_of_power2 (int e, bool three_quarters) {
  return (e * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

/* Writing. */

/* g * c / 2^128, whose last bit says whether anything was cut off. */
static uint64_t round_to_odd (eb_power g, uint64_t c) {
  uint128 low = (uint128)g.lo * c, high = (uint128)g.hi * c;
  high += (uint64_t)(low >> 64);
  return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

static eb_decimal trimmed (uint64_t digits, int exponent) {
  eb_decimal d = {digits, exponent};
  while (d.digits % 10 == 0) {
    d.digits /= 10;
    d.exponent++;
  }
  return d;
}

eb_decimal eb_decimal_of (double v) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  uint64_t fraction = bits & (HIDDEN - 1);
  int biased = (int)(bits >> FRACTION_BITS) & 0x7FF;
  uint64_t c = biased != 0 ? HIDDEN | fraction : fraction;
  int q = (biased != 0 ? biased : 1) - BIAS;

  /* Whole numbers below 2^53 are their own digits. */
  if (q <= 0 && q > -53 && (c & ((UINT64_C(1) << -q) - 1)) == 0)
    return trimmed(c >> -q, 0);

  /* In quarters of the last bit: what reads back as v lies between 'left' and
  ** 'right', both included when c is even. Below a power of two doubles are
  ** twice as dense. */
  bool even = (c & 1) == 0;
  bool dense = fraction == 0 && biased > 1;
  uint64_t left = 4 * c - 2 + dense, middle = 4 * c, right = 4 * c + 2;
  int k = log10_of_power2(q, dense);
  int shift = q + log2_of_power10(-k) + 1;
  eb_power g = power_of(-k);
  /* Rounded up, where it is not exact. */
  if (-k < 0 || -k > LAST_EXACT) {
    if (++g.lo == 0) g.hi++;
  }
  uint64_t low = round_to_odd(g, left << shift) + !even;
  uint64_t mid = round_to_odd(g, middle << shift);
  uint64_t high = round_to_odd(g, right << shift) - !even;

  uint64_t s = mid / 4;
  if (s >= 10) {
    uint64_t tens = s / 10;
    bool below = low <= 40 * tens, above = 40 * tens + 40 <= high;
    if (below != above) return trimmed(tens + above, k + 1);
  }
  bool below = low <= 4 * s, above = 4 * s + 4 <= high;
  if (below != above) return trimmed(s + above, k);
  uint64_t half = 4 * s + 2;
  return trimmed(s + (mid > half || (mid == half && (s & 1) != 0)), k);
}

/* Reading. */

static double from_bits (uint64_t bits) {
  double v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

/* The top 128 bits of w * 10^q; a second product only when the first leaves the
** rounding open. */
static void scaled (uint64_t w, int q, uint64_t *hi, uint64_t *lo) {
  const uint64_t open = UINT64_MAX >> (FRACTION_BITS + 3);
  eb_power g = power_of(q);
  /* The reciprocals of exact powers are wanted rounded up. */
  if (q < 0 && q >= -27) {
    if (++g.lo == 0) g.hi++;
  }
  uint128 first = (uint128)w * g.hi;
  if (((uint64_t)(first >> 64) & open) == open)
    first += (uint64_t)(((uint128)w * g.lo) >> 64);
  *hi = (uint64_t)(first >> 64);
  *lo = (uint64_t)first;
}

double eb_decimal_value (uint64_t digits, int64_t exponent) {
  if (digits == 0 || exponent < FIRST_POWER) return 0;
  if (exponent > LAST_VALUE) return (double)INFINITY;
  int q = (int)exponent;
  int zeros = __builtin_clzll(digits);
  uint64_t hi, lo;
  scaled(digits << zeros, q, &hi, &lo);
  int upper = (int)(hi >> 63);
  int cut = upper + 64 - FRACTION_BITS - 3;
  uint64_t c = hi >> cut;
  int biased = log2_of_power10(q) + 63 + upper - zeros + 1023;

  if (biased <= 0) {  /* subnormal */
    if (1 - biased >= 64) return 0;
    c >>= 1 - biased;
    c = (c + (c & 1)) >> 1;
    return from_bits(c);  /* rounded up to 2^52 it is the least normal one */
  }
  /* Exactly between two: to the even one. Only these powers can be exact. */
  if (lo <= 1 && q >= -4 && q <= 23 && (c & 3) == 1 && c << cut == hi)
    c &= ~UINT64_C(1);
  c = (c + (c & 1)) >> 1;
  if (c >= 2 * HIDDEN) {
    c = HIDDEN;
    biased++;
  }
  if (biased >= 0x7FF) return (double)INFINITY;
  return from_bits((c & (HIDDEN - 1)) | (uint64_t)biased << FRACTION_BITS);
}
