/* lua_envelope: see lua_envelope.h. */
#include "lua_envelope.h"

#include <string.h>

#include "eb_clock.h"
#include "eb_time.h"
#include "lua_error.h"
#include "lua_modules.h"
#include "lua_scratch.h"
#include "lua_value.h"

/* An envelope is one level around what it carries. */
enum { VALUE_DEPTH = EB_JSON_DEPTH - 1 };

static bool no_memory (eb_error *err) {
  return eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for an event");
}

/* Why a codec failed: the text on top, or that of an error object there. */
static bool codec_failed (lua_State *L, eb_error *err, eb_code code,
                          const char *field) {
  size_t n;
  if (lua_istable(L, -1)) {
    lua_pushliteral(L, "message");
    lua_rawget(L, -2);
  }
  if (lua_type(L, -1) != LUA_TSTRING) lua_pushliteral(L, "nothing came back");
  const char *why = lua_tolstring(L, -1, &n);
  return eb_error_set(err, code, "%s: the codec failed: %.*s", field,
                      lua_value_cut(why, n, 400), why);
}

/* Encoding. */

typedef struct writer {
  lua_State *L;
  lua_event *event;
  int64_t now;     /* the wall clock, in milliseconds; 0: not read yet */
  eb_bytes coded;  /* the payload as a codec wrote it; p is NULL without one */
  eb_buffer *to;
  eb_time_last *last;
  eb_error *err;
  lua_encoder value;
} writer;

static bool put (writer *w, const char *text, size_t n) {
  return eb_buffer_append(w->to, text, n) || no_memory(w->err);
}

bool lua_event_text (lua_State *L, int index, const char *name, eb_bytes *b,
                     eb_error *err) {
  switch (lua_type(L, index)) {
    case LUA_TSTRING:
      b->p = lua_tolstring(L, index, &b->n);
      return true;
    case LUA_TNIL:
      *b = eb_bytes_of(NULL, 0);
      return true;
    default:
      return eb_error_set(err, EB_ERR_INVALID, "%s: a string expected, got %s",
                          name, luaL_typename(L, index));
  }
}

static int64_t now_of (writer *w) {
  if (w->now == 0) w->now = eb_clock_wall_ms();
  return w->now;
}

/* 'lead' is the text up to the value: ',"source":'. */
static inline bool put_text (writer *w, const char *lead, const char *name,
                             eb_bytes b) {
  size_t bad;
  if (!put(w, lead, strlen(lead))) return false;
  if (eb_json_put_string(w->to, b.p, b.n, &bad)) return true;
  if (bad == SIZE_MAX) return no_memory(w->err);
  return eb_error_set(w->err, EB_ERR_INVALID, "%s: invalid UTF-8 at byte %zu",
                      name, bad + 1);
}

static bool fits (writer *w, const char *name, eb_bytes b) {
  return b.n <= EB_SHORTSTR_MAX ||
         eb_error_set(w->err, EB_ERR_TOO_LARGE,
                      "%s: %zu bytes; AMQP allows 255", name, b.n);
}

/* What was made here stands in JSON as it is. */
static inline bool put_made (writer *w, const char *lead, const char *text,
                             size_t n) {
  size_t before = strlen(lead);
  char *to = (char *)eb_buffer_reserve(w->to, before + n + 1);
  if (to == NULL) return no_memory(w->err);
  memcpy(to, lead, before);
  memcpy(to + before, text, n);
  to[before + n] = '"';
  eb_buffer_commit(w->to, before + n + 1);
  return true;
}

static bool put_id (writer *w) {
  lua_event *e = w->event;
  if (e->id.n > 0)
    return fits(w, "id", e->id) && put_text(w, "{\"id\":", "id", e->id);
  memcpy(e->made_id, "evt_", 4);
  if (!eb_uuid_v7(now_of(w), e->made_id + 4))
    return eb_error_set(w->err, EB_ERR_INTERNAL,
                        "the system has no random bytes for an id");
  e->id = eb_bytes_of(e->made_id, sizeof e->made_id);
  return put_made(w, "{\"id\":\"", e->made_id, sizeof e->made_id);
}

static bool put_type (writer *w) {
  eb_bytes type = w->event->type;
  if (type.n == 0)
    return eb_error_set(w->err, EB_ERR_INVALID, "type: missing");
  return fits(w, "type", type) && put_text(w, ",\"type\":", "type", type);
}

