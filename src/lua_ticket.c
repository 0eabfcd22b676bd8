/* lua_ticket: see lua_ticket.h. */
#include "lua_ticket.h"

#include <string.h>

#include "lua_bus.h"

#define LUA_TICKET_TYPE "eventbus.Ticket"

lua_ticket *lua_ticket_push (lua_State *L, int metatable, int hub, eb_bytes id) {
  lua_ticket *t = lua_newuserdatauv(L, sizeof *t + id.n, 1);
  t->op = 0;
  t->looked = t->unconfirmed = false;
  t->size = id.n;
  if (id.n > 0) memcpy(t->id, id.p, id.n);
  lua_pushvalue(L, hub);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, metatable);
  lua_setmetatable(L, -2);
  return t;
}

static lua_ticket *check (lua_State *L, int index) {
  return luaL_checkudata(L, index, LUA_TICKET_TYPE);
}

/* ticket.id; else a method */
static int ticket_index (lua_State *L) {
  const lua_ticket *t = check(L, 1);
  size_t n = 0;
  const char *key =
      lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &n) : NULL;
  if (n == 2 && memcmp(key, "id", 2) == 0) {
    lua_pushlstring(L, t->id, t->size);
    return 1;
  }
  lua_settop(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  return 1;
}

static int ticket_tostring (lua_State *L) {
  const lua_ticket *t = check(L, 1);
  lua_pushliteral(L, "eventbus ticket (");
  lua_pushlstring(L, t->id, t->size);
  lua_pushliteral(L, ")");
  lua_concat(L, 3);
  return 1;
}

/* new(hub, op, id) */
static int tickets_new (lua_State *L) {
  eb_bytes id;
  luaL_checktype(L, 1, LUA_TTABLE);
  uint64_t op = lua_id_check(L, 2, "an operation's id expected");
  id.p = luaL_checklstring(L, 3, &id.n);
  lua_ticket_metatable(L);
  lua_ticket_push(L, lua_gettop(L), 1, id)->op = op;
  return 1;
}

/* open(ticket) -> what was kept; before: the hub, the operation, the event's id, and
** whether it wants no confirm */
static int tickets_open (lua_State *L) {
  const lua_ticket *t = check(L, 1);
  lua_getiuservalue(L, 1, 1);
  if (t->looked) return 1;
  lua_pushinteger(L, (lua_Integer)t->op);
  lua_pushlstring(L, t->id, t->size);
  lua_pushboolean(L, t->unconfirmed);
  return 4;
}

/* keep(ticket, table) -> what it keeps: the first, for a finalizer or a debug hook may
** have looked in the midst of another's look */
static int tickets_keep (lua_State *L) {
  lua_ticket *t = check(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  if (t->looked) {
    lua_getiuservalue(L, 1, 1);
    return 1;
  }
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, 1, 1);
  t->looked = true;
  return 1;
}

static const luaL_Reg functions[] = {{"new", tickets_new},
                                     {"open", tickets_open},
                                     {"keep", tickets_keep},
                                     {NULL, NULL}};

void lua_ticket_metatable (lua_State *L) {
  luaL_getmetatable(L, LUA_TICKET_TYPE);
}

void lua_ticket_open (lua_State *L) {
  luaL_newlib(L, functions);
  lua_newtable(L);  /* of the methods */
  luaL_newmetatable(L, LUA_TICKET_TYPE);
  lua_pushvalue(L, -2);
  lua_pushcclosure(L, ticket_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, ticket_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "ticket");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  lua_setfield(L, -2, "methods");
}
