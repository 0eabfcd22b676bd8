/* lua_quiet: what Lua asks of publishes that are told of only when they fail: see
** eb_quiet.h. Methods of the bus.
*/
#include "lua_bus.h"

/* The quiet publishes; NULL when the bus was closed. */
static eb_quiet *check_quiet (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  return bus == NULL ? NULL : eb_bus_quiet(bus);
}

static uint64_t check_id (lua_State *L, int index) {
  return lua_id_check(L, index, "an operation's id expected");
}

/* pending(id) -> whether a quiet publish is under way; nil when the bus is closed */
static int lbus_pending (lua_State *L) {
  const eb_quiet *q = check_quiet(L);
  uint64_t id = check_id(L, 2);
  if (q == NULL) return 0;
  lua_pushboolean(L, eb_quiet_look(q, id) != EB_QUIET_NONE);
  return 1;
}

/* watch(id): the same, and if it is, its answer will be told */
static int lbus_watch (lua_State *L) {
  eb_quiet *q = check_quiet(L);
  uint64_t id = check_id(L, 2);
  if (q == NULL) return 0;
  lua_pushboolean(L, eb_quiet_watch(q, id));
  return 1;
}

/* unanswered([id]) -> how many quiet ones, up to that, are under way */
static int lbus_unanswered (lua_State *L) {
  const eb_quiet *q = check_quiet(L);
  uint64_t id = lua_isnoneornil(L, 2) ? UINT64_MAX : check_id(L, 2);
  lua_pushinteger(L, q == NULL ? 0 : (lua_Integer)eb_quiet_count(q, id));
  return 1;
}

/* newest() -> the one begun last; 0 before the first */
static int lbus_newest (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  const eb_quiet *q = check_quiet(L);
  lua_pushinteger(L,
                  (lua_Integer)(q == NULL ? b->newest : eb_quiet_newest(q)));
  return 1;
}

/* due() -> whether so many were begun since 'next' said nil that it is to be called */
static int lbus_due (lua_State *L) {
  lua_pushboolean(L, lua_bus_check(L, 1)->untaken >= LUA_BUS_DUE);
  return 1;
}

/* forget() -> the oldest quiet one, which counts as answered from now on, and
** whether it was watched; or nil */
static int lbus_forget (lua_State *L) {
  eb_quiet *q = check_quiet(L);
  uint64_t id = q == NULL ? 0 : eb_quiet_oldest(q);
  if (id == 0) return 0;
  lua_pushinteger(L, (lua_Integer)id);
  lua_pushboolean(L, eb_quiet_take(q, id) == EB_QUIET_WATCHED);
  return 2;
}

const luaL_Reg lua_quiet[] = {{"pending", lbus_pending},
                              {"watch", lbus_watch},
                              {"unanswered", lbus_unanswered},
                              {"newest", lbus_newest},
                              {"due", lbus_due},
                              {"forget", lbus_forget},
                              {NULL, NULL}};
