/* eb_window: tags to publishes, whatever the order of the confirms. */
#include "../../src/eb_window.h"

#include <stdlib.h>

#include "check.h"

enum { MANY = 300 };
static eb_publish ops[MANY];

static void reset_ops (void) {
  memset(ops, 0, sizeof ops);
  for (int i = 0; i < MANY; i++) {
    ops[i].item.id = (uint64_t)i;
    ops[i].item.deadline = EB_NEVER;
    ops[i].body.n = 10;
    ops[i].mandatory = true;
  }
}

static bool fill (eb_window *w, int from, int to) {
  for (int i = from; i < to; i++) {
    if (!eb_window_reserve(w)) return false;
    eb_window_push(w, &ops[i]);
  }
  return true;
}

static bool wanted (const eb_publish *p, void *arg) {
  return p->item.id % *(const uint64_t *)arg == 0;
}

TEST(tags_count_from_1_in_order) {
  eb_window w;
  eb_publish *p;
  reset_ops();
  eb_window_init(&w, MANY);
  CHECK(fill(&w, 0, MANY));
  CHECK(eb_window_full(&w));
  CHECK_INT(w.bytes, MANY * 10);
  for (int i = 0; i < MANY; i++) {
    CHECK_INT(eb_window_take(&w, (uint64_t)i + 1, &p), EB_TAG_TAKEN);
    CHECK(p == &ops[i]);
    CHECK_INT(eb_window_take(&w, (uint64_t)i + 1, &p), EB_TAG_BEHIND);
  }
  CHECK_INT(w.count + w.live + w.bytes, 0);
  CHECK_INT(eb_window_take(&w, MANY + 1, &p), EB_TAG_UNKNOWN);
  CHECK_INT(eb_window_take(&w, 0, &p), EB_TAG_UNKNOWN);
  eb_window_fini(&w);
}

TEST(confirms_out_of_order_leave_no_slot_behind) {
  eb_window w;
  eb_publish *p;
  reset_ops();
  eb_window_init(&w, 4);
  CHECK(fill(&w, 0, 4));
  for (uint64_t tag = 4; tag >= 2; tag--) {
    CHECK_INT(eb_window_take(&w, tag, &p), EB_TAG_TAKEN);
    CHECK(eb_window_full(&w));
  }
  CHECK_INT(eb_window_take(&w, 1, &p), EB_TAG_TAKEN);
  CHECK(p == &ops[0]);
  CHECK_INT(w.count, 0);
  CHECK(fill(&w, 4, 8));  /* tags 5 to 8 */
  CHECK_INT(eb_window_take(&w, 6, &p), EB_TAG_TAKEN);
  CHECK(p == &ops[5]);
  CHECK_INT(eb_window_take(&w, 6, &p), EB_TAG_TAKEN);
  CHECK(p == NULL);
  eb_list out;
  eb_list_init(&out);
  eb_window_reset(&w, &out);
  CHECK_INT(out.count, 3);
  eb_window_fini(&w);
}

TEST(abandoned_keep_their_slot_until_their_confirm) {
  eb_window w;
  eb_publish *p;
  eb_list late;
  uint64_t even = 2;
  reset_ops();
  eb_list_init(&late);
  eb_window_init(&w, 4);
  CHECK(fill(&w, 0, 4));
  eb_window_abandon(&w, wanted, &even, &late);
  CHECK_INT(late.count, 2);
  CHECK(late.first == &ops[0].item && late.last == &ops[2].item);
  CHECK_INT(w.live, 2);
  CHECK_INT(w.bytes, 20);
  CHECK_INT(w.count, 4);
  eb_window_abandon(&w, wanted, &even, &late);
  CHECK_INT(late.count, 2);
  CHECK_INT(eb_window_take(&w, 2, &p), EB_TAG_TAKEN);
  CHECK_INT(w.count, 4);  /* 1 is still owed */
  CHECK_INT(eb_window_take(&w, 1, &p), EB_TAG_TAKEN);
  CHECK(p == NULL);
  CHECK_INT(w.count, 2);  /* 3 is still owed */
  CHECK_INT(eb_window_take(&w, 3, &p), EB_TAG_TAKEN);
  CHECK(p == NULL);
  CHECK_INT(w.count, 1);
  CHECK(eb_window_take_upto(&w, UINT64_MAX, &p));
  CHECK(p == &ops[3]);
  CHECK(!eb_window_take_upto(&w, UINT64_MAX, &p));
  eb_window_fini(&w);
}

