/* session: any bytes from a server, before the handshake and after it. Every operation is answered, the memory that
 * a session takes is bounded, and it never asks to be called again for ever.
 *
 * The first byte tells how the rest is cut into pieces, and for fuzz_session whether the rest is frames as they are, or
 * records (type, channel, size, payload) that are made into frames.
 */
#include <string.h>

#include "../../src/eb_codec.h"
#include "../../src/eb_session.h"
#include "fuzz.h"

enum { SESSION_OUT_MOST = 1 << 20 };

typedef struct fuzzed {
  eb_session *s;
  eb_ms now;
  unsigned asked, answered;
  bool alive;
} fuzzed;

static void fuzzed_take (fuzzed *f) {
  eb_list events;
  eb_item *item;
  eb_list_init(&events);
  eb_session_take(f->s, &events);
  while ((item = eb_list_pop(&events)) != NULL) {
    eb_delivery *d = item->kind == EB_ITEM_DELIVERY ? (eb_delivery *)item : NULL;
    if (item->kind != EB_ITEM_NOTICE && d == NULL) f->answered++;
    if (d == NULL) {
      eb_item_free(item);
      continue;
    }
    FUZZ_WANT(d->oversized || d->body.n <= 4096);
    d->settlement = d->tag % 2 ? EB_ACK : EB_REQUEUE;
    eb_session_submit(f->s, item, f->now);
  }
}

static void fuzzed_turn (fuzzed *f) {
  eb_error err;
  for (int i = 0; f->alive; i++) {
    FUZZ_WANT(i < 100);
    f->alive = eb_session_tick(f->s, f->now, &err);
    if (!f->alive) FUZZ_WANT(err.code != EB_OK && err.message[0] != '\0');
    eb_buffer *out = eb_session_output(f->s);
    FUZZ_WANT(eb_buffer_size(out) < SESSION_OUT_MOST);
    eb_buffer_consume(out, eb_buffer_size(out));
    eb_session_wrote(f->s, f->now);
    fuzzed_take(f);
    if (eb_session_deadline(f->s) > f->now) break;
  }
}

static void fuzzed_feed (fuzzed *f, const uint8_t *p, size_t n, size_t step) {
  eb_error err;
  for (size_t at = 0; at < n && f->alive; at += step) {
    size_t part = n - at < step ? n - at : step;
    uint8_t *copy = malloc(part);
    if (copy == NULL) return;
    memcpy(copy, p + at, part);
    f->alive = eb_session_feed(f->s, copy, part, f->now, &err);
    free(copy);
    if (!f->alive) FUZZ_WANT(err.code != EB_OK && err.message[0] != '\0');
    fuzzed_turn(f);
  }
}

static void *fuzzed_op (fuzzed *f, eb_item_kind kind, size_t size) {
  eb_item *item = eb_item_new(kind, size, 64);
  if (item == NULL) abort();
  item->id = ++f->asked;
  item->deadline = f->asked % 2 ? EB_NEVER : f->now + 1000;
  return item;
}

static void fuzzed_ask (fuzzed *f) {
  eb_publish *p = fuzzed_op(f, EB_ITEM_PUBLISH, sizeof *p);
  p->exchange = p->routing_key = p->body = p->properties.message_id = eb_bytes_of("m", 1);
  p->mandatory = true;
  eb_session_submit(f->s, &p->item, f->now);
  eb_rpc *declare = fuzzed_op(f, EB_ITEM_RPC, sizeof *declare);
  declare->method = EB_QUEUE_DECLARE;
  declare->record = true;
  declare->name = eb_bytes_of("", 0);
  eb_session_submit(f->s, &declare->item, f->now);
  eb_rpc *get = fuzzed_op(f, EB_ITEM_RPC, sizeof *get);
  get->method = EB_GET;
  get->name = eb_bytes_of("q", 1);
  eb_session_submit(f->s, &get->item, f->now);
  eb_subscribe *consume = fuzzed_op(f, EB_ITEM_SUBSCRIBE, sizeof *consume);
  consume->queue = eb_bytes_of("q", 1);
  consume->prefetch = 3;
  eb_session_submit(f->s, &consume->item, f->now);
  fuzzed_turn(f);
}

static void fuzzed_begin (fuzzed *f) {
  eb_session_config c;
  memset(&c, 0, sizeof c);
  memset(f, 0, sizeof *f);
  c.vhost = "/";
  c.user = c.password = "guest";
  c.connection_name = "fuzzed";
  c.window_count = 4;
  c.window_bytes = 1 << 20;
  c.max_body = 4096;
  c.heartbeat_s = 10;
  c.resend = true;
  f->now = 1000;
  f->alive = true;
  f->s = eb_session_new(&c);
  if (f->s == NULL) abort();
  eb_session_attach(f->s, f->now);
  fuzzed_turn(f);
}

