/* eb_session: channel 0: the handshake, the broker's alarms, and its close. */
#include "eb_session_priv.h"

#include <stdio.h>
#include <string.h>

#include "eb_version.h"

enum { MIN_FRAME = 4096 };

/* Handshake: AMQP 0-9-1 section 2.2.4. */

static bool has_word (amqp_bytes_t text, const char *word) {
  const char *p = text.bytes;
  size_t n = strlen(word);
  for (size_t i = 0; i + n <= text.len; i++) {
    if (memcmp(p + i, word, n) != 0) continue;
    if ((i == 0 || p[i - 1] == ' ') && (i + n == text.len || p[i + n] == ' '))
      return true;
  }
  return false;
}

static amqp_table_entry_t entry (const char *key, int kind) {
  amqp_table_entry_t e;
  memset(&e, 0, sizeof e);
  e.key = eb_codec_cstring(key);
  e.value.kind = (uint8_t)kind;
  return e;
}

static amqp_table_entry_t text_entry (const char *key, const char *text) {
  amqp_table_entry_t e = entry(key, AMQP_FIELD_KIND_UTF8);
  e.value.value.bytes = eb_codec_cstring(text);
  return e;
}

/* Product and version, cut where there is no room. */
static void note_server (eb_session *s, const amqp_table_t *said) {
  amqp_bytes_t product = eb_codec_find_text(said, "product");
  amqp_bytes_t version = eb_codec_find_text(said, "version");
  snprintf(s->stats.server, sizeof s->stats.server, "%.*s %.*s",
           (int)product.len, (const char *)product.bytes, (int)version.len,
           (const char *)version.bytes);
}

static bool on_start (eb_session *s, const amqp_connection_start_t *m) {
  static const char *const capabilities[] = {
      "authentication_failure_close", "exchange_exchange_bindings",
      "consumer_cancel_notify",       "connection.blocked",
      "basic.nack",                   "publisher_confirms"};
  enum { CAPABILITIES = sizeof capabilities / sizeof *capabilities };
  const eb_session_config *c = &s->config;
  const char *mechanism = c->auth == EB_AUTH_EXTERNAL ? "EXTERNAL" : "PLAIN";
  if (m->version_major != 0 || m->version_minor != 9)
    return session_breakf(s, EB_ERR_PROTOCOL, "the server speaks AMQP %u-%u",
                          m->version_major, m->version_minor);
  if (!has_word(m->mechanisms, mechanism))
    return session_breakf(
        s, EB_ERR_REFUSED, "the broker does not offer %s, only: %.*s", mechanism,
        (int)(m->mechanisms.len < 100 ? m->mechanisms.len : 100),
        (const char *)m->mechanisms.bytes);
  note_server(s, &m->server_properties);
  amqp_table_entry_t able[CAPABILITIES];
  for (int i = 0; i < CAPABILITIES; i++) {
    able[i] = entry(capabilities[i], AMQP_FIELD_KIND_BOOLEAN);
    able[i].value.value.boolean = 1;
  }
  amqp_table_entry_t props[] = {
      text_entry("product", "eventbus"), text_entry("platform", "Lua"),
      text_entry("version", EB_VERSION),
      text_entry("connection_name", c->connection_name),
      entry("capabilities", AMQP_FIELD_KIND_TABLE)};
  props[4].value.value.table.num_entries = CAPABILITIES;
  props[4].value.value.table.entries = able;
  amqp_connection_start_ok_t ok;
  memset(&ok, 0, sizeof ok);
  ok.client_properties.num_entries = (int)(sizeof props / sizeof *props);
  ok.client_properties.entries = props;
  ok.mechanism = eb_codec_cstring(mechanism);
  ok.locale = eb_codec_cstring("en_US");
  size_t user = strlen(c->user), password = strlen(c->password);
  if (c->auth == EB_AUTH_PLAIN) {  /* RFC 4616: NUL user NUL password */
    char *response = amqp_pool_alloc(&s->pool, user + password + 2);
    if (response == NULL)
      return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
    response[0] = '\0';
    memcpy(response + 1, c->user, user);
    response[user + 1] = '\0';
    memcpy(response + user + 2, c->password, password);
    ok.response = eb_codec_bytes(eb_bytes_of(response, user + password + 2));
  }
  s->phase = EB_PHASE_TUNING;
  return session_send(s, 0, AMQP_CONNECTION_START_OK_METHOD, &ok,
                      user + password + strlen(c->connection_name));
}

/* The smaller one, where 0 means no limit. */
static size_t agree (size_t ours, size_t theirs) {
  if (ours == 0 || theirs == 0) return ours > theirs ? ours : theirs;
  return ours < theirs ? ours : theirs;
}

