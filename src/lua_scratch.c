/* lua_scratch: see lua_scratch.h. */
#include "lua_scratch.h"

#include <string.h>

#define SCRATCH_TYPE "eventbus.scratch"

enum { KEEP = 256 * 1024 };  /* a larger buffer is given back */

static const char IDLE_KEY = 0;  /* its address names the idle one */

static void end_reading (lua_scratch *s) {
  if (s->reading) eb_json_fini(&s->json);
  s->reading = false;
}

static int scratch_gc (lua_State *L) {
  lua_scratch *s = lua_touserdata(L, 1);
  end_reading(s);
  eb_buffer_fini(&s->out);
  return 0;
}

static lua_scratch *push_new (lua_State *L) {
  lua_scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  if (luaL_newmetatable(L, SCRATCH_TYPE)) {
    lua_pushcfunction(L, scratch_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return s;
}

lua_scratch *lua_scratch_take (lua_State *L) {
  luaL_checkstack(L, 4, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &IDLE_KEY);
  lua_scratch *s = lua_touserdata(L, -1);
  if (s == NULL) {
    lua_pop(L, 1);
    return push_new(L);
  }
  lua_pushboolean(L, 0);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &IDLE_KEY);
  return s;
}

eb_json *lua_scratch_read (lua_scratch *s, const char *p, size_t n,
                           unsigned max_depth) {
  end_reading(s);
  eb_json_init(&s->json, p, n, max_depth);
  s->reading = true;
  return &s->json;
}

void lua_scratch_give (lua_State *L, int index) {
  lua_scratch *s = lua_touserdata(L, index);
  end_reading(s);
  eb_buffer_truncate(&s->out, 0);
  eb_buffer_shrink(&s->out, KEEP);
  lua_pushvalue(L, index);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &IDLE_KEY);
}
