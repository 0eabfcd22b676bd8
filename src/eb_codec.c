/* eb_codec: see eb_codec.h. */
#include "eb_codec.h"

#include <string.h>

enum {
  END_MARK = 0xCE,
  TLS_ALERT = 21,     /* first byte of a TLS record (RFC 8446, 5.1) */
  TLS_HANDSHAKE = 22,
  HEADER_SIZE = 7,
  CONTENT_HEADER = 12,  /* class, weight, body size */
  METHOD_ROOM = 2048,   /* any method without its tables and long strings */
  NO_PROPERTY = 3       /* property flags: "more follow", and one unused */
};

static uint16_t get16 (const uint8_t *p) {
  return (uint16_t)((p[0] << 8) | p[1]);
}

static uint32_t get32 (const uint8_t *p) {
  return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) |
         ((uint32_t)p[2] << 8) | p[3];
}

static uint64_t get64 (const uint8_t *p) {
  return ((uint64_t)get32(p) << 32) | get32(p + 4);
}

static void put16 (uint8_t *p, unsigned v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
}

static void put32 (uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 24);
  p[1] = (uint8_t)(v >> 16);
  p[2] = (uint8_t)(v >> 8);
  p[3] = (uint8_t)v;
}

static void put_head (uint8_t *p, int type, uint16_t channel, size_t size) {
  p[0] = (uint8_t)type;
  put16(p + 1, channel);
  put32(p + 3, (uint32_t)size);
}

/* Cutting frames off the stream. */

static bool is_frame_type (uint8_t type) {
  return type == AMQP_FRAME_METHOD || type == AMQP_FRAME_HEADER ||
         type == AMQP_FRAME_BODY || type == AMQP_FRAME_HEARTBEAT;
}

eb_cut eb_codec_cut (const uint8_t *p, size_t n, size_t frame_max,
                     eb_frame *frame, size_t *used, eb_error *err) {
  if (n >= 4 && memcmp(p, "AMQP", 4) == 0) {
    eb_error_set(err, EB_ERR_PROTOCOL,
                 "the server does not speak AMQP 0-9-1 (it answered with its "
                 "own protocol header)");
    return EB_CUT_BAD;
  }
  bool perhaps_header = n < 4 && memcmp(p, "AMQP", n) == 0;
  if (n >= 1 && !is_frame_type(p[0]) && !perhaps_header) {
    eb_error_set(err, EB_ERR_PROTOCOL, "this is not AMQP: %s",
                 p[0] == TLS_ALERT || p[0] == TLS_HANDSHAKE
                     ? "the port speaks TLS, write amqps:// in the URL"
                 : p[0] == 'H' ? "the port speaks HTTP (the management API?)"
                               : "an unknown type of frame");
    return EB_CUT_BAD;
  }
  if (n < HEADER_SIZE) return EB_CUT_MORE;
  size_t size = get32(p + 3);
  if (size > frame_max - EB_FRAME_OVERHEAD) {
    eb_error_set(err, EB_ERR_PROTOCOL,
                 "a frame of %zu bytes, over the agreed frame_max of %zu", size,
                 frame_max);
    return EB_CUT_BAD;
  }
  if (n < size + EB_FRAME_OVERHEAD) return EB_CUT_MORE;
  if (p[HEADER_SIZE + size] != END_MARK) {
    eb_error_set(err, EB_ERR_PROTOCOL, "a frame without its end mark");
    return EB_CUT_BAD;
  }
  frame->type = p[0];
  frame->channel = get16(p + 1);
  frame->payload = p + HEADER_SIZE;
  frame->size = size;
  *used = size + EB_FRAME_OVERHEAD;
  return EB_CUT_FRAME;
}

/* Nesting of a table or array on the wire, without decoding it. Sizes count as
** rabbitmq-c's decoder counts them: one is compared with the end of the frame,
** not of the table around it, so tables may overlap. What cannot be skipped
** ends the walk as fine: the decoder ends there too, with an error. */

typedef struct walk {
  const uint8_t *p;
  size_t n;
  size_t i;
} walk;

static void skip (walk *w, size_t size) {
  w->i = size > w->n - w->i ? w->n : w->i + size;
}

static size_t string_size (const walk *w) {
  return w->n - w->i < 4 ? SIZE_MAX : 4 + (size_t)get32(w->p + w->i);
}

