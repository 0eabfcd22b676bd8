/* lua_stats: a bus's counters and states as Lua tables. Thread: lua.
*/
#include "lua_bus.h"
#include "lua_table.h"

static void set_count (lua_State *L, const char *key, uint64_t v) {
  lua_int64_push(L, (int64_t)v);
  lua_setfield(L, -2, key);
}

static void push_stats (lua_State *L, const eb_session_stats *s) {
  static const char *const phases[] = {"down",    "connecting", "connecting",
                                       "opening", "up",         "closing"};
  lua_createtable(L, 0, 24);
  set_count(L, "published", s->published);
  set_count(L, "sent", s->sent);
  set_count(L, "confirmed", s->confirmed);
  set_count(L, "returned", s->returned);
  set_count(L, "nacked", s->nacked);
  set_count(L, "resent", s->resent);
  set_count(L, "delivered", s->delivered);
  set_count(L, "acked", s->acked);
  set_count(L, "rejected", s->rejected);
  set_count(L, "stale", s->stale);
  set_count(L, "ack_frames", s->ack_frames);
  set_count(L, "connections", s->connections);
  set_count(L, "pending", s->pending);
  set_count(L, "unconfirmed", s->unconfirmed);
  set_count(L, "consumers", s->consumers);
  set_count(L, "unsettled", s->unsettled);
  set_count(L, "turns", s->turns);
  set_count(L, "led", s->led);
  set_count(L, "reads", s->reads);
  set_count(L, "writes", s->writes);
  lua_pushboolean(L, s->blocked);
  lua_setfield(L, -2, "blocked");
  lua_pushstring(L, phases[s->phase]);
  lua_setfield(L, -2, "phase");
  set_count(L, "frame_max", s->frame_max);
  lua_pushnumber(L, (lua_Number)s->heartbeat_ms / 1000);
  lua_setfield(L, -2, "heartbeat");
  lua_pushstring(L, s->server);
  lua_setfield(L, -2, "server");
}

/* { under_way = n, control = {...}, publish = {...} } */
static int lbus_stats (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  if (bus == NULL || eb_bus_forked(bus)) return 0;
  eb_session_stats s;
  lua_createtable(L, 0, 3);
  set_count(L, "under_way", eb_bus_under_way(bus));
  eb_bus_get_stats(bus, EB_CONTROL, &s);
  push_stats(L, &s);
  lua_setfield(L, -2, "control");
  eb_bus_get_stats(bus, EB_PUBLISH, &s);
  push_stats(L, &s);
  lua_setfield(L, -2, "publish");
  return 1;
}

const luaL_Reg lua_stats[] = {{"stats", lbus_stats}, {NULL, NULL}};
