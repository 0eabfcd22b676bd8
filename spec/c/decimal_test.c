/* eb_decimal: every double is written with the fewest digits that bring it back,
** and digits are read as the C library reads them. */
#include "../../src/eb_decimal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "check.h"

static uint64_t random_state = 88172645463325252u;
static uint64_t random64 (void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static double from_bits (uint64_t bits) {
  double v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

static int digits_of (uint64_t v) {
  int n = 0;
  for (; v > 0; v /= 10) n++;
  return n;
}

static double text_value (uint64_t digits, int64_t exponent) {
  char text[64];
  snprintf(text, sizeof text, "%" PRIu64 "e%" PRId64, digits, exponent);
  return strtod(text, NULL);
}

/* The fewest digits, by trying: printf rounds correctly. */
static int fewest (double v) {
  char text[64];
  for (int n = 1; n < 17; n++) {
    snprintf(text, sizeof text, "%.*e", n - 1, v);
    if (strtod(text, NULL) == v) return n;
  }
  return 17;
}

static bool is_shortest (double v) {
  eb_decimal d = eb_decimal_of(v);
  double back = text_value(d.digits, d.exponent);
  /* One digit fewer than printf finds is possible: it rounds to the nearest of
  ** its length, and below a power of two that may not be the one inside. */
  bool ok = back == v && digits_of(d.digits) <= fewest(v) &&
            d.digits % 10 != 0 && eb_decimal_value(d.digits, d.exponent) == v;
  if (!ok) printf("%a: %" PRIu64 "e%d\n", v, d.digits, d.exponent);
  return ok;
}

TEST(the_shortest_digits_come_back) {
  static const double some[] = {1, 2, 10, 100, 0.1, 0.3, 1.0 / 3, 1e22, 1e23,
      5e-324, DBL_MIN, DBL_MAX, DBL_EPSILON, 9007199254740991, 9007199254740992,
      9007199254740994, 2.2250738585072011e-308, 9.5367431640625e-07, 2e-44,
      6929495644600919.5, 1.7976931348623157e308, 123456789.123456789};
  for (size_t i = 0; i < sizeof some / sizeof *some; i++)
    CHECK(is_shortest(some[i]));
  for (int e = -1074; e <= 1023; e++) {
    double power = ldexp(1, e);
    CHECK(is_shortest(power));
    CHECK(is_shortest(nextafter(power, INFINITY)));
    if (e > -1074) CHECK(is_shortest(nextafter(power, 0)));
  }
  for (int i = 0; i < 100000; i++) {
    double v = from_bits(random64() & ~(UINT64_C(1) << 63));
    if (v > 0 && isfinite(v)) CHECK(is_shortest(v));
  }
  for (int i = 0; i < 50000; i++) {
    double v = (double)(random64() % 100000000) / (double)(1 + random64() % 1000);
    if (v > 0) CHECK(is_shortest(v));
  }
}

TEST(of_two_short_ones_the_nearer_is_chosen) {
  eb_decimal d = eb_decimal_of(9007199254740993.0 * 2);  /* 18014398509481984 +- 2 */
  CHECK_INT(digits_of(d.digits), 17);
  d = eb_decimal_of(5e-324);
  CHECK_INT(d.digits, 5);
  CHECK_INT(d.exponent, -324);
  d = eb_decimal_of(9.5367431640625e-07);
  CHECK_INT(d.digits, 95367431640625);
}

static bool reads_as_strtod (uint64_t digits, int64_t exponent) {
  double got = eb_decimal_value(digits, exponent);
  double want = text_value(digits, exponent);
  bool ok = got == want;
  if (!ok)
    printf("%" PRIu64 "e%" PRId64 ": %a, strtod %a\n", digits, exponent, got, want);
  return ok;
}

TEST(digits_are_read_as_strtod_reads_them) {
  CHECK(reads_as_strtod(0, 5));
  CHECK(reads_as_strtod(1, -400));
  CHECK(reads_as_strtod(1, 400));
  CHECK(reads_as_strtod(UINT64_MAX, 308));
  CHECK(reads_as_strtod(1, INT32_MIN));
  for (int e = -345; e <= 310; e++) {
    for (int i = 0; i < 300; i++) {
      uint64_t digits = random64() >> (random64() % 60);
      CHECK(reads_as_strtod(digits, e));
    }
  }
  /* The edges: least and greatest, subnormal, and 17 digits of any double. */
  CHECK(reads_as_strtod(17976931348623157u, 292));
  CHECK(reads_as_strtod(17976931348623158u, 292));
  CHECK(reads_as_strtod(17976931348623159u, 292));
  CHECK(reads_as_strtod(22250738585072011u, -324));
  CHECK(reads_as_strtod(22250738585072014u, -324));
  CHECK(reads_as_strtod(24703282292062327u, -340));
  CHECK(reads_as_strtod(24703282292062328u, -340));
}

/* Halfway between two doubles, and a hair beside. */
TEST(ties_go_to_the_even_one) {
  for (int i = 0; i < 20000; i++) {
    uint64_t c = (UINT64_C(1) << 53) | (random64() >> 11);
    for (int e = -4; e <= 23; e++) {
      uint64_t half = 2 * c + 1;
      uint64_t five = 1;
      for (int k = 0; k < e; k++) five *= 5;
      if (e > 0 && half % five == 0) CHECK(reads_as_strtod(half / five, e));
      if (e <= 0) CHECK(reads_as_strtod(half, e));
      CHECK(reads_as_strtod(half + 1, e));
    }
  }
  for (int shift = 0; shift < 10; shift++)
    CHECK(reads_as_strtod(((UINT64_C(1) << 53) + 1) << shift, 0));
}

int main (void) {
  RUN(the_shortest_digits_come_back);
  RUN(of_two_short_ones_the_nearer_is_chosen);
  RUN(digits_are_read_as_strtod_reads_them);
  RUN(ties_go_to_the_even_one);
  return check_done();
}
