/* user: the loop. See user.h. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

enum { ATTEMPT_MS = 5000, SOCKET_SIZE = 64 * 1024, OUT_MOST = 300000, SPINS_MOST = 50 };

bool user_init (world *w) {
  user *u = &w->user;
  memset(u, 0, sizeof *u);
  u->session = eb_session_new(&w->plan.config);
  return u->session != NULL;
}

void user_fini (world *w) {
  user *u = &w->user;
  for (size_t i = 0; i < u->held_count; i++) eb_item_free(&u->held[i]->item);
  eb_session_free(u->session);
  u->session = NULL;
}

static eb_buffer *output (const user *u) { return eb_session_output(u->session); }

static void note_encoded (user *u) { u->encoded = u->written + eb_buffer_size(output(u)); }

void user_take (world *w) {
  eb_list events;
  eb_item *item;
  eb_list_init(&events);
  note_encoded(&w->user);
  eb_session_take(w->user.session, &events);
  while ((item = eb_list_pop(&events)) != NULL) {
    switch (item->kind) {
      case EB_ITEM_DELIVERY: program_delivered(w, (eb_delivery *)item); break;
      case EB_ITEM_NOTICE:
        if (((eb_notice *)item)->event == EB_EVENT_CANCELLED) ledger_cancelled(w, ((eb_notice *)item)->consumer);
        trace(w, "user", "notice: %s%s%s", eb_event_name(((eb_notice *)item)->event), item->error != NULL ? ": " : "",
              item->error != NULL ? item->error->message : "");
        eb_item_free(item);
        break;
      default:
        ledger_answered(w, item);
        program_answered(w, item);
        break;
    }
  }
}

static void write_some (world *w, bool all) {
  user *u = &w->user;
  size_t n = eb_buffer_size(output(u));
  if (u->conn == NULL || n == 0) return;
  if (!all && draw_below(&w->draw, 4) == 0) n = draw_below(&w->draw, (unsigned)n + 1);
  if (!all && eb_buffer_size(&u->conn->to_broker.bytes) > SOCKET_SIZE) n = 0;
  if (n == 0) return;
  stream_send(&u->conn->to_broker, eb_buffer_bytes(output(u)), n);
  eb_buffer_consume(output(u), n);
  u->written += n;
  u->last_wrote = w->now;
  eb_session_wrote(u->session, w->now);
}

void user_connect (world *w) {
  user *u = &w->user;
  u->conn = model_accept(w);
  u->written = u->encoded = 0;
  u->failed = false;
  u->attempt_deadline = w->now + ATTEMPT_MS;
  u->last_fed = u->last_wrote = w->now;
  trace(w, "user", "connects: %d", u->conn->serial);
  eb_session_attach(u->session, w->now);
}

void user_lost (world *w, const char *why) {
  user *u = &w->user;
  eb_error err;
  if (u->conn == NULL) return;
  trace(w, "user", "lost connection %d: %s", u->conn->serial, why);
  bool was_up = eb_session_phase(u->session) >= EB_PHASE_UP;
  u->conn->parted = true;
  u->conn->to_broker.ended = true;
  if (u->conn->to_broker.swallows && u->conn->dies_at == EB_NEVER)
    u->conn->dies_at = w->now + draw_below(&w->draw, 60000);
  u->conn = NULL;
  u->retry_at = w->now + (w->broker.prompt ? 10 : draw_below(&w->draw, 3000));
  eb_error_set(&err, EB_ERR_CONNECTION, "%s", why);
  eb_session_detach(u->session, &err, w->now);
  if (was_up) program_drop_held(w);
}

void user_fail (world *w) {
  eb_error err;
  w->user.failed = true;
  eb_error_set(&err, EB_ERR_REFUSED, "given up");
  trace(w, "user", "gives up");
  eb_session_fail(w->user.session, &err, w->now);
  w->user.retry_at = w->now + 5000;
  user_take(w);
  for (int i = 0; i < w->ledger.asked_count; i++) w->ledger.asked[i].active = false;
}

void user_close (world *w, eb_ms deadline) {
  w->user.closing = true;
  w->user.close_deadline = deadline;
  trace(w, "user", "closes, until %lld ms", (long long)deadline);
  eb_session_close(w->user.session, deadline, w->now);
}

static void fatal (world *w, const eb_error *err) {
  trace(w, "session", "fails: %s: %s", eb_code_name(err->code), err->message);
  if (err->code == EB_ERR_NO_MEMORY || err->code == EB_ERR_INTERNAL)
    violate(w, "the session fails with '%s'", eb_code_name(err->code));
  if (err->code == EB_ERR_PROTOCOL && w->user.conn != NULL && !w->user.conn->poisoned)
    violate(w, "the session blames the broker: %s", err->message);
  if (draw_below(&w->draw, 4) > 0) write_some(w, true);
  user_lost(w, "the session failed");
}

void user_read (world *w, size_t most) {
  user *u = &w->user;
  eb_error err;
  conn *l = u->conn;
  if (l == NULL) return;
  size_t ready = stream_ready(&l->to_client, w->now);
  if (most > ready) most = ready;
  while (most > 0 && u->conn == l && !w->violated) {
    size_t n = plan_piece(&w->plan, &w->draw, most);
    const uint8_t *p = eb_buffer_bytes(&l->to_client.bytes);
#if defined(EB_ASAN)
    uint8_t *just = malloc(n);  /* so that reading past them is noticed */
    if (just == NULL) abort();
    p = memcpy(just, p, n);