static bool shallow_fields (walk *w, bool named, int depth) {
  size_t end = w->i + (string_size(w) < w->n - w->i ? string_size(w)
                                                    : w->n - w->i);
  if (depth <= 0) return false;
  skip(w, 4);
  while (w->i < end) {
    if (named) skip(w, 1 + (size_t)w->p[w->i]);
    if (w->i == w->n) break;
    uint8_t kind = w->p[w->i++];
    switch (kind) {
      case 'V': break;
      case 't': case 'b': case 'B': skip(w, 1); break;
      case 's': case 'u': skip(w, 2); break;
      case 'I': case 'i': case 'f': skip(w, 4); break;
      case 'D': skip(w, 5); break;
      case 'l': case 'L': case 'd': case 'T': skip(w, 8); break;
      case 'S': case 'x': skip(w, string_size(w)); break;
      case 'F': case 'A':
        if (!shallow_fields(w, kind == 'F', depth - 1)) return false;
        break;
      default: skip(w, SIZE_MAX); break;
    }
  }
  return true;
}

static bool shallow_table (const uint8_t *p, size_t n) {
  walk w = {p, n, 0};
  return shallow_fields(&w, true, EB_TABLE_MAX_DEPTH);
}

/* Methods with a table that only clients send. */
static bool is_clients (amqp_method_number_t id) {
  switch (id) {
    case AMQP_CONNECTION_START_OK_METHOD:
    case AMQP_EXCHANGE_DECLARE_METHOD:
    case AMQP_EXCHANGE_BIND_METHOD: case AMQP_EXCHANGE_UNBIND_METHOD:
    case AMQP_QUEUE_DECLARE_METHOD:
    case AMQP_QUEUE_BIND_METHOD: case AMQP_QUEUE_UNBIND_METHOD:
    case AMQP_BASIC_CONSUME_METHOD: return true;
    default: return false;
  }
}

bool eb_codec_method (amqp_pool_t *pool, const eb_frame *frame,
                      amqp_method_t *method, eb_error *err) {
  if (frame->size < 4)
    return eb_error_set(err, EB_ERR_PROTOCOL, "a method frame cut short");
  method->id = get32(frame->payload);
  if (is_clients(method->id))
    return eb_error_set(err, EB_ERR_PROTOCOL, "%s from a server",
                        amqp_method_name(method->id));
  if (method->id == AMQP_CONNECTION_START_METHOD && frame->size > 6 &&
      !shallow_table(frame->payload + 6, frame->size - 6))
    return eb_error_set(err, EB_ERR_PROTOCOL,
                        "server properties nested too deep");
  amqp_bytes_t args;
  args.bytes = (void *)(uintptr_t)(frame->payload + 4);
  args.len = frame->size - 4;
  int r = amqp_decode_method(method->id, pool, args, &method->decoded);
  if (r == AMQP_STATUS_NO_MEMORY)
    return eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for a method");
  if (r < 0) {
    const char *name = amqp_method_name(method->id);
    return eb_error_set(err, EB_ERR_PROTOCOL, "cannot decode %s (0x%08x): %s",
                        name != NULL ? name : "an unknown method",
                        (unsigned)method->id, amqp_error_string2(r));
  }
  return true;
}

/* Where the headers table of encoded properties lies; 0 when there is none. */
static size_t find_headers (const uint8_t *p, size_t n) {
  if (n < 2) return 0;
  unsigned flags = get16(p);
  size_t i = 2;
  if ((flags & AMQP_BASIC_HEADERS_FLAG) == 0) return 0;
  if (flags & AMQP_BASIC_CONTENT_TYPE_FLAG) i += i < n ? 1 + (size_t)p[i] : 0;
  if (flags & AMQP_BASIC_CONTENT_ENCODING_FLAG)
    i += i < n ? 1 + (size_t)p[i] : 0;
  return i < n ? i : 0;
}

