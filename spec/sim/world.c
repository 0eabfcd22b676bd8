/* world: see world.h. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALM_TURNS = 20000, CALM_MS = 300000, LAST_STEPS = 10 };

world *world_new (void) {
  world *w = calloc(1, sizeof *w);
  if (w != NULL) model_init(w);
  return w;
}

void world_free (world *w) {
  if (w == NULL) return;
  model_fini(w);
  free(w);
}

/* What others have made before the program begins. */

static void prepare_queue (world *w, int q) {
  topology_add_queue(w, names_of_queue(q), true, 0);
  promise_unsure_queue(&w->promise, q);
}

static void prepare_exchange (world *w, int x) {
  fields arguments;
  int nature = names_nature(x, &w->draw);
  memset(&arguments, 0, sizeof arguments);
  if (names_alternate(nature) >= 0) {
    field *f = &arguments.items[arguments.count++];
    f->kind = FIELD_STRING;
    snprintf(f->name, sizeof f->name, "alternate-exchange");
    snprintf(f->text, sizeof f->text, "%s", names_of_exchange(names_alternate(nature)));
  }
  topology_add_exchange(w, x, names_type(nature), names_exchange_durable(x), &arguments);
  promise_unsure_exchange(&w->promise, x);
}

static void prepare_binding (world *w, int source, int target, bool to_exchange, const char *key) {
  model_binding m;
  promised_binding b;
  memset(&m, 0, sizeof m);
  memset(&b, 0, sizeof b);
  m.source = b.source = source;
  m.target = b.target = target;  /* the first queues are the program's, in its order */
  m.to_exchange = b.to_exchange = to_exchange;
  snprintf(m.key, sizeof m.key, "%s", key);
  snprintf(b.key, sizeof b.key, "%s", key);
  topology_bind(w, &m);
  promise_unsure_binding(w, &b);
}

static void begin (world *w, uint64_t seed) {
  w->seed = seed;
  w->violated = w->poisoned = w->probing = false;
  w->step = 0;
  w->now = 1000;
  draw_init(&w->draw, seed);
  w->plan = plan_draw(&w->draw);
  w->ledger.asked_count = w->ledger.unanswered = w->ledger.oldest = 0;
  w->ledger.handed_count = w->ledger.log_count = 0;
  w->ledger.full = false;
  model_reset(w);
  promise_reset(&w->promise);
  if (!user_init(w)) violate(w, "no session");
  if (w->plan.prepared) {
    for (int q = 0; q < 2; q++) prepare_queue(w, q);
    for (int x = X_DIRECT; x <= X_TOPIC; x++) prepare_exchange(w, x);
    prepare_binding(w, X_DIRECT, 0, false, "k0");
    prepare_binding(w, X_PASSING, X_DIRECT, true, "k0");
    prepare_binding(w, X_TOPIC, 1, false, "a.*");
  }
}

static size_t some (world *w, size_t n) {
  return draw_below(&w->draw, 4) > 0 ? n : draw_below(&w->draw, (unsigned)n + 1);
}

static void read_at_broker (world *w) {
  for (int i = 0; i < CONNS && !w->violated; i++) {
    conn *l = &w->broker.conns[i];
    if (l->serial != 0) model_read(w, l, some(w, eb_buffer_size(&l->to_broker.bytes)));
  }
}

static void read_at_session (world *w) {
  conn *l = w->user.conn;
  if (l != NULL) user_read(w, some(w, eb_buffer_size(&l->to_client.bytes)));
}

/* The loop sleeps, at most until somebody wants to be called, unless it is late. */
static void pass_time (world *w) {
  static const unsigned spans[] = {0, 1, 10, 100, 1000, 8000};
  eb_ms target = w->now + draw_below(&w->draw, spans[draw_below(&w->draw, 6)] + 1);
  if (draw_chance(&w->draw, w->plan.rates[FAULT_LATE])) {
    w->tally.faults[FAULT_LATE]++;
    w->now += draw_below(&w->draw, 60000);
    return;
  }
  eb_ms due = eb_ms_min(user_due(w), model_due(w));
  if (due < target) target = due > w->now ? due : w->now;
  w->now = target;
}

static void step (world *w) {
  faults_strike(w);
  for (unsigned n = draw_below(&w->draw, 4); n > 0; n--) program_act(w);
  for (unsigned n = 3 + draw_below(&w->draw, 3); n > 0 && !w->violated; n--) {
    switch (draw_below(&w->draw, 6)) {
      case 0: read_at_broker(w); break;
      case 1: model_pump(w); break;
      case 2: read_at_session(w); break;
      case 3: pass_time(w); break;
      default: break;
    }
    if (draw_below(&w->draw, 3) > 0) user_turn(w);
  }
}

static bool is_done (const world *w) { return w->user.closing && eb_session_done(w->user.session, w->now); }

