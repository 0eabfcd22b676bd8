/* lua_compat: one C source for Lua 5.1 (and LuaJIT), 5.2, 5.3 and 5.4.
**
** Only what differs between them and what we use. Thread: lua.
*/
#ifndef LUA_COMPAT_H
#define LUA_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#define EB_EXPORT __attribute__((visibility("default")))

#if LUA_VERSION_NUM < 502

static inline int eb_absindex (lua_State *L, int i) {
  return (i > 0 || i <= LUA_REGISTRYINDEX) ? i : lua_gettop(L) + i + 1;
}
#define lua_absindex(L, i) eb_absindex(L, i)
#define lua_rawlen(L, i) lua_objlen(L, i)
#define lua_pushglobaltable(L) lua_pushvalue(L, LUA_GLOBALSINDEX)

static inline void eb_setfuncs (lua_State *L, const luaL_Reg *l, int nup) {
  for (; l->name != NULL; l++) {
    for (int i = 0; i < nup; i++) lua_pushvalue(L, -nup);
    lua_pushcclosure(L, l->func, nup);
    lua_setfield(L, -(nup + 2), l->name);
  }
  lua_pop(L, nup);
}
#undef luaL_newlibtable  /* LuaJIT 2.1 has some of these */
#undef luaL_newlib
#define luaL_setfuncs(L, l, nup) eb_setfuncs(L, l, nup)
#define luaL_newlibtable(L, l) \
  lua_createtable(L, 0, (int)(sizeof(l) / sizeof((l)[0]) - 1))
#define luaL_newlib(L, l) (luaL_newlibtable(L, l), luaL_setfuncs(L, l, 0))

static inline void eb_setmetatable (lua_State *L, const char *name) {
  luaL_getmetatable(L, name);
  lua_setmetatable(L, -2);
}
#define luaL_setmetatable(L, name) eb_setmetatable(L, name)

static inline void *eb_testudata (lua_State *L, int i, const char *name) {
  void *p = lua_touserdata(L, i);
  if (p == NULL || !lua_getmetatable(L, i)) return NULL;
  luaL_getmetatable(L, name);
  if (!lua_rawequal(L, -1, -2)) p = NULL;
  lua_pop(L, 2);
  return p;
}
#define luaL_testudata(L, i, name) eb_testudata(L, i, name)

static inline void eb_rawgetp (lua_State *L, int i, const void *p) {
  i = lua_absindex(L, i);
  lua_pushlightuserdata(L, (void *)p);
  lua_rawget(L, i);
}
static inline void eb_rawsetp (lua_State *L, int i, const void *p) {
  i = lua_absindex(L, i);
  lua_pushlightuserdata(L, (void *)p);
  lua_insert(L, -2);
  lua_rawset(L, i);
}
#define lua_rawgetp(L, i, p) eb_rawgetp(L, i, p)
#define lua_rawsetp(L, i, p) eb_rawsetp(L, i, p)

#endif

#if LUA_VERSION_NUM < 503
#define lua_isinteger(L, i) ((void)(L), (void)(i), 0)
#define EB_LUA_INT64 0  /* integers are doubles: exact up to 2^53 */
#else
#define EB_LUA_INT64 1
#endif

#if LUA_VERSION_NUM < 504
#define lua_newuserdatauv(L, size, n) lua_newuserdata(L, size)
#if LUA_VERSION_NUM < 502
#define lua_getiuservalue(L, i, n) lua_getfenv(L, i)
#define lua_setiuservalue(L, i, n) lua_setfenv(L, i)
#else
#define lua_getiuservalue(L, i, n) lua_getuservalue(L, i)
#define lua_setiuservalue(L, i, n) lua_setuservalue(L, i)
#endif
#endif

#endif
