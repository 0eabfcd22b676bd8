/* lua_delivery: a delivery as Lua sees it: read it, settle it once.
**
** The delivery tag never becomes a Lua number. Settling hands the delivery to
** the I/O thread, so nothing of it can be read afterwards. One that is collected
** unsettled is given back to its queue.
*/
#include <string.h>

#include "lua_bus.h"
#include "lua_envelope.h"
#include "lua_error.h"
#include "lua_properties.h"
#include "lua_table.h"
#include "lua_value.h"

/* Objects of finished deliveries, to be used again: making one, its finalizer and its
** end cost Lua more than all else that it does for a delivery's object. */
enum { SPARES = 256 };

/* Where the methods of a delivery have a scratch. */
enum { SCRATCH = LUA_DELIVERY_UPVALUES + 1 };

typedef struct spares {
  int count;  /* of those in the table, from 1 on */
} spares;

lua_delivery *lua_delivery_push (lua_State *L) {
  spares *s = lua_touserdata(L, lua_upvalueindex(3));
  if (s->count > 0) {
    lua_rawgeti(L, lua_upvalueindex(4), s->count);
    lua_pushnil(L);  /* one that is dropped unsettled must be collected */
    lua_rawseti(L, lua_upvalueindex(4), s->count--);
    return lua_touserdata(L, -1);
  }
  lua_delivery *u = lua_newuserdatauv(L, sizeof *u, 0);
  u->d = NULL;
  u->ref = NULL;
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  return u;
}

void lua_delivery_fill (lua_delivery *u, lua_bus *b, eb_delivery *d) {
  u->d = d;
  u->ref = b->ref;
  u->ref->refs++;
}

/* The metatable is an upvalue: it need not be looked up by name. */
static lua_delivery *check (lua_State *L) {
  lua_delivery *u = lua_touserdata(L, 1);
  if (u != NULL && lua_getmetatable(L, 1)) {
    bool same = lua_rawequal(L, -1, lua_upvalueindex(1)) != 0;
    lua_pop(L, 1);
    if (same) return u;
  }
  return luaL_checkudata(L, 1, LUA_DELIVERY_TYPE);
}

static eb_delivery *unsettled (lua_State *L) {
  lua_delivery *u = check(L);
  if (u->d == NULL) luaL_error(L, "the delivery was settled already");
  return u->d;
}

static bool settle (lua_delivery *u, eb_settlement how, eb_error *err) {
  eb_delivery *d = u->d;
  eb_bus *bus = u->ref->bus;
  u->d = NULL;
  if (bus != NULL) return eb_bus_settle(bus, d, how, err);
  eb_item_free(&d->item);
  return eb_error_set(err, EB_ERR_CLOSED,
                      "the bus is closed: the event goes back to its queue");
}

