/* faults: what goes wrong, as the plan has it. */
#include "world.h"

#include <string.h>

static unsigned below (world *w, size_t n) { return draw_below(&w->draw, (unsigned)n); }

static conn *any_conn (world *w) {
  conn *l = &w->broker.conns[below(w, CONNS)];
  return l->serial != 0 && below(w, 4) == 0 ? l : w->user.conn;
}

/* Both sides get a part of what was on its way, then learn of it, in either order. */
static void reset (world *w) {
  conn *l = w->user.conn;
  if (l == NULL) return;
  int serial = l->serial;
  bool broker_first = below(w, 2) == 0;
  if (broker_first) user_read(w, below(w, eb_buffer_size(&l->to_client.bytes) + 1));
  if (l->serial != 0 && l->serial == serial) {
    model_read(w, l, below(w, eb_buffer_size(&l->to_broker.bytes) + 1));
    if (below(w, 3) == 0)
      l->dies_at = w->now + below(w, 20000);
    else if (l->serial == serial)
      model_drop(w, l);
    l->to_broker.swallows = l->to_client.swallows = true;
    eb_buffer_truncate(&l->to_broker.bytes, 0);
  }
  if (w->user.conn == l && !broker_first) user_read(w, below(w, eb_buffer_size(&l->to_client.bytes) + 1));
  if (w->user.conn == l) user_lost(w, "connection reset");
}

static void half_open (world *w) {
  conn *l = w->user.conn;
  if (l == NULL || l->serial == 0) return;
  unsigned ways = 1 + below(w, 3);
  if (ways & 1) l->to_broker.swallows = true;
  if (ways & 2) l->to_client.swallows = true;
  if (below(w, 2) == 0 && (ways & 1)) eb_buffer_truncate(&l->to_broker.bytes, 0);
  if (below(w, 2) == 0 && (ways & 2)) eb_buffer_truncate(&l->to_client.bytes, 0);
  l->dies_at = w->now + below(w, 120000);
}

static void channel_close (world *w) {
  conn *l = any_conn(w);
  if (l == NULL || l->serial == 0 || l->state != CONN_UP) return;
  unsigned from = below(w, CHANNELS);
  for (unsigned i = 0; i < CHANNELS; i++) {
    unsigned n = 1 + (from + i) % CHANNELS;
    if (l->channels[n].state != CH_OPEN) continue;
    channel_error(w, l, n, 406, "PRECONDITION_FAILED - a fault");
    return;
  }
}

/* A channel that consumes; 0: none. */
static unsigned consuming (world *w, const conn *l) {
  unsigned from = below(w, CHANNELS);
  for (unsigned i = 0; i < CHANNELS; i++) {
    unsigned n = 1 + (from + i) % CHANNELS;
    if (l->channels[n].state == CH_OPEN && l->channels[n].consumer[0] != '\0') return n;
  }
  return 0;
}

static void cancel (world *w) {
  conn *l = any_conn(w);
  if (l == NULL || l->serial == 0 || l->state != CONN_UP) return;
  unsigned n = consuming(w, l);
  if (n == 0) return;
  if (below(w, 3) > 0)
    channel_cancel_consumer(w, l, n);
  else
    channel_take_back(w, l, n);
}

static void queue_deleted (world *w) {
  int q = (int)below(w, 4);
  w->promise.disturbed = true;
  if (w->broker.queues[q].name[0] != '\0') topology_remove_queue(w, q);
}

static void exchange_deleted (world *w) {
  w->promise.disturbed = true;
  topology_remove_exchange(w, X_DEFAULT + 1 + (int)below(w, X_MISSING - X_DEFAULT - 1));
}

static void unbound (world *w) {
  model_binding *m = &w->broker.bindings[below(w, BINDINGS / 4)];
  w->promise.disturbed = true;
  m->used = false;
}

