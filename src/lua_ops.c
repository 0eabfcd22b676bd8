/* lua_ops: the operations of a bus: publish, rpc, subscribe, cancel, confirmed.
**
** Each but the last answers at once with its id, or nil, err; the outcome comes
** later through 'next'. Check, convert, post, push: an item under construction
** hangs on the bus, so that a Lua error in between loses no memory.
*/
#include <stdio.h>
#include <string.h>

#include "lua_bus.h"
#include "lua_envelope.h"
#include "lua_error.h"
#include "lua_scratch.h"
#include "lua_table.h"

static const double TIMEOUT_S = 30;

static eb_ms deadline (lua_State *L, int index) {
  int64_t ms = lua_seconds(L, index, TIMEOUT_S);
  return eb_ms_after(eb_clock_now(), ms);
}

uint64_t lua_id_check (lua_State *L, int index, const char *expected) {
  lua_Number id = luaL_checknumber(L, index);
  luaL_argcheck(L, id >= 0 && id < 9007199254740992.0, index, expected);
  return (uint64_t)id;
}

static bool ready (lua_bus *b, size_t bytes, eb_error *err) {
  eb_bus *bus = lua_bus_get(b);
  if (bus == NULL) return eb_error_set(err, EB_ERR_CLOSED, "the bus is closed");
  return eb_bus_may_post(bus, bytes, err);
}

static void *build (lua_bus *b, void *item, eb_error *err) {
  if (item == NULL) eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
  eb_item_free(b->building);
  b->building = item;
  return item;
}

static void *begin (lua_bus *b, eb_item_kind kind, size_t size, size_t extra,
                    eb_error *err) {
  return build(b, eb_item_new(kind, size, extra), err);
}

static eb_publish *begin_publish (lua_bus *b, size_t extra, eb_error *err) {
  return build(b, eb_bus_new_publish(b->ref->bus, extra), err);
}

/* Drops what was begun: nil, err. */
static int give_up (lua_State *L, lua_bus *b, const eb_error *err) {
  eb_item_free(b->building);
  b->building = NULL;
  return lua_fail(L, err);
}

/* Posts what was begun: pushes its id, or nil, err. */
static int post (lua_State *L, lua_bus *b, bool urgent) {
  eb_error err;
  eb_item *item = b->building;
  b->building = NULL;
  uint64_t id = eb_bus_post(b->ref->bus, item, urgent, &err);
  if (id == 0) return lua_fail(L, &err);
  lua_pushinteger(L, (lua_Integer)id);
  return 1;
}

static bool keep (eb_arena *a, const char *p, size_t n, eb_bytes *to,
                  eb_error *err) {
  to->p = eb_arena_copy(a, p, n);
  to->n = n;
  return to->p != NULL || eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

/* Properties. */

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
    return keep(p->item.arena, s, n, &p->properties.expiration, err);
  }
  double ms = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER || !(ms >= 0) || ms > 4294967295.0)
    return wrong("expiration", "milliseconds from 0 to 2^32-1", err);
  int n = snprintf(text, sizeof text, "%.0f", ms);
  return keep(p->item.arena, text, (size_t)n, &p->properties.expiration, err);
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
    return keep(p->item.arena, s, n, text, err);
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

