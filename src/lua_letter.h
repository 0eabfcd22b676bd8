/* lua_letter: an event that has been written, on its way to the bus: a publish with the
** properties that mirror its envelope. Thread: lua.
*/
#ifndef LUA_LETTER_H
#define LUA_LETTER_H

#include "lua_bus.h"
#include "lua_envelope.h"

typedef struct lua_letter {
  const lua_event *event;  /* as lua_envelope_write left it, */
  const eb_buffer *text;   /* and what it wrote */
  eb_bytes exchange;
  eb_bytes routing_key;
  int properties;   /* where on the stack they are, or nil; 0: as follows */
  bool transient;
  bool mandatory;
  bool unconfirmed;
  bool has_priority;
  uint8_t priority;
  eb_ms deadline;
  bool urgent;
  bool quiet;       /* only its failure is told: see eb_quiet.h */
} lua_letter;

/* Posts it, when the bus is ready for so many bytes: its operation; 0 and err. Nothing
** raises once it is posted. */
uint64_t lua_letter_post (lua_State *L, lua_bus *b, const lua_letter *letter,
                          eb_error *err);

#endif