/* Left out when it is nil; "" is kept, as Go services send it. */
static inline bool put_optional (writer *w, const char *lead, const char *name,
                                 eb_bytes b) {
  return b.p == NULL || (fits(w, name, b) && put_text(w, lead, name, b));
}

static bool put_timestamp (writer *w) {
  char text[EB_TIME_TEXT];
  lua_event *e = w->event;
  eb_bytes given = e->timestamp;
  if (given.n == 0) {
    e->timestamp_ms = now_of(w);
    eb_time_format_next(w->last, e->timestamp_ms, text);
    return put_made(w, ",\"timestamp\":\"", text, sizeof text);
  }
  if (!eb_time_parse(given.p, given.n, &e->timestamp_ms))
    return eb_error_set(w->err, EB_ERR_INVALID,
                        "timestamp: '%.*s' is not RFC 3339 "
                        "(2024-01-15T10:30:00Z)",
                        lua_value_cut(given.p, given.n, 40), given.p);
  return put_text(w, ",\"timestamp\":", "timestamp", given);
}

static bool put_value (writer *w, int index, const char *name) {
  if (lua_value_encode(&w->value, index)) return true;
  lua_encoder_explain(&w->value, name);
  return false;
}

/* Others will read it: one value, as strict as our own. */
static bool check_coded (eb_bytes b, eb_error *err) {
  eb_json j;
  eb_json_init(&j, b.p, b.n, VALUE_DEPTH);
  bool ok = eb_json_skip(&j, eb_json_next(&j)) &&
            eb_json_next(&j) == EB_JSON_END;
  if (!ok)
    eb_error_set(err, EB_ERR_INVALID, "data: the codec made %.400s",
                 j.err.message);
  eb_json_fini(&j);
  return ok;
}

/* The payload, which is on top, by another codec: its text stays on the stack. */
static bool run_codec (lua_State *L, int codec, eb_bytes *coded, eb_error *err) {
  lua_getfield(L, codec, "encode");
  lua_insert(L, -2);
  if (lua_pcall(L, 1, 2, 0) != 0) lua_pushnil(L), lua_insert(L, -2);
  if (lua_type(L, -2) != LUA_TSTRING)
    return codec_failed(L, err, EB_ERR_INVALID, "data");
  coded->p = lua_tolstring(L, -2, &coded->n);
  return check_coded(*coded, err);
}

static bool put_data (writer *w) {
  if (!put(w, ",\"data\":", 8)) return false;
  if (w->coded.p != NULL) return put(w, w->coded.p, w->coded.n);
  return put_value(w, w->event->data, "data");
}

static bool put_metadata (writer *w) {
  lua_State *L = w->L;
  int index = w->event->metadata;
  if (index == 0) return true;
  bool null = lua_islightuserdata(L, index) && lua_touserdata(L, index) == NULL;
  if (lua_isnil(L, index) || null) return true;
  bool ok = lua_istable(L, index) && lua_rawlen(L, index) == 0;
  if (ok) {
    if (!put(w, ",\"metadata\":", 12)) return false;
    size_t at = eb_buffer_size(w->to);
    if (!put_value(w, index, "metadata")) return false;
    ok = eb_buffer_bytes(w->to)[at] == '{';  /* an empty list is not */
  }
  return ok || eb_error_set(w->err, EB_ERR_INVALID,
                            "metadata: a table with string keys expected");
}

static const char *const known[] = {"id",        "type",           "source",
                                    "timestamp", "tenant_id",      "correlation_id",
                                    "data",      "metadata"};
enum { KNOWN = sizeof known / sizeof *known };

static bool is_known (eb_bytes name) {
  for (size_t i = 0; i < KNOWN; i++)
    if (strlen(known[i]) == name.n && memcmp(known[i], name.p, name.n) == 0)
      return true;
  return false;
}

static bool put_others (writer *w) {
  lua_State *L = w->L;
  if (w->event->table == 0) return true;
  lua_pushnil(L);
  while (lua_next(L, w->event->table) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING)
      return eb_error_set(w->err, EB_ERR_INVALID,
                          "an event's field names must be strings");
    eb_bytes name;
    name.p = lua_tolstring(L, -2, &name.n);
    if (!is_known(name) &&
        (!put_text(w, ",", "a field's name", name) || !put(w, ":", 1) ||
         !put_value(w, lua_gettop(L), name.p)))
      return false;
    lua_pop(L, 1);
  }
  return true;
}

