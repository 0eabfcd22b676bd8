/* eb_backoff: the delays and their bounds; eb_clock, which is too small for a
** program of its own. */
#include "../../src/eb_backoff.h"

#include <limits.h>
#include <stdbool.h>

#include "../../src/eb_clock.h"
#include "check.h"

TEST(each_delay_is_between_half_and_the_whole_of_the_power) {
  for (uint64_t seed = 0; seed < 200; seed++) {
    eb_backoff b;
    int64_t whole = 100;
    eb_backoff_init(&b, 100, 10000, seed);
    for (int i = 0; i < 20; i++) {
      int64_t delay = eb_backoff_next(&b);
      CHECK(delay >= whole / 2 && delay <= whole);
      CHECK_INT(b.tries, i + 1);
      whole = whole * 2 > 10000 ? 10000 : whole * 2;
    }
  }
}

TEST(reset_begins_again_at_the_base) {
  eb_backoff b;
  eb_backoff_init(&b, 100, 10000, 7);
  for (int i = 0; i < 10; i++) eb_backoff_next(&b);
  eb_backoff_reset(&b);
  CHECK_INT(b.tries, 0);
  CHECK(eb_backoff_next(&b) <= 100);
}

TEST(the_same_seed_gives_the_same_delays) {
  eb_backoff a, b;
  eb_backoff_init(&a, 1000, 60000, 99);
  eb_backoff_init(&b, 1000, 60000, 99);
  for (int i = 0; i < 50; i++) CHECK_INT(eb_backoff_next(&a), eb_backoff_next(&b));
}

/* A herd of processes seeded with successive numbers must not come at once. */
TEST(neighbouring_seeds_spread_over_the_whole_range) {
  int tenths[10] = {0};
  for (uint64_t seed = 0; seed < 10000; seed++) {
    eb_backoff b;
    eb_backoff_init(&b, 2000, 60000, seed);
    int64_t at = (eb_backoff_next(&b) - 1000) / 101;  /* 0 .. 1000 in ten parts */
    tenths[at < 10 ? at : 9]++;
  }
  for (int i = 0; i < 10; i++) CHECK(tenths[i] > 800 && tenths[i] < 1200);
}

TEST(extreme_settings_neither_overflow_nor_spin) {
  static const int64_t values[] = {INT64_MIN, -1, 0, 1, 2, 3, INT64_MAX / 2,
                                   INT64_MAX / 2 + 1, INT64_MAX};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
      eb_backoff b;
      eb_backoff_init(&b, values[i], values[k], UINT64_MAX);
      CHECK(b.random != 0);
      for (int n = 0; n < 70; n++) {
        int64_t delay = eb_backoff_next(&b);
        CHECK(delay >= 1 && delay <= (values[k] < 1 ? 1 : values[k]));
      }
      b.tries = UINT_MAX;
      CHECK(eb_backoff_next(&b) >= 1);
      CHECK(b.tries == UINT_MAX);
    }
  }
}

TEST(the_monotonic_clock_does_not_go_back) {
  eb_ms before = eb_clock_now();
  for (int i = 0; i < 1000; i++) {
    eb_ms now = eb_clock_now();
    CHECK(now >= before);
    before = now;
  }
  CHECK(eb_clock_wall_ms() > INT64_C(1700000000000));  /* milliseconds, not s */
  CHECK(eb_clock_wall_ms() < INT64_C(7000000000000));
}

/* A tick may be late on a busy machine: of many looks one is enough. */
TEST(the_coarse_clock_is_never_ahead_and_seldom_far_behind) {
  bool near = false;
  for (int i = 0; i < 100000 && !near; i++) {
    eb_ms before = eb_clock_now(), coarse = eb_clock_coarse();
    CHECK(coarse <= eb_clock_now());
    near = coarse >= before - EB_CLOCK_GRAIN;
  }
  CHECK(near);
}

TEST(moments_saturate_at_never) {
  CHECK(eb_ms_after(10, 5) == 15);
  CHECK(eb_ms_after(10, EB_NEVER) == EB_NEVER);
  CHECK(eb_ms_after(EB_NEVER, 0) == EB_NEVER);
  CHECK(eb_ms_after(EB_NEVER, 5) == EB_NEVER);
  CHECK(eb_ms_min(3, EB_NEVER) == 3);
}

int main (void) {
  RUN(each_delay_is_between_half_and_the_whole_of_the_power);
  RUN(reset_begins_again_at_the_base);
  RUN(the_same_seed_gives_the_same_delays);
  RUN(neighbouring_seeds_spread_over_the_whole_range);
  RUN(extreme_settings_neither_overflow_nor_spin);
  RUN(the_monotonic_clock_does_not_go_back);
  RUN(the_coarse_clock_is_never_ahead_and_seldom_far_behind);
  RUN(moments_saturate_at_never);
  return check_done();
}
