/* eb_quiet: which are open, whatever the order of the answers. */
#include "../../src/eb_quiet.h"

#include "check.h"

static bool add (eb_quiet *q, uint64_t id) {
  if (!eb_quiet_reserve(q, id)) return false;
  eb_quiet_add(q, id);
  return true;
}

TEST(an_answered_one_is_none) {
  eb_quiet q;
  eb_quiet_init(&q);
  CHECK_INT(eb_quiet_oldest(&q), 0);
  CHECK_INT(eb_quiet_take(&q, 1), EB_QUIET_NONE);
  CHECK(add(&q, 5));
  CHECK_INT(eb_quiet_oldest(&q), 5);
  CHECK_INT(eb_quiet_look(&q, 4), EB_QUIET_NONE);
  CHECK_INT(eb_quiet_look(&q, 5), EB_QUIET_OPEN);
  CHECK_INT(eb_quiet_look(&q, 6), EB_QUIET_NONE);
  CHECK_INT(eb_quiet_take(&q, 5), EB_QUIET_OPEN);
  CHECK_INT(eb_quiet_take(&q, 5), EB_QUIET_NONE);
  CHECK_INT(eb_quiet_count(&q, UINT64_MAX), 0);
  eb_quiet_fini(&q);
}

TEST(what_is_between_two_is_none) {
  eb_quiet q;
  eb_quiet_init(&q);
  CHECK(add(&q, 10));
  CHECK(add(&q, 5000));
  CHECK_INT(q.open, 2);
  for (uint64_t id = 11; id < 5000; id++)
    CHECK_INT(eb_quiet_look(&q, id), EB_QUIET_NONE);
  CHECK_INT(eb_quiet_count(&q, 4999), 1);
  CHECK_INT(eb_quiet_count(&q, 5000), 2);
  CHECK_INT(eb_quiet_take(&q, 10), EB_QUIET_OPEN);
  CHECK_INT(eb_quiet_oldest(&q), 5000);
  CHECK_INT(eb_quiet_take(&q, 5000), EB_QUIET_OPEN);
  eb_quiet_fini(&q);
}

TEST(a_watched_one_says_so_once) {
  eb_quiet q;
  eb_quiet_init(&q);
  CHECK(!eb_quiet_watch(&q, 1));
  CHECK(add(&q, 1));
  CHECK(add(&q, 2));
  CHECK(eb_quiet_watch(&q, 2));
  CHECK(eb_quiet_watch(&q, 2));
  CHECK_INT(eb_quiet_count(&q, 2), 2);
  CHECK_INT(eb_quiet_take(&q, 2), EB_QUIET_WATCHED);
  CHECK(!eb_quiet_watch(&q, 2));
  CHECK_INT(eb_quiet_take(&q, 1), EB_QUIET_OPEN);
  eb_quiet_fini(&q);
}

/* One that stays open while many pass: the ring grows over what is in it. */
TEST(many_pass_an_old_one) {
  enum { MANY = 20000, BEHIND = 700 };
  eb_quiet q;
  eb_quiet_init(&q);
  CHECK(add(&q, 3));
  for (uint64_t id = 4; id < MANY; id++) {
    CHECK(add(&q, id));
    if (id < 4 + BEHIND) continue;
    CHECK_INT(eb_quiet_take(&q, id - BEHIND), EB_QUIET_OPEN);
  }
  CHECK_INT(q.open, 1 + BEHIND);
  CHECK_INT(eb_quiet_oldest(&q), 3);
  CHECK_INT(eb_quiet_count(&q, 3), 1);
  CHECK_INT(eb_quiet_count(&q, MANY - BEHIND), 2);
  CHECK_INT(eb_quiet_take(&q, 3), EB_QUIET_OPEN);
  CHECK_INT(eb_quiet_oldest(&q), MANY - BEHIND);
  eb_quiet_fini(&q);
}

/* Without an old one it stays as small as it began. */
TEST(the_ring_goes_round) {
  eb_quiet q;
  eb_quiet_init(&q);
  CHECK(add(&q, 1));
  size_t size = q.size;
  for (uint64_t id = 2; id < 100000; id++) {
    CHECK(add(&q, id));
    CHECK_INT(eb_quiet_take(&q, id - 1), EB_QUIET_OPEN);
  }
  CHECK_INT(q.size, size);
  eb_quiet_fini(&q);
}

int main (void) {
  RUN(an_answered_one_is_none);
  RUN(what_is_between_two_is_none);
  RUN(a_watched_one_says_so_once);
  RUN(many_pass_an_old_one);
  RUN(the_ring_goes_round);
  return check_done();
}
