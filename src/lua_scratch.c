/* lua_scratch: see lua_scratch.h. */
#include "lua_scratch.h"

#include <string.h>

#define SCRATCH_TYPE "eventbus.scratch"

enum { KEEP = 256 * 1024 };

static int scratch_gc (lua_State *L) {
  lua_scratch *s = lua_touserdata(L, 1);
  lua_scratch_done(s);
  eb_buffer_fini(&s->out);
  return 0;
}

lua_scratch *lua_scratch_push (lua_State *L) {
  lua_scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  if (luaL_newmetatable(L, SCRATCH_TYPE)) {
    lua_pushcfunction(L, scratch_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return s;
}

eb_buffer *lua_scratch_write (lua_scratch *s) {
  eb_buffer_truncate(&s->out, 0);
  return &s->out;
}

eb_json *lua_scratch_read (lua_scratch *s, const char *p, size_t n,
                           unsigned max_depth) {
  lua_scratch_done(s);
  eb_json_init(&s->json, p, n, max_depth);
  s->reading = true;
  return &s->json;
}

void lua_scratch_done (lua_scratch *s) {
  if (s->reading) eb_json_fini(&s->json);
  s->reading = false;
  eb_buffer_shrink(&s->out, KEEP);
}
