/* lua_core: the module eventbus.core, the primitives under the library.
** Thread: lua.
*/
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "eb_fork.h"
#include "eb_version.h"
#include "lua_bus.h"
#include "lua_error.h"
#include "lua_modules.h"
#include "lua_sender.h"
#include "lua_ticket.h"

EB_EXPORT int luaopen_eventbus_core (lua_State *L);

/* now() -> seconds on the monotonic clock */
static int core_now (lua_State *L) {
  lua_pushnumber(L, (lua_Number)eb_clock_us() / 1e6);
  return 1;
}

/* wall() -> seconds since 1970 */
static int core_wall (lua_State *L) {
  lua_pushnumber(L, (lua_Number)eb_clock_wall_ms() / 1000);
  return 1;
}

static int core_pid (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)getpid());
  return 1;
}

/* generation() -> a number that differs between a process and its children */
static int core_generation (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)eb_fork_generation());
  return 1;
}

static int core_hostname (lua_State *L) {
  char name[256];
  if (gethostname(name, sizeof name) != 0) strcpy(name, "localhost");
  name[sizeof name - 1] = '\0';
  lua_pushstring(L, name);
  return 1;
}

static eb_code code_named (const char *name) {
  for (int c = 1; c < EB_CODE_COUNT; c++)
    if (strcmp(eb_code_name((eb_code)c), name) == 0) return (eb_code)c;
  return EB_OK;
}

/* error(code, message [, fields]) -> error object */
static int core_error (lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  const char *message = luaL_checkstring(L, 2);
  eb_code code = code_named(name);
  eb_error err;
  luaL_argcheck(L, code != EB_OK, 1, "no such error code");
  eb_error_set(&err, code, "%s", message);
  lua_error_push(L, &err);
  /* The struct cuts long texts; Lua need not. */
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, "message");
  if (lua_istable(L, 3)) {
    lua_pushnil(L);
    while (lua_next(L, 3) != 0) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4);
    }
  }
  return 1;
}

static void set_codes (lua_State *L) {
  lua_createtable(L, EB_CODE_COUNT, 0);
  for (int c = 1; c < EB_CODE_COUNT; c++) {
    lua_pushstring(L, eb_code_name((eb_code)c));
    lua_rawseti(L, -2, c);
  }
  lua_setfield(L, -2, "codes");
}

static const luaL_Reg functions[] = {
    {"open", lua_bus_open},         {"now", core_now},
    {"wall", core_wall},            {"pid", core_pid},
    {"hostname", core_hostname},    {"error", core_error},
    {"trap", lua_signal_trap},      {"untrap", lua_signal_untrap},
    {"trapped", lua_signal_trapped}, {"url", lua_url_parse},
    {"generation", core_generation}, {"bell", lua_bell_new},
    {"sender", lua_sender_new},
    {NULL, NULL}};

int luaopen_eventbus_core (lua_State *L) {
  lua_delivery_register(L);
  lua_bus_register(L);
  lua_bell_register(L);
  luaL_newlib(L, functions);
  lua_json_open(L);
  lua_setfield(L, -2, "json");
  lua_envelope_open(L);
  lua_setfield(L, -2, "envelope");
  lua_error_metatable(L);
  lua_setfield(L, -2, "error_metatable");
  lua_ticket_open(L);
  lua_setfield(L, -2, "tickets");
  set_codes(L);
  lua_pushliteral(L, EB_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushinteger(L, 1);
  lua_setfield(L, -2, "ANSWER");
  lua_pushinteger(L, 2);
  lua_setfield(L, -2, "DELIVERY");
  lua_pushinteger(L, 3);
  lua_setfield(L, -2, "NOTICE");
  lua_pushinteger(L, 4);
  lua_setfield(L, -2, "FAILED");
  return 1;
}
