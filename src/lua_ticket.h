/* lua_ticket: what publish_async answers with: the operation, the event's id, and whose
** it is. Most are never looked at, so it is one small object and the id no string.
** What looking finds out is Lua's: a table that is kept in it. See ticket.lua.
** Thread: lua.
*/
#ifndef LUA_TICKET_H
#define LUA_TICKET_H

#include "eb_table.h"
#include "lua_compat.h"

typedef struct lua_ticket {
  uint64_t op;    /* 0 until it is known */
  bool unconfirmed;
  bool looked;    /* its value is what was found out; until then the hub */
  size_t size;    /* of the id, which is behind it */
  char id[];
} lua_ticket;

/* Pushes one of the hub at 'hub', and of no operation yet; 'metatable': where it is. */
lua_ticket *lua_ticket_push (lua_State *L, int metatable, int hub, eb_bytes id);

/* Pushes the metatable. */
void lua_ticket_metatable (lua_State *L);

/* Pushes the table eventbus.core.tickets. */
void lua_ticket_open (lua_State *L);

#endif