/* The faults end: whoever is lost learns of it, and everything goes as fast as it can. */
static void calm (world *w) {
  model *b = &w->broker;
  trace(w, "fault", "none from now on");
  memset(w->plan.rates, 0, sizeof w->plan.rates);
  w->plan.nacks = 0;
  b->prompt = true;
  b->frozen_until = b->withheld_until = b->blocked_until = 0;
  for (int i = 0; i < CONNS; i++) {
    conn *l = &b->conns[i];
    l->to_broker.still_until = l->to_client.still_until = 0;
    bool dead = l->poisoned || l->to_broker.swallows || l->to_client.swallows || l->parted;
    if (l->serial == 0 || !dead) continue;
    if (w->user.conn == l) user_lost(w, "connection reset");
    model_drop(w, l);
  }
}

/* One turn of everybody. True: something moved. */
static bool everybody (world *w) {
  user_turn(w);
  bool moved = eb_buffer_size(eb_session_output(w->user.session)) > 0;
  for (int i = 0; i < CONNS && !w->violated; i++) {
    conn *l = &w->broker.conns[i];
    if (l->serial == 0 || eb_buffer_size(&l->to_broker.bytes) == 0) continue;
    model_read(w, l, SIZE_MAX);
    moved = true;
  }
  moved |= model_pump(w);
  conn *l = w->user.conn;
  if (l != NULL && (eb_buffer_size(&l->to_client.bytes) > 0 || l->to_client.ended)) {
    user_read(w, SIZE_MAX);
    moved = true;
  }
  if (w->user.closing) return moved;
  moved |= w->user.held_count > 0;
  program_settle_all(w);
  return moved;
}

static void until_reached (world *w) {
  const char *why = NULL;
  eb_ms end = w->now + CALM_MS;
  for (int i = 0; i < CALM_TURNS && !w->violated && !is_done(w); i++) {
    if (everybody(w)) continue;
    if (!w->user.closing && outcome_reached(w, &why)) return;
    eb_ms due = eb_ms_min(user_due(w), model_due(w));
    if (due > end) break;
    if (due > w->now) w->now = due;
  }
  if (!is_done(w) && !w->violated) violate(w, "%s, long after the last fault", w->user.closing ? "it does not end" : why);
}

static void finish (world *w) {
  user *u = &w->user;
  eb_error why;
  user_take(w);
  if (is_done(w) && w->now < u->close_deadline && !u->failed)
    for (int i = 0; i < w->ledger.asked_count; i++) {
      const asked *a = &w->ledger.asked[i];
      if (!a->answered && (a->kind == EB_ITEM_PUBLISH || a->kind == EB_ITEM_RPC))
        violate(w, "it ended although operation %d waits", i + 1);
    }
  eb_error_set(&why, EB_ERR_CLOSED, "the bus was closed");
  trace(w, "user", "ends");
  u->failed = true;
  u->conn = NULL;
  eb_session_detach(u->session, &why, w->now);
  eb_session_fail(u->session, &why, w->now);
  user_take(w);
  if (w->ledger.unanswered > 0) violate(w, "%d operations were never answered", w->ledger.unanswered);
}

/* Reconnects once more, in order, perhaps to a broker that has nothing: what was declared comes back, and events find
 * their ways. What others had made does not, nor what hangs on that: it may be missed until it is asked for again. */
static void once_more (world *w) {
  if (w->user.conn != NULL) model_drop(w, w->user.conn);
  if (draw_below(&w->draw, 2) == 0) {
    trace(w, "fault", "the broker is another, and empty");
    topology_forget(w);
    w->promise.disturbed = true;
  }
  until_reached(w);
  if (!w->violated) outcome_check(w);
  if (w->violated) return;
  bool disturbed = w->promise.disturbed;
  w->promise.disturbed = false;
  w->probing = true;
  program_probe(w);
  until_reached(w);
  w->probing = false;
  w->promise.disturbed = disturbed;
}

static void run (world *w) {
  unsigned closes_at = w->plan.orderly && draw_below(&w->draw, 2) == 0 ? draw_below(&w->draw, w->plan.steps) : UINT32_MAX;
  program_prepare(w);
  for (w->step = 1; w->step <= w->plan.steps && !w->violated && !is_done(w); w->step++) {
    step(w);
    if (w->step == closes_at) user_close(w, w->now + draw_below(&w->draw, 20000));
  }
  if (w->violated) return;
  if (!is_done(w)) {
    calm(w);
    until_reached(w);
  }
  if (!w->user.closing && !w->violated) once_more(w);
  if (w->plan.orderly && !w->user.closing && !w->violated) {
    for (int i = 0; i < LAST_STEPS && !w->violated; i++) step(w);
    program_settle_one(w);  /* its ack is to be sent before the end, without delay */
    user_close(w, w->now + 60000);
    until_reached(w);
    if (w->now >= w->user.close_deadline) violate(w, "closing took all its time, for nothing");
  }
  if (!w->violated) finish(w);
}

bool world_run (world *w, uint64_t seed) {
  begin(w, seed);
  if (!w->violated) run(w);
  w->tally.seeds++;
  w->tally.steps += w->step;
  user_fini(w);
  return !w->violated;
}
