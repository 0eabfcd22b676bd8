/* lua_letter: see lua_letter.h. */
#include "lua_letter.h"

#include <string.h>

#include "lua_op.h"
#include "lua_properties.h"

static bool no_memory (eb_error *err) {
  return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

/* A tenant in the given headers counts more than the event's. */
static bool add_tenant (eb_publish *p, eb_bytes tenant, eb_error *err) {
  eb_field value = {EB_FIELD_STRING, {.bytes = tenant}};
  const eb_table *given = p->properties.headers;
  if (tenant.n == 0 || eb_table_find(given, "tenant_id") != NULL) return true;
  p->properties.headers =
      eb_table_with(p->item.arena, given, "tenant_id", &value);
  return p->properties.headers != NULL || no_memory(err);
}

/* A copy at *to, which moves on. */
static eb_bytes copied (char **to, eb_bytes from) {
  char *p = *to;
  if (from.n > 0) memcpy(p, from.p, from.n);
  *to += from.n;
  return eb_bytes_of(p, from.n);
}

static eb_bytes body_of (const lua_letter *letter) {
  return eb_bytes_of((const char *)eb_buffer_bytes(letter->text),
                     eb_buffer_size(letter->text));
}

static size_t texts_of (const lua_letter *letter) {
  const lua_event *e = letter->event;
  return letter->exchange.n + letter->routing_key.n + body_of(letter).n +
         e->id.n + e->type.n + e->source.n + e->correlation_id.n +
         e->tenant_id.n;
}

/* Copies all texts, in one piece, and says what mirrors the envelope. */
static bool fill (eb_publish *p, const lua_letter *letter, eb_error *err) {
  const lua_event *e = letter->event;
  eb_properties *props = &p->properties;
  char *to = eb_arena_alloc(p->item.arena, texts_of(letter));
  if (to == NULL) return no_memory(err);
  p->exchange = copied(&to, letter->exchange);
  p->routing_key = copied(&to, letter->routing_key);
  p->body = copied(&to, body_of(letter));
  props->message_id = copied(&to, e->id);
  props->type = copied(&to, e->type);
  if (e->source.n > 0) props->app_id = copied(&to, e->source);
  if (e->correlation_id.n > 0)
    props->correlation_id = copied(&to, e->correlation_id);
  props->content_type = eb_bytes_of("application/json", 16);
  props->has_timestamp = true;
  props->timestamp = (uint64_t)(e->timestamp_ms / 1000);
  return add_tenant(p, copied(&to, e->tenant_id), err);
}

static bool read_properties (lua_State *L, const lua_letter *letter,
                             eb_publish *p, eb_error *err) {
  if (letter->properties != 0)
    return lua_properties_read(L, letter->properties, p, err);
  p->mandatory = letter->mandatory;
  p->unconfirmed = letter->unconfirmed;
  p->properties.delivery_mode = letter->transient ? 1 : 2;
  p->properties.has_priority = letter->has_priority;
  p->properties.priority = letter->priority;
  return true;
}

uint64_t lua_letter_post (lua_State *L, lua_bus *b, const lua_letter *letter,
                          eb_error *err) {
  enum { TENANT = 128, GIVEN = 640 };  /* headers: that one; more, with texts */
  bool given = letter->properties != 0 && lua_istable(L, letter->properties);
  eb_publish *p = lua_op_begin_publish(
      b, texts_of(letter) + (given ? GIVEN : TENANT), err);
  if (p == NULL) return 0;
  p->item.deadline = letter->deadline;
  p->quiet = letter->quiet;
  if (read_properties(L, letter, p, err) &&
      fill(p, letter, err) && eb_bus_check_publish(b->ref->bus, p, err))
    return lua_op_post(b, letter->urgent, err);
  lua_op_drop(b);
  return 0;
}
