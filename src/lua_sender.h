/* lua_sender: what a view of a bus publishes with, in the usual case: the fields its
** events share, read once. Thread: lua.
*/
#ifndef LUA_SENDER_H
#define LUA_SENDER_H

#include "lua_compat.h"

/* Pushes the table eventbus.core.sender. */
void lua_sender_open (lua_State *L);

#endif
