/* lua_bus: open, wait, next, close. See lua_bus.h. */
#include "lua_bus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lua_error.h"
#include "lua_table.h"

enum { ANSWER = 1, DELIVERY = 2, NOTICE = 3, FAILED = 4, FORGOTTEN_MS = 3000 };

static const double LONGEST_S = 1e9;

/* Rounded up: a wait for less than one must not become none, and spin. */
static int64_t parts (lua_State *L, int index, double standard, double in_a_second) {
  double s = luaL_optnumber(L, index, standard);
  luaL_argcheck(L, s >= 0, index, "seconds must not be negative");
  return (int64_t)ceil((s < LONGEST_S ? s : LONGEST_S) * in_a_second);
}

int64_t lua_seconds (lua_State *L, int index, double standard) {
  return parts(L, index, standard, 1000);
}

eb_us lua_seconds_us (lua_State *L, int index, double standard) {
  return parts(L, index, standard, 1e6);
}

int lua_fail (lua_State *L, const eb_error *err) {
  lua_pushnil(L);
  lua_error_push(L, err);
  return 2;
}

lua_bus *lua_bus_check (lua_State *L, int index) {
  void *b = lua_touserdata(L, index);
  if (b != NULL && lua_getmetatable(L, index)) {
    bool same = lua_rawequal(L, -1, lua_upvalueindex(1)) != 0;
    lua_pop(L, 1);
    if (same) return b;
  }
  return luaL_checkudata(L, index, LUA_BUS_TYPE);
}

eb_bus *lua_bus_get (lua_bus *b) {
  return b->ref == NULL ? NULL : b->ref->bus;
}

void lua_bus_unref (lua_bus_ref *ref) {
  if (ref != NULL && --ref->refs == 0) free(ref);
}

/* Opening. */

typedef struct open_options {
  eb_bus_config config;
  const char *url;
  const char *cacertfile;
  const char *certfile;
  const char *keyfile;
  const char *server_name;
  int verify;        /* -1: as the URL says */
  long heartbeat_s;  /* -1: as the URL says */
  int64_t timeout_ms;
} open_options;

static double number_field (lua_State *L, const char *key, double standard) {
  lua_getfield(L, 1, key);
  double v = standard;
  if (!lua_isnil(L, -1)) {
    if (lua_type(L, -1) != LUA_TNUMBER)
      luaL_error(L, "option '%s' must be a number", key);
    v = lua_tonumber(L, -1);
    if (!(v >= 0)) luaL_error(L, "option '%s' must not be negative", key);
  }
  lua_pop(L, 1);
  return v;
}

/* The string stays alive in the options table. */
static const char *string_field (lua_State *L, const char *key) {
  lua_getfield(L, 1, key);
  if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
    luaL_error(L, "option '%s' must be a string", key);
  const char *v = lua_tostring(L, -1);
  lua_pop(L, 1);
  return v;
}

static bool flag_field (lua_State *L, const char *key, bool standard) {
  lua_getfield(L, 1, key);
  bool v = lua_isnil(L, -1) ? standard : lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);
  return v;
}

