/* lua_modules: the tables that make up eventbus.core. Thread: lua. */
#ifndef LUA_MODULES_H
#define LUA_MODULES_H

#include "lua_compat.h"

/* Each pushes a table of functions. */
int lua_json_open (lua_State *L);
int lua_envelope_open (lua_State *L);

/* Functions of eventbus.core itself; see lua_url.c, lua_bell.c. */
int lua_url_parse (lua_State *L);
int lua_bell_new (lua_State *L);
void lua_bell_register (lua_State *L);

#endif