TEST(multiple_takes_all_up_to_its_tag) {
  eb_window w;
  eb_publish *p;
  int n = 0;
  reset_ops();
  eb_window_init(&w, 10);
  CHECK(fill(&w, 0, 10));
  CHECK_INT(eb_window_take(&w, 3, &p), EB_TAG_TAKEN);
  while (eb_window_take_upto(&w, 5, &p))
    if (p != NULL) n++;
  CHECK_INT(n, 4);
  CHECK_INT(w.count, 5);
  CHECK(!eb_window_take_upto(&w, 5, &p));
  eb_list out;
  eb_list_init(&out);
  eb_window_reset(&w, &out);
  CHECK_INT(out.count, 5);
  CHECK(out.first == &ops[5].item);
  CHECK_INT(w.base, 1);
  CHECK_INT(w.live + w.bytes + w.count, 0);
  eb_window_fini(&w);
}

TEST(a_return_is_found_by_id_once_each) {
  eb_window w;
  eb_bytes id = eb_bytes_of("x", 1);
  eb_delivery back = {0};
  back.properties.message_id = id;
  reset_ops();
  eb_window_init(&w, 10);
  CHECK(fill(&w, 0, 3));
  CHECK(eb_window_find(&w, &back) == NULL);
  ops[0].properties.message_id = ops[1].properties.message_id = ops[2].properties.message_id = id;
  ops[0].mandatory = false;
  CHECK(eb_window_find(&w, &back) == &ops[1]);
  ops[1].returned = true;
  CHECK(eb_window_find(&w, &back) == &ops[2]);
  eb_window_fini(&w);
}

TEST(a_return_is_not_of_another_copy_with_the_same_id) {
  eb_window w;
  eb_delivery back = {0};
  reset_ops();
  eb_window_init(&w, 10);
  CHECK(fill(&w, 0, 4));
  static const char *const places[] = {"", "q.one", "", "q.two", "dead", "q.two", "dead", "q.one"};
  for (int i = 0; i < 4; i++) {
    ops[i].properties.message_id = eb_bytes_of("x", 1);
    ops[i].exchange = eb_bytes_of(places[2 * i], strlen(places[2 * i]));
    ops[i].routing_key = eb_bytes_of(places[2 * i + 1], 5);
  }
  back.properties.message_id = eb_bytes_of("x", 1);
  back.exchange = eb_bytes_of("dead", 4);
  back.routing_key = eb_bytes_of("q.two", 5);
  CHECK(eb_window_find(&w, &back) == &ops[2]);
  back.exchange = eb_bytes_of("", 0);
  CHECK(eb_window_find(&w, &back) == &ops[1]);
  back.routing_key = eb_bytes_of("q.six", 5);
  CHECK(eb_window_find(&w, &back) == NULL);
  eb_window_fini(&w);
}

TEST(the_deadline_is_the_earliest_of_those_waiting) {
  eb_window w;
  eb_publish *p;
  reset_ops();
  eb_window_init(&w, 10);
  CHECK(eb_window_deadline(&w) == EB_NEVER);
  CHECK(fill(&w, 0, 3));
  ops[0].item.deadline = 5;
  ops[1].item.deadline = 3;
  CHECK_INT(eb_window_deadline(&w), 3);
  CHECK_INT(eb_window_take(&w, 2, &p), EB_TAG_TAKEN);
  CHECK_INT(eb_window_deadline(&w), 5);
  eb_window_fini(&w);
}

/* Against a model: an array of flags. */
TEST(random_confirms_agree_with_a_model) {
  uint64_t x = 42;
  for (int round = 0; round < 200; round++) {
    eb_window w;
    eb_publish *p;
    bool confirmed[MANY + 1] = {false};
    int sent = 0, oldest = 1;
    reset_ops();
    eb_window_init(&w, 16);
    while (sent < MANY) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
      if ((x >> 33) % 2 && !eb_window_full(&w)) {
        CHECK(fill(&w, sent, sent + 1));
        sent++;
      } else if (sent >= oldest) {
        uint64_t tag = (uint64_t)oldest + (x >> 40) % (uint64_t)(sent - oldest + 1);
        CHECK_INT(eb_window_take(&w, tag, &p), EB_TAG_TAKEN);
        CHECK(confirmed[tag] ? p == NULL : p == &ops[tag - 1]);
        confirmed[tag] = true;
      }
      while (oldest <= sent && confirmed[oldest]) oldest++;
      CHECK_INT(w.base, oldest);
      CHECK_INT(w.count, sent - oldest + 1);
    }
    eb_window_fini(&w);
  }
}

int main (void) {
  RUN(tags_count_from_1_in_order);
  RUN(confirms_out_of_order_leave_no_slot_behind);
  RUN(abandoned_keep_their_slot_until_their_confirm);
  RUN(multiple_takes_all_up_to_its_tag);
  RUN(a_return_is_found_by_id_once_each);
  RUN(a_return_is_not_of_another_copy_with_the_same_id);
  RUN(the_deadline_is_the_earliest_of_those_waiting);
  RUN(random_confirms_agree_with_a_model);
  return check_done();
}
