/* model: see model.h. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void model_init (world *w) { init_amqp_pool(&w->broker.pool, 4096); }

/* For the next run; what was allocated is kept. */
void model_reset (world *w) {
  model *b = &w->broker;
  for (int i = 0; i < CONNS; i++) b->conns[i].serial = 0;
  b->serials = 0;
  memset(b->exchanges, 0, sizeof b->exchanges);
  b->exchanges[X_DEFAULT].there = true;
  memset(b->queues, 0, sizeof b->queues);
  memset(b->bindings, 0, sizeof b->bindings);
  b->copy_count = 0;
  b->named = b->stuck = 0;
  b->frozen_until = b->withheld_until = b->blocked_until = 0;
  b->blocked = b->prompt = false;
}

void model_fini (world *w) {
  for (int i = 0; i < CONNS; i++) {
    stream_fini(&w->broker.conns[i].to_broker);
    stream_fini(&w->broker.conns[i].to_client);
    eb_buffer_fini(&w->broker.conns[i].in);
  }
  empty_amqp_pool(&w->broker.pool);
}

void model_accuse (world *w, conn *l, const char *fmt, ...) {
  char text[300];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (!l->poisoned)
    violate(w, "the session broke the protocol: %s", text);
  else if (l->state != CONN_OVER)
    frame_close_connection(w, l, 501, "FRAME_ERROR");
}

conn *model_accept (world *w) {
  model *b = &w->broker;
  conn *l = NULL, *oldest = NULL;
  for (int i = 0; i < CONNS && l == NULL; i++) {
    if (b->conns[i].serial == 0) l = &b->conns[i];
    else if (oldest == NULL || b->conns[i].serial < oldest->serial) oldest = &b->conns[i];
  }
  if (l == NULL) {
    model_drop(w, oldest);
    l = oldest;
  }
  stream_reset(&l->to_broker);
  stream_reset(&l->to_client);
  eb_buffer_truncate(&l->in, 0);
  l->serial = ++b->serials;
  l->state = CONN_GREETING;
  l->poisoned = l->parted = l->refused = false;
  l->dies_at = EB_NEVER;
  l->frame_max = 131072;
  l->channel_max = CHANNELS;
  l->heartbeat = 0;
  l->last_sent = w->now;
  for (int n = 0; n <= CHANNELS; n++) {
    l->channels[n].state = CH_CLOSED;
    l->channels[n].part = PART_NONE;
  }
  w->tally.conns++;
  return l;
}

void model_read (world *w, conn *l, size_t n) {
  size_t ready = stream_ready(&l->to_broker, w->now);
  if (n > ready) n = ready;
  if (w->now < w->broker.frozen_until || n == 0) return;
  eb_buffer_append(&l->in, eb_buffer_bytes(&l->to_broker.bytes), n);
  eb_buffer_consume(&l->to_broker.bytes, n);
  frame_read(w, l);
}

void model_drop (world *w, conn *l) {
  if (l->serial == 0) return;
  trace(w, "broker", "%d is gone", l->serial);
  int serial = l->serial;
  for (unsigned n = 1; n <= CHANNELS; n++)
    if (l->channels[n].state != CH_CLOSED) channel_end(w, l, n);
  l->serial = 0;
  l->to_client.ended = true;
  for (int q = 0; q < QUEUES; q++)
    if (w->broker.queues[q].name[0] != '\0' && w->broker.queues[q].exclusive == serial) topology_remove_queue(w, q);
}

/* What was transient is gone; of the rest, what was confirmed stays. */
void model_restart (world *w) {
  model *b = &w->broker;
  for (int i = 0; i < CONNS; i++) model_drop(w, &b->conns[i]);
  for (int i = 0; i < b->copy_count; i++) {
    copy *c = &b->copies[i];
    if (c->state != COPY_READY) continue;
    if (c->persistent && (c->confirmed || draw_below(&w->draw, 2) == 0)) continue;
    c->state = COPY_GONE;
    w->tally.lost_legally++;
    int *at = &b->queues[c->queue].first;
    while (*at != i + 1) at = &b->copies[*at - 1].next;
    *at = c->next;
  }
  for (int q = 0; q < QUEUES; q++)
    if (b->queues[q].name[0] != '\0' && !b->queues[q].durable) topology_remove_queue(w, q);
  for (int x = X_DEFAULT + 1; x < EXCHANGES; x++)
    if (!b->exchanges[x].durable) topology_remove_exchange(w, x);
  w->promise.disturbed = true;
  b->blocked = false;
  b->frozen_until = b->withheld_until = 0;
}

void model_block (world *w, bool blocked) {
  model *b = &w->broker;
  if (b->blocked == blocked) return;
  b->blocked = blocked;
  for (int i = 0; i < CONNS; i++) {
    conn *l = &b->conns[i];
    if (l->serial == 0 || l->state != CONN_UP) continue;
    amqp_connection_blocked_t m = {frame_text("low on memory")};
    if (blocked)
      frame_method(w, l, 0, AMQP_CONNECTION_BLOCKED_METHOD, &m);
    else
      frame_empty(w, l, 0, AMQP_CONNECTION_UNBLOCKED_METHOD);
  }
}

static bool beat (world *w, conn *l) {
  if (l->heartbeat == 0 || l->state == CONN_OVER || w->now - l->last_sent < (eb_ms)l->heartbeat * 500) return false;
  frame_put(l, AMQP_FRAME_HEARTBEAT, 0, NULL, 0);
  l->last_sent = w->now;
  return true;
}

bool model_pump (world *w) {
  model *b = &w->broker;
  bool did = false;
  if (b->blocked && w->now >= b->blocked_until) model_block(w, false);
  if (w->now < b->frozen_until) return false;
  for (int i = 0; i < CONNS && !w->violated; i++) {
    conn *l = &b->conns[i];
    if (l->serial == 0) continue;
    if (w->now >= l->dies_at || stream_at_end(&l->to_broker, w->now)) {
      model_drop(w, l);
      continue;
    }
    did |= beat(w, l);
    if (l->state != CONN_UP) continue;
    for (unsigned n = 1; n <= l->channel_max && l->serial != 0; n++) {
      if (l->channels[n].state != CH_OPEN) continue;
      if (w->now >= b->withheld_until) did |= channel_confirm(w, l, n);
      did |= channel_deliver(w, l, n);
    }
  }
  return did;
}

eb_ms model_due (const world *w) {
  const model *b = &w->broker;
  eb_ms t = EB_NEVER;
  if (b->blocked) t = eb_ms_min(t, b->blocked_until);
  if (b->withheld_until > w->now) t = eb_ms_min(t, b->withheld_until);
  for (int i = 0; i < CONNS; i++) {
    const conn *l = &b->conns[i];
    if (l->serial == 0) continue;
    t = eb_ms_min(t, l->dies_at);
    if (l->heartbeat > 0 && l->state != CONN_OVER) t = eb_ms_min(t, l->last_sent + (eb_ms)l->heartbeat * 500);
    if (l->to_client.still_until > w->now) t = eb_ms_min(t, l->to_client.still_until);
    if (l->to_broker.still_until > w->now) t = eb_ms_min(t, l->to_broker.still_until);
    for (unsigned n = 1; n <= CHANNELS; n++)
      if (l->channels[n].refuses_at > w->now) t = eb_ms_min(t, l->channels[n].refuses_at);
  }
  return b->frozen_until > w->now ? b->frozen_until : t;
}
