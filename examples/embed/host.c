/* host: a C program with Lua and the bus inside. It reads temperatures and
** publishes them; a Lua script handles what comes back.
**
**     make embed && build/lua5.4/embed lua/ examples/embed/handlers.lua
**
** eventbus.core is linked in (libeventbus.a); the Lua modules are read from the
** folder that the first argument names. The broker is $RABBITMQ_URL.
*/
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

int luaopen_eventbus_core (lua_State *L);

/* What the host offers its script: read(sensor) -> degrees */
static int host_read (lua_State *L) {
  lua_Integer sensor = luaL_checkinteger(L, 1);
  lua_pushnumber(L, 20.5 + (lua_Number)sensor);
  return 1;
}

static void preload (lua_State *L, const char *name, lua_CFunction open) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 2);
}

static void search_in (lua_State *L, const char *folder) {
  lua_getglobal(L, "package");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", folder, folder);
  lua_setfield(L, -2, "path");
  lua_pop(L, 1);
}

int main (int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s LUA_FOLDER SCRIPT\n", argv[0]);
    return 2;
  }
  lua_State *L = luaL_newstate();
  if (L == NULL) return 1;
  luaL_openlibs(L);
  preload(L, "eventbus.core", luaopen_eventbus_core);
  search_in(L, argv[1]);
  lua_newtable(L);
  lua_pushcfunction(L, host_read);
  lua_setfield(L, -2, "read");
  lua_setglobal(L, "host");
  int failed = luaL_loadfile(L, argv[2]) || lua_pcall(L, 0, 0, 0);
  if (failed) fprintf(stderr, "%s: %s\n", argv[0], lua_tostring(L, -1));
  lua_close(L); /* confirms what is under way, ends the bus's threads */
  return failed ? 1 : 0;
}
