/* Memory that runs out under a bus with a live broker: each operation is answered, and when there is memory again it
 * publishes and consumes. */
#include "io_peer.h"

#if defined(__GLIBC__)

#include "scarce.h"

static atomic_bool inside;
static broker *b;
static uint64_t led;  /* turns, in all runs: so those were starved, too */

enum { OPERATIONS = 8, OUT_MS = 60, ANSWER_MS = 30000 };

typedef struct client {
  eb_bus *bus;
  uint64_t ids[OPERATIONS];
  int codes[OPERATIONS];  /* -1: not answered */
  size_t count;
  size_t answered;
  int delivered;
  bool wrong;
} client;

static void hear_answer (client *c, const eb_item *item) {
  for (size_t i = 0; i < c->count; i++) {
    if (c->ids[i] != item->id) continue;
    if (c->codes[i] != -1) c->wrong = true;
    c->codes[i] = (int)item->code;
    c->answered++;
    return;
  }
  c->wrong = true;
}

static void take_all (client *c) {
  eb_item *item;
  eb_error err;
  while ((item = eb_bus_next(c->bus)) != NULL) {
    if (item->kind == EB_ITEM_DELIVERY) {
      c->delivered++;
      eb_bus_settle(c->bus, (eb_delivery *)item, EB_ACK, &err);  /* or the bus is closing */
      continue;
    }
    if (item->kind != EB_ITEM_NOTICE) hear_answer(c, item);
    eb_item_free(item);
  }
}

static void wait_for_answers (client *c, int64_t ms) {
  for (eb_ms end = eb_clock_now() + ms; c->answered < c->count && eb_clock_now() < end;) {
    eb_bus_wait(c->bus, 5 * EB_US_IN_MS);
    take_all(c);
  }
}

/* An operation that finds no memory to be made or posted is none. */
static void post (client *c, void *made) {
  eb_error err;
  eb_item *item = made;
  if (item == NULL) return;
  item->deadline = eb_clock_now() + ANSWER_MS;
  uint64_t id = eb_bus_post(c->bus, item, true, &err);
  if (id == 0) {
    if (err.code != EB_ERR_NO_MEMORY) c->wrong = true;
    return;
  }
  c->codes[c->count] = -1;
  c->ids[c->count++] = id;
}

static const eb_table *arguments (void) {
  static eb_pair pair = {{"key", 3}, {EB_FIELD_STRING, {.bytes = {"text", 4}}}};
  static const eb_table table = {1, &pair};
  return &table;
}

static eb_publish *new_publish (eb_bus *bus) {
  eb_publish *p = eb_bus_new_publish(bus, 64);
  if (p == NULL) return NULL;
  p->exchange = eb_bytes_of("orders", 6);
  p->routing_key = eb_bytes_of("k", 1);
  p->body = eb_bytes_of("body", 4);
  p->properties.headers = arguments();
  return p;
}

static eb_rpc *new_declare (void) {
  eb_rpc *op = eb_item_new(EB_ITEM_RPC, sizeof *op, 16);
  if (op == NULL) return NULL;
  op->method = EB_QUEUE_DECLARE;
  op->name = eb_bytes_of("q", 1);
  op->record = true;
  op->arguments = arguments();
  return op;
}

static eb_subscribe *new_subscribe (void) {
  eb_subscribe *op = eb_item_new(EB_ITEM_SUBSCRIBE, sizeof *op, 16);
  if (op == NULL) return NULL;
  op->queue = eb_bytes_of("q", 1);
  op->prefetch = 10;
  op->arguments = arguments();
  return op;
}

static bool open_client (client *c) {
  eb_error err;
  memset(c, 0, sizeof *c);
  c->bus = open_on(b);
  return c->bus != NULL && eb_bus_start(c->bus, EB_PUBLISH, &err) && eb_bus_start(c->bus, EB_CONTROL, &err);
}