static bool read_properties (lua_State *L, int index, eb_publish *p,
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

/* Publishing. */

/* A return names its message by id only: a mandatory publish needs one. */
static bool ensure_id (lua_bus *b, eb_publish *p, eb_error *err) {
  if (!p->mandatory || p->properties.message_id.n > 0) return true;
  char text[48];
  int n = snprintf(text, sizeof text, "msg-%llx-%zx",
                   (unsigned long long)eb_clock_wall_ms(),
                   eb_bus_under_way(b->ref->bus));
  return keep(p->item.arena, text, (size_t)n, &p->properties.message_id, err);
}

/* publish(exchange, routing_key, body, props, timeout [, urgent]) */
static int lops_publish (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  size_t en, kn, bn;
  const char *exchange = luaL_checklstring(L, 2, &en);
  const char *key = luaL_checklstring(L, 3, &kn);
  const char *body = luaL_checklstring(L, 4, &bn);
  eb_ms until = deadline(L, 6);
  bool urgent = lua_toboolean(L, 7) != 0;
  eb_error err;
  lua_settop(L, 5);
  if (!ready(b, bn, &err)) return lua_fail(L, &err);
  eb_publish *p = begin_publish(b, en + kn + bn + 512, &err);
  if (p == NULL) return lua_fail(L, &err);
  eb_arena *a = p->item.arena;
  p->item.deadline = until;
  if (!keep(a, exchange, en, &p->exchange, &err) ||
      !keep(a, key, kn, &p->routing_key, &err) ||
      !keep(a, body, bn, &p->body, &err) ||
      !read_properties(L, 5, p, &err) || !ensure_id(b, p, &err) ||
      !eb_bus_check_publish(b->ref->bus, p, &err))
    return give_up(L, b, &err);
  return post(L, b, urgent);
}

/* A tenant in the given headers counts more than the event's. */
static bool add_tenant (eb_publish *p, eb_bytes tenant, eb_error *err) {
  eb_field value = {EB_FIELD_STRING, {.bytes = tenant}};
  const eb_table *given = p->properties.headers;
  if (tenant.n == 0 || eb_table_find(given, "tenant_id") != NULL) return true;
  p->properties.headers = eb_table_with(p->item.arena, given, "tenant_id", &value);
  return p->properties.headers != NULL ||
         eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

static bool mirror (eb_publish *p, const lua_envelope_info *info,
                    eb_error *err) {
  eb_arena *a = p->item.arena;
  eb_properties *props = &p->properties;
  eb_bytes tenant = {NULL, 0};
  props->content_type = eb_bytes_of("application/json", 16);
  props->has_timestamp = true;
  props->timestamp = (uint64_t)(info->timestamp_ms / 1000);
  return keep(a, info->id.p, info->id.n, &props->message_id, err) &&
         keep(a, info->type.p, info->type.n, &props->type, err) &&
         (info->source.n == 0 ||
          keep(a, info->source.p, info->source.n, &props->app_id, err)) &&
         (info->correlation_id.n == 0 ||
          keep(a, info->correlation_id.p, info->correlation_id.n,
               &props->correlation_id, err)) &&
         (info->tenant_id.n == 0 ||
          keep(a, info->tenant_id.p, info->tenant_id.n, &tenant, err)) &&
         add_tenant(p, tenant, err);
}

/* Posts the event that was written to the scratch at 'scratch', and whose id is on
** top: id and event's id, or nil, err. Exchange and key are at 2 and 3. Nothing raises
** behind the post: an event on its way must not be told as an error. */
static int post_event (lua_State *L, lua_bus *b, int scratch, int props,
                       const lua_envelope_info *info, eb_ms until, bool urgent,
                       bool quiet) {
  const eb_buffer *text = &((lua_scratch *)lua_touserdata(L, scratch))->out;
  size_t en, kn, bn = eb_buffer_size(text);
  const char *exchange = lua_tolstring(L, 2, &en);
  const char *key = lua_tolstring(L, 3, &kn);
  eb_error err;
  eb_publish *p =
      begin_publish(b, en + kn + bn + info->id.n + info->type.n + 640, &err);
  if (p == NULL) return lua_fail(L, &err);
  eb_arena *a = p->item.arena;
  p->item.deadline = until;
  p->quiet = quiet;
  if (!keep(a, exchange, en, &p->exchange, &err) ||
      !keep(a, key, kn, &p->routing_key, &err) ||
      !keep(a, (const char *)eb_buffer_bytes(text), bn, &p->body, &err) ||
      !read_properties(L, props, p, &err) || !mirror(p, info, &err) ||
      !eb_bus_check_publish(b->ref->bus, p, &err))
    return give_up(L, b, &err);
  int n = post(L, b, urgent);
  if (n == 1) {
    lua_insert(L, -2);
    n = 2;
  }
  lua_scratch_give(L, scratch);
  return n;
}

/* publish_event(exchange, routing_key, event, props, timeout, codec, urgent) */
static int lops_publish_event (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  luaL_checkstring(L, 2);
  luaL_checkstring(L, 3);
  luaL_checktype(L, 4, LUA_TTABLE);
  eb_ms until = deadline(L, 6);
  bool urgent = lua_toboolean(L, 8) != 0;
  eb_error err;
  lua_envelope_info info;
  lua_settop(L, 7);
  if (!ready(b, 0, &err)) return lua_fail(L, &err);
  eb_buffer *text = &lua_scratch_take(L)->out;  /* at 8 */
  /* Encoding runs Lua: a codec, or a finalizer. The bus may be closed by it. */
  bool ok = lua_envelope_encode(L, 4, 7, text, &info, &err);
  if (ok) lua_pushlstring(L, info.id.p, info.id.n);
  if (!ok || !ready(b, eb_buffer_size(text), &err)) {
    lua_scratch_give(L, 8);
    return lua_fail(L, &err);
  }
  return post_event(L, b, 8, 5, &info, until, urgent, false);
}

/* publish_fields(exchange, routing_key, props, timeout, codec, quiet, type, data,
** source, tenant_id, correlation_id, metadata, id, timestamp): the same, of an event
** that has never been a table. 'quiet': only its failure is told, see next. */
static int lops_publish_fields (lua_State *L) {
  static const lua_event at = {.type = 8, .data = 9, .source = 10,
                               .tenant_id = 11, .correlation_id = 12,
                               .metadata = 13, .id = 14, .timestamp = 15,
                               .table = 0};
  lua_bus *b = lua_bus_check(L, 1);
  luaL_checkstring(L, 2);
  luaL_checkstring(L, 3);
  eb_ms until = deadline(L, 5);
  eb_error err;
  lua_envelope_info info;
  lua_settop(L, 15);
  if (!ready(b, 0, &err)) return lua_fail(L, &err);
  eb_buffer *text = &lua_scratch_take(L)->out;  /* at 16 */
  bool ok = lua_envelope_write(L, &at, 6, text, &info, &err);
  if (ok) lua_pushlstring(L, info.id.p, info.id.n);
  if (!ok || !ready(b, eb_buffer_size(text), &err)) {
    lua_scratch_give(L, 16);
    return lua_fail(L, &err);
  }
  return post_event(L, b, 16, 4, &info, until, false, lua_toboolean(L, 7) != 0);
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
    return keep(call->item.arena, s, n, name, err);
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
  eb_ms until = deadline(L, 4);
  eb_error err;
  if (!ready(b, 0, &err)) return lua_fail(L, &err);
  eb_rpc *call = begin(b, EB_ITEM_RPC, sizeof *call, 256, &err);
  if (call == NULL) return lua_fail(L, &err);
  call->item.deadline = until;
  call->method = (eb_rpc_method)method;
  call->record = true;
  lua_pushnil(L);
  while (lua_next(L, 3) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "field names must be strings");
    if (!read_rpc_field(L, lua_tostring(L, -2), call, &err))
      return give_up(L, b, &err);
    lua_pop(L, 1);
  }
  return post(L, b, true);
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
    return keep(s->item.arena, p, n, is_queue ? &s->queue : &s->tag, err);
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
  eb_ms until = deadline(L, 3);
  eb_error err;
  lua_getfield(L, 2, "priority");
  bool has_priority = !lua_isnil(L, -1);
  double priority = lua_tonumber(L, -1);
  lua_pop(L, 1);
  if (!ready(b, 0, &err)) return lua_fail(L, &err);
  eb_subscribe *s = begin(b, EB_ITEM_SUBSCRIBE, sizeof *s, 256, &err);
  if (s == NULL) return lua_fail(L, &err);
  s->item.deadline = until;
  s->prefetch = 10;
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "field names must be strings");
    if (!read_subscribe_field(L, lua_tostring(L, -2), s, &err))
      return give_up(L, b, &err);
    lua_pop(L, 1);
  }
  if (s->queue.p == NULL) luaL_error(L, "subscribe: 'queue' is missing");
  if (has_priority && !add_priority(s, priority, &err))
    return give_up(L, b, &err);
  return post(L, b, true);
}

