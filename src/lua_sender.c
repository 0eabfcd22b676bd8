/* lua_sender: see lua_sender.h.
**
** Publishing is what a program does most often, nearly always with nothing but the
** envelope's fields, a routing key, a flag. That way is here, whole. Whatever else
** comes, a mistake, headers, a bus that is closed or full, is the long way's
** (sender.lua), which knows what to say: then nothing was done.
*/
#include "lua_sender.h"

#include <limits.h>
#include <string.h>

#include "eb_clock.h"
#include "lua_bus.h"
#include "lua_letter.h"
#include "lua_op.h"
#include "lua_scratch.h"
#include "lua_ticket.h"

/* What views publish with; its strings live as long as the functions that have it. */
typedef struct lua_sender {
  lua_bus *bus;
  eb_bytes source;
  eb_bytes tenant_id;
  eb_bytes correlation_id;
  bool has_metadata;
  bool unconfirmed;
  int64_t timeout_ms;
} lua_sender;

/* The upvalues of the two functions, and their arguments. */
enum { SENDER = 1, TICKET_METATABLE, SCRATCH, METADATA, HUB, BUS, SOURCE, TENANT,
       CORRELATION, UPVALUES = CORRELATION };
enum { EXCHANGE = 1, TYPE, DATA, OPTIONS };

/* One publish. */
typedef struct usual {
  lua_State *L;
  lua_sender *sender;
  lua_event event;
  lua_letter letter;
  int scratch;
} usual;

static bool is (const char *name, const char *known, size_t n) {
  return memcmp(name, known, n) == 0;
}

/* Where an option's string belongs; NULL: not here. */
static eb_bytes *place_of (usual *u, const char *name, size_t n) {
  switch (n) {
    case 2: return is(name, "id", 2) ? &u->event.id : NULL;
    case 6: return is(name, "source", 6) ? &u->event.source : NULL;
    case 9:
      if (is(name, "tenant_id", 9)) return &u->event.tenant_id;
      return is(name, "timestamp", 9) ? &u->event.timestamp : NULL;
    case 11: return is(name, "routing_key", 11) ? &u->letter.routing_key : NULL;
    case 14:
      return is(name, "correlation_id", 14) ? &u->event.correlation_id : NULL;
    default: return NULL;
  }
}

static bool read_flag (usual *u, const char *name, size_t n, bool value) {
  if (n == 10 && is(name, "persistent", 10)) {
    u->letter.transient = !value;
    return true;
  }
  if (n == 7 && is(name, "confirm", 7)) {
    u->letter.unconfirmed = !value;
    return true;
  }
  if (n != 9 || !is(name, "mandatory", 9)) return false;
  u->letter.mandatory = value;
  return true;
}

static bool read_number (usual *u, const char *name, size_t n, lua_Number v) {
  if (n != 8 || !is(name, "priority", 8) || !(v >= 0 && v <= 255)) return false;
  u->letter.priority = (uint8_t)v;
  u->letter.has_priority = true;
  return u->letter.priority == v;
}

/* The option whose name and value are on top, and stay there. */
static bool read_option (usual *u) {
  lua_State *L = u->L;
  size_t n;
  if (lua_type(L, -2) != LUA_TSTRING) return false;
  const char *name = lua_tolstring(L, -2, &n);
  switch (lua_type(L, -1)) {
    case LUA_TSTRING: {
      eb_bytes *place = place_of(u, name, n);
      if (place == NULL) return false;
      place->p = lua_tolstring(L, -1, &place->n);
      return true;
    }
    case LUA_TBOOLEAN:
      return read_flag(u, name, n, lua_toboolean(L, -1) != 0);
    case LUA_TNUMBER: return read_number(u, name, n, lua_tonumber(L, -1));
    case LUA_TTABLE:
      if (n != 8 || !is(name, "metadata", 8) || u->sender->has_metadata)
        return false;
      u->event.metadata = lua_gettop(L);
      return true;
    default: return false;
  }
}

/* Names and values are left on the stack, for the event has their bytes. */
static bool read_options (usual *u) {
  lua_State *L = u->L;
  int type = lua_type(L, OPTIONS);
  if (type == LUA_TNIL) return true;
  if (type != LUA_TTABLE || lua_getmetatable(L, OPTIONS)) return false;
  lua_pushnil(L);
  while (lua_next(L, OPTIONS) != 0) {
    if (!read_option(u)) return false;
    lua_pushvalue(L, -2);
  }
  return !(u->letter.mandatory && u->letter.unconfirmed);
}

static bool read_arguments (usual *u) {
  lua_State *L = u->L;
  const lua_sender *s = u->sender;
  lua_event *e = &u->event;
  if (lua_type(L, EXCHANGE) != LUA_TSTRING || lua_type(L, TYPE) != LUA_TSTRING)
    return false;
  memset(&u->letter, 0, sizeof u->letter);
  u->letter.exchange.p = lua_tolstring(L, EXCHANGE, &u->letter.exchange.n);
  e->type.p = lua_tolstring(L, TYPE, &e->type.n);
  u->letter.routing_key = e->type;
  e->id = e->timestamp = eb_bytes_of(NULL, 0);
  u->letter.unconfirmed = s->unconfirmed;
  e->source = s->source;
  e->tenant_id = s->tenant_id;
  e->correlation_id = s->correlation_id;
  e->data = DATA;
  e->metadata = 0;
  e->table = 0;
  if (s->has_metadata) {
    lua_pushvalue(L, lua_upvalueindex(METADATA));
    e->metadata = OPTIONS + 1;
  }
  return read_options(u);
}

