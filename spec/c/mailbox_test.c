/* eb_mailbox: no ring is lost, none is left over, and the end is never slept over. */
#include "../../src/eb_mailbox.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "check.h"

enum { MANY = 20000, PATIENCE_MS = 30000 };

static bool readable (const eb_wake *w, int ms) {
  struct pollfd p = {w->read_fd, POLLIN, 0};
  return poll(&p, 1, ms) > 0;
}

static eb_item *new_item (uint64_t id) {
  eb_item *item = eb_item_new(EB_ITEM_RPC, sizeof(eb_rpc), 0);
  if (item == NULL) abort();
  item->id = id;
  return item;
}

static eb_item *new_notice (eb_event event) {
  eb_notice *n = eb_item_new(EB_ITEM_NOTICE, sizeof *n, 0);
  if (n == NULL) abort();
  n->event = event;
  return &n->item;
}

TEST(only_the_depth_of_sleep_decides_who_rings) {
  eb_outbox o;
  eb_list got;
  eb_list_init(&got);
  CHECK(eb_outbox_init(&o));
  eb_outbox_post(&o, new_item(1), EB_WAITING);
  CHECK(!readable(&o.wake, 0));           /* awake: it will look */
  CHECK(!eb_outbox_sleep(&o, EB_ASLEEP)); /* it does */
  eb_outbox_take(&o, &got);
  CHECK_INT(got.count, 1);
  CHECK(eb_outbox_sleep(&o, EB_DOZING));
  eb_outbox_post(&o, new_item(2), EB_SOON);
  CHECK(!readable(&o.wake, 0));
  eb_outbox_kick(&o);
  CHECK(readable(&o.wake, 0));
  eb_outbox_take(&o, &got);
  CHECK(!readable(&o.wake, 0));
  CHECK(eb_outbox_sleep(&o, EB_ASLEEP));
  eb_outbox_kick(&o);                     /* nothing to look at */
  CHECK(!readable(&o.wake, 0));
  eb_outbox_post(&o, new_item(3), EB_SOON);
  CHECK(readable(&o.wake, 0));
  eb_outbox_take(&o, &got);
  CHECK_INT(got.count, 3);
  CHECK(eb_outbox_sleep(&o, EB_DOZING));
  eb_outbox_post(&o, new_item(4), EB_WAITING);
  CHECK(readable(&o.wake, 0));
  eb_list_free(&got);
  eb_outbox_fini(&o);
}

TEST(who_is_led_is_rung_by_a_pile_of_what_is_to_go_out_soon) {
  eb_outbox o;
  eb_list got;
  eb_list_init(&got);
  CHECK(eb_outbox_init(&o));
  CHECK(eb_outbox_sleep(&o, EB_LED));
  eb_outbox_post(&o, new_item(1), EB_WAITING);
  eb_outbox_post(&o, new_item(2), EB_LATER);
  CHECK(!readable(&o.wake, 0));
  eb_outbox_take_for(&o, &got);
  CHECK_INT(got.count, 2);
  eb_outbox_kick(&o);  /* nothing is left */
  CHECK(!readable(&o.wake, 0));
  eb_outbox_post(&o, new_item(3), EB_LATER);
  eb_outbox_kick(&o);  /* whoever leads no longer */
  CHECK(readable(&o.wake, 0));
  eb_outbox_take(&o, &got);
  CHECK(eb_outbox_sleep(&o, EB_LED));
  eb_outbox_post(&o, new_item(4), EB_SOON);
  CHECK(!readable(&o.wake, 0));
  for (uint64_t id = 5; id < 50; id++) eb_outbox_post(&o, new_item(id), EB_SOON);
  CHECK(readable(&o.wake, 0));
  eb_list_free(&got);
  eb_outbox_fini(&o);
}

TEST(a_take_for_the_sleeper_leaves_its_ring_and_its_sleep) {
  eb_outbox o;
  eb_list got;
  eb_list_init(&got);
  CHECK(eb_outbox_init(&o));
  CHECK(eb_outbox_sleep(&o, EB_ASLEEP));
  eb_outbox_post(&o, new_item(1), EB_WAITING);
  eb_outbox_take_for(&o, &got);
  CHECK(readable(&o.wake, 0));
  CHECK(!eb_outbox_sleep(&o, EB_ASLEEP));  /* rung: it looks first */
  eb_outbox_take(&o, &got);
  CHECK(!readable(&o.wake, 0));
  CHECK(eb_outbox_sleep(&o, EB_ASLEEP));
  eb_outbox_take_for(&o, &got);
  eb_outbox_post(&o, new_item(2), EB_LATER);  /* still asleep */
  CHECK(readable(&o.wake, 0));
  eb_list_free(&got);
  eb_outbox_fini(&o);
}

