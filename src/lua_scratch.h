/* lua_scratch: a buffer and a reader that live in a userdata.
**
** A Lua error jumps over C: what C allocated must hang on something that Lua
** collects. One scratch serves all calls of a module; a large one is given
** back. Thread: lua.
*/
#ifndef LUA_SCRATCH_H
#define LUA_SCRATCH_H

#include "eb_json.h"
#include "lua_compat.h"

typedef struct lua_scratch {
  eb_buffer out;
  eb_json json;
  bool reading;   /* json was begun and not ended */
} lua_scratch;

/* Pushes a new one. */
lua_scratch *lua_scratch_push (lua_State *L);

/* Makes it ready for the next use, whatever an error left in it. */
eb_buffer *lua_scratch_write (lua_scratch *s);
eb_json *lua_scratch_read (lua_scratch *s, const char *p, size_t n,
                           unsigned max_depth);
void lua_scratch_done (lua_scratch *s);

#endif
