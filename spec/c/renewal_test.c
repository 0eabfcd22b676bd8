/* eb_renewal: when a channel that is refused is given up, and when its connection is. */
#include "../../src/eb_renewal.h"

#include "check.h"

/* Some moment, and a renewal that knows of none. */
#define BEGIN eb_ms now = 5000000; eb_renewal r; eb_renewal_init(&r)
#define NACK eb_renewal_answered(&r, true, now)
#define ACK eb_renewal_answered(&r, false, now)
#define DUE (r.due_by != EB_NEVER)
#define REMEDY(answered) eb_renewal_remedy(&r, answered, now)

/* A nack each 'every' ms, until a renewal is due; how long that took. */
static int64_t refused_until_due (eb_renewal *r, eb_ms *now, int64_t every) {
  eb_ms from = *now;
  for (int i = 0; i < 1000 && r->due_by == EB_NEVER; i++) {
    *now += every;
    eb_renewal_answered(r, true, *now);
  }
  return *now - from;
}

/* Renewals that come to nothing, none of them the last resort, until the connection is spared no longer. */
static void spared_until (eb_renewal *r, eb_ms *now, eb_ms spared) {
  for (;;) {
    refused_until_due(r, now, 1000);
    if (*now >= spared) break;
    CHECK_INT(r->due_by, *now + 200);
    *now = r->due_by;
    CHECK_INT(eb_renewal_remedy(r, false, *now), EB_REMEDY_NONE);
  }
  CHECK_INT(r->due_by, *now + 5000);
}

/* Until the connection is given up: a nack each seven seconds, and others that wait. */
static int64_t stuck_until_given_up (eb_renewal *r, eb_ms *now) {
  eb_ms from = *now;
  for (int i = 0; i < 1000; i++) {
    refused_until_due(r, now, 7000);
    *now = r->due_by;
    if (eb_renewal_remedy(r, false, *now) == EB_REMEDY_CONNECTION) break;
  }
  eb_renewal_connection_gone(r);
  return *now - from;
}

TEST(nacks_of_one_second_are_taken_and_the_next_makes_a_renewal_due) {
  BEGIN;
  NACK;
  now += 999;
  NACK;
  CHECK(!DUE);
  now += 1;
  ACK;
  CHECK(!DUE);
  NACK;
  CHECK(DUE);
  CHECK_INT(REMEDY(true), EB_REMEDY_CHANNEL);
}

TEST(patience_doubles_up_to_ten_seconds_and_begins_anew_with_a_connection_or_after_a_minute) {
  static const int64_t want[] = {1000, 2000, 4000, 8000, 10000, 10000};
  BEGIN;
  for (int i = 0; i < 6; i++) {
    NACK;
    CHECK_INT(refused_until_due(&r, &now, 100), want[i]);
    CHECK_INT(REMEDY(true), EB_REMEDY_CHANNEL);
    eb_renewal_channel_gone(&r);
  }
  eb_renewal_connection_gone(&r);
  NACK;
  CHECK_INT(refused_until_due(&r, &now, 100), 1000);
  eb_renewal_channel_gone(&r);
  NACK;
  now += 59999;
  NACK;
  CHECK(DUE);
  eb_renewal_channel_gone(&r);
  now += 60000;
  NACK;
  CHECK_INT(refused_until_due(&r, &now, 100), 1000);
}

TEST(nacks_while_one_is_due_count_for_the_calm) {
  BEGIN;
  refused_until_due(&r, &now, 1000);
  for (int i = 0; i < 20; i++) {
    now += 5000;
    NACK;
    eb_renewal_put_off(&r, now);
  }
  eb_renewal_channel_gone(&r);
  NACK;
  CHECK_INT(refused_until_due(&r, &now, 100), 2000);
}

TEST(two_nacks_an_hour_apart_are_no_refusal) {
  BEGIN;
  NACK;
  now += 3600 * 1000;
  NACK;
  CHECK(!DUE);
}

TEST(a_channel_that_is_gone_begins_anew) {
  BEGIN;
  NACK;
  now += 900;
  eb_renewal_channel_gone(&r);
  NACK;
  now += 900;
  NACK;
  CHECK(!DUE);
  now += 100;
  NACK;
  CHECK(DUE);
  eb_renewal_channel_gone(&r);
  CHECK(!DUE);
}

TEST(a_drain_lasts_200_ms_and_nacks_do_not_prolong_it) {
  BEGIN;
  NACK;
  now += 1000;
  NACK;
  now += 199;
  NACK;
  CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
  CHECK(DUE);
  now += 1;
  CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
  CHECK(!DUE);
  refused_until_due(&r, &now, 1000);
  eb_ms by = r.due_by;
  CHECK_INT(by, now + 5000);
  NACK;
  now += 4999;
  NACK;
  CHECK_INT(r.due_by, by);
}