static bool encode (writer *w) {
  const lua_event *e = w->event;
  return put_id(w) && put_type(w) &&
         put_optional(w, ",\"source\":", "source", e->source) &&
         put_timestamp(w) &&
         put_optional(w, ",\"tenant_id\":", "tenant_id", e->tenant_id) &&
         put_optional(w, ",\"correlation_id\":", "correlation_id",
                      e->correlation_id) &&
         put_data(w) && put_metadata(w) && put_others(w) && put(w, "}", 1);
}

/* 'coded': the payload as a codec wrote it, or absent. */
static bool write_event (lua_State *L, lua_event *event, eb_bytes coded,
                         lua_scratch *to, eb_error *err) {
  writer w;
  w.L = L;
  w.event = event;
  w.now = 0;
  w.coded = coded;
  w.to = &to->out;
  w.last = &to->time;
  w.err = err;
  lua_encoder_init(&w.value, L, w.to, err);
  w.value.max_depth = VALUE_DEPTH;
  eb_buffer_truncate(w.to, 0);
  return encode(&w);
}

bool lua_envelope_write (lua_State *L, lua_event *event, int codec,
                         lua_scratch *to, eb_error *err) {
  if (!lua_checkstack(L, 24)) return no_memory(err);
  int top = lua_gettop(L);
  eb_bytes coded = {NULL, 0};
  bool ok = true;
  if (codec != 0 && !lua_isnil(L, codec)) {
    lua_pushvalue(L, event->data);
    ok = run_codec(L, codec, &coded, err);
  }
  ok = ok && write_event(L, event, coded, to, err);
  lua_settop(L, top);
  return ok;
}

static int push_field (lua_State *L, int table, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, table);
  return lua_gettop(L);
}

static bool read_text (lua_State *L, int table, const char *name, eb_bytes *b,
                       eb_error *err) {
  return lua_event_text(L, push_field(L, table, name), name, b, err);
}

static bool read_fields (lua_State *L, int table, lua_event *e, eb_error *err) {
  e->table = table;
  e->data = push_field(L, table, "data");
  e->metadata = push_field(L, table, "metadata");
  return read_text(L, table, "id", &e->id, err) &&
         read_text(L, table, "type", &e->type, err) &&
         read_text(L, table, "source", &e->source, err) &&
         read_text(L, table, "timestamp", &e->timestamp, err) &&
         read_text(L, table, "tenant_id", &e->tenant_id, err) &&
         read_text(L, table, "correlation_id", &e->correlation_id, err);
}

bool lua_envelope_encode (lua_State *L, int table, int codec, lua_event *event,
                          lua_scratch *to, eb_error *err) {
  table = lua_absindex(L, table);
  codec = lua_absindex(L, codec);
  if (!lua_checkstack(L, 32)) return no_memory(err);
  int top = lua_gettop(L);
  eb_bytes coded = {NULL, 0};
  bool ok = true;
  if (!lua_isnil(L, codec)) {
    push_field(L, table, "data");
    ok = run_codec(L, codec, &coded, err);
  }
  ok = ok && read_fields(L, table, event, err) &&
       write_event(L, event, coded, to, err);
  if (!ok) lua_settop(L, top);
  return ok;
}

/* Decoding. */

typedef struct reader {
  lua_State *L;
  eb_json *json;
  lua_decoder value;
  int codec;
  int event;
  bool has_id;
  bool has_type;
  bool has_timestamp;
} reader;

static bool wrong (reader *r, const char *field, const char *what) {
  return eb_error_set(&r->json->err, EB_ERR_MALFORMED, "envelope field \"%s\": %s",
                      field, what);
}

static bool wrong_kind (reader *r, const char *field, const char *want,
                        eb_json_token t) {
  if (t == EB_JSON_ERROR) return false;
  return eb_error_set(&r->json->err, EB_ERR_MALFORMED,
                      "envelope field \"%s\": %s expected, got %s", field, want,
                      eb_json_token_name(t));
}

/* Sets the field whose name, and above it the value, are on top. */
static void set (reader *r) {
  lua_rawset(r->L, r->event);
}

/* The text of the reader, which may come again. */
static void push_word (reader *r) {
  lua_names_push(r->L, r->value.names, r->value.names_table, r->json->text,
                 r->json->size);
}

static bool read_required (reader *r, const char *field, eb_json_token t,
                           bool *has) {
  eb_json *j = r->json;
  if (t != EB_JSON_STRING) return wrong_kind(r, field, "a string", t);
  if (j->size == 0) return wrong(r, field, "empty");
  if (j->size > 1024) return wrong(r, field, "longer than 1024 bytes");
  if (has == &r->has_type)
    push_word(r);
  else  /* another one in each event */
    lua_pushlstring(r->L, r->json->text, r->json->size);
  set(r);
  *has = true;
  return true;
}

