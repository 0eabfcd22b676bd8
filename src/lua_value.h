/* lua_value: Lua values and JSON, into each other in one pass.
**
** A table is an array when its keys are 1..n, or when it carries the array mark:
** ours, or lua-cjson's 'array_mt' and 'empty_array_mt'. The empty table without
** a mark is an object. null is the light userdata NULL, which is cjson.null and
** ngx.null too. Raw access only: no metamethod runs. Thread: lua.
*/
#ifndef LUA_VALUE_H
#define LUA_VALUE_H

#include "eb_json.h"
#include "lua_compat.h"
#include "lua_names.h"

enum { LUA_VALUE_PATH = 256 };

/* Integers that Lua cannot hold exactly. */
typedef enum lua_big { LUA_BIG_ERROR, LUA_BIG_STRING } lua_big;

typedef struct lua_encoder {
  lua_State *L;
  eb_buffer *out;
  unsigned max_depth;
  bool sort_keys;
  eb_error *err;
  char path[LUA_VALUE_PATH];  /* after a failure: where, "items[2].price" */
  const void *above[EB_JSON_MAX_DEPTH]; /* tables being encoded, outermost first */
} lua_encoder;

/* Appends the value at 'index'. False: err says what cannot be sent (invalid),
** the path where; the buffer holds half of it. May raise Lua's memory error. */
bool lua_value_encode (lua_encoder *e, int index);
void lua_encoder_init (lua_encoder *e, lua_State *L, eb_buffer *out,
                       eb_error *err);

/* Puts 'root' in front of the path and the path in front of the message. */
void lua_encoder_explain (lua_encoder *e, const char *root);

/* How many of n bytes, up to the limit, a message may quote: whole characters
** of UTF-8, for messages are sent as JSON too. */
int lua_value_cut (const char *p, size_t n, size_t limit);

/* How many members the last table of each level had: a good guess for the next
** one, and a table that need not grow costs half as much. */
enum { LUA_GUESS_LEVELS = 16, LUA_GUESS_MOST = 16384 };

typedef struct lua_guess {
  uint32_t members[LUA_GUESS_LEVELS];  /* of objects */
  uint32_t items[LUA_GUESS_LEVELS];    /* of arrays */
} lua_guess;

typedef struct lua_decoder {
  lua_State *L;
  eb_json *json;
  lua_big big;
  bool marks;       /* arrays carry the array mark */
  int array_mt;     /* stack index of that metatable */
  lua_guess *guess; /* outlives the decoder, and learns from it */
  lua_names *names; /* likewise */
  int names_table;  /* stack index of what these need */
} lua_decoder;

/* Pushes the value that begins with 't'. False: json->err says why, and the
** stack is as it was. */
bool lua_value_decode (lua_decoder *d, eb_json_token t);

/* Pushes the metatable that marks arrays. */
void lua_array_mt_push (lua_State *L);

#endif