TEST(a_rouse_is_not_slept_over) {
  eb_outbox o;
  eb_list got;
  eb_ms deadline;
  bool abandoned;
  eb_list_init(&got);
  CHECK(eb_outbox_init(&o));
  eb_outbox_rouse(&o);
  CHECK(!eb_outbox_sleep(&o, EB_ASLEEP));
  CHECK(!eb_outbox_stopping(&o, &deadline, &abandoned));
  CHECK(eb_outbox_sleep(&o, EB_ASLEEP));
  eb_outbox_rouse(&o);
  CHECK(readable(&o.wake, 0));
  eb_outbox_take(&o, &got);
  CHECK(!readable(&o.wake, 0));
  eb_outbox_fini(&o);
}

TEST(a_stop_during_a_turn_is_not_slept_over) {
  eb_outbox o;
  eb_list got;
  eb_ms deadline;
  bool abandoned;
  eb_list_init(&got);
  CHECK(eb_outbox_init(&o));
  CHECK(!eb_outbox_stopping(&o, &deadline, &abandoned));
  eb_outbox_take(&o, &got);
  eb_outbox_stop(&o, 1000);
  CHECK(!eb_outbox_sleep(&o, EB_ASLEEP));
  CHECK(eb_outbox_stopping(&o, &deadline, &abandoned));
  CHECK(deadline == 1000 && !abandoned);
  eb_outbox_take(&o, &got);
  CHECK(eb_outbox_sleep(&o, EB_ASLEEP));
  eb_outbox_take(&o, &got);
  eb_outbox_stop(&o, 2000);  /* never later than first said */
  eb_outbox_abandon(&o);
  CHECK(!eb_outbox_sleep(&o, EB_ASLEEP));
  CHECK(eb_outbox_stopping(&o, &deadline, &abandoned));
  CHECK(deadline == 0 && abandoned);
  eb_outbox_fini(&o);
}

/* An I/O thread as eb_io's: what it got, and how often poll lied. */
typedef struct sleeper {
  eb_outbox box;
  size_t got;
  size_t empty_wakes;
  bool in_order;
} sleeper;

static void *sleep_and_take (void *arg) {
  sleeper *s = arg;
  eb_ms deadline;
  bool abandoned;
  uint64_t last = 0;
  s->in_order = true;
  for (;;) {
    eb_list got;
    bool stopping = eb_outbox_stopping(&s->box, &deadline, &abandoned);
    eb_list_init(&got);
    eb_outbox_take(&s->box, &got);
    size_t n = got.count;
    eb_item *item;
    while ((item = eb_list_pop(&got)) != NULL) {
      if (item->id != ++last) s->in_order = false;
      eb_item_free(item);
      s->got++;
    }
    if (stopping && n == 0) return NULL;
    if (!eb_outbox_sleep(&s->box, s->got % 3 ? EB_DOZING : EB_ASLEEP)) continue;
    if (readable(&s->box.wake, s->got % 3 ? 1 : PATIENCE_MS) && n == 0 && s->got == last) s->empty_wakes++;
  }
}

TEST(a_busy_outbox_loses_nothing_and_does_not_spin) {
  sleeper s;
  memset(&s, 0, sizeof s);
  CHECK(eb_outbox_init(&s.box));
  pthread_t t;
  CHECK(pthread_create(&t, NULL, sleep_and_take, &s) == 0);
  for (uint64_t id = 1; id <= MANY; id++) {
    eb_outbox_post(&s.box, new_item(id), id % 7 == 0 ? EB_WAITING : EB_SOON);
    if (id % 50 == 0) eb_outbox_kick(&s.box);
  }
  eb_outbox_stop(&s.box, 0);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_INT(s.got, MANY);
  CHECK(s.in_order);
  CHECK(s.empty_wakes <= MANY);  /* one that stayed readable would have been polled millions of times */
  eb_outbox_fini(&s.box);
}

