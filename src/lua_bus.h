/* lua_bus: the bus as Lua sees it, and what its parts share.
**
**   lua_bus.c        open, wait, next, close
**   lua_publish.c    publishing
**   lua_ops.c        the other operations: rpc, subscribe, cancel, confirmed
**   lua_op.c         an operation while it is made
**   lua_properties.c the properties of one
**   lua_letter.c     an event on its way into one
**   lua_sender.c     publishing in the usual case, whole
**   lua_quiet.c      publishes that are told of only when they fail
**   lua_stats.c      its counters and states
**   lua_delivery.c   a delivery: read it, settle it
**
** Thread: lua.
*/
#ifndef LUA_BUS_H
#define LUA_BUS_H

#include "eb_bus.h"
#include "lua_compat.h"

#define LUA_BUS_TYPE "eventbus.core.bus"
#define LUA_DELIVERY_TYPE "eventbus.core.delivery"

/* Shared by the bus and its deliveries, which may outlive it. */
typedef struct lua_bus_ref {
  eb_bus *bus;   /* NULL: closed */
  size_t refs;
} lua_bus_ref;

typedef struct lua_bus {
  lua_bus_ref *ref;    /* NULL: born closed */
  eb_item *building;   /* an operation being made: see lua_op.h; what an error
                          leaves behind is freed by the next one */
  uint64_t newest;     /* quiet publish, once it is closed */
  unsigned untaken;    /* quiet publishes since answers were last taken: 'next' */
} lua_bus;

/* After so many answers are to be taken, though nobody waits: they make room. */
enum { LUA_BUS_DUE = 128 };

/* Of a method of the bus quickly, for it has the metatable as its first upvalue. */
lua_bus *lua_bus_check (lua_State *L, int index);

/* The bus, or NULL when it was closed. */
eb_bus *lua_bus_get (lua_bus *b);

void lua_bus_unref (lua_bus_ref *ref);

/* Seconds at 'index' to milliseconds or microseconds, rounded up; 'standard' when
** absent. Raises for a negative number or NaN; infinity is the longest wait. */
int64_t lua_seconds (lua_State *L, int index, double standard);
eb_us lua_seconds_us (lua_State *L, int index, double standard);

/* The argument as the id of an operation, or an error that says what was expected. */
uint64_t lua_id_check (lua_State *L, int index, const char *expected);

/* nil, err. */
int lua_fail (lua_State *L, const eb_error *err);

/* Pushes a delivery object with nothing in it, a finished one where there is one: fill
** it without calling Lua in between. For methods of the bus, which have the upvalues
** for it. */
typedef struct lua_delivery {
  eb_delivery *d;     /* NULL: settled */
  lua_bus_ref *ref;
} lua_delivery;
lua_delivery *lua_delivery_push (lua_State *L);
void lua_delivery_fill (lua_delivery *u, lua_bus *b, eb_delivery *d);

/* Methods of the bus, of the files of the same name. */
extern const luaL_Reg lua_publish[];
extern const luaL_Reg lua_ops[];
extern const luaL_Reg lua_quiet[];
extern const luaL_Reg lua_stats[];

/* Pushes what methods of the bus have as upvalues behind the first. */
enum { LUA_DELIVERY_UPVALUES = 3 };
void lua_delivery_register (lua_State *L);
void lua_bus_register (lua_State *L);  /* and pops it */
int lua_bus_open (lua_State *L);     /* core.open */

/* core.trap, core.untrap, core.trapped */
int lua_signal_trap (lua_State *L);
int lua_signal_untrap (lua_State *L);
int lua_signal_trapped (lua_State *L);
void lua_signal_release (const eb_bus *bus);  /* untrap, if it is the one */

#endif
