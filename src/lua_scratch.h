/* lua_scratch: a buffer and a reader that live in a userdata.
**
** A Lua error jumps over C: what C allocated must hang on something that Lua
** collects. One idle scratch is kept and serves call after call. A call takes it
** away while it works, for Lua code may run in the middle of it (a codec, a
** finalizer) and come back here: that call then gets another one. What an error
** left taken is collected. Thread: lua.
*/
#ifndef LUA_SCRATCH_H
#define LUA_SCRATCH_H

#include "eb_json.h"
#include "lua_compat.h"
#include "lua_value.h"

typedef struct lua_scratch {
  eb_buffer out;  /* empty when taken */
  eb_json json;
  bool reading;   /* json was begun and not ended */
  lua_guess guess;
} lua_scratch;

/* Pushes a scratch that is nobody else's until it is given back. */
lua_scratch *lua_scratch_take (lua_State *L);

/* Begins to read; the scratch ends it. */
eb_json *lua_scratch_read (lua_scratch *s, const char *p, size_t n,
                           unsigned max_depth);

/* The scratch at 'index' is idle again; it stays on the stack, untouched. */
void lua_scratch_give (lua_State *L, int index);

#endif
