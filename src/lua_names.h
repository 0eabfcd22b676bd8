/* lua_names: strings that come again and again, the names in JSON objects: making
** one anew costs Lua five times as much as finding it here.
**
** What was seen last of each of 256 classes is remembered, so memory is bounded.
** The strings themselves stand in a Lua table. Thread: lua.
*/
#ifndef LUA_NAMES_H
#define LUA_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "lua_compat.h"

enum { LUA_NAMES = 256, LUA_NAME_MOST = 32 };

typedef struct lua_name {
  const char *text;  /* of the string at its position in the table */
  uint8_t size;      /* 0: there is none */
  uint8_t misses;    /* since it was last wanted */
} lua_name;

/* All zero: nothing is remembered. */
typedef struct lua_names {
  lua_name of[LUA_NAMES];
} lua_names;

/* Pushes the string of n bytes at p. 'table': where a table stands that they have to
** themselves and that lives as long, or what it has from 1 to LUA_NAMES. May raise
** Lua's memory error. */
void lua_names_push (lua_State *L, lua_names *names, int table, const char *p,
                     size_t n);

#endif