TEST(a_stop_wakes_a_sleeper_at_any_moment) {
  for (int round = 0; round < 300; round++) {
    sleeper s;
    memset(&s, 0, sizeof s);
    CHECK(eb_outbox_init(&s.box));
    pthread_t t;
    eb_ms began = eb_clock_now();
    CHECK(pthread_create(&t, NULL, sleep_and_take, &s) == 0);
    for (volatile int spin = 0; spin < round * 50; spin++) {}
    eb_outbox_abandon(&s.box);
    CHECK(pthread_join(t, NULL) == 0);
    CHECK(eb_clock_now() - began < PATIENCE_MS / 2);
    eb_outbox_fini(&s.box);
  }
}

TEST(an_inbox_rings_once_and_is_armed_again_by_an_empty_take) {
  eb_inbox i;
  eb_list list, got;
  eb_list_init(&list);
  eb_list_init(&got);
  CHECK(eb_inbox_init(&i));
  CHECK(!eb_inbox_take(&i, &got));
  eb_inbox_push(&i, &list);
  CHECK(!readable(&i.wake, 0));  /* nothing was pushed */
  eb_list_push(&list, new_item(1));
  eb_inbox_push(&i, &list);
  CHECK(readable(&i.wake, 0));
  CHECK(eb_inbox_take(&i, &got));
  CHECK_INT(got.count, 1);
  CHECK(readable(&i.wake, 0));
  CHECK(!i.heard);
  CHECK(eb_inbox_take(&i, &got));  /* nothing, but a signal's ring may be among what was cleared */
  CHECK(i.heard);
  CHECK(!readable(&i.wake, 0));
  CHECK(!eb_inbox_take(&i, &got));
  CHECK_INT(got.count, 1);
  eb_list_free(&got);
  eb_inbox_fini(&i);
}

TEST(a_signal_handlers_ring_wakes_once) {
  eb_inbox i;
  eb_list list, got;
  eb_list_init(&list);
  eb_list_init(&got);
  CHECK(eb_inbox_init(&i));
  eb_wake_ring(&i.wake);
  CHECK(!eb_inbox_take(&i, &got));
  CHECK(readable(&i.wake, 0));  /* not swallowed by a take before the sleep */
  CHECK(!i.heard);
  eb_inbox_woken(&i);
  CHECK(i.heard);
  CHECK(!readable(&i.wake, 0));  /* and not for ever */
  eb_list_push(&list, new_item(1));
  eb_inbox_push(&i, &list);
  eb_inbox_woken(&i);
  CHECK(readable(&i.wake, 0));
  eb_inbox_fini(&i);
}

/* How many of them are there, found by looking. */
static void check_list (const eb_list *l, size_t count, size_t notices) {
  size_t n = 0, seen = 0;
  for (const eb_item *item = l->first; item != NULL; item = item->next) {
    n++;
    if (item->kind == EB_ITEM_NOTICE) seen++;
    if (item->next == NULL) CHECK(item == l->last);
  }
  CHECK_INT(n, count);
  CHECK_INT(l->count, count);
  CHECK_INT(seen, notices);
  CHECK_INT(l->notices, notices);
}

static bool is_notice (const eb_item *item, void *unused) {
  (void)unused;
  return item->kind == EB_ITEM_NOTICE;
}

TEST(a_list_knows_how_many_notices_it_has) {
  eb_list a, b;
  eb_list_init(&a);
  eb_list_init(&b);
  eb_list_push(&a, new_item(1));
  eb_list_push(&a, new_notice(EB_EVENT_UP));
  eb_list_push_front(&a, new_notice(EB_EVENT_DOWN));
  check_list(&a, 3, 2);
  eb_list_push(&b, new_notice(EB_EVENT_UP));
  eb_list_push(&b, new_item(2));
  eb_list_append(&a, &b);
  check_list(&a, 5, 3);
  check_list(&b, 0, 0);
  eb_list_push(&b, new_notice(EB_EVENT_UP));
  eb_list_prepend(&a, &b);
  check_list(&a, 6, 4);
  check_list(&b, 0, 0);
  eb_item_free(eb_list_pop(&a));
  check_list(&a, 5, 3);
  eb_item_free(eb_list_pop_after(&a, NULL));
  eb_item_free(eb_list_pop_after(&a, a.first));
  check_list(&a, 3, 1);
  eb_list_split(&a, &b, is_notice, NULL);
  check_list(&a, 2, 0);
  check_list(&b, 1, 1);
  eb_list_free(&a);
  eb_list_free(&b);
  check_list(&a, 0, 0);
}

