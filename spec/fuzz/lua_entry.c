/* lua_entry: what libFuzzer calls for a target that is written in Lua: spec/fuzz/FUZZ_TARGET.lua, a function of the input
 * that raises what was broken. The core is linked in, built for libFuzzer; Lua is the system's.
 *
 * One state serves all inputs, as a program's does: what the core remembers between calls is fuzzed too. The module
 * spec.fuzz.in_place is there for what no Lua function of the core does: an input read where it lies, and headers.
 */
#include <stdbool.h>
#include <string.h>

#include "eb_codec.h"
#include "fuzz.h"
#include "lua_bus.h"
#include "lua_envelope.h"
#include "lua_table.h"

#if LUA_VERSION_NUM < 502
#error "the fuzzing programs are for Lua 5.2 to 5.4: LUA=5.4. For others there is make fuzz-lua"
#endif

enum { MEMORY_MOST = 64 * 1024 * 1024, EDGES = 4096 };

int luaopen_eventbus_core (lua_State *L);
int LLVMFuzzerTestOneInput (const uint8_t *p, size_t n);

static lua_State *state;
static const uint8_t *input;
static size_t input_size;
static eb_arena *arena;  /* an error leaves it to the next input */

/* Lua has so much and no more, then it collects; then it is an error, of which an expression may die but not we. */
static void *allocate (void *used, void *block, size_t old, size_t size) {
  size_t *total = used, rest = *total - (block == NULL ? 0 : old);
  if (size == 0) {
    free(block);
    *total = rest;
    return NULL;
  }
  if (rest + size > MEMORY_MOST) return NULL;
  void *moved = realloc(block, size);
  if (moved != NULL) *total = rest + size;
  return moved;
}

/* Lines of the library's Lua are edges, for libFuzzer to find new ones. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t edges[EDGES];

static void count_line (lua_State *L, lua_Debug *ar) {
  static unsigned before;
  lua_getinfo(L, "S", ar);
  if (strncmp(ar->source, "@./lua/", 7) != 0) return;
  unsigned here = (unsigned)((uintptr_t)ar->source >> 4) + (unsigned)ar->currentline * 2654435761u;
  edges[((here >> 7) ^ before) % EDGES]++;
  before = here >> 8;
}

static int in_place_cover (lua_State *L) {
  lua_sethook(L, count_line, LUA_MASKLINE, 0);
  return 0;
}

/* event() -> event | nil, err: of the input as a delivery's body */
static int in_place_event (lua_State *L) {
  return lua_envelope_decode_body(L, (const char *)input, input_size, 0, 0);
}

static void renew_arena (void) {
  eb_arena_free(arena);
  arena = eb_arena_new(1024);
  if (arena == NULL) abort();
}

/* headers() -> table | nil: of the input as the payload of a content header frame */
static int in_place_headers (lua_State *L) {
  amqp_pool_t pool;
  eb_header header;
  eb_properties properties;
  eb_error err;
  const eb_frame frame = {AMQP_FRAME_HEADER, 1, input, input_size};
  memset(&properties, 0, sizeof properties);
  renew_arena();
  init_amqp_pool(&pool, 4096);
  bool ok = input_size <= EB_FRAME_MAX && eb_codec_header(&pool, &frame, &header, &err) && !header.bad_headers &&
            eb_codec_to_properties(arena, header.properties, &properties);
  empty_amqp_pool(&pool);
  if (!ok) return 0;
  lua_properties_push(L, &properties);
  lua_table_push(L, properties.headers);
  return 1;
}

static int sent (lua_State *L, lua_table_use use) {
  eb_error err;
  renew_arena();
  const eb_table *t = lua_table_read(L, 1, arena, use, "headers", &err);
  if (t == NULL) return lua_fail(L, &err);
  lua_table_push(L, t);
  return 1;
}

/* headers_sent(table) -> table | nil, err: as it would arrive */
static int in_place_headers_sent (lua_State *L) { return sent(L, LUA_TABLE_HEADERS); }
static int in_place_arguments_sent (lua_State *L) { return sent(L, LUA_TABLE_ARGUMENTS); }

static const luaL_Reg in_place[] = {{"cover", in_place_cover},
                                    {"event", in_place_event},
                                    {"headers", in_place_headers},
                                    {"headers_sent", in_place_headers_sent},
                                    {"arguments_sent", in_place_arguments_sent},
                                    {NULL, NULL}};

static int open_in_place (lua_State *L) {
  luaL_newlib(L, in_place);
  return 1;
}

static int explain (lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

/* Leaves the handler of errors and the target at 1 and 2. */
static void begin (void) {
  static size_t used;
  lua_State *L = state = lua_newstate(allocate, &used);
  if (L == NULL) abort();
  luaL_openlibs(L);
  luaL_requiref(L, "eventbus.core", luaopen_eventbus_core, 0);
  luaL_requiref(L, "spec.fuzz.in_place", open_in_place, 0);
  lua_settop(L, 0);
  lua_pushcfunction(L, explain);
  if (luaL_dostring(L, "package.path = './lua/?.lua;./lua/?/init.lua;./?.lua'\n"
                       "return require 'spec.fuzz." FUZZ_TARGET "'") != 0) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    abort();
  }
  lua_settop(L, 2);
}

int LLVMFuzzerTestOneInput (const uint8_t *p, size_t n) {
  if (state == NULL) begin();
  lua_State *L = state;
  input = p;
  input_size = n;
  lua_pushvalue(L, 2);
  lua_pushlstring(L, (const char *)p, n);
  if (lua_pcall(L, 1, 0, 1) != 0) {
    fprintf(stderr, "broken: %s\n", lua_tostring(L, -1));
    abort();
  }
  return 0;
}