static void read_options (lua_State *L, open_options *o) {
  eb_io_config *io = &o->config.io;
  eb_session_config *s = &io->session;
  o->url = string_field(L, "url");
  if (o->url == NULL) luaL_error(L, "option 'url' is missing");
  o->cacertfile = string_field(L, "cacertfile");
  o->certfile = string_field(L, "certfile");
  o->keyfile = string_field(L, "keyfile");
  o->server_name = string_field(L, "server_name");
  lua_getfield(L, 1, "verify");
  o->verify = lua_isnil(L, -1) ? -1 : lua_toboolean(L, -1);
  lua_pop(L, 1);
  o->heartbeat_s = (long)ceil(fmin(number_field(L, "heartbeat", -1), 65535));
  double timeout = number_field(L, "connection_timeout", -1);
  o->timeout_ms = timeout < 0 ? -1 : (int64_t)(fmin(timeout, LONGEST_S) * 1000);
  o->config.outbox_count = (size_t)number_field(L, "outbox", 10000);
  o->config.outbox_bytes =
      (size_t)number_field(L, "outbox_bytes", 64 * 1024 * 1024);
  io->link.reconnect_delay_ms =
      (int64_t)(fmin(number_field(L, "reconnect_delay", 0.5), 3600) * 1000);
  io->link.reconnect_max_ms =
      (int64_t)(fmin(number_field(L, "reconnect_max", 30), 3600) * 1000);
  io->link.retry_refused = flag_field(L, "retry_refused", false);
  s->connection_name = string_field(L, "connection_name");
  s->window_count = (size_t)number_field(L, "window", 1000);
  s->window_bytes = (size_t)number_field(L, "window_bytes", 16 * 1024 * 1024);
  s->max_body = (size_t)number_field(L, "max_body", 128 * 1024 * 1024);
  s->ack_delay_ms = (int64_t)(fmin(number_field(L, "ack_delay", 0.001), 10) * 1000);
  s->resend = flag_field(L, "resend", true);
  s->seed = (uint64_t)eb_clock_wall_ms() ^ ((uint64_t)getpid() << 32);
}

static bool replace (char **to, const char *from) {
  if (from == NULL) return true;
  char *copy = strdup(from);
  if (copy == NULL) return false;
  free(*to);
  *to = copy;
  return true;
}

/* An option of its own counts more than the same in the URL. */
static bool merge (const open_options *o, eb_url *url, eb_error *err) {
  bool files = o->cacertfile || o->certfile || o->keyfile;
  if (files && !url->tls)
    return eb_error_set(err, EB_ERR_INVALID,
                        "certificates were given, but the URL says amqp: use "
                        "amqps://");
  if (o->verify >= 0) url->verify = o->verify;
  if (o->heartbeat_s >= 0) url->heartbeat_s = o->heartbeat_s;
  if (o->timeout_ms >= 0) url->connection_timeout_ms = (long)o->timeout_ms;
  if (replace(&url->cacertfile, o->cacertfile) &&
      replace(&url->certfile, o->certfile) &&
      replace(&url->keyfile, o->keyfile) &&
      replace(&url->server_name, o->server_name))
    return true;
  return eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
}

static long given (long value, long standard) {
  return value == EB_URL_UNSET ? standard : value;
}

static eb_bus *make_bus (open_options *o, eb_error *err) {
  eb_url url;
  if (!eb_url_parse(o->url, &url, err)) return NULL;
  if (!merge(o, &url, err)) {
    eb_url_fini(&url);
    return NULL;
  }
  eb_session_config *s = &o->config.io.session;
  s->vhost = url.vhost;
  s->user = url.user;
  s->password = url.password;
  s->auth = url.auth;
  s->heartbeat_s = (unsigned)given(url.heartbeat_s, 60);
  s->channel_max = (unsigned)given(url.channel_max, 0);
  s->frame_max = (size_t)given(url.frame_max, 0);
  o->config.io.link.connection_timeout_ms =
      given(url.connection_timeout_ms, 10000);
  return eb_bus_new(&o->config, &url, err);
}

int lua_bus_open (lua_State *L) {
  open_options o;
  eb_error err;
  memset(&o, 0, sizeof o);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  read_options(L, &o);
  lua_bus *b = lua_newuserdatauv(L, sizeof *b, 0);
  memset(b, 0, sizeof *b);
  luaL_setmetatable(L, LUA_BUS_TYPE);
  b->ref = calloc(1, sizeof *b->ref);
  if (b->ref == NULL) {
    eb_error_set(&err, EB_ERR_NO_MEMORY, "no memory for a bus");
    return lua_fail(L, &err);
  }
  b->ref->refs = 1;
  b->ref->bus = make_bus(&o, &err);
  if (b->ref->bus == NULL) return lua_fail(L, &err);
  return 1;
}

/* Closing: one way for __gc, __close and close. */

static void take_rest (eb_bus *bus) {
  eb_item *item;
  while ((item = eb_bus_next(bus)) != NULL) eb_item_free(item);
}

