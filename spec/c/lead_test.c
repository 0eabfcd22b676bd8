/* Leading: a program's thread that waits does the connection's work itself, and loses nothing by it. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "io_peer.h"

static broker b;

static eb_bus *bus_on (manner how) {
  broker_start(&b, how);
  eb_bus *bus = open_on(&b);
  if (bus == NULL) abort();
  return bus;
}

static void leave (eb_bus *bus) {
  eb_bus_free(bus);
  broker_stop(&b);
}

static eb_session_stats stats_of (eb_bus *bus, eb_side side) {
  eb_session_stats s;
  eb_bus_get_stats(bus, side, &s);
  return s;
}

static eb_us in_ms (int ms) {
  return eb_clock_us() + ms * EB_US_IN_MS;
}

static int confirmed_one_at_a_time (eb_bus *bus, int count) {
  int confirmed = 0;
  for (int i = 0; i < count; i++)
    if (answer_of(bus, publish(bus, PATIENCE_MS), NULL) == EB_OK) confirmed++;
  return confirmed;
}

static bool reaches (atomic_int *figure, int value) {
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(figure) < value && eb_clock_now() < until) usleep(1000);
  return atomic_load(figure) >= value;
}

TEST(whoever_waits_for_each_confirm_sends_and_receives_himself) {
  eb_bus *bus = bus_on(NORMAL);
  CHECK_INT(confirmed_one_at_a_time(bus, 20), 20);
  /* Two turns for each; the thread looks in now and then, and helps a waiter that is kept from the processor. */
  uint64_t turns = 0, led = 0;
  int rounds = 0;
  while (rounds < 20 && (led < 500 || turns - led > turns / 4)) {
    eb_session_stats before = stats_of(bus, EB_PUBLISH);
    CHECK_INT(confirmed_one_at_a_time(bus, 500), 500);
    eb_session_stats after = stats_of(bus, EB_PUBLISH);
    turns = after.turns - before.turns;
    led = after.led - before.led;
    rounds++;
  }
  CHECK(led >= 500);
  CHECK(turns - led <= turns / 4);
  eb_bus_shutdown(bus, PATIENCE_MS);
  CHECK(ends(bus, PATIENCE_MS));
  leave(bus);
  CHECK_INT(b.publishes, 20 + 500 * rounds);
  CHECK_INT(b.closed_in_order, 1);
}

TEST(what_is_posted_after_a_lead_is_sent_though_nobody_waits) {
  eb_bus *bus = bus_on(NORMAL);
  for (int i = 0; i < 50; i++) {
    CHECK_INT(confirmed_one_at_a_time(bus, 3), 3);
    CHECK(publish(bus, PATIENCE_MS) != 0);  /* and goes on without waiting */
    CHECK(reaches(&b.publishes, 4 * i + 4));
  }
  leave(bus);
}

TEST(a_connection_lost_under_the_lead_comes_back_and_nothing_is_lost) {
  eb_bus *bus = bus_on(HANG_UP);
  CHECK_INT(confirmed_one_at_a_time(bus, 400), 400);
  CHECK(b.connections >= 400 / HANG_UP_AFTER);
  eb_bus_shutdown(bus, PATIENCE_MS);
  CHECK(ends(bus, PATIENCE_MS));
  leave(bus);
}

static bool subscribes (eb_bus *bus) {
  eb_error err;
  eb_subscribe *s = eb_item_new(EB_ITEM_SUBSCRIBE, sizeof *s, 64);
  if (s == NULL) abort();
  s->item.deadline = EB_NEVER;  /* or the thread would wake for it */
  s->queue = eb_bytes_of("q", 1);
  s->prefetch = 10;
  return answer_of(bus, eb_bus_post(bus, &s->item, true, &err), NULL) == EB_OK;
}

static void settle_down (eb_bus *bus) {
  for (int i = 0; i < 5; i++) {
    eb_item *item;
    usleep(20000);
    while ((item = eb_bus_next(bus)) != NULL) eb_item_free(item);
  }
}