TEST(notices_are_bounded_and_answers_are_not) {
  eb_inbox i;
  eb_list list, got;
  eb_list_init(&list);
  eb_list_init(&got);
  CHECK(eb_inbox_init(&i));
  for (int n = 0; n < 3000; n++) {
    eb_list_push(&list, new_notice(EB_EVENT_UP));
    eb_list_push(&list, new_item(1));
    eb_inbox_push(&i, &list);
  }
  eb_list_push(&list, new_notice(EB_EVENT_CLOSED));
  eb_inbox_push(&i, &list);
  CHECK(eb_inbox_take(&i, &got));
  CHECK_INT(got.count, 3000 + 1000 + 1);
  CHECK_INT(((eb_notice *)got.last)->event, EB_EVENT_CLOSED);
  eb_list_free(&got);
  eb_inbox_fini(&i);
}

typedef struct pusher {
  eb_inbox *box;
  uint64_t first;
} pusher;

static void *push_many (void *arg) {
  pusher *p = arg;
  eb_list list;
  eb_list_init(&list);
  for (uint64_t n = 0; n < MANY; n++) {
    eb_list_push(&list, new_item(p->first + n));
    if (n % 3 == 0) eb_inbox_push(p->box, &list);
  }
  eb_inbox_push(p->box, &list);
  return NULL;
}

TEST(two_pushers_lose_nothing_and_leave_no_ring_behind) {
  eb_inbox i;
  pthread_t t[2];
  pusher p[2] = {{&i, 0}, {&i, 1000000}};
  size_t got = 0, lies = 0;
  CHECK(eb_inbox_init(&i));
  for (int n = 0; n < 2; n++) CHECK(pthread_create(&t[n], NULL, push_many, &p[n]) == 0);
  while (got < 2 * MANY) {
    eb_list list;
    eb_list_init(&list);
    CHECK(readable(&i.wake, PATIENCE_MS));
    eb_inbox_take(&i, &list);
    if (list.count == 0) lies++;
    got += list.count;
    eb_list_free(&list);
    while (eb_inbox_take(&i, &list)) {
      got += list.count;
      eb_list_free(&list);
    }
  }
  for (int n = 0; n < 2; n++) CHECK(pthread_join(t[n], NULL) == 0);
  eb_list rest;
  eb_list_init(&rest);
  eb_inbox_take(&i, &rest);
  CHECK_INT(rest.count, 0);
  CHECK(!readable(&i.wake, 0));
  CHECK_INT(lies, 0);
  eb_inbox_fini(&i);
}

TEST(an_alarm_wakes_a_sleeper_that_would_sleep_longer) {
  eb_outbox o;
  CHECK(eb_outbox_init(&o));
  CHECK(eb_outbox_alarm(&o, 100) == EB_NEVER);
  eb_outbox_set_alarm(&o, 200);
  CHECK(!eb_outbox_sleep(&o, EB_ASLEEP));  /* set meanwhile: it looks again */
  eb_ms close_deadline;
  bool abandoned = false;
  CHECK(!eb_outbox_stopping(&o, &close_deadline, &abandoned));
  CHECK(eb_outbox_alarm(&o, 100) == 200);  /* not due: it stays */
  CHECK(eb_outbox_sleep(&o, EB_ASLEEP));
  eb_outbox_set_alarm(&o, 300);            /* later: it wakes early enough */
  CHECK(!readable(&o.wake, 0));
  eb_outbox_set_alarm(&o, 150);
  CHECK(readable(&o.wake, 0));
  CHECK(eb_outbox_alarm(&o, 150) == 150);
  CHECK(eb_outbox_alarm(&o, 150) == EB_NEVER);  /* it rings once */
  eb_outbox_fini(&o);
}

int main (void) {
  RUN(an_alarm_wakes_a_sleeper_that_would_sleep_longer);
  RUN(only_the_depth_of_sleep_decides_who_rings);
  RUN(who_is_led_is_rung_by_a_pile_of_what_is_to_go_out_soon);
  RUN(a_take_for_the_sleeper_leaves_its_ring_and_its_sleep);
  RUN(a_rouse_is_not_slept_over);
  RUN(a_stop_during_a_turn_is_not_slept_over);
  RUN(a_busy_outbox_loses_nothing_and_does_not_spin);
  RUN(a_stop_wakes_a_sleeper_at_any_moment);
  RUN(an_inbox_rings_once_and_is_armed_again_by_an_empty_take);
  RUN(a_signal_handlers_ring_wakes_once);
  RUN(a_list_knows_how_many_notices_it_has);
  RUN(notices_are_bounded_and_answers_are_not);
  RUN(two_pushers_lose_nothing_and_leave_no_ring_behind);
  return check_done();
}
