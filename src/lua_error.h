/* lua_error: an error as Lua sees it.
**
** A table { code, message, retryable, reply_code?, path? } with the metatable
** "eventbus.Error", whose __tostring gives "code: message". Thread: lua.
*/
#ifndef LUA_ERROR_H
#define LUA_ERROR_H

#include "eb_error.h"
#include "lua_compat.h"

#define LUA_ERROR_TYPE "eventbus.Error"

/* Registers the metatable, and leaves it on the stack. */
void lua_error_metatable (lua_State *L);

/* Pushes one error object. */
void lua_error_push (lua_State *L, const eb_error *err);

#endif
