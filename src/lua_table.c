/* lua_table: see lua_table.h. */
#include "lua_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lua_value.h"

enum { PATH_SIZE = 200 };

static const double EXACT = 9007199254740992.0;  /* 2^53 */

typedef struct reader {
  lua_State *L;
  eb_arena *arena;
  lua_table_use use;
  eb_error *err;
  char path[PATH_SIZE];
} reader;

static bool bad (reader *r, const char *what) {
  return eb_error_set(r->err, EB_ERR_INVALID, "%s: %s", r->path, what);
}

static bool no_memory (reader *r) {
  return eb_error_set(r->err, EB_ERR_NO_MEMORY, "no memory for %s", r->path);
}

static bool read_number (reader *r, double v, eb_field *to) {
  bool whole = floor(v) == v;
  if (v != v || v - v != 0) return bad(r, "NaN and infinity cannot be sent");
  bool as_int = whole && v >= -9223372036854775808.0 &&
                v < 9223372036854775808.0 &&
                (r->use == LUA_TABLE_ARGUMENTS ||
                 (!EB_LUA_INT64 && v <= EXACT && v >= -EXACT));
  if (as_int) {
    to->kind = EB_FIELD_INT;
    to->as.integer = (int64_t)v;
  } else {
    to->kind = EB_FIELD_DOUBLE;
    to->as.number = v;
  }
  return true;
}

static bool read_table (reader *r, int index, int depth, eb_field *to);

static bool read_value (reader *r, int index, int depth, eb_field *to) {
  lua_State *L = r->L;
  switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
      to->kind = EB_FIELD_BOOL;
      to->as.boolean = lua_toboolean(L, index) != 0;
      return true;
    case LUA_TNUMBER:
#if EB_LUA_INT64
      if (lua_isinteger(L, index)) {
        to->kind = EB_FIELD_INT;
        to->as.integer = (int64_t)lua_tointeger(L, index);
        return true;
      }
#endif
      return read_number(r, (double)lua_tonumber(L, index), to);
    case LUA_TSTRING: {
      size_t n;
      const char *p = lua_tolstring(L, index, &n);
      to->kind = EB_FIELD_STRING;
      to->as.bytes.p = eb_arena_copy(r->arena, p, n);
      to->as.bytes.n = n;
      return to->as.bytes.p != NULL || no_memory(r);
    }
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, index) == NULL) {  /* json.null */
        to->kind = EB_FIELD_VOID;
        return true;
      }
      return bad(r, "a light userdata cannot be sent");
    case LUA_TTABLE:
      if (depth >= EB_TABLE_MAX_DEPTH) return bad(r, "nested too deep");
      if (!lua_checkstack(L, 6)) return no_memory(r);
      return read_table(r, index, depth, to);
    default: {
      char what[64];
      snprintf(what, sizeof what, "a %s cannot be sent",
               lua_typename(L, lua_type(L, index)));
      return bad(r, what);
    }
  }
}

/* Extends the path for one member; restored by writing '\0' at the end. */
static size_t path_push (reader *r, const char *key, size_t n, long position) {
  size_t end = strlen(r->path), room = PATH_SIZE - end - 1;
  if (key != NULL && room > 1)
    snprintf(r->path + end, PATH_SIZE - end, ".%.*s",
             lua_value_cut(key, n, room - 1 < 64 ? room - 1 : 64), key);
  else if (key == NULL)
    snprintf(r->path + end, PATH_SIZE - end, "[%ld]", position);
  return end;
}

/* A list and nothing else: no member may be lost silently. */
static bool is_list (lua_State *L, int index, size_t count) {
  size_t members = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    members++;
    lua_pop(L, 1);
  }
  return members == count;
}

static bool read_array (reader *r, int index, int depth, size_t count,
                        eb_field *to) {
  if (!is_list(r->L, index, count))
    return bad(r, "neither a list nor a table with string keys");
  eb_array *a = eb_arena_alloc(r->arena, sizeof *a);
  if (a == NULL) return no_memory(r);
  a->count = count;
  a->items = eb_arena_alloc(r->arena, count * sizeof *a->items);
  if (a->items == NULL) return no_memory(r);
  for (size_t i = 0; i < count; i++) {
    size_t end = path_push(r, NULL, 0, (long)i + 1);
    lua_rawgeti(r->L, index, (int)i + 1);
    bool ok = read_value(r, lua_gettop(r->L), depth + 1, &a->items[i]);
    lua_pop(r->L, 1);
    if (!ok) return false;
    r->path[end] = '\0';
  }
  to->kind = EB_FIELD_ARRAY;
  to->as.array = a;
  return true;
}