static bool close_client (client *c) {
  eb_session_stats s;
  eb_bus_get_stats(c->bus, EB_PUBLISH, &s);
  led += s.led;
  eb_bus_shutdown(c->bus, ANSWER_MS);
  for (eb_ms end = eb_clock_now() + ANSWER_MS; !eb_bus_ended(c->bus) && eb_clock_now() < end;) {
    eb_bus_wait(c->bus, 5 * EB_US_IN_MS);
    take_all(c);
  }
  bool ended = eb_bus_ended(c->bus);
  inside = false;
  eb_bus_free(c->bus);
  if (!ended) printf("it did not end\n");
  return ended && !c->wrong;
}

/* With memory again: an event goes through, to whoever consumes. */
static bool works (client *c, bool consumes) {
  c->count = c->answered = 0;
  post(c, new_publish(c->bus));
  if (!consumes) post(c, new_subscribe());
  int before = c->delivered;
  wait_for_answers(c, ANSWER_MS);
  for (size_t i = 0; i < c->count; i++)
    if (c->codes[i] != EB_OK) printf("with memory again: %s\n", eb_code_name((eb_code)c->codes[i]));
  for (size_t i = 0; i < c->count; i++)
    if (c->codes[i] != EB_OK) return false;
  for (eb_ms end = eb_clock_now() + ANSWER_MS; c->delivered == before && eb_clock_now() < end;) {
    eb_bus_wait(c->bus, 5 * EB_US_IN_MS);
    take_all(c);
  }
  if (c->delivered == before) printf("with memory again: nothing is delivered\n");
  return c->delivered > before;
}

/* Answered in time, and not with what is not so. */
static bool fair (const client *c) {
  for (size_t i = 0; i < c->count; i++) {
    if (c->codes[i] == EB_OK || c->codes[i] == EB_ERR_NO_MEMORY) continue;
    printf("operation %zu: %s\n", i, c->codes[i] < 0 ? "not answered" : eb_code_name((eb_code)c->codes[i]));
    return false;
  }
  return true;
}

static bool live_run (void) {
  client c;
  if (!open_client(&c)) return false;
  inside = true;
  post(&c, new_subscribe());
  size_t subscribed = c.count;
  post(&c, new_declare());
  for (int i = 0; i < 3; i++) post(&c, new_publish(c.bus));
  eb_publish *loose = new_publish(c.bus);
  if (loose != NULL) loose->unconfirmed = true;
  post(&c, loose);
  wait_for_answers(&c, OUT_MS);
  inside = false;
  wait_for_answers(&c, ANSWER_MS);
  bool good = fair(&c) && works(&c, subscribed > 0 && c.codes[0] == EB_OK);
  return close_client(&c) && good;
}

/* Its end, with an event under way. */
static bool close_run (void) {
  client c;
  if (!open_client(&c)) return false;
  post(&c, new_publish(c.bus));
  wait_for_answers(&c, ANSWER_MS);
  inside = true;
  post(&c, new_publish(c.bus));
  return close_client(&c);
}

TEST(a_live_bus_without_memory_for_a_moment_answers_and_goes_on) { CHECK_INT(scarce_every(live_run), 0); }
TEST(a_live_bus_without_memory_for_a_while_answers_and_goes_on) { CHECK_INT(scarce_for_good(live_run), 0); }
TEST(a_bus_without_memory_for_a_moment_ends) { CHECK_INT(scarce_every(close_run), 0); }
TEST(a_bus_without_memory_for_good_ends) { CHECK_INT(scarce_for_good(close_run), 0); }
TEST(the_leading_turns_were_among_them) { CHECK(led > 0); }

int main (void) {
  pid_t pid = broker_fork(&b, QUEUE);
  signal(SIGPIPE, SIG_IGN);
  scarce_gate = &inside;
  RUN(a_live_bus_without_memory_for_a_moment_answers_and_goes_on);
  RUN(a_live_bus_without_memory_for_a_while_answers_and_goes_on);
  RUN(a_bus_without_memory_for_a_moment_ends);
  RUN(a_bus_without_memory_for_good_ends);
  RUN(the_leading_turns_were_among_them);
  broker_kill(pid);
  return check_done();
}

#else

int main (void) {
  check_bad = 0;
  return check_done();
}

#endif
