/* lua_value: see lua_value.h. */
#include "lua_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_MT "eventbus.array"

#if EB_LUA_INT64
_Static_assert(sizeof(lua_Integer) >= sizeof(int64_t), "a Lua of 32 bits");
#else
static const int64_t EXACT_INT = INT64_C(1) << 53;
static const double EXACT = 9007199254740992.0;             /* 2^53 */
static const double PLAUSIBLE_ID = 18446744073709551616.0;  /* 2^64 */
#endif

void lua_array_mt_push (lua_State *L) {
  if (!luaL_newmetatable(L, ARRAY_MT)) return;
  lua_pushliteral(L, "array");
  lua_setfield(L, -2, "__name");
}

/* Encoding. */

void lua_encoder_init (lua_encoder *e, lua_State *L, eb_buffer *out,
                       eb_error *err) {
  e->L = L;
  e->out = out;
  e->max_depth = EB_JSON_DEPTH;
  e->sort_keys = false;
  e->err = err;
  e->path[0] = '\0';
}

static bool refuse (lua_encoder *e, const char *what) {
  return eb_error_set(e->err, EB_ERR_INVALID, "%s", what);
}

static bool no_memory (lua_encoder *e) {
  return eb_error_set(e->err, EB_ERR_NO_MEMORY, "no memory for the JSON text");
}

int lua_value_cut (const char *p, size_t n, size_t limit) {
  return (int)eb_json_valid_utf8(p, n < limit ? n : limit);
}

/* On the way out of a failure each level puts its own name in front. */
static bool under (lua_encoder *e, const char *name, size_t n) {
  char step[80], rest[LUA_VALUE_PATH];
  memcpy(rest, e->path, sizeof rest);
  snprintf(step, sizeof step, "%.*s", lua_value_cut(name, n, 64), name);
  snprintf(e->path, sizeof e->path, "%s%s%.*s", step,
           *rest != '\0' && *rest != '[' ? "." : "",
           lua_value_cut(rest, strlen(rest), sizeof e->path - sizeof step - 2),
           rest);
  return false;
}

static bool under_position (lua_encoder *e, size_t i) {
  char step[32];
  int n = snprintf(step, sizeof step, "[%zu]", i);
  return under(e, step, (size_t)n);
}

void lua_encoder_explain (lua_encoder *e, const char *root) {
  if (e->err->code != EB_ERR_INVALID) return;
  eb_error was = *e->err;
  if (*root != '\0') under(e, root, strlen(root));
  if (e->path[0] == '\0') strcpy(e->path, "value");
  eb_error_set(e->err, EB_ERR_INVALID, "%.*s: %.280s",
               lua_value_cut(e->path, strlen(e->path), 200), e->path,
               was.message);
}

static bool bad_text (lua_encoder *e, size_t bad, const char *what) {
  if (bad == SIZE_MAX) return no_memory(e);
  return eb_error_set(e->err, EB_ERR_INVALID,
                      "%sinvalid UTF-8 at byte %zu (binary data: send base64)",
                      what, bad + 1);
}

static bool encode_string (lua_encoder *e, int index) {
  size_t n, bad;
  const char *p = lua_tolstring(e->L, index, &n);
  return eb_json_put_string(e->out, p, n, &bad) || bad_text(e, bad, "");
}

static bool encode_number (lua_encoder *e, int index) {
#if EB_LUA_INT64
  if (lua_isinteger(e->L, index))
    return eb_json_put_int(e->out, (int64_t)lua_tointeger(e->L, index)) ||
           no_memory(e);
#endif
  double v = (double)lua_tonumber(e->L, index);
  if (v != v) return refuse(e, "NaN cannot be sent as JSON");
  if (isinf(v)) return refuse(e, "infinity cannot be sent as JSON");
#if !EB_LUA_INT64
  if (floor(v) == v) {
    if (fabs(v) <= EXACT)
      return eb_json_put_int(e->out, (int64_t)v) || no_memory(e);
    if (fabs(v) < PLAUSIBLE_ID)
      return refuse(e, "a whole number beyond 2^53 is not exact in this Lua: "
                       "send it as a string");
  }
#endif
  return eb_json_put_double(e->out, v, EB_LUA_INT64) || no_memory(e);
}