/* The thread sleeps for as long as the heartbeats let it; what the leader reads is to be followed up much sooner. */
TEST(what_a_leader_heard_last_is_followed_up_by_the_thread) {
  for (int round = 0; round < 5; round++) {
    eb_bus *bus = bus_on(NORMAL);
    CHECK(subscribes(bus));
    settle_down(bus);
    atomic_store(&b.cancel, true);
    eb_bus_wait(bus, 9 * EB_US_IN_MS);
    CHECK(reaches(&b.consumes, 2));  /* while the program does something else */
    leave(bus);
  }
}

/* Deadlines are kept by whoever leads, and by the thread after him. */
TEST(an_answer_that_never_comes_is_given_up_in_time) {
  eb_bus *bus = bus_on(NEVER_CONFIRM);
  int64_t timeouts[] = {1, 5, 9, 15, 100};
  for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
    eb_ms began = eb_clock_now();
    CHECK_INT(answer_of(bus, publish(bus, timeouts[i]), NULL), EB_ERR_TIMEOUT);
    CHECK(eb_clock_now() - began < PATIENCE_MS / 2);
  }
  leave(bus);
}

TEST(an_idle_wait_costs_neither_thread_turns) {
  eb_bus *bus = bus_on(NORMAL);
  CHECK_INT(confirmed_one_at_a_time(bus, 3), 3);
  eb_session_stats before = stats_of(bus, EB_PUBLISH);
  eb_us until = eb_clock_us() + 300 * EB_US_IN_MS;
  int64_t spent = cpu_ms();
  while (eb_clock_us() < until) eb_bus_wait(bus, until - eb_clock_us());
  CHECK(cpu_ms() - spent < 150);
  CHECK_INT(confirmed_one_at_a_time(bus, 1), 1);
  CHECK(stats_of(bus, EB_PUBLISH).turns - before.turns < 40);
  leave(bus);
}

static uint64_t publish_quietly (eb_bus *bus, int64_t timeout) {
  eb_error err;
  eb_publish *p = eb_bus_new_publish(bus, 64);
  if (p == NULL) abort();
  p->item.deadline = eb_ms_after(eb_clock_now(), timeout);
  p->quiet = true;
  p->exchange = eb_bytes_of("orders", 6);
  p->routing_key = eb_bytes_of("k", 1);
  p->body = eb_bytes_of("body", 4);
  return eb_bus_post(bus, &p->item, false, &err);
}

/* The thread's own rings may: those of what it read itself. */
TEST(confirms_that_nobody_waits_for_seldom_end_an_idle_wait) {
  eb_bus *bus = bus_on(NORMAL);
  CHECK_INT(confirmed_one_at_a_time(bus, 3), 3);
  settle_down(bus);
  int ended, rounds = 0;
  do {
    ended = 0;
    for (int i = 0; i < 200; i++) {
      CHECK(publish_quietly(bus, PATIENCE_MS) != 0);
      eb_us end = in_ms(3);
      while (eb_clock_us() < end) ended += eb_bus_idle(bus, end);
    }
  } while (++rounds < 20 && ended >= 100);  /* a machine that stands still ends them, too */
  CHECK(ended < 100);
  CHECK(reaches(&b.publishes, 3 + 200 * rounds));
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (eb_bus_under_way(bus) > 0 && eb_clock_now() < until) eb_bus_idle(bus, in_ms(20));
  CHECK_INT(eb_bus_under_way(bus), 0);
  CHECK(eb_bus_next(bus) == NULL);
  CHECK(eb_bus_passed(bus));
  leave(bus);
}

TEST(news_ends_an_idle_wait) {
  eb_bus *bus = bus_on(NORMAL);
  CHECK_INT(confirmed_one_at_a_time(bus, 1), 1);
  for (int i = 0; i < 50; i++) {
    uint64_t loud = publish(bus, PATIENCE_MS);
    eb_item *item = NULL;
    while (item == NULL) {
      CHECK(eb_bus_idle(bus, in_ms(PATIENCE_MS)));
      item = eb_bus_next(bus);
    }
    CHECK(item->id == loud);
    eb_item_free(item);
  }
  leave(bus);
  bus = bus_on(NEVER_CONFIRM);
  publish_quietly(bus, 20);  /* its failure is news */
  bool failed = false;
  eb_us until = in_ms(PATIENCE_MS);
  while (!failed && eb_clock_us() < until) {
    eb_bus_idle(bus, until);
    for (eb_item *item; (item = eb_bus_next(bus)) != NULL; eb_item_free(item)) failed |= item->code == EB_ERR_TIMEOUT;
  }
  CHECK(failed);
  leave(bus);
}

