/* lua_publish: publishing, as methods of the bus: publish, publish_event,
** publish_fields.
**
** Each answers at once with its id, or nil, err; the outcome comes later through
** 'next'.
*/
#include <stdio.h>

#include "lua_letter.h"
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

/* Posts the event that was written to the scratch at 'scratch': its operation and
** its id, or nil, err. */
static int post_event (lua_State *L, lua_bus *b, int scratch, lua_letter *letter) {
  eb_error err;
  letter->text = &((lua_scratch *)lua_touserdata(L, scratch))->out;
  letter->exchange.p = lua_tolstring(L, 2, &letter->exchange.n);
  letter->routing_key.p = lua_tolstring(L, 3, &letter->routing_key.n);
  lua_pushlstring(L, letter->event->id.p, letter->event->id.n);
  /* Encoding runs Lua: a codec, or a finalizer. The bus may be closed by it. */
  uint64_t op = 0;
  if (lua_op_ready(b, eb_buffer_size(letter->text), &err))
    op = lua_letter_post(L, b, letter, &err);
  lua_scratch_give(L, scratch);
  if (op == 0) return lua_fail(L, &err);
  if (letter->quiet) b->untaken++;
  lua_pushinteger(L, (lua_Integer)op);
  lua_insert(L, -2);
  return 2;
}

/* publish_event(exchange, routing_key, event, props, timeout, codec, urgent) */
static int lops_publish_event (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  luaL_checkstring(L, 2);
  luaL_checkstring(L, 3);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_event event;
  lua_letter letter = {.event = &event, .properties = 5};
  letter.deadline = lua_op_deadline(L, 6);
  letter.urgent = lua_toboolean(L, 8) != 0;
  eb_error err;
  lua_settop(L, 7);
  if (!lua_op_ready(b, 0, &err)) return lua_fail(L, &err);
  lua_scratch *to = lua_scratch_take(L, 0);  /* at 8 */
  if (lua_envelope_encode(L, 4, 7, &event, to, &err))
    return post_event(L, b, 8, &letter);
  lua_scratch_give(L, 8);
  return lua_fail(L, &err);
}

static bool read_fields (lua_State *L, lua_event *e, eb_error *err) {
  e->data = 9;
  e->metadata = 13;
  e->table = 0;
  return lua_event_text(L, 8, "type", &e->type, err) &&
         lua_event_text(L, 10, "source", &e->source, err) &&
         lua_event_text(L, 11, "tenant_id", &e->tenant_id, err) &&
         lua_event_text(L, 12, "correlation_id", &e->correlation_id, err) &&
         lua_event_text(L, 14, "id", &e->id, err) &&
         lua_event_text(L, 15, "timestamp", &e->timestamp, err);
}

/* publish_fields(exchange, routing_key, props, timeout, codec, quiet, type, data,
** source, tenant_id, correlation_id, metadata, id, timestamp): the same, of an event
** that has never been a table. 'quiet': only its failure is told, see next. */
static int lops_publish_fields (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  luaL_checkstring(L, 2);
  luaL_checkstring(L, 3);
  lua_event event;
  lua_letter letter = {.event = &event, .properties = 4};
  letter.deadline = lua_op_deadline(L, 5);
  letter.quiet = lua_toboolean(L, 7) != 0;
  eb_error err;
  lua_settop(L, 15);
  if (!lua_op_ready(b, 0, &err) || !read_fields(L, &event, &err))
    return lua_fail(L, &err);
  lua_scratch *to = lua_scratch_take(L, 0);  /* at 16 */
  if (lua_envelope_write(L, &event, 6, to, &err))
    return post_event(L, b, 16, &letter);
  lua_scratch_give(L, 16);
  return lua_fail(L, &err);
}

const luaL_Reg lua_publish[] = {{"publish", lops_publish},
                                {"publish_event", lops_publish_event},
                                {"publish_fields", lops_publish_fields},
                                {NULL, NULL}};
