/* lua_properties: the properties of a message as a Lua table (AMQP 0-9-1, basic
** class), and what else a publish says of it: mandatory, confirm. Thread: lua.
*/
#ifndef LUA_PROPERTIES_H
#define LUA_PROPERTIES_H

#include "eb_item.h"
#include "lua_compat.h"

/* The table at 'index', or nil, into the publish; it is persistent unless it says
** otherwise. Raises for a name that there is not. False: err says which cannot be
** sent. */
bool lua_properties_read (lua_State *L, int index, eb_publish *p,
                          eb_error *err);

/* Pushes them as a table, without the headers. */
void lua_properties_push (lua_State *L, const eb_properties *p);

#endif