static bool has_metatable (lua_State *L, int index, const char *module,
                           const char *name) {
  bool same = false;
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  if (lua_istable(L, -1)) {
    lua_pushstring(L, module);
    lua_rawget(L, -2);
    if (lua_istable(L, -1)) {
      lua_pushstring(L, name);
      lua_rawget(L, -2);
      same = lua_istable(L, -1) && lua_rawequal(L, -1, index);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return same;
}

/* Whether the table's metatable marks an array. */
static bool is_marked (lua_State *L, int index) {
  if (!lua_getmetatable(L, index)) return false;
  int mt = lua_gettop(L);
  lua_array_mt_push(L);
  bool yes = lua_rawequal(L, -1, mt) != 0;
  lua_pop(L, 1);
  yes = yes || has_metatable(L, mt, "cjson", "array_mt") ||
        has_metatable(L, mt, "cjson", "empty_array_mt");
  lua_pop(L, 1);
  return yes;
}

static bool put (lua_encoder *e, int c) {
  return eb_buffer_putc(e->out, c) || no_memory(e);
}

static bool encode_table (lua_encoder *e, int index, unsigned depth);
static bool encode_rare (lua_encoder *e, int index);

/* 'index' is absolute. */
static inline bool encode (lua_encoder *e, int index, unsigned depth) {
  switch (lua_type(e->L, index)) {
    case LUA_TSTRING: return encode_string(e, index);
    case LUA_TNUMBER: return encode_number(e, index);
    case LUA_TTABLE: return encode_table(e, index, depth);
    default: return encode_rare(e, index);
  }
}

static bool is_position (lua_State *L, int key, size_t i) {
#if EB_LUA_INT64
  return lua_isinteger(L, key) && (size_t)lua_tointeger(L, key) == i;
#else
  return lua_type(L, key) == LUA_TNUMBER && lua_tonumber(L, key) == (double)i;
#endif
}

/* Every key is a whole number from 1 to n, and all are there. */
static bool is_sequence (lua_State *L, int index, size_t n) {
  size_t members = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TNUMBER || ++members > n) {
      lua_pop(L, 1);
      return false;
    }
  }
  return members == n;
}

/* The element at 'index', which is on top: it takes it away. */
static bool encode_element (lua_encoder *e, int index, size_t i,
                            unsigned depth) {
  if (i > 1 && !put(e, ',')) return false;
  bool ok = encode(e, index, depth);
  lua_settop(e->L, index - 1);
  return ok || under_position(e, i);
}

/* Most lists come in their order: then the walk that encodes the elements has seen
** that there is nothing else. */
static bool encode_array (lua_encoder *e, int index, size_t n, unsigned depth) {
  lua_State *L = e->L;
  int key = lua_gettop(L) + 1, value = key + 1;
  size_t i = 0;
  bool in_order = true, ok = put(e, '[');
  lua_pushnil(L);
  while (ok && in_order && lua_next(L, index) != 0) {
    in_order = is_position(L, key, i + 1);
    if (in_order) ok = encode_element(e, value, ++i, depth);
  }
  if (ok && in_order) return put(e, ']');
  lua_settop(L, key - 1);
  if (!is_sequence(L, index, n)) {
    e->path[0] = '\0';
    return refuse(e, "neither a list (a hole, or names among its numbers) nor "
                     "a table with string keys");
  }
  while (ok && i < n) {
    lua_rawgeti(L, index, (int)++i);
    if (lua_isnil(L, key)) {
      lua_pop(L, 1);
      refuse(e, "a hole in a list");
      return under_position(e, i);
    }
    ok = encode_element(e, key, i, depth);
  }
  return ok && put(e, ']');
}

static bool refuse_key (lua_encoder *e, int type) {
  return refuse(e, type == LUA_TNUMBER
                       ? "a sparse list, or numbers among names: JSON has "
                         "string keys only"
                       : "a key that is not a string");
}

/* The value is behind the key, on top. */
static bool encode_member (lua_encoder *e, int key, bool first,
                           unsigned depth) {
  lua_State *L = e->L;
  int type = lua_type(L, key);
  if (type != LUA_TSTRING) return refuse_key(e, type);
  size_t n, bad;
  const char *name = lua_tolstring(L, key, &n);
  if (!eb_json_put_name(e->out, first, name, n, &bad))
    return bad_text(e, bad, "a key with ");
  return encode(e, key + 1, depth) || under(e, name, n);
}