typedef struct ringer {
  eb_bus *bus;
  atomic_int wanted, rung;
} ringer;

static void *ring_when_told (void *arg) {
  ringer *r = arg;
  for (int n = 1;; n++) {
    while (atomic_load(&r->wanted) < n) usleep(50);
    if (atomic_load(&r->wanted) == INT_MAX) return NULL;
    usleep((useconds_t)(n * 37 % 1500));
    atomic_store(&r->rung, n);
    eb_wake_ring(eb_bus_wake(r->bus));
  }
}

/* As a signal's handler rings: at any moment, with a confirm or between two. */
TEST(a_ring_ends_an_idle_wait_whatever_is_confirmed_meanwhile) {
  ringer r = {bus_on(NORMAL), 0, 0};
  pthread_t t;
  CHECK_INT(confirmed_one_at_a_time(r.bus, 1), 1);
  CHECK(pthread_create(&t, NULL, ring_when_told, &r) == 0);
  for (int n = 1; n <= 500; n++) {
    for (int i = 0; i < 5; i++) CHECK(publish_quietly(r.bus, PATIENCE_MS) != 0);
    atomic_store(&r.wanted, n);
    while (atomic_load(&r.rung) < n) {
      bool heard = eb_bus_idle(r.bus, in_ms(PATIENCE_MS));
      CHECK(heard);
      if (!heard) break;
    }
  }
  atomic_store(&r.wanted, INT_MAX);
  pthread_join(t, NULL);
  leave(r.bus);
}

TEST(an_idle_wait_ends_in_time) {
  eb_bus *bus = bus_on(NORMAL);
  CHECK(!eb_bus_idle(bus, in_ms(5)));  /* nothing runs */
  CHECK_INT(confirmed_one_at_a_time(bus, 1), 1);
  settle_down(bus);
  for (int ms = 0; ms < 40; ms++) {
    eb_us end = in_ms(ms);
    while (eb_bus_idle(bus, end)) {}
    CHECK(eb_clock_us() >= end);
  }
  leave(bus);
}

static eb_us idles_late (eb_bus *bus, eb_us us) {
  eb_us end = eb_clock_us() + us;
  while (eb_bus_idle(bus, end)) {}
  return eb_clock_us() - end;
}

static eb_us waits_late (eb_bus *bus, eb_us us) {
  eb_us end = eb_clock_us() + us;
  while (eb_clock_us() < end) eb_bus_wait(bus, end - eb_clock_us());
  return eb_clock_us() - end;
}

/* In whole milliseconds, as where there is no ppoll, each of these would be at least 0.7 late. The least of many: the
   machine may be late itself. */
TEST(a_wait_does_not_end_a_millisecond_late) {
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
  enum { LATE_US = 600 };
#else
  enum { LATE_US = 1600 };
#endif
  eb_bus *bus = bus_on(NORMAL);
  CHECK_INT(confirmed_one_at_a_time(bus, 1), 1);
  settle_down(bus);
  eb_us idle = EB_NEVER, waits = EB_NEVER;
  for (int i = 0; i < 2000 && (idle > LATE_US || waits > LATE_US); i++) {
    idle = eb_us_min(idle, idles_late(bus, 1300));
    waits = eb_us_min(waits, waits_late(bus, 1300));
  }
  CHECK(idle >= 0 && waits >= 0);
  CHECK(idle <= LATE_US);
  CHECK(waits <= LATE_US);
  leave(bus);
}

