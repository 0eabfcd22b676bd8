/* lua_sender: the two functions with which a view of a bus publishes in the usual case.
** They have the fields that its events share, read once. Thread: lua.
*/
#ifndef LUA_SENDER_H
#define LUA_SENDER_H

#include "lua_compat.h"

/* sender(bus, hub, source, tenant_id, correlation_id, metadata, timeout, confirm) ->
** send, post */
int lua_sender_new (lua_State *L);

#endif
