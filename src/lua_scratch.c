/* lua_scratch: see lua_scratch.h. */
#include "lua_scratch.h"

#include <string.h>

#define SCRATCH_TYPE "eventbus.scratch"

enum {
  KEEP = 256 * 1024,         /* a larger buffer is given back, */
  KEEP_BUSY = 4096 * 1024,   /* but one up to this only */
  IDLE = 16,                 /* when it was not needed so often */
  ARRAY_MT = LUA_NAMES + 1   /* where the table of names has the array mark */
};

static const char KEPT_KEY = 0;  /* its address names the one that is kept */

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
  lua_scratch *s = lua_newuserdatauv(L, sizeof *s, 1);
  memset(s, 0, sizeof *s);
  if (luaL_newmetatable(L, SCRATCH_TYPE)) {
    lua_pushcfunction(L, scratch_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_createtable(L, ARRAY_MT, 0);
  lua_array_mt_push(L);
  lua_rawseti(L, -2, ARRAY_MT);
  lua_setiuservalue(L, -2, 1);
  return s;
}

/* The kept one, or a new one that is kept from now on. */
static lua_scratch *push_kept (lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &KEPT_KEY);
  lua_scratch *s = lua_touserdata(L, -1);
  if (s != NULL && !s->taken) return s;
  lua_pop(L, 1);
  s = push_new(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &KEPT_KEY);
  return s;
}

lua_scratch *lua_scratch_take (lua_State *L, int upvalue) {
  lua_scratch *s = upvalue != 0 ? lua_touserdata(L, upvalue) : NULL;
  if (s != NULL && !s->taken) {
    lua_pushvalue(L, upvalue);
  } else {
    luaL_checkstack(L, 4, NULL);
    s = push_kept(L);
    if (upvalue != 0) {
      lua_pushvalue(L, -1);
      lua_replace(L, upvalue);
    }
  }
  s->taken = true;
  return s;
}

void lua_scratch_decoder (lua_State *L, int index, const char *p, size_t n,
                          unsigned max_depth, lua_decoder *d) {
  lua_scratch *s = lua_touserdata(L, index);
  end_reading(s);
  eb_json_init(&s->json, p, n, max_depth);
  s->reading = true;
  d->L = L;
  d->json = &s->json;
  d->big = LUA_BIG_ERROR;
  d->marks = true;
  d->guess = &s->guess;
  d->names = &s->names;
  lua_getiuservalue(L, index, 1);
  d->names_table = lua_gettop(L);
  lua_rawgeti(L, d->names_table, ARRAY_MT);
  d->array_mt = d->names_table + 1;
}

void lua_scratch_give (lua_State *L, int index) {
  lua_scratch *s = lua_touserdata(L, index);
  end_reading(s);
  s->idle = eb_buffer_size(&s->out) > KEEP ? 0 : s->idle + 1;
  eb_buffer_truncate(&s->out, 0);
  eb_buffer_shrink(&s->out, s->idle < IDLE ? KEEP_BUSY : KEEP);
  s->taken = false;
}
