/* lua_op: an operation of a bus while it is made: whether one may be, begin, keep what
** it names, post or give up.
**
** An item under construction hangs on the bus, so that a Lua error in between loses
** no memory. Until it is posted nothing is allocated from Lua: so no finalizer can
** run in between, and close the bus. Thread: lua.
*/
#ifndef LUA_OP_H
#define LUA_OP_H

#include "lua_bus.h"

/* From now, so many seconds at 'index', 30 when they are absent. */
eb_ms lua_op_deadline (lua_State *L, int index);

/* Whether one of so many bytes may be begun: the bus is open, and has room. */
bool lua_op_ready (lua_bus *b, size_t bytes, eb_error *err);

/* The bus is ready. 'extra': bytes that are about to be kept. NULL: out of memory. */
void *lua_op_begin (lua_bus *b, eb_item_kind kind, size_t size, size_t extra,
                    eb_error *err);
eb_publish *lua_op_begin_publish (lua_bus *b, size_t extra, eb_error *err);

/* A copy in the item's arena. */
bool lua_op_keep (eb_arena *a, eb_bytes from, eb_bytes *to, eb_error *err);

/* Posts what was begun: its id; 0 and err. */
uint64_t lua_op_post (lua_bus *b, bool urgent, eb_error *err);

/* Drops what was begun. */
void lua_op_drop (lua_bus *b);

/* The same, as a method answers it: the id, or nil, err. */
int lua_op_posted (lua_State *L, lua_bus *b, bool urgent);
int lua_op_dropped (lua_State *L, lua_bus *b, const eb_error *err);

#endif