static void close_bus (lua_bus *b, int64_t ms) {
  eb_bus *bus = lua_bus_get(b);
  if (bus != NULL && !eb_bus_forked(bus)) {
    eb_ms deadline = eb_ms_after(eb_clock_now(), ms);
    eb_bus_shutdown(bus, ms);
    take_rest(bus);
    while (!eb_bus_ended(bus)) {
      eb_ms left = deadline - eb_clock_now();
      if (left <= 0) break;
      eb_bus_wait(bus, left * EB_US_IN_MS);
      take_rest(bus);
    }
  }
  if (bus != NULL) b->newest = eb_quiet_newest(eb_bus_quiet(bus));
  if (b->ref != NULL) {
    lua_signal_release(b->ref->bus);
    eb_bus_free(b->ref->bus);
    b->ref->bus = NULL;
    lua_bus_unref(b->ref);
    b->ref = NULL;
  }
  eb_item_free(b->building);
  b->building = NULL;
}

static int lbus_close (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  int64_t ms = lua_seconds(L, 2, 5);
  close_bus(b, ms);
  lua_pushboolean(L, 1);
  return 1;
}

/* A bus that was forgotten, or a program that ends without closing: what was
** published still gets its confirm, for a while. */
static int lbus_gc (lua_State *L) {
  close_bus(lua_bus_check(L, 1), FORGOTTEN_MS);
  return 0;
}

static int lbus_shutdown (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  int64_t ms = lua_seconds(L, 2, 5);
  if (bus != NULL) eb_bus_shutdown(bus, ms);
  return 0;
}

static eb_side check_side (lua_State *L, int index) {
  static const char *const names[] = {"control", "publish", NULL};
  return (eb_side)luaL_checkoption(L, index, "control", names);
}

