/* eb_acks: what is acked, and what an ack with 'multiple' may cover. */
#include "../../src/eb_acks.h"

#include "check.h"

static bool acked (eb_acks *a, uint64_t tag) {
  bool unknown;
  return eb_acks_ack(a, tag, &unknown);
}

TEST(tags_must_ascend) {
  eb_acks a;
  bool unknown;
  eb_acks_init(&a);
  CHECK(!eb_acks_deliver(&a, 0));
  CHECK(eb_acks_deliver(&a, 1));
  CHECK(!eb_acks_deliver(&a, 1));
  CHECK(eb_acks_deliver(&a, 5));
  CHECK(!eb_acks_deliver(&a, 4));
  CHECK(!eb_acks_ack(&a, 4, &unknown) && unknown);
  CHECK(acked(&a, 5));
  CHECK(!eb_acks_ack(&a, 5, &unknown) && unknown);
  CHECK(!eb_acks_reject(&a, 5));
  CHECK(eb_acks_reject(&a, 1));
  CHECK_INT(eb_acks_unsettled(&a), 0);
  CHECK_INT(eb_acks_pending(&a), 1);
  eb_acks_reset(&a);
  CHECK(eb_acks_deliver(&a, 1));
  CHECK_INT(eb_acks_pending(&a), 0);
  eb_acks_fini(&a);
  eb_acks_fini(&a);
}

/* The broker's side: a set of outstanding tags; an ack must cover only acked ones, and at least one. */
TEST(no_ack_ever_covers_what_was_not_acked) {
  enum { FREE, OUT, ACKED, SENT, TAGS = 4000 };
  static unsigned char state[TAGS + 1];
  uint64_t x = 7;
  for (int round = 0; round < 20; round++) {
    eb_acks a;
    eb_acks_init(&a);
    memset(state, FREE, sizeof state);
    uint64_t next = 1, low = 1;
    size_t most = 0;
    while (low <= TAGS) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
      unsigned what = (unsigned)(x >> 33) % 8;
      uint64_t tag = low + (x >> 40) % 50;
      if (what < 3 && next <= TAGS && next < low + 50) {
        CHECK(eb_acks_deliver(&a, next));
        state[next++] = OUT;
      } else if (what < 6 && tag < next && state[tag] == OUT) {
        CHECK(acked(&a, tag));
        state[tag] = ACKED;
      } else if (what == 6 && tag < next && state[tag] == OUT) {
        CHECK(eb_acks_reject(&a, tag));
        state[tag] = SENT;
      } else if (what == 7) {
        bool multiple;
        while (eb_acks_next(&a, &tag, &multiple)) {
          CHECK_INT(state[tag], ACKED);
          for (uint64_t t = multiple ? 1 : tag; t <= tag; t++) {
            CHECK(state[t] != OUT);
            state[t] = SENT;
          }
        }
        CHECK_INT(eb_acks_pending(&a), 0);
        for (uint64_t t = low; t < next; t++) CHECK(state[t] != ACKED);
      }
      while (low <= TAGS && state[low] == SENT) low++;
      if (a.unsettled.cap > most) most = a.unsettled.cap;
      if (a.acked.cap > most) most = a.acked.cap;
    }
    CHECK(most <= 256);  /* 50 outstanding: memory follows the prefetch, not the traffic */
    eb_acks_fini(&a);
  }
}

/* Three messages are held below, in between and above others that are acked. */
TEST(returns_coalesce_and_cover_nothing_else) {
  eb_acks a;
  uint64_t tag;
  bool unknown, multiple;
  eb_acks_init(&a);
  for (uint64_t t = 1; t <= 8; t++) CHECK(eb_acks_deliver(&a, t));
  CHECK(eb_acks_return(&a, 1, &unknown));
  CHECK(eb_acks_return(&a, 3, &unknown));
  CHECK(!eb_acks_return(&a, 3, &unknown) && unknown);
  CHECK(acked(&a, 2));
  CHECK(acked(&a, 4));
  CHECK_INT(eb_acks_pending(&a), 4);
  /* Before the acks are sent no return may be: 'multiple' would cover them. */
  CHECK(!eb_acks_next_return(&a, &tag, &multiple));
  /* And no ack may cover a return. */
  CHECK(eb_acks_next(&a, &tag, &multiple));
  CHECK(tag == 2 && !multiple);
  CHECK(eb_acks_next(&a, &tag, &multiple));
  CHECK(tag == 4 && !multiple);
  CHECK(!eb_acks_next(&a, &tag, &multiple));
  CHECK(eb_acks_next_return(&a, &tag, &multiple));
  CHECK(tag == 3 && multiple);
  CHECK(!eb_acks_next_return(&a, &tag, &multiple));
  /* Above one that is unsettled: one by one. */
  CHECK(eb_acks_return(&a, 7, &unknown));
  CHECK(eb_acks_return(&a, 8, &unknown));
  CHECK(eb_acks_next_return(&a, &tag, &multiple));
  CHECK(tag == 7 && !multiple);
  CHECK(eb_acks_next_return(&a, &tag, &multiple));
  CHECK(tag == 8 && !multiple);
  CHECK_INT(eb_acks_unsettled(&a), 2);
  CHECK_INT(eb_acks_pending(&a), 0);
  eb_acks_fini(&a);
}

int main (void) {
  RUN(tags_must_ascend);
  RUN(returns_coalesce_and_cover_nothing_else);
  RUN(no_ack_ever_covers_what_was_not_acked);
  return check_done();
}
