/* lua_envelope: the standard envelope, between Lua tables and bytes.
**
** id, type, source, timestamp, tenant_id, correlation_id, data, metadata, in this
** order; what else an event carries is kept and comes after. Thread: lua.
*/
#ifndef LUA_ENVELOPE_H
#define LUA_ENVELOPE_H

#include "eb_buffer.h"
#include "eb_item.h"
#include "eb_uuid.h"
#include "lua_scratch.h"

/* What an event is made of. The bytes are those of strings that stay on the stack: a
** finalizer may empty a table. p is NULL of what it has not. */
typedef struct lua_event {
  eb_bytes id;
  eb_bytes type;
  eb_bytes source;
  eb_bytes timestamp;
  eb_bytes tenant_id;
  eb_bytes correlation_id;
  int data;      /* where on the stack, as the next */
  int metadata;  /* 0: it has none */
  int table;     /* whose other fields come after; 0: there are none */
  int64_t timestamp_ms;             /* filled in, as the id is if it had none */
  char made_id[4 + EB_UUID_TEXT];
} lua_event;

/* The string at 'index', absent when there is nil. False: it is something else, and
** err says so of the field of that name. */
bool lua_event_text (lua_State *L, int index, const char *name, eb_bytes *b,
                     eb_error *err);

/* Makes the scratch's buffer the event as JSON; id and timestamp are made when it has none. 'codec':
** stack index of a table whose 'encode' writes the payload, or of nil; it is called
** before anything is written, so it may do what it likes. False: err says which
** field cannot be sent, and where in it; the buffer holds half of it. May raise Lua's
** memory error. */
bool lua_envelope_write (lua_State *L, lua_event *event, int codec,
                         lua_scratch *to, eb_error *err);

/* The same of a table, whose fields are read into *event after the codec was called,
** and stay on the stack. */
bool lua_envelope_encode (lua_State *L, int table, int codec, lua_event *event,
                          lua_scratch *to, eb_error *err);

/* Leaves the event, or nil, err, on top of the stack. 'codec': as above, its
** 'decode' reads the payload. 'scratch': as for lua_scratch_take. Returns how many
** values they are. */
int lua_envelope_decode_body (lua_State *L, const char *p, size_t n, int codec,
                              int scratch);

#endif
