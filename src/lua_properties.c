/* lua_properties: see lua_properties.h. */
#include "lua_properties.h"

#include <stdio.h>
#include <string.h>

#include "lua_op.h"
#include "lua_table.h"

typedef struct named_bytes {
  const char *name;
  size_t offset;
} named_bytes;

static const named_bytes texts[] = {
    {"message_id", offsetof(eb_properties, message_id)},
    {"type", offsetof(eb_properties, type)},
    {"app_id", offsetof(eb_properties, app_id)},
    {"correlation_id", offsetof(eb_properties, correlation_id)},
    {"content_type", offsetof(eb_properties, content_type)},
    {"content_encoding", offsetof(eb_properties, content_encoding)},
    {"reply_to", offsetof(eb_properties, reply_to)},
    {"user_id", offsetof(eb_properties, user_id)},
    {NULL, 0}};

static eb_bytes *text_of (eb_properties *p, const char *name) {
  for (const named_bytes *t = texts; t->name != NULL; t++)
    if (strcmp(t->name, name) == 0) return (eb_bytes *)((char *)p + t->offset);
  return NULL;
}

static bool wrong (const char *name, const char *want, eb_error *err) {
  return eb_error_set(err, EB_ERR_INVALID, "property '%s' must be %s", name,
                      want);
}

/* A whole number of milliseconds, in decimal (a string on the wire). */
static bool read_expiration (lua_State *L, eb_publish *p, eb_error *err) {
  char text[24];
  if (lua_type(L, -1) == LUA_TSTRING) {
    size_t n;
    const char *s = lua_tolstring(L, -1, &n);
    return lua_op_keep(p->item.arena, eb_bytes_of(s, n),
                       &p->properties.expiration, err);
  }
  double ms = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER || !(ms >= 0) || ms > 4294967295.0)
    return wrong("expiration", "milliseconds from 0 to 2^32-1", err);
  int n = snprintf(text, sizeof text, "%.0f", ms);
  return lua_op_keep(p->item.arena, eb_bytes_of(text, (size_t)n),
                     &p->properties.expiration, err);
}

/* The value at the top of the stack is that of 'name'. */
static bool read_property (lua_State *L, const char *name, eb_publish *p,
                           eb_error *err) {
  eb_properties *props = &p->properties;
  eb_bytes *text = text_of(props, name);
  if (text != NULL) {
    size_t n;
    if (lua_type(L, -1) != LUA_TSTRING) return wrong(name, "a string", err);
    const char *s = lua_tolstring(L, -1, &n);
    return lua_op_keep(p->item.arena, eb_bytes_of(s, n), text, err);
  }
  if (strcmp(name, "mandatory") == 0) {
    p->mandatory = lua_toboolean(L, -1) != 0;
    return true;
  }
  if (strcmp(name, "confirm") == 0) {
    p->unconfirmed = !lua_toboolean(L, -1);
    return true;
  }
  if (strcmp(name, "persistent") == 0) {
    props->delivery_mode = lua_toboolean(L, -1) ? 2 : 1;
    return true;
  }
  if (strcmp(name, "headers") == 0) {
    props->headers = lua_table_read(L, -1, p->item.arena, LUA_TABLE_HEADERS,
                                    "headers", err);
    return props->headers != NULL;
  }
  if (strcmp(name, "expiration") == 0) return read_expiration(L, p, err);
  if (strcmp(name, "priority") == 0) {
    double v = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(v >= 0 && v <= 255))
      return wrong(name, "a number from 0 to 255", err);
    props->has_priority = true;
    props->priority = (uint8_t)v;
    return true;
  }
  if (strcmp(name, "timestamp") == 0) {
    double v = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(v >= 0 && v < 1e15))
      return wrong(name, "seconds since 1970", err);
    props->has_timestamp = true;
    props->timestamp = (uint64_t)v;
    return true;
  }
  luaL_error(L, "unknown property '%s'", name);
  return false;
}

bool lua_properties_read (lua_State *L, int index, eb_publish *p,
                          eb_error *err) {
  p->properties.delivery_mode = 2;
  if (lua_isnoneornil(L, index)) return true;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "property names must be strings");
    if (!read_property(L, lua_tostring(L, -2), p, err)) return false;
    lua_pop(L, 1);
  }
  return true;
}

void lua_properties_push (lua_State *L, const eb_properties *p) {
  lua_createtable(L, 0, 12);
  for (const named_bytes *t = texts; t->name != NULL; t++) {
    eb_bytes b = *(const eb_bytes *)((const char *)p + t->offset);
    if (b.p == NULL) continue;
    lua_bytes_push(L, b);
    lua_setfield(L, -2, t->name);
  }
  if (p->expiration.p != NULL) {
    lua_bytes_push(L, p->expiration);
    lua_setfield(L, -2, "expiration");
  }
  if (p->has_priority) {
    lua_pushinteger(L, p->priority);
    lua_setfield(L, -2, "priority");
  }
  if (p->has_timestamp) {
    lua_int64_push(L, (int64_t)p->timestamp);
    lua_setfield(L, -2, "timestamp");
  }
  lua_pushboolean(L, p->delivery_mode == 2);
  lua_setfield(L, -2, "persistent");
}
