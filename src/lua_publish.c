/* lua_publish: publishing, as methods of the bus: publish, publish_event,
** publish_fields.
**
** Each answers at once with its id, or nil, err; the outcome comes later through
** 'next'.
*/
#include <stdio.h>

#include "lua_envelope.h"
#include "lua_op.h"
#include "lua_properties.h"
#include "lua_scratch.h"

/* A return names its message by id only: a mandatory publish needs one. */
static bool ensure_id (lua_bus *b, eb_publish *p, eb_error *err) {
  if (!p->mandatory || p->properties.message_id.n > 0) return true;
  char text[48];
  int n = snprintf(text, sizeof text, "msg-%llx-%zx",
                   (unsigned long long)eb_clock_wall_ms(),
                   eb_bus_under_way(b->ref->bus));
  return lua_op_keep(p->item.arena, eb_bytes_of(text, (size_t)n),
                     &p->properties.message_id, err);
}

/* publish(exchange, routing_key, body, props, timeout [, urgent]) */
static int lops_publish (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  size_t en, kn, bn;
  const char *exchange = luaL_checklstring(L, 2, &en);
  const char *key = luaL_checklstring(L, 3, &kn);
  const char *body = luaL_checklstring(L, 4, &bn);
  eb_ms until = lua_op_deadline(L, 6);
  bool urgent = lua_toboolean(L, 7) != 0;
  eb_error err;
  lua_settop(L, 5);
  if (!lua_op_ready(b, bn, &err)) return lua_fail(L, &err);
  eb_publish *p = lua_op_begin_publish(b, en + kn + bn + 512, &err);
  if (p == NULL) return lua_fail(L, &err);
  eb_arena *a = p->item.arena;
  p->item.deadline = until;
  if (!lua_op_keep(a, eb_bytes_of(exchange, en), &p->exchange, &err) ||
      !lua_op_keep(a, eb_bytes_of(key, kn), &p->routing_key, &err) ||
      !lua_op_keep(a, eb_bytes_of(body, bn), &p->body, &err) ||
      !lua_properties_read(L, 5, p, &err) || !ensure_id(b, p, &err) ||
      !eb_bus_check_publish(b->ref->bus, p, &err))
    return lua_op_dropped(L, b, &err);
  return lua_op_posted(L, b, urgent);
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
  return lua_op_keep(a, info->id, &props->message_id, err) &&
         lua_op_keep(a, info->type, &props->type, err) &&
         (info->source.n == 0 ||
          lua_op_keep(a, info->source, &props->app_id, err)) &&
         (info->correlation_id.n == 0 ||
          lua_op_keep(a, info->correlation_id, &props->correlation_id, err)) &&
         (info->tenant_id.n == 0 ||
          lua_op_keep(a, info->tenant_id, &tenant, err)) &&
         add_tenant(p, tenant, err);
}

/* Posts the event that was written to the scratch at 'scratch', and whose id is on
** top: id and event's id, or nil, err. Exchange and key are at 2 and 3. Nothing raises
** behind the post: an event on its way must not be told as an error. */
static int post_event (lua_State *L, lua_bus *b, int scratch, int props,
                       const lua_envelope_info *info, eb_ms until, bool urgent,
                       bool quiet) {
  const eb_buffer *text = &((lua_scratch *)lua_touserdata(L, scratch))->out;
  eb_bytes body = eb_bytes_of((const char *)eb_buffer_bytes(text),
                              eb_buffer_size(text));
  size_t en, kn;
  const char *exchange = lua_tolstring(L, 2, &en);
  const char *key = lua_tolstring(L, 3, &kn);
  eb_error err;
  size_t names = en + kn + info->id.n + info->type.n;
  eb_publish *p = lua_op_begin_publish(b, names + body.n + 640, &err);
  if (p == NULL) return lua_fail(L, &err);
  eb_arena *a = p->item.arena;
  p->item.deadline = until;
  p->quiet = quiet;
  if (!lua_op_keep(a, eb_bytes_of(exchange, en), &p->exchange, &err) ||
      !lua_op_keep(a, eb_bytes_of(key, kn), &p->routing_key, &err) ||
      !lua_op_keep(a, body, &p->body, &err) ||
      !lua_properties_read(L, props, p, &err) || !mirror(p, info, &err) ||
      !eb_bus_check_publish(b->ref->bus, p, &err))
    return lua_op_dropped(L, b, &err);
  int n = lua_op_posted(L, b, urgent);
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
  eb_ms until = lua_op_deadline(L, 6);
  bool urgent = lua_toboolean(L, 8) != 0;
  eb_error err;
  lua_envelope_info info;
  lua_settop(L, 7);
  if (!lua_op_ready(b, 0, &err)) return lua_fail(L, &err);
  eb_buffer *text = &lua_scratch_take(L)->out;  /* at 8 */
  /* Encoding runs Lua: a codec, or a finalizer. The bus may be closed by it. */
  bool ok = lua_envelope_encode(L, 4, 7, text, &info, &err);
  if (ok) lua_pushlstring(L, info.id.p, info.id.n);
  if (!ok || !lua_op_ready(b, eb_buffer_size(text), &err)) {
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
  eb_ms until = lua_op_deadline(L, 5);
  eb_error err;
  lua_envelope_info info;
  lua_settop(L, 15);
  if (!lua_op_ready(b, 0, &err)) return lua_fail(L, &err);
  eb_buffer *text = &lua_scratch_take(L)->out;  /* at 16 */
  bool ok = lua_envelope_write(L, &at, 6, text, &info, &err);
  if (ok) lua_pushlstring(L, info.id.p, info.id.n);
  if (!ok || !lua_op_ready(b, eb_buffer_size(text), &err)) {
    lua_scratch_give(L, 16);
    return lua_fail(L, &err);
  }
  return post_event(L, b, 16, 4, &info, until, false, lua_toboolean(L, 7) != 0);
}

const luaL_Reg lua_publish[] = {{"publish", lops_publish},
                                {"publish_event", lops_publish_event},
                                {"publish_fields", lops_publish_fields},
                                {NULL, NULL}};
