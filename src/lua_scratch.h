/* lua_scratch: a buffer and a reader that live in a userdata.
**
** A Lua error jumps over C: what C allocated must hang on something that Lua
** collects. One scratch is kept and serves call after call. A call takes it while it
** works, for Lua code may run in the middle of it (a codec, a finalizer) and come back
** here: that call then gets another one, which is kept instead. So what an error left
** taken is collected. Thread: lua.
*/
#ifndef LUA_SCRATCH_H
#define LUA_SCRATCH_H

#include "eb_json.h"
#include "eb_time.h"
#include "lua_compat.h"
#include "lua_names.h"
#include "lua_value.h"

typedef struct lua_scratch {
  eb_buffer out;  /* empty when taken */
  eb_json json;
  bool reading;   /* json was begun and not ended */
  bool taken;
  eb_time_last time;
  unsigned idle;  /* calls since the buffer was last large */
  lua_guess guess;
  lua_names names;
} lua_scratch;

/* Pushes a scratch that is nobody else's until it is given back. 'upvalue' of the
** calling function has the one it took last (nil at first), where it need not be looked
** up; or is 0. */
lua_scratch *lua_scratch_take (lua_State *L, int upvalue);

/* Makes *d a decoder of n bytes at p, that of the scratch at 'index', which ends it:
** arrays carry the array mark, integers that Lua cannot hold are an error. Pushes two
** values that the decoder needs. */
void lua_scratch_decoder (lua_State *L, int index, const char *p, size_t n,
                          unsigned max_depth, lua_decoder *d);

/* The scratch at 'index' may be taken again. */
void lua_scratch_give (lua_State *L, int index);

#endif