typedef struct name {
  const char *p;
  size_t n;
} name;

static int by_name (const void *a, const void *b) {
  const name *x = a, *y = b;
  int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
  return c != 0 ? c : (x->n > y->n) - (x->n < y->n);
}

/* The names live in the table; the array of them in a userdata. */
static bool encode_sorted (lua_encoder *e, int index, unsigned depth) {
  lua_State *L = e->L;
  size_t count = 0, i = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    count++;
    int type = lua_type(L, -1);
    if (type == LUA_TSTRING) continue;
    lua_pop(L, 1);
    return refuse_key(e, type);
  }
  name *names = lua_newuserdatauv(L, (count + 1) * sizeof *names, 0);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    names[i].p = lua_tolstring(L, -2, &names[i].n);
    i++;
    lua_pop(L, 1);
  }
  qsort(names, count, sizeof *names, by_name);
  bool ok = true;
  for (i = 0; ok && i < count; i++) {
    lua_pushlstring(L, names[i].p, names[i].n);
    lua_pushvalue(L, -1);
    lua_rawget(L, index);
    ok = encode_member(e, lua_gettop(L) - 1, i == 0, depth);
    lua_pop(L, 2);
  }
  lua_pop(L, 1);
  return ok;
}

static bool encode_object (lua_encoder *e, int index, unsigned depth) {
  lua_State *L = e->L;
  if (!put(e, '{')) return false;
  if (e->sort_keys) return encode_sorted(e, index, depth) && put(e, '}');
  int key = lua_gettop(L) + 1;
  bool first = true;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    if (!encode_member(e, key, first, depth)) {
      lua_settop(L, key - 1);
      return false;
    }
    first = false;
    lua_settop(L, key);
  }
  return put(e, '}');
}

static bool encode_table (lua_encoder *e, int index, unsigned depth) {
  lua_State *L = e->L;
  const void *self = lua_topointer(L, index);
  for (unsigned d = 0; d < depth; d++)
    if (e->above[d] == self)
      return refuse(e, "a cycle: the table contains itself");
  if (depth >= e->max_depth) return refuse(e, "nested too deep");
  if (!lua_checkstack(L, 10)) return no_memory(e);
  e->above[depth] = self;
  size_t n = lua_rawlen(L, index);
  if (n > 0 || is_marked(L, index)) return encode_array(e, index, n, depth + 1);
  return encode_object(e, index, depth + 1);
}

static bool is_empty_array (lua_State *L, int index) {
  bool same = false;
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "cjson");
    if (lua_istable(L, -1)) {
      lua_getfield(L, -1, "empty_array");
      same = lua_rawequal(L, -1, index) != 0;
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return same;
}

static bool encode_rare (lua_encoder *e, int index) {
  lua_State *L = e->L;
  switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
      return (lua_toboolean(L, index) ? eb_buffer_append(e->out, "true", 4)
                                      : eb_buffer_append(e->out, "false", 5)) ||
             no_memory(e);
    case LUA_TNIL: return eb_buffer_append(e->out, "null", 4) || no_memory(e);
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, index) == NULL)
        return eb_buffer_append(e->out, "null", 4) || no_memory(e);
      if (is_empty_array(L, index))
        return eb_buffer_append(e->out, "[]", 2) || no_memory(e);
      break;
    default: break;
  }
  return eb_error_set(e->err, EB_ERR_INVALID, "a %s cannot be sent as JSON",
                      lua_typename(L, lua_type(L, index)));
}

bool lua_value_encode (lua_encoder *e, int index) {
  index = lua_absindex(e->L, index);
  if (!lua_checkstack(e->L, 10)) return no_memory(e);
  return encode(e, index, 0);
}

/* Decoding. */

static bool too_big (lua_decoder *d) {
  eb_json *j = d->json;
  if (d->big == LUA_BIG_STRING) {
    lua_pushlstring(d->L, j->text, j->size);
    return true;
  }
  return eb_error_set(&j->err, EB_ERR_MALFORMED,
                      "the integer %.*s is beyond %s; decode with big=\"string\"",
                      (int)(j->size < 40 ? j->size : 40), j->text,
                      EB_LUA_INT64 ? "64 bits" : "2^53");
}