static bool read_timestamp (reader *r, eb_json_token t) {
  int64_t ms;
  if (!read_required(r, "timestamp", t, &r->has_timestamp)) return false;
  return eb_time_parse(r->json->text, r->json->size, &ms) ||
         wrong(r, "timestamp", "not RFC 3339 (2024-01-15T10:30:00Z)");
}

/* null is absent, also when it comes after another value of that name. */
static bool read_null (reader *r) {
  lua_pushnil(r->L);
  set(r);
  return true;
}

static bool read_optional (reader *r, const char *field, eb_json_token t) {
  if (t == EB_JSON_NULL) return read_null(r);
  if (t != EB_JSON_STRING) return wrong_kind(r, field, "a string", t);
  push_word(r);
  set(r);
  return true;
}

static bool read_metadata (reader *r, eb_json_token t) {
  if (t == EB_JSON_NULL) return read_null(r);
  if (t != EB_JSON_OBJECT) return wrong_kind(r, "metadata", "an object", t);
  if (!lua_value_decode(&r->value, t)) return false;
  set(r);
  return true;
}

/* The payload by another codec gets its bytes as they came. */
static bool read_by_codec (reader *r, const char *begin, eb_json_token t) {
  lua_State *L = r->L;
  if (!eb_json_skip(r->json, t)) return false;
  lua_getfield(L, r->codec, "decode");
  lua_pushlstring(L, begin, (size_t)(r->json->p - begin));
  if (lua_pcall(L, 1, 2, 0) != 0) lua_pushnil(L), lua_insert(L, -2);
  /* nil, why: a failure too; but some codecs have nil for null. */
  if (lua_isnil(L, -2) && t != EB_JSON_NULL)
    return codec_failed(L, &r->json->err, EB_ERR_MALFORMED,
                        "envelope field \"data\"");
  lua_pop(L, 1);
  set(r);
  return true;
}

/* Where the next value begins. */
static const char *value_start (const eb_json *j) {
  const char *p = j->p;
  while (p < j->end && strchr(" \t\r\n", *p) != NULL && *p != '\0') p++;
  return p;
}

static bool read_data (reader *r) {
  const char *begin = value_start(r->json);
  eb_json_token t = eb_json_next(r->json);
  if (t == EB_JSON_ERROR) return false;
  if (r->codec != 0 && !lua_isnil(r->L, r->codec))
    return read_by_codec(r, begin, t);
  if (!lua_value_decode(&r->value, t)) return false;
  set(r);
  return true;
}

static bool is (const eb_json *j, const char *name, size_t n) {
  return j->size == n && memcmp(j->text, name, n) == 0;
}

static bool read_other (reader *r) {
  if (!lua_value_decode(&r->value, eb_json_next(r->json))) return false;
  set(r);
  return true;
}

/* The reader stands behind a name. */
static bool read_field (reader *r) {
  eb_json *j = r->json;
  push_word(r);
  if (is(j, "data", 4)) return read_data(r);
  if (is(j, "id", 2)) return read_required(r, "id", eb_json_next(j), &r->has_id);
  if (is(j, "type", 4))
    return read_required(r, "type", eb_json_next(j), &r->has_type);
  if (is(j, "timestamp", 9)) return read_timestamp(r, eb_json_next(j));
  if (is(j, "source", 6)) return read_optional(r, "source", eb_json_next(j));
  if (is(j, "tenant_id", 9))
    return read_optional(r, "tenant_id", eb_json_next(j));
  if (is(j, "correlation_id", 14))
    return read_optional(r, "correlation_id", eb_json_next(j));
  if (is(j, "metadata", 8)) return read_metadata(r, eb_json_next(j));
  return read_other(r);
}

static bool decode (reader *r) {
  eb_json_token t = eb_json_next(r->json);
  if (t != EB_JSON_OBJECT && t != EB_JSON_ERROR)
    return eb_error_set(&r->json->err, EB_ERR_MALFORMED,
                        "an envelope is an object, not %s",
                        eb_json_token_name(t));
  if (t == EB_JSON_ERROR) return false;
  while ((t = eb_json_next(r->json)) == EB_JSON_KEY)
    if (!read_field(r)) return false;
  if (t != EB_JSON_OBJECT_END || eb_json_next(r->json) != EB_JSON_END)
    return false;
  if (!r->has_id) return wrong(r, "id", "missing");
  if (!r->has_type) return wrong(r, "type", "missing");
  return r->has_timestamp || wrong(r, "timestamp", "missing");
}

