/* model_frame: the model's frames, and the conversation on channel 0. See model.h.
 *
 * Encoding and decoding is rabbitmq-c's; cutting and checking is done here, apart from the code under test.
 */
#include "world.h"

#include <stdio.h>
#include <string.h>

enum { END_MARK = 0xCE };

amqp_bytes_t frame_text (const char *s) {
  amqp_bytes_t b = {strlen(s), (void *)(uintptr_t)s};
  return b;
}

/* Out. */

void frame_put (conn *l, int type, unsigned channel, const void *payload, size_t n) {
  const uint8_t head[7] = {(uint8_t)type,       (uint8_t)(channel >> 8), (uint8_t)channel, (uint8_t)(n >> 24),
                           (uint8_t)(n >> 16), (uint8_t)(n >> 8),       (uint8_t)n};
  const uint8_t end = END_MARK;
  stream_send(&l->to_client, head, sizeof head);
  stream_send(&l->to_client, payload, n);
  stream_send(&l->to_client, &end, 1);
}

void frame_method (world *w, conn *l, unsigned channel, amqp_method_number_t id, void *decoded) {
  uint8_t space[512];
  amqp_bytes_t to = {sizeof space - 4, space + 4};
  int n = amqp_encode_method(id, decoded, to);
  if (n < 0) {
    violate(w, "the model cannot encode %s", amqp_method_name(id));
    return;
  }
  for (int i = 0; i < 4; i++) space[i] = (uint8_t)(id >> (24 - 8 * i));
  frame_put(l, AMQP_FRAME_METHOD, channel, space, (size_t)n + 4);
  l->last_sent = w->now;
  trace(w, "broker", "%d.%u %s", l->serial, channel, amqp_method_name(id));
}

void frame_empty (world *w, conn *l, unsigned channel, amqp_method_number_t id) {
  union {
    uint8_t bytes[128];
    uint64_t aligned;
  } nothing;
  memset(&nothing, 0, sizeof nothing);
  frame_method(w, l, channel, id, &nothing);
}

void frame_content (world *w, conn *l, unsigned channel, int event, uint64_t stamp) {
  uint8_t space[256];
  char id[16];
  const asked *a = &w->ledger.asked[event - 1];
  amqp_basic_properties_t props;
  memset(&props, 0, sizeof props);
  snprintf(id, sizeof id, "m%d", event);
  props._flags = AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
  props.message_id = frame_text(id);
  props.timestamp = stamp;
  props.delivery_mode = a->persistent ? 2 : 1;
  memset(space, 0, 12);
  space[1] = AMQP_BASIC_CLASS;
  for (int i = 0; i < 4; i++) space[8 + i] = (uint8_t)(a->size >> (24 - 8 * i));
  amqp_bytes_t to = {sizeof space - 12, space + 12};
  int n = amqp_encode_properties(AMQP_BASIC_CLASS, &props, to);
  if (n < 0) {
    violate(w, "the model cannot encode properties");
    return;
  }
  frame_put(l, AMQP_FRAME_HEADER, channel, space, (size_t)n + 12);
  for (uint64_t at = 0; at < a->size;) {
    uint8_t part[4088];
    size_t most = l->frame_max - 8 < sizeof part ? l->frame_max - 8 : sizeof part;
    size_t size = 0;
    while (size < most && at < a->size) part[size++] = ledger_byte(event, at++);
    frame_put(l, AMQP_FRAME_BODY, channel, part, size);
  }
}

void frame_close_connection (world *w, conn *l, unsigned code, const char *text) {
  amqp_connection_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = (uint16_t)code;
  m.reply_text = frame_text(text);
  frame_method(w, l, 0, AMQP_CONNECTION_CLOSE_METHOD, &m);
  l->state = CONN_OVER;
  l->dies_at = eb_ms_min(l->dies_at, w->now + 10000);
}

/* Channel 0. */

static void greet (world *w, conn *l) {
  amqp_connection_start_t m;
  memset(&m, 0, sizeof m);
  m.version_minor = 9;
  m.mechanisms = frame_text("EXTERNAL AMQPLAIN PLAIN");
  m.locales = frame_text("en_US");
  frame_method(w, l, 0, AMQP_CONNECTION_START_METHOD, &m);
  l->state = CONN_STARTED;
}

static void started (world *w, conn *l) {
  if (draw_chance(&w->draw, w->plan.rates[FAULT_LOGIN])) {
    w->tally.faults[FAULT_LOGIN]++;
    frame_close_connection(w, l, 403, "ACCESS_REFUSED - Login was refused");
    return;
  }
  amqp_connection_tune_t m = {(uint16_t)w->plan.channel_max, w->plan.frame_max, (uint16_t)w->plan.heartbeat};
  frame_method(w, l, 0, AMQP_CONNECTION_TUNE_METHOD, &m);
  l->state = CONN_TUNED;
}

static void tuned (world *w, conn *l, const amqp_connection_tune_ok_t *m) {
  const plan *p = &w->plan;
  if (m->frame_max < 4096 || (p->frame_max != 0 && m->frame_max > p->frame_max) ||
      (p->config.frame_max != 0 && m->frame_max > p->config.frame_max))
    model_accuse(w, l, "it agrees to frames of %u bytes", m->frame_max);
  if (m->channel_max == 0 || m->channel_max > p->channel_max)
    model_accuse(w, l, "it agrees to %u channels", m->channel_max);
  if (m->heartbeat > 0 && p->heartbeat > 0 && m->heartbeat > p->heartbeat)
    model_accuse(w, l, "it agrees to a heartbeat of %u s", m->heartbeat);
  l->frame_max = m->frame_max;
  l->channel_max = m->channel_max;
  l->heartbeat = m->heartbeat;
  l->state = CONN_OPENING;
}