/* False: it is not the usual case. Ends the scratch that it took. */
static bool write (usual *u) {
  eb_error err;
  lua_scratch *to = lua_scratch_take(u->L, lua_upvalueindex(SCRATCH));
  u->scratch = lua_gettop(u->L);
  u->letter.event = &u->event;
  u->letter.text = &to->out;
  if (lua_envelope_write(u->L, &u->event, 0, to, &err)) return true;
  lua_scratch_give(u->L, u->scratch);
  return false;
}

/* Not before its time: the clock is told in whole milliseconds. A far one may be a tick
** of the kernel later. */
static eb_ms deadline_of (const lua_sender *s) {
  enum { FAR_MS = 1000 };
  return eb_ms_after(s->timeout_ms < FAR_MS ? eb_clock_now() + 1
                                            : eb_clock_coarse() + EB_CLOCK_GRAIN,
                     s->timeout_ms);
}

static uint64_t post (usual *u, bool quiet) {
  eb_error err;
  uint64_t op = 0;
  lua_bus *b = u->sender->bus;
  u->letter.deadline = deadline_of(u->sender);
  u->letter.quiet = quiet;
  /* A finalizer may have closed the bus. */
  if (lua_op_ready(b, eb_buffer_size(u->letter.text), &err))
    op = lua_letter_post(u->L, b, &u->letter, &err);
  lua_scratch_give(u->L, u->scratch);
  return op;
}

/* 'most': of quiet publishes before this one since answers were taken. */
static bool begin (usual *u, lua_State *L, unsigned most) {
  u->L = L;
  u->sender = lua_touserdata(L, lua_upvalueindex(SENDER));
  lua_bus *b = u->sender->bus;
  eb_bus *bus = lua_bus_get(b);
  lua_settop(L, OPTIONS);
  luaL_checkstack(L, 40, NULL);
  return bus != NULL && b->untaken <= most && eb_bus_has_room(bus) &&
         read_arguments(u) && write(u);
}

/* send(exchange, type, data, options) -> ticket; nothing: go the long way. What ends
** the publish is allocated before it: one on its way must not be told as an error. */
static int sender_send (lua_State *L) {
  usual u;
  if (!begin(&u, L, LUA_BUS_DUE - 1)) return 0;
  lua_ticket *t = lua_ticket_push(L, lua_upvalueindex(TICKET_METATABLE),
                                  lua_upvalueindex(HUB), u.event.id);
  t->unconfirmed = u.letter.unconfirmed;
  t->op = post(&u, true);
  if (t->op == 0) return 0;
  u.sender->bus->untaken++;
  return 1;
}

/* post(exchange, type, data, options) -> operation, the event's id: its answer is
** told; nothing: go the long way */
static int sender_post (lua_State *L) {
  usual u;
  if (!begin(&u, L, UINT_MAX)) return 0;
  lua_pushlstring(L, u.event.id.p, u.event.id.n);
  uint64_t op = post(&u, false);
  if (op == 0) return 0;
  lua_pushinteger(L, (lua_Integer)op);
  lua_insert(L, -2);
  return 2;
}

/* The string at 'index', if it is one. */
static eb_bytes text_at (lua_State *L, int index) {
  eb_bytes b = {NULL, 0};
  if (lua_type(L, index) == LUA_TSTRING) b.p = lua_tolstring(L, index, &b.n);
  return b;
}

static void push_function (lua_State *L, lua_CFunction f, int first) {
  for (int i = 0; i < UPVALUES; i++) lua_pushvalue(L, first + i);
  lua_pushcclosure(L, f, UPVALUES);
}

int lua_sender_new (lua_State *L) {
  enum { ARGUMENTS = 8, KEPT = 6 };
  lua_bus *b = luaL_checkudata(L, 1, LUA_BUS_TYPE);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, ARGUMENTS);
  int64_t timeout = lua_seconds(L, 7, 30);
  luaL_checkstack(L, 2 * UPVALUES + 4, NULL);
  lua_sender *s = lua_newuserdatauv(L, sizeof *s, 0);
  s->bus = b;
  s->source = text_at(L, 3);
  s->tenant_id = text_at(L, 4);
  s->correlation_id = text_at(L, 5);
  s->has_metadata = lua_istable(L, 6) != 0;
  s->unconfirmed = lua_isboolean(L, 8) && !lua_toboolean(L, 8);
  s->timeout_ms = timeout;
  lua_ticket_metatable(L);
  lua_pushnil(L);  /* a scratch, when it is first taken */
  static const int kept[KEPT] = {6, 2, 1, 3, 4, 5};
  for (int i = 0; i < KEPT; i++) lua_pushvalue(L, kept[i]);
  push_function(L, sender_send, ARGUMENTS + 1);
  push_function(L, sender_post, ARGUMENTS + 1);
  return 2;
}