int lua_envelope_decode_body (lua_State *L, const char *p, size_t n, int codec,
                              int scratch) {
  reader r;
  memset(&r, 0, sizeof r);
  r.L = L;
  if (codec != 0 && !lua_isnoneornil(L, codec)) r.codec = lua_absindex(L, codec);
  luaL_checkstack(L, 24, NULL);
  lua_createtable(L, 0, 8);
  r.event = lua_gettop(L);
  lua_scratch_take(L, scratch);
  lua_scratch_decoder(L, r.event + 1, p, n, EB_JSON_DEPTH, &r.value);
  r.json = r.value.json;
  eb_error err;
  bool ok = decode(&r);
  if (!ok) err = r.json->err;
  lua_scratch_give(L, r.event + 1);
  lua_settop(L, r.event);
  if (ok) return 1;
  lua_pushnil(L);
  lua_error_push(L, &err);
  return 2;
}

/* The module. */

static void copy_field (lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  if (!lua_isnil(L, -1))
    lua_setfield(L, 2, name);
  else
    lua_pop(L, 1);
}

/* new(fields) -> event, with id and timestamp */
static int envelope_new (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_createtable(L, 0, 8);
  lua_pushnil(L);
  while (lua_next(L, 1) != 0) {
    eb_bytes name = eb_bytes_of("", 0);
    if (lua_type(L, -2) == LUA_TSTRING) name.p = lua_tolstring(L, -2, &name.n);
    if (!is_known(name))
      return luaL_error(L, "unknown field '%s' of an event", name.p);
    lua_pop(L, 1);
  }
  for (size_t i = 0; i < KNOWN; i++) copy_field(L, known[i]);
  lua_getfield(L, 2, "type");
  if (lua_type(L, -1) != LUA_TSTRING || lua_rawlen(L, -1) == 0)
    return luaL_error(L, "an event needs a type");
  lua_getfield(L, 2, "id");
  if (lua_isnil(L, -1)) {
    char id[4 + EB_UUID_TEXT] = "evt_";
    if (!eb_uuid_v7(eb_clock_wall_ms(), id + 4))
      return luaL_error(L, "the system has no random bytes for an id");
    lua_pushlstring(L, id, sizeof id);
    lua_setfield(L, 2, "id");
  }
  lua_getfield(L, 2, "timestamp");
  if (lua_isnil(L, -1)) {
    char text[EB_TIME_TEXT];
    eb_time_format(eb_clock_wall_ms(), text);
    lua_pushlstring(L, text, sizeof text);
    lua_setfield(L, 2, "timestamp");
  }
  lua_settop(L, 2);
  return 1;
}

/* The codec of an options table, pushed: nil when there is none. */
static void push_codec (lua_State *L, int options) {
  if (lua_isnoneornil(L, options)) {
    lua_pushnil(L);
    return;
  }
  luaL_checktype(L, options, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, options) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING ||
        strcmp(lua_tostring(L, -2), "codec") != 0)
      luaL_error(L, "unknown option (codec is the only one)");
    lua_pop(L, 1);
  }
  lua_getfield(L, options, "codec");
  if (!lua_isnil(L, -1)) luaL_checktype(L, -1, LUA_TTABLE);
}

/* encode(event [, {codec=}]) -> bytes | nil, err */
static int envelope_encode (lua_State *L) {
  lua_event event;
  eb_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  push_codec(L, 2);
  lua_scratch *to = lua_scratch_take(L, 0);  /* at 4 */
  if (!lua_envelope_encode(L, 1, 3, &event, to, &err)) {
    lua_scratch_give(L, 4);
    lua_pushnil(L);
    lua_error_push(L, &err);
    return 2;
  }
  lua_pushlstring(L, (const char *)eb_buffer_bytes(&to->out),
                  eb_buffer_size(&to->out));
  lua_scratch_give(L, 4);
  return 1;
}

/* decode(bytes [, {codec=}]) -> event | nil, err */
static int envelope_decode (lua_State *L) {
  size_t n;
  const char *p = luaL_checklstring(L, 1, &n);
  lua_settop(L, 2);
  push_codec(L, 2);
  return lua_envelope_decode_body(L, p, n, 3, 0);
}

static const luaL_Reg functions[] = {{"new", envelope_new},
                                     {"encode", envelope_encode},
                                     {"decode", envelope_decode},
                                     {NULL, NULL}};

int lua_envelope_open (lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
