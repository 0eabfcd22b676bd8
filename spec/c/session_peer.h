/* session_peer: the broker's side of one session, scripted by a test, on a clock the test moves.
 *
 * It encodes with rabbitmq-c itself, parses what the session sends, and answers what every broker answers alike
 * (channel.open, confirm.select, basic.qos, closes) unless 'manual'. It counts the answer of every operation, and
 * notices a session that asks to be called again at once for ever: peer_end tells.
 */
#ifndef SESSION_PEER_H
#define SESSION_PEER_H

#include <stdatomic.h>
#include <stdlib.h>

#include "../../src/eb_codec.h"
#include "../../src/eb_session.h"
#include "check.h"

enum { PEER_IDS = 4096, PEER_NOTHING = 0, PEER_HEADER = 1, PEER_BODY = 2, PEER_HEARTBEAT = 3, PEER_GREETING = 4 };

/* True while the session works: where a test makes allocations fail. */
static atomic_bool peer_inside;

typedef struct peer {
  eb_session *s;
  eb_ms now;
  size_t cut;            /* bytes fed at a time; 0: all at once */
  bool manual;           /* nothing is answered by itself */
  bool alive;            /* what feed or tick said last */
  bool spins;            /* the deadline stayed in the past */
  bool greeted;
  eb_error err;
  eb_buffer wire;        /* for the session, not fed yet */
  eb_buffer sent;        /* by the session, not parsed yet */
  size_t parsed;         /* bytes of the frame shown, at the front of 'sent' */
  amqp_pool_t pool;      /* of the method shown */
  unsigned channel;      /* of the frame shown, as is what follows */
  eb_frame frame;
  void *method;
  unsigned prefetch;     /* of the last basic.qos */
  uint64_t ids;          /* of operations made */
  unsigned char answers[PEER_IDS];
  eb_list events;        /* not looked at yet */
} peer;

static inline eb_session_config peer_config (void) {
  eb_session_config c;
  memset(&c, 0, sizeof c);
  c.vhost = "/";
  c.user = "guest";
  c.password = "secret";
  c.connection_name = "test";
  c.window_count = 100;
  c.window_bytes = 1 << 20;
  c.max_body = 1 << 20;
  c.ack_delay_ms = 5;
  c.resend = true;
  return c;
}

static inline void peer_init (peer *p, const eb_session_config *c) {
  memset(p, 0, sizeof *p);
  p->now = 1000;
  p->alive = true;
  init_amqp_pool(&p->pool, 4096);
  eb_buffer_init(&p->wire);
  eb_buffer_init(&p->sent);
  eb_list_init(&p->events);
  p->s = eb_session_new(c);
}

static inline void peer_take_events (peer *p) {
  eb_list fresh;
  eb_list_init(&fresh);
  eb_session_take(p->s, &fresh);
  for (const eb_item *i = fresh.first; i != NULL; i = i->next)
    if (i->kind != EB_ITEM_NOTICE && i->kind != EB_ITEM_DELIVERY && i->id < PEER_IDS) p->answers[i->id]++;
  eb_list_append(&p->events, &fresh);
}

/* One turn of an I/O loop: timers, output, events; again while the session asks for it. */
static inline void peer_turn (peer *p) {
  for (int i = 0; i < 1000; i++) {
    peer_inside = true;
    bool ok = eb_session_tick(p->s, p->now, &p->err);
    peer_inside = false;
    if (!ok) p->alive = false;
    eb_buffer *out = eb_session_output(p->s);
    if (eb_buffer_size(out) > 0) {
      eb_buffer_append(&p->sent, eb_buffer_bytes(out), eb_buffer_size(out));
      eb_buffer_consume(out, eb_buffer_size(out));
      eb_session_wrote(p->s, p->now);
    }
    peer_take_events(p);
    if (!ok || eb_session_deadline(p->s) > p->now) return;
  }
  p->spins = true;
}

static inline void peer_wait (peer *p, int64_t ms) {
  p->now += ms;
  peer_turn(p);
}

