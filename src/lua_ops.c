/* lua_ops: the operations of a bus but for publishing: rpc, subscribe, cancel,
** confirmed.
**
** Each but the last answers at once with its id, or nil, err; the outcome comes
** later through 'next'.
*/
#include <string.h>

#include "lua_op.h"
#include "lua_table.h"

uint64_t lua_id_check (lua_State *L, int index, const char *expected) {
  lua_Number id = luaL_checknumber(L, index);
  luaL_argcheck(L, id >= 0 && id < 9007199254740992.0, index, expected);
  return (uint64_t)id;
}

/* Calls. */

static const char *const rpc_names[] = {
    [EB_EXCHANGE_DECLARE] = "exchange_declare",
    [EB_EXCHANGE_DELETE] = "exchange_delete",
    [EB_EXCHANGE_BIND] = "exchange_bind",
    [EB_EXCHANGE_UNBIND] = "exchange_unbind",
    [EB_QUEUE_DECLARE] = "queue_declare",
    [EB_QUEUE_DELETE] = "queue_delete",
    [EB_QUEUE_BIND] = "queue_bind",
    [EB_QUEUE_UNBIND] = "queue_unbind",
    [EB_QUEUE_PURGE] = "queue_purge",
    [EB_GET] = "get",
    NULL};

static const struct {
  const char *name;
  unsigned flag;
} flags[] = {{"passive", EB_PASSIVE},         {"durable", EB_DURABLE},
             {"exclusive", EB_EXCLUSIVE},     {"auto_delete", EB_AUTO_DELETE},
             {"internal", EB_INTERNAL},       {"if_unused", EB_IF_UNUSED},
             {"if_empty", EB_IF_EMPTY}};

/* Which name an argument of that method fills, or NULL. */
static eb_bytes *name_of (eb_rpc *call, const char *key) {
  bool binds_exchange =
      call->method == EB_EXCHANGE_BIND || call->method == EB_EXCHANGE_UNBIND;
  bool binds_queue =
      call->method == EB_QUEUE_BIND || call->method == EB_QUEUE_UNBIND;
  bool of_exchange =
      call->method == EB_EXCHANGE_DECLARE || call->method == EB_EXCHANGE_DELETE;
  if (strcmp(key, "queue") == 0)
    return binds_exchange || of_exchange ? NULL : &call->name;
  if (strcmp(key, "exchange") == 0)
    return binds_queue ? &call->source : of_exchange ? &call->name : NULL;
  if (strcmp(key, "destination") == 0)
    return binds_exchange ? &call->name : NULL;
  if (strcmp(key, "source") == 0) return binds_exchange ? &call->source : NULL;
  if (strcmp(key, "routing_key") == 0)
    return binds_exchange || binds_queue ? &call->routing_key : NULL;
  if (strcmp(key, "type") == 0)
    return call->method == EB_EXCHANGE_DECLARE ? &call->type : NULL;
  return NULL;
}

static bool read_rpc_field (lua_State *L, const char *key, eb_rpc *call,
                            eb_error *err) {
  eb_bytes *name = name_of(call, key);
  if (name != NULL) {
    size_t n;
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "%s: '%s' must be a string", rpc_names[call->method], key);
    const char *s = lua_tolstring(L, -1, &n);
    if (n > EB_SHORTSTR_MAX)
      return eb_error_set(err, EB_ERR_TOO_LARGE,
                          "%s: '%s' has %zu bytes; AMQP allows 255",
                          rpc_names[call->method], key, n);
    return lua_op_keep(call->item.arena, eb_bytes_of(s, n), name, err);
  }
  if (strcmp(key, "arguments") == 0) {
    call->arguments = lua_table_read(L, -1, call->item.arena,
                                     LUA_TABLE_ARGUMENTS, "arguments", err);
    return call->arguments != NULL;
  }
  if (strcmp(key, "record") == 0) {
    call->record = lua_toboolean(L, -1) != 0;
    return true;
  }
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
    if (strcmp(key, flags[i].name) != 0) continue;
    if (lua_toboolean(L, -1)) call->flags |= flags[i].flag;
    return true;
  }
  luaL_error(L, "%s: unknown field '%s'", rpc_names[call->method], key);
  return false;
}

/* rpc(name, args, timeout) */
static int lops_rpc (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  int method = luaL_checkoption(L, 2, NULL, rpc_names);
  luaL_checktype(L, 3, LUA_TTABLE);
  eb_ms until = lua_op_deadline(L, 4);
  eb_error err;
  if (!lua_op_ready(b, 0, &err)) return lua_fail(L, &err);
  eb_rpc *call = lua_op_begin(b, EB_ITEM_RPC, sizeof *call, 256, &err);
  if (call == NULL) return lua_fail(L, &err);
  call->item.deadline = until;
  call->method = (eb_rpc_method)method;
  call->record = true;
  lua_pushnil(L);
  while (lua_next(L, 3) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "field names must be strings");
    if (!read_rpc_field(L, lua_tostring(L, -2), call, &err))
      return lua_op_dropped(L, b, &err);
    lua_pop(L, 1);
  }
  return lua_op_posted(L, b, true);
}