static void fuzzed_end (fuzzed *f) {
  eb_error why;
  f->now += 5000;
  fuzzed_turn(f);
  eb_error_set(&why, EB_ERR_CLOSED, "the end");
  eb_session_detach(f->s, &why, f->now);
  eb_session_fail(f->s, &why, f->now);
  fuzzed_take(f);
  FUZZ_WANT(f->answered == f->asked);
  eb_session_free(f->s);
}

static void fuzzed_frame (fuzzed *f, int type, unsigned channel, const uint8_t *payload, size_t n) {
  uint8_t frame[512];
  if (n + 8 > sizeof frame) n = sizeof frame - 8;
  const uint8_t head[7] = {(uint8_t)type, 0, (uint8_t)channel, 0, 0, (uint8_t)(n >> 8), (uint8_t)n};
  memcpy(frame, head, sizeof head);
  if (n > 0) memcpy(frame + 7, payload, n);
  frame[7 + n] = 0xCE;
  fuzzed_feed(f, frame, n + 8, n + 8);
}

static void fuzzed_method (fuzzed *f, unsigned channel, amqp_method_number_t id, void *decoded) {
  uint8_t space[256];
  amqp_bytes_t to = {sizeof space - 4, space + 4};
  int n = amqp_encode_method(id, decoded, to);
  if (n < 0) abort();
  for (int i = 0; i < 4; i++) space[i] = (uint8_t)(id >> (24 - 8 * i));
  fuzzed_frame(f, AMQP_FRAME_METHOD, channel, space, (size_t)n + 4);
}

static void fuzzed_up (fuzzed *f) {
  amqp_connection_start_t start;
  memset(&start, 0, sizeof start);
  start.version_minor = 9;
  start.mechanisms.bytes = (void *)(uintptr_t)"PLAIN";
  start.mechanisms.len = 5;
  fuzzed_method(f, 0, AMQP_CONNECTION_START_METHOD, &start);
  amqp_connection_tune_t tune = {8, 4096, 10};
  fuzzed_method(f, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
  amqp_connection_open_ok_t ok = {amqp_empty_bytes};
  fuzzed_method(f, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
  FUZZ_WANT(eb_session_phase(f->s) == EB_PHASE_UP);
}

/* Channels: 1 publishes, 2 declares, 3 gets, 4 consumes: whatever opened first. */
static void fuzzed_channels_open (fuzzed *f) {
  amqp_channel_open_ok_t open = {amqp_empty_bytes};
  for (unsigned n = 1; n <= 4; n++) fuzzed_method(f, n, AMQP_CHANNEL_OPEN_OK_METHOD, &open);
  uint8_t nothing[16] = {0};
  fuzzed_method(f, 1, AMQP_CONFIRM_SELECT_OK_METHOD, nothing);
}

static void fuzzed_records (fuzzed *f, const uint8_t *p, size_t n) {
  while (n >= 3 && f->alive) {
    size_t size = p[2] < n - 3 ? p[2] : n - 3;
    fuzzed_frame(f, 1 + p[0] % 3, p[1] % 6, p + 3, size);
    p += 3 + size;
    n -= 3 + size;
  }
}

int fuzz_handshake (const uint8_t *p, size_t n) {
  fuzzed f;
  if (n == 0) return 0;
  fuzzed_begin(&f);
  fuzzed_ask(&f);
  fuzzed_feed(&f, p + 1, n - 1, 1 + (size_t)p[0]);
  fuzzed_end(&f);
  return 0;
}

int fuzz_session (const uint8_t *p, size_t n) {
  fuzzed f;
  if (n == 0) return 0;
  fuzzed_begin(&f);
  fuzzed_up(&f);
  fuzzed_ask(&f);
  if (p[0] & 1) fuzzed_channels_open(&f);
  if (p[0] & 2)
    fuzzed_feed(&f, p + 1, n - 1, 1 + (size_t)(p[0] >> 2));
  else
    fuzzed_records(&f, p + 1, n - 1);
  if (!f.alive) {  /* and the next connection is none the worse for it */
    eb_error why;
    eb_error_set(&why, EB_ERR_CONNECTION, "broken");
    eb_session_detach(f.s, &why, f.now);
    f.alive = true;
    eb_session_attach(f.s, f.now);
    fuzzed_turn(&f);
    fuzzed_up(&f);
  }
  fuzzed_end(&f);
  return 0;
}