static bool on_tune (eb_session *s, const amqp_connection_tune_t *m) {
  const eb_session_config *c = &s->config;
  s->frame_max = agree(c->frame_max, m->frame_max);
  s->channel_max = (unsigned)agree(c->channel_max, m->channel_max);
  if (s->channel_max > UINT16_MAX) s->channel_max = UINT16_MAX;
  if (s->frame_max < MIN_FRAME)
    return session_breakf(s, EB_ERR_PROTOCOL,
                          "the broker wants frames of %zu bytes; AMQP's least "
                          "is %d", s->frame_max, MIN_FRAME);
  amqp_connection_tune_ok_t ok;
  ok.channel_max = (uint16_t)s->channel_max;
  ok.frame_max = (uint32_t)s->frame_max;
  size_t heartbeat =
      c->heartbeat_s == 0 ? 0 : agree(c->heartbeat_s, m->heartbeat);
  ok.heartbeat = (uint16_t)(heartbeat < UINT16_MAX ? heartbeat : UINT16_MAX);
  s->heartbeat_ms = (int64_t)ok.heartbeat * 1000;
  amqp_connection_open_t open;
  memset(&open, 0, sizeof open);
  open.virtual_host = eb_codec_cstring(c->vhost);
  s->phase = EB_PHASE_OPENING;
  return session_send(s, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok, 0) &&
         session_send(s, 0, AMQP_CONNECTION_OPEN_METHOD, &open, 0);
}

static bool on_open_ok (eb_session *s) {
  s->phase = EB_PHASE_UP;
  s->ever_up = true;
  eb_error_clear(&s->trouble);
  s->stats.connections++;
  s->consumers_due = s->now;
  eb_session_notice(s, EB_EVENT_UP, 0, NULL);
  return records_restore(s);
}

static bool contains (amqp_bytes_t text, const char *word) {
  size_t n = strlen(word);
  for (size_t i = 0; i + n <= text.len; i++)
    if (memcmp((const char *)text.bytes + i, word, n) == 0) return true;
  return false;
}

/* RabbitMQ answers a wrong vhost, one without permission, one that is not up yet
** and a limit of connections with the same 530; only its text tells which. Somebody
** else's connection may end at any time: a limit is no refusal. */
static eb_code close_code (const eb_session *s,
                           const amqp_connection_close_t *m) {
  if (contains(m->reply_text, "is down")) return EB_ERR_CONNECTION;
  if (s->phase == EB_PHASE_OPENING && m->reply_code == 530) {
    if (contains(m->reply_text, "connection limit")) return EB_ERR_CONNECTION;
    if (contains(m->reply_text, "not found")) return EB_ERR_NOT_FOUND;
    if (contains(m->reply_text, "refused")) return EB_ERR_REFUSED;
  }
  return eb_code_of_reply(m->reply_code);
}

/* What to do where the broker's words do not tell; NULL when they do. */
static const char *advice (const eb_session *s, eb_code code) {
  if (s->phase == EB_PHASE_TUNING && code == EB_ERR_REFUSED &&
      s->config.auth == EB_AUTH_EXTERNAL)
    return " EXTERNAL takes the user from the client certificate: give "
           "certfile and keyfile, and the broker a user of the certificate's "
           "name";
  if (s->phase == EB_PHASE_OPENING && code == EB_ERR_NOT_FOUND &&
      s->config.vhost[0] == '\0')
    return " (a URL that ends in '/' names the vhost '': for the default vhost "
           "leave the '/' out, also before '?', or write /%2F)";
  return NULL;
}

static bool on_close (eb_session *s, const amqp_connection_close_t *m) {
  eb_error err;
  session_reply_error(&err, close_code(s, m), m->reply_code, m->reply_text);
  const char *more = advice(s, err.code);
  if (more != NULL) {
    size_t n = strlen(err.message);
    snprintf(err.message + n, sizeof err.message - n, "%s", more);
  }
  amqp_connection_close_ok_t ok;
  memset(&ok, 0, sizeof ok);
  session_send(s, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok, 0);
  return session_break(s, &err);
}

static bool on_blocked (eb_session *s, const amqp_connection_blocked_t *m) {
  eb_error why;
  eb_error_set(&why, EB_ERR_BLOCKED, "the broker blocked publishing: %.*s",
               (int)m->reason.len, (const char *)m->reason.bytes);
  s->blocked = true;
  eb_session_notice(s, EB_EVENT_BLOCKED, 0, &why);
  return true;
}

bool session_connection_method (eb_session *s, amqp_method_t *m) {
  eb_phase p = s->phase;
  switch (m->id) {
    case AMQP_CONNECTION_CLOSE_METHOD: return on_close(s, m->decoded);
    case AMQP_CONNECTION_START_METHOD:
      if (p == EB_PHASE_GREETED) return on_start(s, m->decoded);
      break;
    case AMQP_CONNECTION_TUNE_METHOD:
      if (p == EB_PHASE_TUNING) return on_tune(s, m->decoded);
      break;
    case AMQP_CONNECTION_OPEN_OK_METHOD:
      if (p == EB_PHASE_OPENING) return on_open_ok(s);
      break;
    case AMQP_CONNECTION_CLOSE_OK_METHOD:
      if (p != EB_PHASE_CLOSING) break;
      return session_breakf(s, EB_ERR_CLOSED, "closed");
    case AMQP_CONNECTION_BLOCKED_METHOD:
      if (p >= EB_PHASE_UP) return on_blocked(s, m->decoded);
      break;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
      if (p < EB_PHASE_UP) break;
      s->blocked = false;
      eb_session_notice(s, EB_EVENT_UNBLOCKED, 0, NULL);
      return true;
    default: break;
  }
  const char *name = amqp_method_name(m->id);
  return session_breakf(s, EB_ERR_PROTOCOL, "%s at the wrong time",
                        name != NULL ? name : "an unknown method");
}
