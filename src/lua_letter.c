/* lua_letter: see lua_letter.h. */
#include "lua_letter.h"

#include "lua_op.h"
#include "lua_properties.h"

/* A tenant in the given headers counts more than the event's. */
static bool add_tenant (eb_publish *p, eb_bytes given_tenant, eb_error *err) {
  eb_field value = {EB_FIELD_STRING, {.bytes = {NULL, 0}}};
  const eb_table *given = p->properties.headers;
  if (eb_table_find(given, "tenant_id") != NULL) return true;
  if (!lua_op_keep(p->item.arena, given_tenant, &value.as.bytes, err)) return false;
  p->properties.headers =
      eb_table_with(p->item.arena, given, "tenant_id", &value);
  return p->properties.headers != NULL ||
         eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

static bool mirror (eb_publish *p, const lua_event *e, eb_error *err) {
  eb_arena *a = p->item.arena;
  eb_properties *props = &p->properties;
  props->content_type = eb_bytes_of("application/json", 16);
  props->has_timestamp = true;
  props->timestamp = (uint64_t)(e->timestamp_ms / 1000);
  return lua_op_keep(a, e->id, &props->message_id, err) &&
         lua_op_keep(a, e->type, &props->type, err) &&
         (e->source.n == 0 || lua_op_keep(a, e->source, &props->app_id, err)) &&
         (e->correlation_id.n == 0 ||
          lua_op_keep(a, e->correlation_id, &props->correlation_id, err)) &&
         (e->tenant_id.n == 0 || add_tenant(p, e->tenant_id, err));
}

uint64_t lua_letter_post (lua_State *L, lua_bus *b, const lua_letter *letter,
                          eb_error *err) {
  enum { REST = 640 };  /* the tables of the headers, and short texts */
  const lua_event *e = letter->event;
  eb_bytes body = eb_bytes_of((const char *)eb_buffer_bytes(letter->text),
                              eb_buffer_size(letter->text));
  size_t names = letter->exchange.n + letter->routing_key.n + e->id.n + e->type.n;
  eb_publish *p = lua_op_begin_publish(b, names + body.n + REST, err);
  if (p == NULL) return 0;
  eb_arena *a = p->item.arena;
  p->item.deadline = letter->deadline;
  p->quiet = letter->quiet;
  if (lua_op_keep(a, letter->exchange, &p->exchange, err) &&
      lua_op_keep(a, letter->routing_key, &p->routing_key, err) &&
      lua_op_keep(a, body, &p->body, err) &&
      lua_properties_read(L, letter->properties, p, err) &&
      mirror(p, e, err) && eb_bus_check_publish(b->ref->bus, p, err))
    return lua_op_post(b, letter->urgent, err);
  lua_op_drop(b);
  return 0;
}
