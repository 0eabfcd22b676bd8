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
#include "lua_compat.h"

/* What AMQP properties mirror. The bytes belong to the event's fields, or to this
** struct; absent ones are empty. */
typedef struct lua_envelope_info {
  eb_bytes id;
  eb_bytes type;
  eb_bytes source;
  eb_bytes tenant_id;
  eb_bytes correlation_id;
  int64_t timestamp_ms;
  char made_id[4 + EB_UUID_TEXT];
} lua_envelope_info;

/* Where the fields of an event stand on the stack, nil where it has none. */
typedef struct lua_event {
  int id;
  int type;
  int source;
  int timestamp;
  int tenant_id;
  int correlation_id;
  int data;
  int metadata;
  int table;  /* whose other fields come after; 0: there are none */
} lua_event;

/* Makes *to the event as JSON; id and timestamp are made when it has none. 'codec':
** stack index of a table whose 'encode' writes the payload, or of nil; it is called
** before anything is written, so it may do what it likes. False: err says which
** field cannot be sent, and where in it; *to holds half of it. May raise Lua's
** memory error. The bytes of *info are those of the fields on the stack. */
bool lua_envelope_write (lua_State *L, const lua_event *event, int codec,
                         eb_buffer *to, lua_envelope_info *info, eb_error *err);

/* The same of a table, whose fields are read after the codec was called. */
bool lua_envelope_encode (lua_State *L, int event, int codec, eb_buffer *to,
                          lua_envelope_info *info, eb_error *err);

/* Leaves the event, or nil, err, on top of the stack. 'codec': as above, its
** 'decode' reads the payload. Returns how many values they are. */
int lua_envelope_decode_body (lua_State *L, const char *p, size_t n, int codec);

#endif