/* Consumers. */

static bool read_subscribe_field (lua_State *L, const char *key,
                                  eb_subscribe *s, eb_error *err) {
  bool is_queue = strcmp(key, "queue") == 0;
  if (is_queue || strcmp(key, "consumer_tag") == 0) {
    size_t n;
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "subscribe: '%s' must be a string", key);
    const char *p = lua_tolstring(L, -1, &n);
    if (n > EB_SHORTSTR_MAX)
      return eb_error_set(err, EB_ERR_TOO_LARGE,
                          "subscribe: '%s' has %zu bytes; AMQP allows 255", key,
                          n);
    return lua_op_keep(s->item.arena, eb_bytes_of(p, n),
                       is_queue ? &s->queue : &s->tag, err);
  }
  if (strcmp(key, "prefetch") == 0) {
    double v = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(v >= 1 && v <= 65535))
      luaL_error(L, "subscribe: 'prefetch' must be from 1 to 65535");
    s->prefetch = (uint16_t)v;
    return true;
  }
  if (strcmp(key, "exclusive") == 0) {
    s->exclusive = lua_toboolean(L, -1) != 0;
    return true;
  }
  if (strcmp(key, "arguments") == 0) {
    s->arguments = lua_table_read(L, -1, s->item.arena, LUA_TABLE_ARGUMENTS,
                                  "arguments", err);
    return s->arguments != NULL;
  }
  if (strcmp(key, "priority") == 0) {
    if (lua_type(L, -1) != LUA_TNUMBER)
      luaL_error(L, "subscribe: 'priority' must be a whole number");
    return true;  /* an argument: added when those are read */
  }
  luaL_error(L, "subscribe: unknown field '%s'", key);
  return false;
}

/* https://www.rabbitmq.com/consumer-priority: an argument, not a field. */
static bool add_priority (eb_subscribe *s, double priority, eb_error *err) {
  eb_field value = {EB_FIELD_INT, {.integer = (int64_t)priority}};
  s->arguments = eb_table_with(s->item.arena, s->arguments, "x-priority", &value);
  return s->arguments != NULL ||
         eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

/* subscribe({queue=, prefetch=, ...}, timeout) */
static int lops_subscribe (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  eb_ms until = lua_op_deadline(L, 3);
  eb_error err;
  lua_getfield(L, 2, "priority");
  bool has_priority = !lua_isnil(L, -1);
  double priority = lua_tonumber(L, -1);
  lua_pop(L, 1);
  if (!lua_op_ready(b, 0, &err)) return lua_fail(L, &err);
  eb_subscribe *s = lua_op_begin(b, EB_ITEM_SUBSCRIBE, sizeof *s, 256, &err);
  if (s == NULL) return lua_fail(L, &err);
  s->item.deadline = until;
  s->prefetch = 10;
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "field names must be strings");
    if (!read_subscribe_field(L, lua_tostring(L, -2), s, &err))
      return lua_op_dropped(L, b, &err);
    lua_pop(L, 1);
  }
  if (s->queue.p == NULL) luaL_error(L, "subscribe: 'queue' is missing");
  if (has_priority && !add_priority(s, priority, &err))
    return lua_op_dropped(L, b, &err);
  return lua_op_posted(L, b, true);
}

/* cancel(consumer_id, timeout) */
static int lops_cancel (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  uint64_t id = lua_id_check(L, 2, "a consumer's id expected");
  luaL_argcheck(L, id > 0, 2, "a consumer's id expected");
  eb_ms until = lua_op_deadline(L, 3);
  eb_error err;
  if (!lua_op_ready(b, 0, &err)) return lua_fail(L, &err);
  eb_cancel *c = lua_op_begin(b, EB_ITEM_CANCEL, sizeof *c, 0, &err);
  if (c == NULL) return lua_fail(L, &err);
  c->item.deadline = until;
  c->consumer = id;
  return lua_op_posted(L, b, true);
}

/* confirmed(id, seconds, early) -> whether that publish has succeeded, waiting for
** it at most so long: see eb_bus_confirmed. Not when 'early' has its answer. */
static int lops_confirmed (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  uint64_t id = lua_id_check(L, 2, "an operation's id expected");
  eb_us us = lua_seconds_us(L, 3, 30);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_pushvalue(L, 2);
  lua_rawget(L, 4);
  bool taken = !lua_isnil(L, -1);
  lua_pushboolean(L, !taken && bus != NULL && eb_bus_confirmed(bus, id, us));
  return 1;
}

const luaL_Reg lua_ops[] = {{"rpc", lops_rpc},
                            {"subscribe", lops_subscribe},
                            {"cancel", lops_cancel},
                            {"confirmed", lops_confirmed},
                            {NULL, NULL}};