static int settle_and_say (lua_State *L, eb_settlement how) {
  eb_error err;
  lua_delivery *u = check(L);
  if (u->d == NULL) luaL_error(L, "the delivery was settled already");
  if (!settle(u, how, &err)) return lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

static int ldelivery_ack (lua_State *L) {
  return settle_and_say(L, EB_ACK);
}

/* finish(): acknowledges, and this object may become another delivery: the caller was
** the last who knew it. */
static int ldelivery_finish (lua_State *L) {
  eb_error err;
  lua_delivery *u = check(L);
  spares *s = lua_touserdata(L, lua_upvalueindex(2));
  if (u->d == NULL) luaL_error(L, "the delivery was settled already");
  if (!settle(u, EB_ACK, &err)) return lua_fail(L, &err);
  lua_bus_unref(u->ref);
  u->ref = NULL;
  if (s->count < SPARES) {
    lua_pushvalue(L, 1);
    lua_rawseti(L, lua_upvalueindex(3), ++s->count);
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* give_back(): to its queue, without a word against it. */
static int ldelivery_give_back (lua_State *L) {
  return settle_and_say(L, EB_RETURN);
}

static int ldelivery_reject (lua_State *L) {
  luaL_checktype(L, 2, LUA_TBOOLEAN);
  return settle_and_say(L, lua_toboolean(L, 2) ? EB_REQUEUE : EB_REJECT);
}

/* slim(): drops all but what settling needs, for whoever holds many for long.
** Out of memory it stays as it is. */
static int ldelivery_slim (lua_State *L) {
  eb_delivery *d = unsettled(L);
  eb_delivery *slim = eb_item_new(EB_ITEM_DELIVERY, sizeof *slim, 0);
  if (slim != NULL) {
    slim->consumer = d->consumer;
    slim->channel = d->channel;
    slim->epoch = d->epoch;
    slim->tag = d->tag;
    slim->weight = d->weight;
    slim->redelivered = d->redelivered;
    check(L)->d = slim;
    eb_item_free(&d->item);
  }
  return 0;
}

static int ldelivery_gc (lua_State *L) {
  lua_delivery *u = check(L);
  eb_error err;
  if (u->d != NULL) settle(u, EB_REQUEUE, &err);
  lua_bus_unref(u->ref);
  u->ref = NULL;
  return 0;
}

static int ldelivery_body (lua_State *L) {
  lua_bytes_push(L, unsettled(L)->body);
  return 1;
}

static int ldelivery_size (lua_State *L) {
  lua_int64_push(L, (int64_t)unsettled(L)->body.n);
  return 1;
}

static int ldelivery_oversized (lua_State *L) {
  lua_pushboolean(L, unsettled(L)->oversized);
  return 1;
}

static int ldelivery_malformed_headers (lua_State *L) {
  lua_pushboolean(L, unsettled(L)->bad_headers);
  return 1;
}

static int ldelivery_exchange (lua_State *L) {
  lua_bytes_push(L, unsettled(L)->exchange);
  return 1;
}

static int ldelivery_routing_key (lua_State *L) {
  lua_bytes_push(L, unsettled(L)->routing_key);
  return 1;
}

static int ldelivery_redelivered (lua_State *L) {
  lua_pushboolean(L, unsettled(L)->redelivered);
  return 1;
}

static int ldelivery_consumer (lua_State *L) {
  lua_int64_push(L, (int64_t)unsettled(L)->consumer);
  return 1;
}

static int ldelivery_message_id (lua_State *L) {
  lua_bytes_push(L, unsettled(L)->properties.message_id);
  return 1;
}

static int ldelivery_type (lua_State *L) {
  lua_bytes_push(L, unsettled(L)->properties.type);
  return 1;
}

static int ldelivery_properties (lua_State *L) {
  lua_properties_push(L, &unsettled(L)->properties);
  return 1;
}

static int ldelivery_headers (lua_State *L) {
  lua_table_push(L, unsettled(L)->properties.headers);
  return 1;
}

static int ldelivery_header (lua_State *L) {
  const char *name = luaL_checkstring(L, 2);
  const eb_field *f = eb_table_find(unsettled(L)->properties.headers, name);
  if (f == NULL)
    lua_pushnil(L);
  else
    lua_table_push_field(L, f);
  return 1;
}

static int ldelivery_tostring (lua_State *L) {
  lua_delivery *u = check(L);
  if (u->d == NULL) {
    lua_pushliteral(L, "delivery (settled)");
    return 1;
  }
  lua_pushliteral(L, "delivery of '");
  lua_bytes_push(L, u->d->routing_key);
  lua_pushliteral(L, "'");
  lua_concat(L, 3);
  return 1;
}

/* Whether a content type says JSON: application/json, application/x+json, with
** any parameters; absent is taken as JSON. */
static bool is_json (eb_bytes type) {
  if (type.p == NULL || type.n == 0) return true;
  const char *semicolon = memchr(type.p, ';', type.n);
  size_t n = semicolon != NULL ? (size_t)(semicolon - type.p) : type.n;
  while (n > 0 && type.p[n - 1] == ' ') n--;
  if (n < 5 || strncasecmp(type.p + n - 4, "json", 4) != 0) return false;
  return type.p[n - 5] == '/' || type.p[n - 5] == '+';
}

/* event, or nil, err: what makes it malformed. */
static int ldelivery_event (lua_State *L) {
  eb_delivery *d = unsettled(L);
  eb_bytes type = d->properties.content_type;
  eb_error err;
  if (d->oversized)
    eb_error_set(&err, EB_ERR_TOO_LARGE, "a body of %zu bytes, over max_body",
                 d->body.n);
  else if (d->bad_headers)
    eb_error_set(&err, EB_ERR_MALFORMED, "headers nested deeper than %d",
                 EB_TABLE_MAX_DEPTH);
  else if (!is_json(type))
    eb_error_set(&err, EB_ERR_MALFORMED,
                 "content type '%.*s': an event is JSON",
                 lua_value_cut(type.p, type.n, 100), type.p);
  else if (d->body.n == 0)
    eb_error_set(&err, EB_ERR_MALFORMED, "empty body");
  else
    return lua_envelope_decode_body(L, d->body.p, d->body.n, 2,
                                    lua_upvalueindex(SCRATCH));
  return lua_fail(L, &err);
}

/* Their upvalues: the metatable, the spares, the table of these; a scratch. */
static const luaL_Reg methods[] = {
    {"ack", ldelivery_ack},
    {"finish", ldelivery_finish},
    {"reject", ldelivery_reject},
    {"give_back", ldelivery_give_back},
    {"slim", ldelivery_slim},
    {"event", ldelivery_event},
    {"body", ldelivery_body},
    {"size", ldelivery_size},
    {"oversized", ldelivery_oversized},
    {"malformed_headers", ldelivery_malformed_headers},
    {"exchange", ldelivery_exchange},
    {"routing_key", ldelivery_routing_key},
    {"redelivered", ldelivery_redelivered},
    {"consumer", ldelivery_consumer},
    {"message_id", ldelivery_message_id},
    {"type", ldelivery_type},
    {"properties", ldelivery_properties},
    {"headers", ldelivery_headers},
    {"header", ldelivery_header},
    {"__gc", ldelivery_gc},
    {"__tostring", ldelivery_tostring},
    {NULL, NULL}};

void lua_delivery_register (lua_State *L) {
  luaL_newmetatable(L, LUA_DELIVERY_TYPE);
  spares *s = lua_newuserdatauv(L, sizeof *s, 0);
  s->count = 0;
  lua_createtable(L, SPARES, 0);
  lua_pushvalue(L, -3);
  for (int i = 0; i < LUA_DELIVERY_UPVALUES; i++)
    lua_pushvalue(L, -1 - LUA_DELIVERY_UPVALUES);
  lua_pushnil(L);
  luaL_setfuncs(L, methods, SCRATCH);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
