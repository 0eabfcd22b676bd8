/* lua_table: Lua tables and AMQP field tables, into each other. Thread: lua. */
#ifndef LUA_TABLE_H
#define LUA_TABLE_H

#include "eb_error.h"
#include "eb_table.h"
#include "lua_compat.h"

/* Whole floats in queue and exchange arguments: RabbitMQ wants integers there
** and answers a double with 406. In headers a float stays one. */
typedef enum lua_table_use { LUA_TABLE_ARGUMENTS, LUA_TABLE_HEADERS } lua_table_use;

/* The Lua table at 'index' (nil: the empty table) in the arena. NULL: err says
** what cannot be sent, and where ("headers.a.b"; 'name' is its root). Reads
** without metamethods; may raise Lua's memory error, so the arena must be
** anchored. */
const eb_table *lua_table_read (lua_State *L, int index, eb_arena *a,
                                lua_table_use use, const char *name,
                                eb_error *err);

/* Pushes it as a Lua table; NULL as an empty one. */
void lua_table_push (lua_State *L, const eb_table *t);
void lua_table_push_field (lua_State *L, const eb_field *f);

void lua_bytes_push (lua_State *L, eb_bytes b);  /* nil when absent */
void lua_int64_push (lua_State *L, int64_t v);   /* beyond 2^53 on 5.1: a string */

#endif