TEST(a_bus_is_freed_in_the_midst_of_it) {
  broker_start(&b, HANG_UP);
  for (int i = 0; i < 30; i++) {
    eb_bus *bus = open_on(&b);
    CHECK(bus != NULL);
    CHECK_INT(confirmed_one_at_a_time(bus, i % 5), i % 5);
    publish(bus, PATIENCE_MS);
    eb_bus_wait(bus, 1 * EB_US_IN_MS);
    eb_bus_free(bus);
  }
  broker_stop(&b);
}

static atomic_bool is_led;

/* As exit() in another thread does, through stop_all. */
static void *stop_later (void *arg) {
  for (eb_ms until = eb_clock_now() + PATIENCE_MS; !atomic_load(&is_led) && eb_clock_now() < until;) usleep(1000);
  usleep(20000);
  eb_io_stop(arg, eb_ms_after(eb_clock_now(), PATIENCE_MS));
  return NULL;
}

TEST(another_thread_may_end_a_connection_that_is_led) {
  broker_start(&b, NORMAL);
  eb_error err;
  eb_inbox inbox;
  eb_url url;
  atomic_bool reached = false;
  eb_io_config c;
  char text[100];
  memset(&c, 0, sizeof c);
  CHECK(eb_inbox_init(&inbox));
  snprintf(text, sizeof text, "amqp://guest:guest@127.0.0.1:%u/%%2f", b.port);
  CHECK(eb_url_parse(text, &url, &err));
  c.session.vhost = url.vhost;
  c.session.user = url.user;
  c.session.password = url.password;
  c.session.connection_name = "lead_test";
  c.session.window_count = 100;
  c.session.window_bytes = 1 << 20;
  c.link.url = &url;
  c.link.reached = &reached;
  c.link.connection_timeout_ms = 5000;
  c.link.reconnect_delay_ms = c.link.reconnect_max_ms = 20;
  eb_io *io = eb_io_new(&c, &inbox, &err);
  CHECK(io != NULL && eb_io_start(io, &err));
  CHECK(reaches(&b.connections, 1));
  pthread_t t;
  CHECK(pthread_create(&t, NULL, stop_later, io) == 0);
  bool closed = false;
  eb_ms until = eb_clock_now() + 3 * PATIENCE_MS, due;
  while (!closed && eb_clock_now() < until) {
    struct pollfd p = {-1, 0, 0};
    eb_ms now = eb_clock_now();
    if (eb_io_lead(io, now, now + EB_IO_LEAD_MS, true, &p.fd, &p.events, &due)) {
      atomic_store(&is_led, true);
      poll(&p, 1, EB_IO_LEAD_MS);
      eb_io_leave(io);
    } else {
      usleep(1000);
    }
    eb_list got;
    eb_list_init(&got);
    eb_inbox_take(&inbox, &got);
    for (eb_item *item; (item = eb_list_pop(&got)) != NULL; eb_item_free(item))
      closed |= item->kind == EB_ITEM_NOTICE && ((eb_notice *)item)->event == EB_EVENT_CLOSED;
  }
  CHECK(atomic_load(&is_led));
  CHECK(closed);
  pthread_join(t, NULL);
  eb_io_free(io);
  eb_inbox_fini(&inbox);
  eb_url_fini(&url);
  broker_stop(&b);
  CHECK_INT(b.closed_in_order, 1);
}

int main (void) {
  RUN(whoever_waits_for_each_confirm_sends_and_receives_himself);
  RUN(what_is_posted_after_a_lead_is_sent_though_nobody_waits);
  RUN(a_connection_lost_under_the_lead_comes_back_and_nothing_is_lost);
  RUN(what_a_leader_heard_last_is_followed_up_by_the_thread);
  RUN(an_answer_that_never_comes_is_given_up_in_time);
  RUN(an_idle_wait_costs_neither_thread_turns);
  RUN(confirms_that_nobody_waits_for_seldom_end_an_idle_wait);
  RUN(news_ends_an_idle_wait);
  RUN(a_ring_ends_an_idle_wait_whatever_is_confirmed_meanwhile);
  RUN(an_idle_wait_ends_in_time);
  RUN(a_wait_does_not_end_a_millisecond_late);
  RUN(a_bus_is_freed_in_the_midst_of_it);
  RUN(another_thread_may_end_a_connection_that_is_led);
  return check_done();
}