/* What no broker may send. The session ends the connection, or takes no notice. */
static void hostile (world *w) {
  conn *l = w->user.conn;
  if (l == NULL || l->serial == 0) return;
  static const amqp_method_number_t methods[] = {
      AMQP_CONNECTION_START_METHOD, AMQP_CONNECTION_TUNE_METHOD, AMQP_CONNECTION_OPEN_OK_METHOD,
      AMQP_CONNECTION_CLOSE_OK_METHOD, AMQP_CHANNEL_OPEN_OK_METHOD, AMQP_CHANNEL_FLOW_METHOD, AMQP_CHANNEL_CLOSE_METHOD,
      AMQP_CHANNEL_CLOSE_OK_METHOD, AMQP_QUEUE_DECLARE_OK_METHOD, AMQP_QUEUE_BIND_OK_METHOD, AMQP_BASIC_QOS_OK_METHOD,
      AMQP_BASIC_CONSUME_OK_METHOD, AMQP_BASIC_CANCEL_METHOD, AMQP_BASIC_CANCEL_OK_METHOD, AMQP_BASIC_GET_OK_METHOD,
      AMQP_BASIC_GET_EMPTY_METHOD, AMQP_BASIC_DELIVER_METHOD, AMQP_BASIC_RETURN_METHOD, AMQP_CONFIRM_SELECT_OK_METHOD,
      AMQP_BASIC_PUBLISH_METHOD, AMQP_BASIC_RECOVER_OK_METHOD, AMQP_TX_COMMIT_OK_METHOD};
  uint8_t junk[64];
  unsigned channel = below(w, (size_t)CHANNELS + 3);
  l->poisoned = w->poisoned = true;
  trace(w, "broker", "%d breaks the protocol", l->serial);
  switch (below(w, 8)) {
    case 0: {  /* a confirm of what was never published, on the publishing channel or another */
      amqp_basic_ack_t m = {.delivery_tag = 1000000 + below(w, 1000)};
      m.multiple = below(w, 2) > 0;
      frame_method(w, l, below(w, 2) ? 1 : channel, AMQP_BASIC_ACK_METHOD, &m);
      break;
    }
    case 1: frame_empty(w, l, channel, methods[below(w, sizeof methods / sizeof *methods)]); break;
    case 2:
      for (size_t i = 0; i < sizeof junk; i++) junk[i] = (uint8_t)below(w, 256);
      stream_send(&l->to_client, junk, 1 + below(w, sizeof junk));
      break;
    case 3:  /* content out of place */
      memset(junk, 0, sizeof junk);
      junk[1] = 60;
      frame_put(l, below(w, 2) > 0 ? AMQP_FRAME_HEADER : AMQP_FRAME_BODY, channel, junk, 14);
      break;
    case 4: {  /* a frame over frame_max */
      const uint8_t head[7] = {3, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF};
      stream_send(&l->to_client, head, sizeof head);
      break;
    }
    case 5: {  /* a delivery with a tag that was there before */
      unsigned n = 1 + below(w, CHANNELS);
      model_channel *ch = &l->channels[n];
      if (ch->consumer[0] != '\0' && ch->tag > 0) ch->tag -= 1;
      break;
    }
    case 6: {  /* more than the prefetch */
      unsigned n = l->state == CONN_UP ? consuming(w, l) : 0;
      if (n != 0 && w->ledger.asked_count > 0) channel_flood(w, l, n);
      break;
    }
    default:
      for (int i = 0; i < 200; i++) frame_put(l, AMQP_FRAME_HEARTBEAT, 0, NULL, 0);
      break;
  }
}

static void strike (world *w, fault f) {
  model *b = &w->broker;
  conn *l = any_conn(w);
  switch (f) {
    case FAULT_RESET: reset(w); break;
    case FAULT_HANG_UP:
      if (l != NULL) model_drop(w, l);
      break;
    case FAULT_HALF_OPEN: half_open(w); break;
    case FAULT_STILL:
      if (l != NULL) {
        eb_ms until = w->now + below(w, 20000);
        (below(w, 2) ? &l->to_broker : &l->to_client)->still_until = until;
      }
      break;
    case FAULT_SILENCE: b->frozen_until = w->now + below(w, 30000); break;
    case FAULT_RESTART:
      model_restart(w);
      if (l != NULL && below(w, 2)) eb_buffer_truncate(&l->to_client.bytes, 0);
      break;
    case FAULT_CONNECTION_CLOSE:
      if (l != NULL && l->serial != 0 && l->state != CONN_GREETING && l->state != CONN_OVER)
        frame_close_connection(w, l, 320, "CONNECTION_FORCED - the node goes down");
      break;
    case FAULT_CHANNEL_CLOSE: channel_close(w); break;
    case FAULT_WITHHOLD: b->withheld_until = w->now + below(w, 10000); break;
    case FAULT_BLOCKED:
      b->blocked_until = w->now + below(w, 10000);
      model_block(w, true);
      if (l != NULL && below(w, 2)) l->to_broker.still_until = b->blocked_until;
      break;
    case FAULT_QUEUE_DELETED: queue_deleted(w); break;
    case FAULT_EXCHANGE_DELETED: exchange_deleted(w); break;
    case FAULT_UNBOUND: unbound(w); break;
    case FAULT_CANCEL: cancel(w); break;
    case FAULT_GIVEN_UP:
      if (w->user.conn == NULL && !w->user.closing) user_fail(w);
      break;
    case FAULT_HOSTILE: hostile(w); break;
    default: break;
  }
}

void faults_strike (world *w) {
  for (int f = 0; f < FAULT_COUNT; f++) {
    if (w->plan.rates[f] == 0 || f == FAULT_LATE || f == FAULT_LOGIN || f == FAULT_REPEAT_CONFIRM) continue;
    if (!draw_chance(&w->draw, w->plan.rates[f])) continue;
    w->tally.faults[f]++;
    trace(w, "fault", "%s", fault_name((fault)f));
    strike(w, (fault)f);
    if (w->violated) return;
  }
}