/* Time passes as in an I/O loop: the session is called when it asked to be. */
static inline void peer_sleep (peer *p, int64_t ms) {
  eb_ms until = p->now + ms;
  peer_turn(p);
  for (int i = 0; i < 100000 && p->alive; i++) {
    eb_ms t = eb_session_deadline(p->s);
    if (t >= until) break;
    if (t > p->now) p->now = t;
    peer_turn(p);
  }
  p->now = until;
  if (p->alive) peer_turn(p);
}

/* Bytes, as they are, in pieces of 'cut'. */
static inline bool peer_feed (peer *p, const void *bytes, size_t n) {
  size_t step = p->cut == 0 ? n : p->cut;
  for (size_t at = 0; at < n && p->alive; at += step) {
    size_t part = n - at < step ? n - at : step;
    /* A heap copy of just these bytes: reading past them is noticed. */
    uint8_t *copy = malloc(part);
    if (copy == NULL) return false;
    memcpy(copy, (const uint8_t *)bytes + at, part);
    peer_inside = true;
    if (!eb_session_feed(p->s, copy, part, p->now, &p->err)) p->alive = false;
    peer_inside = false;
    free(copy);
  }
  peer_turn(p);
  return p->alive;
}

static inline bool peer_flush (peer *p) {
  eb_buffer bytes = p->wire;
  eb_buffer_init(&p->wire);
  size_t n = eb_buffer_size(&bytes);
  bool ok = n == 0 || peer_feed(p, eb_buffer_bytes(&bytes), n);
  eb_buffer_fini(&bytes);
  return ok;
}

/* What the broker sends: 'put' only appends to the wire, 'say' also feeds it. */

static inline void peer_put_frame (peer *p, int type, unsigned channel, const void *payload, size_t n) {
  const uint8_t head[7] = {(uint8_t)type,       (uint8_t)(channel >> 8), (uint8_t)channel, (uint8_t)(n >> 24),
                           (uint8_t)(n >> 16), (uint8_t)(n >> 8),       (uint8_t)n};
  eb_buffer_append(&p->wire, head, sizeof head);
  eb_buffer_append(&p->wire, payload, n);
  eb_buffer_putc(&p->wire, 0xCE);
}

static inline void peer_put (peer *p, unsigned channel, amqp_method_number_t id, void *decoded) {
  static uint8_t space[200000];
  amqp_bytes_t to = {sizeof space - 4, space + 4};
  int n = amqp_encode_method(id, decoded, to);
  if (n < 0) abort();
  for (int i = 0; i < 4; i++) space[i] = (uint8_t)(id >> (24 - 8 * i));
  peer_put_frame(p, AMQP_FRAME_METHOD, channel, space, (size_t)n + 4);
}

static inline bool peer_say (peer *p, unsigned channel, amqp_method_number_t id, void *decoded) {
  peer_put(p, channel, id, decoded);
  return peer_flush(p);
}

static inline amqp_bytes_t peer_text (const char *s) {
  amqp_bytes_t b = {strlen(s), (void *)(uintptr_t)s};
  return b;
}

static inline void peer_put_header (peer *p, unsigned channel, amqp_basic_properties_t *props, uint64_t body) {
  static uint8_t space[140000];
  amqp_basic_properties_t none;
  memset(&none, 0, sizeof none);
  memset(space, 0, 12);
  space[1] = AMQP_BASIC_CLASS;
  for (int i = 0; i < 8; i++) space[4 + i] = (uint8_t)(body >> (56 - 8 * i));
  amqp_bytes_t to = {sizeof space - 12, space + 12};
  int n = amqp_encode_properties(AMQP_BASIC_CLASS, props == NULL ? &none : props, to);
  if (n < 0) abort();
  peer_put_frame(p, AMQP_FRAME_HEADER, channel, space, (size_t)n + 12);
}

