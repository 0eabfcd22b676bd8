/* lua_bell: a bell of its own, for adapters of hosts in which only a socket can
** wake a coroutine: the host connects and reads, we ring. Thread: lua.
*/
#include "eb_bell.h"
#include "lua_bus.h"
#include "lua_modules.h"

#define BELL "eventbus.bell"

/* bell() -> one that nobody hears yet */
int lua_bell_new (lua_State *L) {
  eb_bell *bell = lua_newuserdata(L, sizeof *bell);
  eb_bell_init(bell);
  luaL_setmetatable(L, BELL);
  return 1;
}

static eb_bell *check (lua_State *L) { return luaL_checkudata(L, 1, BELL); }

/* listen() -> path: where the host connects; then take(). Both may answer nil,
** err. */
static int bell_listen (lua_State *L) {
  eb_bell *bell = check(L);
  eb_error err;
  if (!eb_bell_listen(bell, &err)) return lua_fail(L, &err);
  lua_pushstring(L, bell->path);
  return 1;
}

/* take() -> true: the host can read one byte now, and one for each ring */
static int bell_take (lua_State *L) {
  eb_error err;
  if (!eb_bell_take(check(L), &err)) return lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

static int bell_ring (lua_State *L) {
  eb_bell_ring(check(L));
  return 0;
}

/* close(): the host reads an end. Also what collects it. */
static int bell_close (lua_State *L) {
  eb_bell_fini(check(L));
  return 0;
}

static const luaL_Reg methods[] = {{"listen", bell_listen}, {"take", bell_take},
                                   {"ring", bell_ring}, {"close", bell_close},
                                   {NULL, NULL}};

void lua_bell_register (lua_State *L) {
  luaL_newmetatable(L, BELL);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, bell_close);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "bell");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}