#endif
    bool ok = eb_session_feed(u->session, p, n, w->now, &err);
#if defined(EB_ASAN)
    free(just);
#endif
    u->last_fed = w->now;
    stream_take(&l->to_client, n);
    most -= n;
    if (!ok) fatal(w, &err);
    if (draw_below(&w->draw, 8) == 0) user_take(w);
  }
  if (u->conn != NULL && stream_at_end(&l->to_client, w->now)) user_lost(w, "the broker hung up");
}

/* What must hold after every turn. */
static void check (world *w, const eb_session_stats *before) {
  user *u = &w->user;
  eb_session_stats now;
  memset(&now, 0, sizeof now);
  eb_session_get_stats(u->session, &now);
  if (now.unconfirmed > w->plan.config.window_count) violate(w, "%zu publishes are unconfirmed", now.unconfirmed);
  if (before->blocked && now.published > before->published) violate(w, "it publishes although it is blocked");
  if (now.input >= now.frame_max) violate(w, "%zu bytes are kept of one frame", now.input);
  if (eb_buffer_size(output(u)) > OUT_MOST) violate(w, "%zu bytes wait to be written", eb_buffer_size(output(u)));
  if (u->conn != NULL && u->conn->heartbeat > 0) {
    eb_ms beat = (eb_ms)u->conn->heartbeat * 1000;
    if (w->now - u->last_fed >= 2 * beat) violate(w, "it does not notice a silent broker");
    if (w->now - u->last_wrote >= beat && eb_buffer_size(output(u)) == 0) violate(w, "it sends no heartbeats");
  }
  u->spins = eb_session_deadline(u->session) <= w->now ? u->spins + 1 : 0;
  if (u->spins > SPINS_MOST) violate(w, "it asks to be called again at once, for ever");
}

void user_turn (world *w) {
  user *u = &w->user;
  eb_error err;
  eb_session_stats before;
  memset(&before, 0, sizeof before);
  if (u->conn == NULL && w->now >= u->retry_at) user_connect(w);
  eb_session_get_stats(u->session, &before);
  note_encoded(u);
  bool ok = eb_session_tick(u->session, w->now, &err);
  if (!ok && u->conn != NULL) fatal(w, &err);
  write_some(w, false);
  if (u->conn != NULL && w->now >= u->attempt_deadline && eb_session_phase(u->session) < EB_PHASE_UP)
    user_lost(w, "the handshake took too long");
  user_take(w);
  check(w, &before);
  if (ok) ledger_check_deadlines(w);
}

eb_ms user_due (const world *w) {
  const user *u = &w->user;
  eb_ms t = eb_session_deadline(u->session);
  if (u->conn == NULL) return eb_ms_min(t, u->retry_at);
  if (eb_session_phase(u->session) < EB_PHASE_UP) t = eb_ms_min(t, u->attempt_deadline);
  return t;
}