TEST(what_came_to_nothing_is_forgotten_with_the_channel_and_after_a_calm_minute) {
  for (int calm = 0; calm < 2; calm++) {
    BEGIN;
    refused_until_due(&r, &now, 1000);
    now = r.due_by;
    CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
    if (calm)
      now += 60000;
    else
      eb_renewal_channel_gone(&r);
    refused_until_due(&r, &now, 1000);
    CHECK_INT(r.due_by, now + 200);
  }
}

TEST(the_second_that_comes_to_nothing_in_silence_costs_the_connection) {
  BEGIN;
  CHECK_INT(stuck_until_given_up(&r, &now), 4 * 7000 + 200 + 5000);
  CHECK(!DUE);
}

TEST(a_drain_in_which_anything_is_answered_costs_no_connection_and_is_not_repeated_soon) {
  BEGIN;
  refused_until_due(&r, &now, 3000);
  now = r.due_by;
  CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
  refused_until_due(&r, &now, 3000);
  now += 1001;
  ACK;
  now += 3999;
  CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
  CHECK(!DUE);
  spared_until(&r, &now, now + 10000);
}

TEST(a_last_drain_that_succeeds_is_not_repeated_soon) {
  BEGIN;
  refused_until_due(&r, &now, 3000);
  now = r.due_by;
  CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
  refused_until_due(&r, &now, 3000);
  CHECK_INT(r.due_by, now + 5000);
  CHECK_INT(REMEDY(true), EB_REMEDY_CHANNEL);
  CHECK_INT(r.spared_until, now + 10000);
}

TEST(a_connection_is_spared_twice_as_long_each_time_up_to_320_seconds_and_a_calm_minute_ends_that) {
  BEGIN;
  stuck_until_given_up(&r, &now);
  int64_t spared = 10000;
  for (int i = 0; i < 10; i++) {
    int64_t took = stuck_until_given_up(&r, &now);
    CHECK(took >= spared && took <= spared + 2 * 33200);
    spared = spared < 320000 ? spared * 2 : spared;
    if (spared > 320000) spared = 320000;
  }
  CHECK(r.spared_until > now + 60000);
  now += 53000;
  CHECK_INT(stuck_until_given_up(&r, &now), 33200);
  CHECK_INT(r.spared_until, now + 10000);
}

TEST(a_channel_that_does_not_close_costs_the_connection_whenever_that_was_last) {
  BEGIN;
  stuck_until_given_up(&r, &now);
  NACK;
  refused_until_due(&r, &now, 100);
  CHECK_INT(REMEDY(true), EB_REMEDY_CHANNEL);
  now += 4999;
  NACK;
  CHECK_INT(REMEDY(true), EB_REMEDY_NONE);
  now += 1;
  CHECK_INT(REMEDY(true), EB_REMEDY_CONNECTION);
}

TEST(what_is_put_off_begins_all_again) {
  BEGIN;
  refused_until_due(&r, &now, 7000);
  now = r.due_by;
  eb_renewal_put_off(&r, now);
  CHECK_INT(r.due_by, now + 200);
  now = r.due_by;
  CHECK_INT(REMEDY(false), EB_REMEDY_NONE);
  refused_until_due(&r, &now, 7000);
  now = r.due_by;
  eb_renewal_put_off(&r, now);
  CHECK_INT(r.due_by, now + 5000);
  CHECK_INT(REMEDY(true), EB_REMEDY_CHANNEL);
  now = r.due_by;
  eb_renewal_put_off(&r, now);
  CHECK_INT(r.due_by, now + 5000);
  CHECK_INT(REMEDY(true), EB_REMEDY_NONE);
}

int main (void) {
  RUN(nacks_of_one_second_are_taken_and_the_next_makes_a_renewal_due);
  RUN(patience_doubles_up_to_ten_seconds_and_begins_anew_with_a_connection_or_after_a_minute);
  RUN(nacks_while_one_is_due_count_for_the_calm);
  RUN(two_nacks_an_hour_apart_are_no_refusal);
  RUN(a_channel_that_is_gone_begins_anew);
  RUN(a_drain_lasts_200_ms_and_nacks_do_not_prolong_it);
  RUN(what_came_to_nothing_is_forgotten_with_the_channel_and_after_a_calm_minute);
  RUN(the_second_that_comes_to_nothing_in_silence_costs_the_connection);
  RUN(a_drain_in_which_anything_is_answered_costs_no_connection_and_is_not_repeated_soon);
  RUN(a_last_drain_that_succeeds_is_not_repeated_soon);
  RUN(a_connection_is_spared_twice_as_long_each_time_up_to_320_seconds_and_a_calm_minute_ends_that);
  RUN(a_channel_that_does_not_close_costs_the_connection_whenever_that_was_last);
  RUN(what_is_put_off_begins_all_again);
  return check_done();
}