bool eb_codec_header (amqp_pool_t *pool, const eb_frame *frame,
                      eb_header *header, eb_error *err) {
  if (frame->size < CONTENT_HEADER + 2)
    return eb_error_set(err, EB_ERR_PROTOCOL, "a content header cut short");
  if (get16(frame->payload) != AMQP_BASIC_CLASS)
    return eb_error_set(err, EB_ERR_PROTOCOL,
                        "content of class %u, not of basic",
                        get16(frame->payload));
  header->body_size = get64(frame->payload + 4);
  header->bad_headers = false;
  const uint8_t *p = frame->payload + CONTENT_HEADER;
  size_t n = frame->size - CONTENT_HEADER;
  size_t at = find_headers(p, n), table = 0;
  if (at != 0 && !shallow_table(p + at, n - at)) {
    /* Decoded without the table, so that the message can still be settled. */
    table = get32(p + at);
    if (n - at - 4 < table)
      return eb_error_set(err, EB_ERR_PROTOCOL,
                          "a header table that leaves its frame");
    header->bad_headers = true;
  }
  /* basic has fourteen properties. RabbitMQ ignores the other two flags, and hands
  ** on what a publisher made of them; rabbitmq-c would read more flags. */
  if (header->bad_headers || (p[1] & NO_PROPERTY) != 0) {
    uint8_t *copy = amqp_pool_alloc(pool, n);
    if (copy == NULL)
      return eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for a header");
    memcpy(copy, p, n);
    copy[1] &= (uint8_t)~NO_PROPERTY;
    if (header->bad_headers) {
      put32(copy + at, 0);
      memmove(copy + at + 4, copy + at + 4 + table, n - at - 4 - table);
    }
    p = copy;
    n -= table;
  }
  amqp_bytes_t encoded = {n, (void *)(uintptr_t)p};
  void *decoded;
  int r = amqp_decode_properties(AMQP_BASIC_CLASS, pool, encoded, &decoded);
  if (r < 0)
    return eb_error_set(err, r == AMQP_STATUS_NO_MEMORY ? EB_ERR_NO_MEMORY
                                                        : EB_ERR_PROTOCOL,
                        "cannot decode a content header: %s",
                        amqp_error_string2(r));
  header->properties = decoded;
  return true;
}

/* Encoding. */

bool eb_codec_put_method (eb_buffer *out, uint16_t channel,
                          amqp_method_number_t id, void *decoded,
                          size_t size_hint, eb_error *err) {
  size_t room = METHOD_ROOM + size_hint;
  uint8_t *p = eb_buffer_reserve(out, room + EB_FRAME_OVERHEAD + 4);
  if (p == NULL) return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
  put32(p + HEADER_SIZE, id);
  amqp_bytes_t to;
  to.bytes = p + HEADER_SIZE + 4;
  to.len = room;
  int n = amqp_encode_method(id, decoded, to);
  if (n < 0)
    return eb_error_set(err, EB_ERR_INVALID, "cannot encode %s: %s",
                        amqp_method_name(id), amqp_error_string2(n));
  size_t size = (size_t)n + 4;
  put_head(p, AMQP_FRAME_METHOD, channel, size);
  p[HEADER_SIZE + size] = END_MARK;
  eb_buffer_commit(out, size + EB_FRAME_OVERHEAD);
  return true;
}

bool eb_codec_put_heartbeat (eb_buffer *out) {
  static const uint8_t frame[] = {AMQP_FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0,
                                  END_MARK};
  return eb_buffer_append(out, frame, sizeof frame);
}

bool eb_codec_put_greeting (eb_buffer *out) {
  return eb_buffer_append(out, "AMQP\0\0\x09\x01", 8);
}

/* Bytes of the content header frame. */
static size_t header_size (const eb_properties *p) {
  enum { FLAGS = 2, MODE = 1, PRIORITY = 1, TIMESTAMP = 8, NAMES = 9 };
  return EB_FRAME_OVERHEAD + CONTENT_HEADER + FLAGS + MODE + PRIORITY +
         TIMESTAMP + NAMES + p->content_type.n + p->content_encoding.n +
         p->correlation_id.n + p->reply_to.n + p->expiration.n +
         p->message_id.n + p->type.n + p->user_id.n + p->app_id.n +
         eb_codec_table_size(p->headers);
}

static bool keys_fit (const eb_table *t, eb_error *err);

static bool keys_fit_in (const eb_field *f, eb_error *err) {
  if (f->kind == EB_FIELD_TABLE) return keys_fit(f->as.table, err);
  for (size_t i = 0; f->kind == EB_FIELD_ARRAY && i < f->as.array->count; i++)
    if (!keys_fit_in(&f->as.array->items[i], err)) return false;
  return true;
}

static bool keys_fit (const eb_table *t, eb_error *err) {
  for (size_t i = 0; t != NULL && i < t->count; i++) {
    const eb_pair *pair = &t->pairs[i];
    if (pair->key.n > EB_SHORTSTR_MAX)
      return eb_error_set(err, EB_ERR_TOO_LARGE,
                          "a header name of %zu bytes; AMQP allows 255: %.40s...",
                          pair->key.n, pair->key.p);
    if (!keys_fit_in(&pair->value, err)) return false;
  }
  return true;
}

