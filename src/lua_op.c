/* lua_op: see lua_op.h. */
#include "lua_op.h"

static const double TIMEOUT_S = 30;

eb_ms lua_op_deadline (lua_State *L, int index) {
  int64_t ms = lua_seconds(L, index, TIMEOUT_S);
  return eb_ms_after(eb_clock_now() + 1, ms);
}

bool lua_op_ready (lua_bus *b, size_t bytes, eb_error *err) {
  eb_bus *bus = lua_bus_get(b);
  if (bus == NULL) return eb_error_set(err, EB_ERR_CLOSED, "the bus is closed");
  return eb_bus_may_post(bus, bytes, err);
}

static bool no_memory (eb_error *err) {
  return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

static void *build (lua_bus *b, void *item, eb_error *err) {
  if (item == NULL) no_memory(err);
  eb_item_free(b->building);
  b->building = item;
  return item;
}

void *lua_op_begin (lua_bus *b, eb_item_kind kind, size_t size, size_t extra,
                    eb_error *err) {
  return build(b, eb_item_new(kind, size, extra), err);
}

eb_publish *lua_op_begin_publish (lua_bus *b, size_t extra, eb_error *err) {
  return build(b, eb_bus_new_publish(b->ref->bus, extra), err);
}

bool lua_op_keep (eb_arena *a, eb_bytes from, eb_bytes *to, eb_error *err) {
  to->p = eb_arena_copy(a, from.p, from.n);
  to->n = from.n;
  return to->p != NULL || no_memory(err);
}

uint64_t lua_op_post (lua_bus *b, bool urgent, eb_error *err) {
  eb_item *item = b->building;
  b->building = NULL;
  return eb_bus_post(b->ref->bus, item, urgent, err);
}

void lua_op_drop (lua_bus *b) {
  eb_item_free(b->building);
  b->building = NULL;
}

int lua_op_posted (lua_State *L, lua_bus *b, bool urgent) {
  eb_error err;
  uint64_t id = lua_op_post(b, urgent, &err);
  if (id == 0) return lua_fail(L, &err);
  lua_pushinteger(L, (lua_Integer)id);
  return 1;
}

int lua_op_dropped (lua_State *L, lua_bus *b, const eb_error *err) {
  lua_op_drop(b);
  return lua_fail(L, err);
}