static inline void peer_put_body (peer *p, unsigned channel, const char *body, size_t n, size_t chunk) {
  for (size_t at = 0; at < n; at += chunk)
    peer_put_frame(p, AMQP_FRAME_BODY, channel, body + at, n - at < chunk ? n - at : chunk);
}

static inline void peer_put_deliver (peer *p, unsigned channel, uint64_t tag) {
  amqp_basic_deliver_t m;
  memset(&m, 0, sizeof m);
  m.consumer_tag = peer_text("tag");
  m.delivery_tag = tag;
  m.exchange = peer_text("orders");
  m.routing_key = peer_text("order.created");
  peer_put(p, channel, AMQP_BASIC_DELIVER_METHOD, &m);
}

static inline bool peer_deliver (peer *p, unsigned channel, uint64_t tag, const char *body) {
  peer_put_deliver(p, channel, tag);
  peer_put_header(p, channel, NULL, strlen(body));
  peer_put_body(p, channel, body, strlen(body), 4000);
  return peer_flush(p);
}

static inline bool peer_get_ok (peer *p, unsigned channel, uint64_t tag, const char *body) {
  amqp_basic_get_ok_t m;
  memset(&m, 0, sizeof m);
  m.delivery_tag = tag;
  m.exchange = peer_text("orders");
  m.routing_key = peer_text("order.created");
  m.message_count = 7;
  peer_put(p, channel, AMQP_BASIC_GET_OK_METHOD, &m);
  peer_put_header(p, channel, NULL, strlen(body));
  peer_put_body(p, channel, body, strlen(body), 4000);
  return peer_flush(p);
}

static inline bool peer_confirm (peer *p, uint64_t tag, bool multiple) {
  amqp_basic_ack_t m = {tag, multiple};
  return peer_say(p, 1, AMQP_BASIC_ACK_METHOD, &m);
}

static inline bool peer_nack (peer *p, uint64_t tag, bool multiple) {
  amqp_basic_nack_t m = {tag, multiple, 0};
  return peer_say(p, 1, AMQP_BASIC_NACK_METHOD, &m);
}

static inline bool peer_return (peer *p, const char *message_id) {
  amqp_basic_return_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = 312;
  m.reply_text = peer_text("NO_ROUTE");
  m.exchange = peer_text("orders");
  m.routing_key = peer_text("order.created");
  peer_put(p, 1, AMQP_BASIC_RETURN_METHOD, &m);
  amqp_basic_properties_t props;
  memset(&props, 0, sizeof props);
  if (message_id != NULL) {
    props._flags = AMQP_BASIC_MESSAGE_ID_FLAG;
    props.message_id = peer_text(message_id);
  }
  peer_put_header(p, 1, &props, 4);
  peer_put_body(p, 1, "body", 4, 4000);
  return peer_flush(p);
}

static inline bool peer_close_channel (peer *p, unsigned channel, unsigned code, const char *text) {
  amqp_channel_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = (uint16_t)code;
  m.reply_text = peer_text(text);
  return peer_say(p, channel, AMQP_CHANNEL_CLOSE_METHOD, &m);
}

static inline bool peer_close_connection (peer *p, unsigned code, const char *text) {
  amqp_connection_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = (uint16_t)code;
  m.reply_text = peer_text(text);
  return peer_say(p, 0, AMQP_CONNECTION_CLOSE_METHOD, &m);
}

/* A reply without fields, of the channel shown unless told. */
static inline bool peer_ok_on (peer *p, unsigned channel, amqp_method_number_t id) {
  static uint8_t nothing[1024];
  memset(nothing, 0, sizeof nothing);
  return peer_say(p, channel, id, nothing);
}
static inline bool peer_ok (peer *p, amqp_method_number_t id) { return peer_ok_on(p, p->channel, id); }

static inline bool peer_declare_ok (peer *p, const char *queue) {
  amqp_queue_declare_ok_t m = {peer_text(queue), 3, 2};
  return peer_say(p, p->channel, AMQP_QUEUE_DECLARE_OK_METHOD, &m);
}