static bool refuse_names (const eb_publish *p, eb_error *err) {
  const struct {
    const char *what;
    eb_bytes value;
  } names[] = {{"exchange", p->exchange},
               {"routing key", p->routing_key},
               {"message_id", p->properties.message_id},
               {"type", p->properties.type},
               {"app_id (the event's source)", p->properties.app_id},
               {"correlation_id", p->properties.correlation_id},
               {"content_type", p->properties.content_type},
               {"content_encoding", p->properties.content_encoding},
               {"reply_to", p->properties.reply_to},
               {"expiration", p->properties.expiration},
               {"user_id", p->properties.user_id}};
  size_t i = 0;
  while (names[i].value.n <= EB_SHORTSTR_MAX) i++;
  return eb_error_set(err, EB_ERR_TOO_LARGE,
                      "%s of %zu bytes; AMQP allows 255: %.40s...",
                      names[i].what, names[i].value.n, names[i].value.p);
}

/* The bits of all lengths: none is over 255 when that is not. */
static bool names_fit (const eb_publish *p, eb_error *err) {
  const eb_properties *q = &p->properties;
  size_t bits = p->exchange.n | p->routing_key.n | q->message_id.n | q->type.n |
                q->app_id.n | q->correlation_id.n | q->content_type.n |
                q->content_encoding.n | q->reply_to.n | q->expiration.n |
                q->user_id.n;
  _Static_assert(EB_SHORTSTR_MAX == 255, "all bits below the ninth");
  return bits <= EB_SHORTSTR_MAX || refuse_names(p, err);
}

bool eb_codec_check_publish (const eb_publish *p, size_t frame_max,
                             eb_error *err) {
  if (!names_fit(p, err) || !keys_fit(p->properties.headers, err)) return false;
  size_t size = header_size(&p->properties);
  if (size > frame_max)
    return eb_error_set(err, EB_ERR_TOO_LARGE,
                        "headers of %zu bytes; they must fit one frame of %zu",
                        size, frame_max);
  return true;
}

bool eb_codec_put_publish (eb_buffer *out, amqp_pool_t *pool, uint16_t channel,
                           const eb_publish *p, size_t frame_max,
                           eb_error *err) {
  size_t before = eb_buffer_size(out);
  amqp_basic_publish_t m;
  memset(&m, 0, sizeof m);
  m.exchange = eb_codec_bytes(p->exchange);
  m.routing_key = eb_codec_bytes(p->routing_key);
  m.mandatory = p->mandatory;
  amqp_basic_properties_t props;
  memset(&props, 0, sizeof props);
  size_t chunk = frame_max - EB_FRAME_OVERHEAD;
  size_t frames = p->body.n / chunk + 1;
  size_t head = header_size(&p->properties);
  /* One reservation for all of it: then only the encoders can fail. */
  if (p->body.n > SIZE_MAX / 4 ||
      eb_buffer_reserve(out, p->body.n + frames * EB_FRAME_OVERHEAD + head +
                                 METHOD_ROOM + EB_FRAME_OVERHEAD + 64) == NULL)
    return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
  if (!eb_codec_from_properties(pool, &p->properties, &props))
    return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
  if (!eb_codec_put_method(out, channel, AMQP_BASIC_PUBLISH_METHOD, &m, 0, err))
    return false;
  uint8_t *q = eb_buffer_reserve(out, head + 64);
  amqp_bytes_t to;
  to.bytes = q == NULL ? NULL : q + HEADER_SIZE + CONTENT_HEADER;
  to.len = head;
  int n = q == NULL ? AMQP_STATUS_NO_MEMORY
                    : amqp_encode_properties(AMQP_BASIC_CLASS, &props, to);
  if (n < 0) {
    eb_buffer_truncate(out, before);
    return eb_error_set(err, EB_ERR_INVALID, "cannot encode the headers: %s",
                        amqp_error_string2(n));
  }
  size_t size = CONTENT_HEADER + (size_t)n;
  put_head(q, AMQP_FRAME_HEADER, channel, size);
  put16(q + HEADER_SIZE, AMQP_BASIC_CLASS);
  put16(q + HEADER_SIZE + 2, 0);
  put32(q + HEADER_SIZE + 4, (uint32_t)((uint64_t)p->body.n >> 32));
  put32(q + HEADER_SIZE + 8, (uint32_t)p->body.n);
  q[HEADER_SIZE + size] = END_MARK;
  eb_buffer_commit(out, size + EB_FRAME_OVERHEAD);
  for (size_t at = 0; at < p->body.n;) {
    size_t part = p->body.n - at < chunk ? p->body.n - at : chunk;
    q = eb_buffer_reserve(out, part + EB_FRAME_OVERHEAD);
    if (q == NULL) {
      eb_buffer_truncate(out, before);
      return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
    }
    put_head(q, AMQP_FRAME_BODY, channel, part);
    memcpy(q + HEADER_SIZE, p->body.p + at, part);
    q[HEADER_SIZE + part] = END_MARK;
    eb_buffer_commit(out, part + EB_FRAME_OVERHEAD);
    at += part;
  }
  return true;
}