/* A session that closes in order has sent the acks it was given before, and waits for no confirm. */
static void check_goodbye (world *w, conn *l) {
  for (unsigned n = 1; n <= CHANNELS; n++) {
    const model_channel *ch = &l->channels[n];
    for (size_t i = 0; ch->state == CH_OPEN && i < ch->out_count; i++) {
      const handed *h = &w->ledger.handed[ch->out[i].handed];
      if (h->state == HANDED_SETTLED && h->settled_on == l->serial && h->settled_at <= l->to_broker.taken)
        model_accuse(w, l, "it closes without having settled delivery %d", ch->out[i].handed);
    }
    for (size_t i = 0; ch->state == CH_OPEN && i < ch->owed_count; i++)
      if (!w->ledger.asked[ch->owed[i].event - 1].answered)
        model_accuse(w, l, "it closes although event %d is not confirmed", ch->owed[i].event);
  }
}

static void asked_of_connection (world *w, conn *l, amqp_method_t *m) {
  switch (m->id) {
    case AMQP_CONNECTION_START_OK_METHOD:
      if (l->state != CONN_STARTED) break;
      started(w, l);
      return;
    case AMQP_CONNECTION_TUNE_OK_METHOD:
      if (l->state != CONN_TUNED) break;
      tuned(w, l, m->decoded);
      return;
    case AMQP_CONNECTION_OPEN_METHOD:
      if (l->state != CONN_OPENING) break;
      frame_empty(w, l, 0, AMQP_CONNECTION_OPEN_OK_METHOD);
      l->state = CONN_UP;
      w->tally.ups++;
      if (w->broker.blocked) {
        amqp_connection_blocked_t blocked = {frame_text("low on memory")};
        frame_method(w, l, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
      }
      return;
    case AMQP_CONNECTION_CLOSE_METHOD:
      check_goodbye(w, l);
      frame_empty(w, l, 0, AMQP_CONNECTION_CLOSE_OK_METHOD);
      model_drop(w, l);
      return;
    case AMQP_CONNECTION_CLOSE_OK_METHOD:
      if (l->state != CONN_OVER) break;
      model_drop(w, l);
      return;
    default: break;
  }
  if (l->state != CONN_OVER) model_accuse(w, l, "%s at the wrong time", amqp_method_name(m->id));
}

/* In. */

static void on_method (world *w, conn *l, unsigned channel, const uint8_t *p, size_t n) {
  amqp_method_t m;
  if (n < 4) {
    model_accuse(w, l, "a method frame of %zu bytes", n);
    return;
  }
  m.id = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
  amqp_bytes_t args = {n - 4, (void *)(uintptr_t)(p + 4)};
  if (amqp_decode_method(m.id, &w->broker.pool, args, &m.decoded) < 0) {
    model_accuse(w, l, "a method 0x%08x that cannot be decoded", (unsigned)m.id);
    return;
  }
  trace(w, "session", "%d.%u %s", l->serial, channel, amqp_method_name(m.id));
  if (channel == 0)
    asked_of_connection(w, l, &m);
  else if (l->state == CONN_UP)
    channel_asked(w, l, channel, &m);
  else if (l->state != CONN_OVER)
    model_accuse(w, l, "%s before the connection is open", amqp_method_name(m.id));
}

static void on_frame (world *w, conn *l, int type, unsigned channel, const uint8_t *p, size_t n) {
  switch (type) {
    case AMQP_FRAME_METHOD: on_method(w, l, channel, p, n); break;
    case AMQP_FRAME_HEADER: case AMQP_FRAME_BODY:
      if (l->state == CONN_UP)
        channel_content(w, l, channel, p, n, type == AMQP_FRAME_HEADER);
      else if (l->state != CONN_OVER)
        model_accuse(w, l, "content before the connection is open");
      break;
    case AMQP_FRAME_HEARTBEAT:
      if (channel != 0 || n != 0) model_accuse(w, l, "a heartbeat with something in it");
      break;
    default: model_accuse(w, l, "a frame of type %d", type); break;
  }
  recycle_amqp_pool(&w->broker.pool);
}

void frame_read (world *w, conn *l) {
  while (l->serial != 0 && !w->violated) {
    const uint8_t *b = eb_buffer_bytes(&l->in);
    size_t n = eb_buffer_size(&l->in);
    if (l->state == CONN_GREETING) {
      if (n < 8) return;
      if (memcmp(b, "AMQP\0\0\x09\x01", 8) != 0) model_accuse(w, l, "it greets in another protocol");
      eb_buffer_consume(&l->in, 8);
      l->to_broker.taken += 8;
      greet(w, l);
      continue;
    }
    if (n < 8) return;
    size_t size = (size_t)b[3] << 24 | (size_t)b[4] << 16 | (size_t)b[5] << 8 | b[6];
    if (size + 8 > l->frame_max) {
      model_accuse(w, l, "a frame of %zu bytes, over the agreed %zu", size + 8, l->frame_max);
      return;
    }
    if (n < size + 8) return;
    if (b[7 + size] != END_MARK) model_accuse(w, l, "a frame without its end mark");
    on_frame(w, l, b[0], (unsigned)b[1] << 8 | b[2], b + 7, size);
    if (l->serial == 0) return;
    eb_buffer_consume(&l->in, size + 8);
    l->to_broker.taken += size + 8;
  }
}