static inline bool peer_consume_ok (peer *p) {
  amqp_basic_consume_ok_t m = {peer_text("tag")};
  return peer_say(p, p->channel, AMQP_BASIC_CONSUME_OK_METHOD, &m);
}

static inline bool peer_cancel_consumer (peer *p, unsigned channel) {
  amqp_basic_cancel_t m = {peer_text("tag"), 1};
  return peer_say(p, channel, AMQP_BASIC_CANCEL_METHOD, &m);
}

/* What the session sends. */

static inline void peer_abort (const char *what) {
  printf("peer: the session sent %s\n", what);
  fflush(stdout);
  abort();
}

/* The next frame, whatever it is: a method's id, or one of the PEER_ names. */
static inline uint32_t peer_any (peer *p) {
  static const uint8_t greeting[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
  eb_buffer_consume(&p->sent, p->parsed);
  p->parsed = 0;
  recycle_amqp_pool(&p->pool);
  size_t n = eb_buffer_size(&p->sent);
  if (n == 0) return PEER_NOTHING;
  const uint8_t *b = eb_buffer_bytes(&p->sent);
  if (n >= 8 && memcmp(b, greeting, 8) == 0) {
    p->parsed = 8;
    return PEER_GREETING;
  }
  if (n < 8) peer_abort("a broken frame");
  size_t size = ((size_t)b[3] << 24) | ((size_t)b[4] << 16) | ((size_t)b[5] << 8) | b[6];
  if (n < size + 8 || b[7 + size] != 0xCE) peer_abort("a broken frame");
  p->parsed = size + 8;
  p->channel = ((unsigned)b[1] << 8) | b[2];
  p->frame.type = b[0];
  p->frame.payload = b + 7;
  p->frame.size = size;
  switch (b[0]) {
    case AMQP_FRAME_HEADER: return PEER_HEADER;
    case AMQP_FRAME_BODY: return PEER_BODY;
    case AMQP_FRAME_HEARTBEAT: return PEER_HEARTBEAT;
    default: break;
  }
  uint32_t id = ((uint32_t)b[7] << 24) | ((uint32_t)b[8] << 16) | ((uint32_t)b[9] << 8) | b[10];
  amqp_bytes_t args = {size - 4, (void *)(uintptr_t)(b + 11)};
  if (amqp_decode_method(id, &p->pool, args, &p->method) < 0) peer_abort("an undecodable method");
  return id;
}

static inline bool peer_answers_itself (peer *p, uint32_t id) {
  if (p->manual) return false;
  switch (id) {
    case AMQP_CHANNEL_OPEN_METHOD: {
      amqp_channel_open_ok_t m = {amqp_empty_bytes};
      peer_say(p, p->channel, AMQP_CHANNEL_OPEN_OK_METHOD, &m);
      return true;
    }
    case AMQP_CONFIRM_SELECT_METHOD: peer_ok(p, AMQP_CONFIRM_SELECT_OK_METHOD); return true;
    case AMQP_BASIC_QOS_METHOD:
      p->prefetch = ((amqp_basic_qos_t *)p->method)->prefetch_count;
      peer_ok(p, AMQP_BASIC_QOS_OK_METHOD);
      return true;
    case AMQP_CHANNEL_CLOSE_METHOD: peer_ok(p, AMQP_CHANNEL_CLOSE_OK_METHOD); return true;
    case AMQP_CHANNEL_CLOSE_OK_METHOD: return true;
    default: return false;
  }
}

/* The next frame that a test wants to see. */
static inline uint32_t peer_next (peer *p) {
  uint32_t id;
  peer_turn(p);
  do {
    id = peer_any(p);
  } while (id != PEER_NOTHING && peer_answers_itself(p, id));
  return id;
}

static inline const char *peer_name (uint32_t id) {
  static const char *const own[] = {"nothing", "a header", "a body", "a heartbeat", "the greeting"};
  if (id <= PEER_GREETING) return own[id];
  const char *name = amqp_method_name(id);
  return name != NULL ? name : "an unknown method";
}

#define WANT(p, wanted) \
  do { \
    uint32_t want_got = peer_next(p), want_id = (wanted); \
    if (want_got != want_id) CHECK_FAIL("the session sent %s, not %s", peer_name(want_got), peer_name(want_id)); \
  } while (0)

static inline bool peer_is (amqp_bytes_t b, const char *s) {
  return b.len == strlen(s) && memcmp(b.bytes, s, b.len) == 0;
}

/* The next frames are one publish: its body, or NULL. Good until the next. */
static inline const char *peer_published (peer *p) {
  static char body[4096];
  uint64_t size = 0;
  size_t at = 0;
  if (peer_next(p) != AMQP_BASIC_PUBLISH_METHOD || peer_any(p) != PEER_HEADER) return NULL;
  for (int i = 0; i < 8; i++) size = size << 8 | p->frame.payload[4 + i];
  if (size >= sizeof body) return NULL;
  while (at < size) {
    if (peer_any(p) != PEER_BODY || p->frame.size > size - at) return NULL;
    memcpy(body + at, p->frame.payload, p->frame.size);
    at += p->frame.size;
  }
  body[at] = '\0';
  return body;
}

/* The handshake. */

static inline bool peer_start (peer *p, const char *mechanisms) {
  amqp_connection_start_t m;
  memset(&m, 0, sizeof m);
  m.version_minor = 9;
  m.mechanisms = peer_text(mechanisms);
  m.locales = peer_text("en_US");
  amqp_table_entry_t said[2];
  memset(said, 0, sizeof said);
  said[0].key = peer_text("product");
  said[0].value.value.bytes = peer_text("RabbitMQ");
  said[1].key = peer_text("version");
  said[1].value.value.bytes = peer_text("3.10.8");
  said[0].value.kind = said[1].value.kind = AMQP_FIELD_KIND_UTF8;
  m.server_properties.num_entries = 2;
  m.server_properties.entries = said;
  return peer_say(p, 0, AMQP_CONNECTION_START_METHOD, &m);
}

static inline bool peer_tune (peer *p, unsigned channel_max, unsigned frame_max, unsigned heartbeat) {
  amqp_connection_tune_t m = {(uint16_t)channel_max, frame_max, (uint16_t)heartbeat};
  return peer_say(p, 0, AMQP_CONNECTION_TUNE_METHOD, &m);
}

static inline bool peer_open_ok (peer *p) {
  amqp_connection_open_ok_t m = {amqp_empty_bytes};
  return peer_say(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &m);
}

static inline void peer_attach (peer *p) {
  eb_buffer_truncate(&p->sent, 0);
  eb_buffer_truncate(&p->wire, 0);
  p->parsed = 0;
  p->alive = true;
  peer_inside = true;
  eb_session_attach(p->s, p->now);
  peer_inside = false;
  peer_turn(p);
}

static inline bool peer_up_with (peer *p, unsigned channel_max, unsigned frame_max, unsigned heartbeat) {
  peer_attach(p);
  return peer_next(p) == PEER_GREETING && peer_start(p, "PLAIN AMQPLAIN") &&
         peer_next(p) == AMQP_CONNECTION_START_OK_METHOD && peer_tune(p, channel_max, frame_max, heartbeat) &&
         peer_next(p) == AMQP_CONNECTION_TUNE_OK_METHOD && peer_next(p) == AMQP_CONNECTION_OPEN_METHOD &&
         peer_open_ok(p) && eb_session_phase(p->s) == EB_PHASE_UP;
}
static inline bool peer_up (peer *p) { return peer_up_with(p, 2047, 131072, 0); }

static inline void peer_lost (peer *p) {
  eb_error why;
  eb_error_set(&why, EB_ERR_CONNECTION, "the wire was cut");
  peer_inside = true;
  eb_session_detach(p->s, &why, p->now);
  peer_inside = false;
  p->alive = true;
  peer_turn(p);
}

#endif
