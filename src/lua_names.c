/* lua_names: see lua_names.h. */
#include "lua_names.h"

#include <string.h>

static uint64_t load8 (const char *p) {
  uint64_t w;
  memcpy(&w, p, 8);
  return w;
}

static uint64_t load4 (const char *p) {
  uint32_t w;
  memcpy(&w, p, 4);
  return w;
}

/* 1 to LUA_NAME_MOST bytes. */
static unsigned class_of (const char *p, size_t n) {
  const unsigned char *u = (const unsigned char *)p;
  uint64_t w = n >= 8   ? load8(p) ^ (load8(p + n - 8) << 5)
               : n >= 4 ? load4(p) | load4(p + n - 4) << 32
                        : (uint64_t)(u[0] | u[n / 2] << 8 | u[n - 1] << 16);
  return (unsigned)(((w + n) * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

static bool same (const char *a, const char *b, size_t n) {
  if (n >= 8) {
    for (size_t i = 0; i + 8 < n; i += 8)
      if (load8(a + i) != load8(b + i)) return false;
    return load8(a + n - 8) == load8(b + n - 8);
  }
  if (n >= 4)
    return load4(a) == load4(b) && load4(a + n - 4) == load4(b + n - 4);
  return a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1];
}

void lua_names_push (lua_State *L, lua_names *names, int table, const char *p,
                     size_t n) {
  if (n == 0 || n > LUA_NAME_MOST) {
    lua_pushlstring(L, p, n);
    return;
  }
  unsigned i = class_of(p, n);
  lua_name *name = &names->of[i];
  if (name->size == n && same(name->text, p, n)) {
    name->misses = 0;
    lua_rawgeti(L, table, (int)i + 1);
    return;
  }
  lua_pushlstring(L, p, n);
  /* Two that take turns must not push each other out. */
  if (name->size != 0 && ++name->misses < 2) return;
  lua_pushvalue(L, -1);
  lua_rawseti(L, table, (int)i + 1);
  name->text = lua_tolstring(L, -1, NULL);
  name->size = (uint8_t)n;
  name->misses = 0;
}