static bool count_pairs (reader *r, int index, size_t *count) {
  lua_State *L = r->L;
  *count = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING) {
      lua_pop(L, 2);
      return bad(r, "neither a list nor a table with string keys");
    }
    ++*count;
    lua_pop(L, 1);
  }
  return true;
}

static eb_table *read_pairs (reader *r, int index, int depth) {
  lua_State *L = r->L;
  eb_table *t = eb_arena_alloc(r->arena, sizeof *t);
  size_t count, i = 0;
  if (!count_pairs(r, index, &count)) return NULL;
  if (t != NULL) t->pairs = eb_arena_alloc(r->arena, count * sizeof *t->pairs);
  if (t == NULL || t->pairs == NULL) {
    no_memory(r);
    return NULL;
  }
  t->count = count;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    size_t n;
    const char *key = lua_tolstring(L, -2, &n);
    eb_pair *pair = &t->pairs[i++];
    size_t end = path_push(r, key, n, 0);
    pair->key = eb_bytes_of(eb_arena_copy(r->arena, key, n), n);
    bool ok = pair->key.p != NULL
                  ? n <= EB_SHORTSTR_MAX || bad(r, "a name over 255 bytes")
                  : no_memory(r);
    ok = ok && read_value(r, lua_gettop(L), depth + 1, &pair->value);
    lua_pop(L, 1);
    if (!ok) {
      lua_pop(L, 1);
      return NULL;
    }
    r->path[end] = '\0';
  }
  return t;
}

static bool read_table (reader *r, int index, int depth, eb_field *to) {
  size_t count = lua_rawlen(r->L, index);
  if (count > 0) return read_array(r, index, depth, count, to);
  to->kind = EB_FIELD_TABLE;
  to->as.table = read_pairs(r, index, depth);
  return to->as.table != NULL;
}

const eb_table *lua_table_read (lua_State *L, int index, eb_arena *a,
                                lua_table_use use, const char *name,
                                eb_error *err) {
  reader r = {L, a, use, err, ""};
  snprintf(r.path, sizeof r.path, "%s", name);
  index = lua_absindex(L, index);
  if (lua_isnoneornil(L, index)) {
    eb_table *t = eb_arena_alloc(a, sizeof *t);
    if (t == NULL) {
      no_memory(&r);
      return NULL;
    }
    t->count = 0;
    t->pairs = NULL;
    return t;
  }
  if (lua_type(L, index) != LUA_TTABLE) {
    bad(&r, "a table expected");
    return NULL;
  }
  if (!lua_checkstack(L, 8)) {
    no_memory(&r);
    return NULL;
  }
  return read_pairs(&r, index, 0);
}

void lua_bytes_push (lua_State *L, eb_bytes b) {
  if (b.p == NULL)
    lua_pushnil(L);
  else
    lua_pushlstring(L, b.p, b.n);
}

void lua_int64_push (lua_State *L, int64_t v) {
#if EB_LUA_INT64
  lua_pushinteger(L, (lua_Integer)v);
#else
  if ((double)v <= EXACT && (double)v >= -EXACT) {
    lua_pushnumber(L, (lua_Number)v);
  } else {
    char text[24];
    int n = snprintf(text, sizeof text, "%lld", (long long)v);
    lua_pushlstring(L, text, (size_t)n);
  }
#endif
}

void lua_table_push_field (lua_State *L, const eb_field *f) {
  switch (f->kind) {
    case EB_FIELD_VOID: lua_pushlightuserdata(L, NULL); break;
    case EB_FIELD_BOOL: lua_pushboolean(L, f->as.boolean); break;
    case EB_FIELD_INT:
    case EB_FIELD_TIMESTAMP: lua_int64_push(L, f->as.integer); break;
    case EB_FIELD_DOUBLE: lua_pushnumber(L, f->as.number); break;
    case EB_FIELD_STRING:
    case EB_FIELD_BYTES: lua_bytes_push(L, f->as.bytes); break;
    case EB_FIELD_TABLE: lua_table_push(L, f->as.table); break;
    case EB_FIELD_ARRAY:
      luaL_checkstack(L, 4, "nested headers");
      lua_createtable(L, (int)f->as.array->count, 0);
      for (size_t i = 0; i < f->as.array->count; i++) {
        lua_table_push_field(L, &f->as.array->items[i]);
        lua_rawseti(L, -2, (int)i + 1);
      }
      break;
  }
}

void lua_table_push (lua_State *L, const eb_table *t) {
  luaL_checkstack(L, 6, "nested headers");
  lua_createtable(L, 0, t == NULL ? 0 : (int)t->count);
  for (size_t i = 0; t != NULL && i < t->count; i++) {
    lua_bytes_push(L, t->pairs[i].key);
    lua_table_push_field(L, &t->pairs[i].value);
    lua_rawset(L, -3);
  }
}
