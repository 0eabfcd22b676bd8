/* lua_error: see lua_error.h. */
#include "lua_error.h"

static int error_tostring (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "code");
  lua_pushliteral(L, ": ");
  lua_getfield(L, 1, "message");
  if (!lua_isstring(L, -3) || !lua_isstring(L, -1)) {
    lua_pushliteral(L, "eventbus.Error");
    return 1;
  }
  lua_concat(L, 3);
  return 1;
}

void lua_error_metatable (lua_State *L) {
  if (!luaL_newmetatable(L, LUA_ERROR_TYPE)) return;
  lua_pushcfunction(L, error_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, LUA_ERROR_TYPE);
  lua_setfield(L, -2, "__name");
}

void lua_error_push (lua_State *L, const eb_error *err) {
  luaL_checkstack(L, 4, NULL);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, eb_code_name(err->code));
  lua_setfield(L, -2, "code");
  lua_pushstring(L, err->message);
  lua_setfield(L, -2, "message");
  lua_pushboolean(L, eb_code_retryable(err->code));
  lua_setfield(L, -2, "retryable");
  if (err->reply_code != 0) {
    lua_pushinteger(L, err->reply_code);
    lua_setfield(L, -2, "reply_code");
  }
  lua_error_metatable(L);
  lua_setmetatable(L, -2);
}