static bool decode_int (lua_decoder *d) {
  int64_t v = d->json->integer;
#if EB_LUA_INT64
  lua_pushinteger(d->L, (lua_Integer)v);
#else
  if (v > EXACT_INT || v < -EXACT_INT) return too_big(d);
  lua_pushnumber(d->L, (lua_Number)v);
#endif
  return true;
}

/* Where the guess for a table of the level that was just entered is kept. */
static uint32_t *guess_of (lua_decoder *d, bool object) {
  unsigned level = d->json->depth - 1;
  if (level >= LUA_GUESS_LEVELS) level = LUA_GUESS_LEVELS - 1;
  return object ? &d->guess->members[level] : &d->guess->items[level];
}

/* How many to make room for: no more than the rest of the text can have, at so many
** bytes for each. A guess serves one table: those inside, which may share it, must not
** take as much again. */
static int take_guess (lua_decoder *d, uint32_t *guess, size_t bytes) {
  size_t most = (size_t)(d->json->end - d->json->p) / bytes;
  int n = (int)(*guess < most ? *guess : most);
  *guess = 0;
  return n;
}

static void learn (uint32_t *guess, int count) {
  *guess = (uint32_t)(count < LUA_GUESS_MOST ? count : LUA_GUESS_MOST);
}

static bool decode_array (lua_decoder *d);
static bool decode_object (lua_decoder *d);

/* See lua_value_decode. */
static inline bool decode (lua_decoder *d, eb_json_token t) {
  lua_State *L = d->L;
  switch (t) {
    case EB_JSON_OBJECT: return decode_object(d);
    case EB_JSON_ARRAY: return decode_array(d);
    case EB_JSON_STRING:
      lua_pushlstring(L, d->json->text, d->json->size);
      return true;
    case EB_JSON_INT: return decode_int(d);
    case EB_JSON_BIG: return too_big(d);
    case EB_JSON_DOUBLE:
      lua_pushnumber(L, (lua_Number)d->json->number);
      return true;
    case EB_JSON_TRUE: lua_pushboolean(L, 1); return true;
    case EB_JSON_FALSE: lua_pushboolean(L, 0); return true;
    case EB_JSON_NULL: lua_pushlightuserdata(L, NULL); return true;
    default: return false;
  }
}

static bool decode_array (lua_decoder *d) {
  lua_State *L = d->L;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, 8))
    return eb_error_set(&d->json->err, EB_ERR_NO_MEMORY, "Lua's stack is full");
  uint32_t *guess = guess_of(d, false);
  lua_createtable(L, take_guess(d, guess, sizeof "0," - 1), 0);
  for (int i = 1;; i++) {
    eb_json_token t = eb_json_next(d->json);
    if (t == EB_JSON_ARRAY_END) {
      learn(guess, i - 1);
      break;
    }
    if (!decode(d, t)) {
      lua_settop(L, top);
      return false;
    }
    lua_rawseti(L, -2, i);
  }
  if (d->marks) {
    lua_pushvalue(L, d->array_mt);
    lua_setmetatable(L, -2);
  }
  return true;
}

static bool decode_object (lua_decoder *d) {
  lua_State *L = d->L;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, 8))
    return eb_error_set(&d->json->err, EB_ERR_NO_MEMORY, "Lua's stack is full");
  uint32_t *guess = guess_of(d, true);
  lua_createtable(L, 0, take_guess(d, guess, sizeof "\"\":0," - 1));
  for (int count = 0;; count++) {
    eb_json_token t = eb_json_next(d->json);
    if (t == EB_JSON_OBJECT_END) {
      learn(guess, count);
      return true;
    }
    if (t == EB_JSON_KEY) {
      lua_names_push(L, d->names, d->names_table, d->json->text,
                     d->json->size);
      if (decode(d, eb_json_next(d->json))) {
        lua_rawset(L, -3);  /* of two equal names the last one counts */
        continue;
      }
    }
    lua_settop(L, top);
    return false;
  }
}

bool lua_value_decode (lua_decoder *d, eb_json_token t) {
  return decode(d, t);
}