static int lbus_start (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  eb_side side = check_side(L, 2);
  eb_error err;
  if (bus == NULL)
    eb_error_set(&err, EB_ERR_CLOSED, "the bus is closed");
  else if (eb_bus_may_post(bus, 0, &err) && eb_bus_start(bus, side, &err)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return lua_fail(L, &err);
}

/* Waiting, and what came. */

static int lbus_fd (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  if (bus == NULL || eb_bus_forked(bus))
    lua_pushnil(L);
  else
    lua_pushinteger(L, eb_bus_fd(bus));
  return 1;
}

static int lbus_wait (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  eb_us us = lua_seconds_us(L, 2, LONGEST_S);
  lua_pushboolean(L, bus != NULL && eb_bus_wait(bus, us));
  return 1;
}

/* idle(deadline) -> whether there may be something, at core.now's 'deadline' at the
** latest; confirms that nobody waits for are passed over meanwhile. nil: a child has
** the bus of its parent. */
static int lbus_idle (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  double s = luaL_checknumber(L, 2);
  if (bus == NULL || eb_bus_forked(bus)) return 0;
  eb_us end = s < LONGEST_S ? (eb_us)ceil(s * 1e6 - 1e-3) : EB_NEVER;
  lua_pushboolean(L, eb_bus_idle(bus, end));
  return 1;
}

static int lbus_kick (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  if (bus != NULL) eb_bus_kick(bus);
  return 0;
}

/* poke(): makes the descriptor readable, though nothing came. */
static int lbus_poke (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  if (bus != NULL) eb_bus_poke(bus);
  return 0;
}

/* alarm(seconds): makes it readable after so long; false when nothing runs that
** could. */
static int lbus_alarm (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  eb_us us = lua_seconds_us(L, 2, 0);
  lua_pushboolean(L, bus != NULL && eb_bus_alarm(bus, us));
  return 1;
}

/* listen() -> path: a socket for hosts that cannot watch the descriptor; once
** the host has connected to it, take_bell(). Both may answer nil, err. */
static int lbus_listen (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  eb_error err;
  const char *path = NULL;
  if (bus == NULL)
    eb_error_set(&err, EB_ERR_CLOSED, "the bus is closed");
  else
    path = eb_bus_listen(bus, &err);
  if (path == NULL) return lua_fail(L, &err);
  lua_pushstring(L, path);
  return 1;
}

static int lbus_take_bell (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  eb_error err;
  if (bus == NULL)
    eb_error_set(&err, EB_ERR_CLOSED, "the bus is closed");
  else if (eb_bus_take_bell(bus, &err)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return lua_fail(L, &err);
}

static void push_item_error (lua_State *L, const eb_item *item) {
  eb_error bare;
  if (item->error != NULL) {
    lua_error_push(L, item->error);
    return;
  }
  eb_error_set(&bare, item->code, "%s", eb_code_name(item->code));
  lua_error_push(L, &bare);
}

/* {queue=, messages=, consumers=} or the part of it that the call has. */
static void push_rpc_result (lua_State *L, const eb_rpc *call) {
  lua_createtable(L, 0, 3);
  if (call->method == EB_QUEUE_DECLARE) {
    lua_bytes_push(L, call->answer_name);
    lua_setfield(L, -2, "queue");
    lua_pushinteger(L, (lua_Integer)call->consumers);
    lua_setfield(L, -2, "consumers");
  }
  if (call->method == EB_QUEUE_DECLARE || call->method == EB_QUEUE_DELETE ||
      call->method == EB_QUEUE_PURGE) {
    lua_pushinteger(L, (lua_Integer)call->messages);
    lua_setfield(L, -2, "messages");
  }
}

/* 4, id, err */
static int push_failed (lua_State *L, const eb_item *item) {
  lua_pushinteger(L, FAILED);
  lua_pushinteger(L, (lua_Integer)item->id);
  push_item_error(L, item);
  return 3;
}

/* 1, id, true, value... or 1, id, nil, err */
static int push_answer (lua_State *L, lua_bus *b, eb_item *item) {
  if (item->kind == EB_ITEM_PUBLISH && ((eb_publish *)item)->quiet)
    return push_failed(L, item);
  lua_pushinteger(L, ANSWER);
  lua_pushinteger(L, (lua_Integer)item->id);
  if (item->code != EB_OK) {
    lua_pushnil(L);
    push_item_error(L, item);
    return 4;
  }
  lua_pushboolean(L, 1);
  if (item->kind != EB_ITEM_RPC) return 3;
  eb_rpc *call = (eb_rpc *)item;
  if (call->method != EB_GET) {
    push_rpc_result(L, call);
    return 4;
  }
  if (call->delivery == NULL) {
    lua_pushnil(L);
  } else {
    lua_delivery *u = lua_delivery_push(L);
    if (b->ref != NULL) {  /* a finalizer may have closed the bus */
      lua_delivery_fill(u, b, call->delivery);
      call->delivery = NULL;
    }
  }
  lua_pushinteger(L, (lua_Integer)call->messages);
  return 5;
}

static int push_notice (lua_State *L, const eb_notice *n) {
  lua_pushinteger(L, NOTICE);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, n->item.id == EB_PUBLISH ? "publish" : "control");
  lua_setfield(L, -2, "connection");
  lua_pushstring(L, eb_event_name(n->event));
  lua_setfield(L, -2, "event");
  if (n->consumer != 0) {
    lua_pushinteger(L, (lua_Integer)n->consumer);
    lua_setfield(L, -2, "consumer");
  }
  if (n->item.code != EB_OK) {
    push_item_error(L, &n->item);
    lua_setfield(L, -2, "err");
  }
  return 2;
}

/* An item on its way into Lua values, owned by a userdata: pushing them may
** raise, or run a finalizer that uses this very bus. */
typedef struct boxed {
  eb_item *item;
} boxed;

static int boxed_gc (lua_State *L) {
  boxed *box = lua_touserdata(L, 1);
  eb_item_free(box->item);
  box->item = NULL;
  return 0;
}

static boxed *box_push (lua_State *L) {
  boxed *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->item = NULL;
  if (luaL_newmetatable(L, "eventbus.core.item")) {
    lua_pushcfunction(L, boxed_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

static bool next_is (lua_bus *b, eb_item_kind *kind) {
  eb_bus *bus = lua_bus_get(b);
  return bus != NULL && eb_bus_peek(bus, kind);
}

/* What holds the item is made first; a finalizer that ran meanwhile may have
** taken it: then 0, and the caller looks again. */
static int next_delivery (lua_State *L, lua_bus *b) {
  eb_item_kind kind;
  lua_delivery *u = lua_delivery_push(L);
  if (!next_is(b, &kind) || kind != EB_ITEM_DELIVERY) return 0;
  eb_delivery *d = (eb_delivery *)eb_bus_next(b->ref->bus);
  lua_delivery_fill(u, b, d);
  lua_pushinteger(L, DELIVERY);
  lua_pushinteger(L, (lua_Integer)d->consumer);
  lua_pushvalue(L, -3);
  return 3;
}

/* A plain confirm: nothing is allocated, so it needs no box. */
static int next_confirm (lua_State *L, eb_bus *bus) {
  eb_item *item = eb_bus_next(bus);
  lua_pushinteger(L, ANSWER);
  lua_pushinteger(L, (lua_Integer)item->id);
  lua_pushboolean(L, 1);
  eb_item_free(item);
  return 3;
}

static int next_other (lua_State *L, lua_bus *b) {
  eb_item_kind kind;
  boxed *box = box_push(L);
  if (!next_is(b, &kind) || kind == EB_ITEM_DELIVERY) return 0;
  box->item = eb_bus_next(b->ref->bus);
  int n = box->item->kind == EB_ITEM_NOTICE
              ? push_notice(L, (eb_notice *)box->item)
              : push_answer(L, b, box->item);
  eb_item_free(box->item);
  box->item = NULL;
  return n;
}

/* next() -> 1, id, ok, value... (an answer), 2, consumer, delivery, 3, notice, or
** 4, id, err (a quiet publish failed). nil: nothing; then whether quiet publishes
** ended meanwhile. */
static int lbus_next (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  eb_item_kind kind;
  luaL_checkstack(L, 16, NULL);
  while (next_is(b, &kind)) {
    int top = lua_gettop(L), n;
    if (kind == EB_ITEM_DELIVERY)
      n = next_delivery(L, b);
    else if (kind == EB_ITEM_PUBLISH && eb_bus_next_succeeded(b->ref->bus))
      n = next_confirm(L, b->ref->bus);
    else
      n = next_other(L, b);
    if (n > 0) return n;
    lua_settop(L, top);
  }
  b->untaken = 0;
  lua_pushnil(L);
  lua_pushboolean(L, lua_bus_get(b) != NULL && eb_bus_passed(b->ref->bus));
  return 2;
}

static int lbus_tostring (lua_State *L) {
  lua_bus *b = lua_bus_check(L, 1);
  lua_pushfstring(L, "eventbus.core bus (%s)",
                  lua_bus_get(b) == NULL ? "closed" : "open");
  return 1;
}

static const luaL_Reg methods[] = {
    {"start", lbus_start}, {"fd", lbus_fd},       {"wait", lbus_wait},
    {"idle", lbus_idle},
    {"next", lbus_next},   {"kick", lbus_kick},   {"poke", lbus_poke},
    {"alarm", lbus_alarm}, {"close", lbus_close}, {"shutdown", lbus_shutdown},
    {"listen", lbus_listen}, {"take_bell", lbus_take_bell},
    {"__gc", lbus_gc},     {"__close", lbus_gc},  {"__tostring", lbus_tostring},
    {NULL, NULL}};

/* Methods have the metatable as their first upvalue, then what lua_delivery_push
** wants. */
static void set_methods (lua_State *L, const luaL_Reg *list) {
  int top = lua_gettop(L);
  for (int i = 0; i < 1 + LUA_DELIVERY_UPVALUES; i++)
    lua_pushvalue(L, i == 0 ? top : top - 1 - LUA_DELIVERY_UPVALUES + i);
  luaL_setfuncs(L, list, 1 + LUA_DELIVERY_UPVALUES);
}

void lua_bus_register (lua_State *L) {
  luaL_newmetatable(L, LUA_BUS_TYPE);
  set_methods(L, methods);
  set_methods(L, lua_publish);
  set_methods(L, lua_ops);
  set_methods(L, lua_quiet);
  set_methods(L, lua_stats);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1 + LUA_DELIVERY_UPVALUES);
}
