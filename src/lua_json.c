/* lua_json: eventbus.json: encode, decode, null, array. See lua_value.h. */
#include <string.h>

#include "lua_error.h"
#include "lua_modules.h"
#include "lua_scratch.h"
#include "lua_value.h"

static int fail (lua_State *L, const eb_error *err, const char *path) {
  lua_pushnil(L);
  lua_error_push(L, err);
  if (path != NULL && *path != '\0') {
    lua_pushstring(L, path);
    lua_setfield(L, -2, "path");
  }
  return 2;
}

static unsigned depth_option (lua_State *L) {
  double v = lua_type(L, -1) == LUA_TNUMBER ? (double)lua_tonumber(L, -1) : 0;
  if (!(v >= 1 && v <= EB_JSON_MAX_DEPTH))
    luaL_error(L, "max_depth must be a number from 1 to %d",
               (int)EB_JSON_MAX_DEPTH);
  return (unsigned)v;
}

static const char *option_name (lua_State *L) {
  if (lua_type(L, -2) != LUA_TSTRING)
    luaL_error(L, "option names must be strings");
  return lua_tostring(L, -2);
}

/* encode(value [, {max_depth=, sort_keys=}]) -> text | nil, err */
static int json_encode (lua_State *L) {
  lua_encoder e;
  eb_error err;
  luaL_checkany(L, 1);
  lua_settop(L, 2);
  lua_encoder_init(&e, L, NULL, &err);
  if (!lua_isnil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
      const char *name = option_name(L);
      if (strcmp(name, "max_depth") == 0)
        e.max_depth = depth_option(L);
      else if (strcmp(name, "sort_keys") == 0)
        e.sort_keys = lua_toboolean(L, -1) != 0;
      else
        return luaL_error(L, "unknown option '%s' (max_depth, sort_keys)", name);
      lua_pop(L, 1);
    }
  }
  e.out = &lua_scratch_take(L, 0)->out;  /* at 3 */
  if (!lua_value_encode(&e, 1)) {
    lua_scratch_give(L, 3);
    lua_encoder_explain(&e, "");
    return fail(L, &err, e.path);
  }
  lua_pushlstring(L, (const char *)eb_buffer_bytes(e.out),
                  eb_buffer_size(e.out));
  lua_scratch_give(L, 3);
  return 1;
}

static lua_big big_option (lua_State *L) {
  const char *v = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (strcmp(v, "string") == 0) return LUA_BIG_STRING;
  if (strcmp(v, "error") != 0)
    luaL_error(L, "big must be \"error\" or \"string\"");
  return LUA_BIG_ERROR;
}

/* decode(text [, {max_depth=, big=, mark_arrays=}]) -> value | nil, err */
static int json_decode (lua_State *L) {
  size_t n;
  const char *p = luaL_checklstring(L, 1, &n);
  unsigned max_depth = EB_JSON_DEPTH;
  lua_big big = LUA_BIG_ERROR;
  bool marks = true;
  lua_decoder d;
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
      const char *name = option_name(L);
      if (strcmp(name, "max_depth") == 0)
        max_depth = depth_option(L);
      else if (strcmp(name, "big") == 0)
        big = big_option(L);
      else if (strcmp(name, "mark_arrays") == 0)
        marks = lua_toboolean(L, -1) != 0;
      else
        return luaL_error(
            L, "unknown option '%s' (max_depth, big, mark_arrays)", name);
      lua_pop(L, 1);
    }
  }
  lua_scratch_take(L, 0);  /* at 3 */
  lua_scratch_decoder(L, 3, p, n, max_depth, &d);
  d.big = big;
  d.marks = marks;
  bool ok = lua_value_decode(&d, eb_json_next(d.json)) &&
            eb_json_next(d.json) == EB_JSON_END;
  if (ok) {
    lua_scratch_give(L, 3);
    return 1;
  }
  eb_error err = d.json->err;
  lua_scratch_give(L, 3);
  return fail(L, &err, NULL);
}

/* array(t) -> t, marked: it is encoded as a list, also when it is empty */
static int json_array (lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_array_mt_push(L);
  lua_setmetatable(L, 1);
  return 1;
}

int lua_json_open (lua_State *L) {
  lua_createtable(L, 0, 5);
  lua_pushcfunction(L, json_encode);
  lua_setfield(L, -2, "encode");
  lua_pushcfunction(L, json_decode);
  lua_setfield(L, -2, "decode");
  lua_pushcfunction(L, json_array);
  lua_setfield(L, -2, "array");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_array_mt_push(L);
  lua_setfield(L, -2, "array_mt");
  return 1;
}