/* cancel(consumer_id, timeout) */
static int lops_cancel (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  uint64_t id = lua_id_check(L, 2, "a consumer's id expected");
  luaL_argcheck(L, id > 0, 2, "a consumer's id expected");
  eb_ms until = deadline(L, 3);
  eb_error err;
  if (!ready(b, 0, &err)) return lua_fail(L, &err);
  eb_cancel *c = begin(b, EB_ITEM_CANCEL, sizeof *c, 0, &err);
  if (c == NULL) return lua_fail(L, &err);
  c->item.deadline = until;
  c->consumer = id;
  return post(L, b, true);
}

/* confirmed(id, seconds, early) -> whether that publish has succeeded, waiting for
** it at most so long: see eb_bus_confirmed. Not when 'early' has its answer. */
static int lops_confirmed (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  uint64_t id = lua_id_check(L, 2, "an operation's id expected");
  int64_t ms = lua_seconds(L, 3, TIMEOUT_S);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_pushvalue(L, 2);
  lua_rawget(L, 4);
  bool taken = !lua_isnil(L, -1);
  lua_pushboolean(L, !taken && bus != NULL && eb_bus_confirmed(bus, id, ms));
  return 1;
}

const luaL_Reg lua_ops[] = {{"publish", lops_publish},
                            {"publish_event", lops_publish_event},
                            {"publish_fields", lops_publish_fields},
                            {"rpc", lops_rpc},
                            {"subscribe", lops_subscribe},
                            {"cancel", lops_cancel},
                            {"confirmed", lops_confirmed},
                            {NULL, NULL}};
