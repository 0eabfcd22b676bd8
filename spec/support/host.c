/* host: an interpreter for the specs that a sanitizer is built into, so that its runtime comes first and a leak is
 * found when the Lua state has closed. It takes what `lua` takes of the options that the specs use: -e TEXT, SCRIPT,
 * arguments.
 *
 * With EVENTBUS_GC_STRESS set, Lua's garbage collector is hostile to the core (eventbus/core.so): all garbage is
 * collected, finalizers run, at each call of one of its functions and at each return; and while one runs, each
 * allocation that Lua makes for it fails the first time, upon which Lua collects all garbage and asks again. What the
 * core still uses of a collected string or userdata is freed memory, and AddressSanitizer says so.
 *
 * EVENTBUS_GC_STRESS=N lets only every Nth such chance pass for one. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua_compat.h"

#if LUA_VERSION_NUM < 502
#error "the host is for Lua 5.2 to 5.4: build it with LUA=5.4"
#endif

/* Of the one Lua thread. */
static struct {
  int every;          /* 0: no stress */
  unsigned turn;
  bool inside;        /* a function of the core runs */
  bool collecting;
  bool denied;        /* the last allocation failed: this one is the second time of asking */
  unsigned long calls, denials;
} stress;

static bool due (void) {
  return stress.every > 0 && ++stress.turn % (unsigned)stress.every == 0;
}

static void *allocate (void *unused, void *block, size_t old, size_t size) {
  (void)unused;
  if (size == 0) {
    free(block);
    return NULL;
  }
  bool grows = block == NULL || size > old;
  if (grows && stress.inside && !stress.collecting && !stress.denied && due()) {
    stress.denied = true;
    stress.denials++;
    return NULL;
  }
  if (grows) stress.denied = false;
  if (block == NULL || stress.every == 0) return realloc(block, size);
  /* Always elsewhere, so that an old address is a dead one. */
  void *moved = malloc(size);
  if (moved == NULL) return NULL;
  memcpy(moved, block, old < size ? old : size);
  free(block);
  return moved;
}

/* Where the core was loaded is known by its first function. */
static bool is_of_core (lua_CFunction f) {
  static lua_CFunction known[512];
  static bool answer[512];
  size_t at = ((size_t)f >> 4) % 512;
  if (known[at] == f) return answer[at];
  Dl_info info;
  void *address;
  memcpy(&address, &f, sizeof address);
  bool ours = dladdr(address, &info) != 0 && info.dli_fname != NULL &&
              strstr(info.dli_fname, "/eventbus/core.so") != NULL;
  known[at] = f;
  answer[at] = ours;
  return ours;
}

static void collect (lua_State *L) {
  stress.inside = false;
  stress.collecting = true;
  lua_gc(L, LUA_GCCOLLECT, 0);
  stress.collecting = false;
}

/* An error leaves a function without a return: the next event of any function corrects 'inside'. */
static void watch (lua_State *L, lua_Debug *ar) {
  if (stress.collecting) return;
  bool leaves = ar->event == LUA_HOOKRET;
  lua_CFunction f = NULL;
  if (lua_checkstack(L, 2) && lua_getinfo(L, "f", ar) != 0) {
    f = lua_tocfunction(L, -1);
    lua_pop(L, 1);
  }
  bool ours = f != NULL && is_of_core(f);
  stress.inside = false;
  if (!ours) return;
  stress.calls++;
  if (due()) collect(L);
  stress.inside = !leaves;
}

static int traceback (lua_State *L) {
  const char *text = lua_tostring(L, 1);
  if (text == NULL) text = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, L, text, 1);
  return 1;
}

static int run (lua_State *L) {
  int argc = (int)lua_tointeger(L, 1);
  char **argv = (char **)lua_touserdata(L, 2);
  lua_settop(L, 0);
  luaL_openlibs(L);
  const char *text = argc > 2 && strcmp(argv[1], "-e") == 0 ? argv[2] : NULL;
  int script = text != NULL ? 3 : 1;
  lua_createtable(L, argc, 2);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
  if (stress.every > 0) lua_sethook(L, watch, LUA_MASKCALL | LUA_MASKRET, 0);
  lua_pushcfunction(L, traceback);
  if (text != NULL && (luaL_loadbuffer(L, text, strlen(text), "=(command line)") != 0 || lua_pcall(L, 0, 0, 1) != 0))
    return lua_error(L);
  if (script >= argc) return 0;
  if (luaL_loadfile(L, argv[script]) != 0) return lua_error(L);
  luaL_checkstack(L, argc, "too many arguments");
  for (int i = script + 1; i < argc; i++) lua_pushstring(L, argv[i]);
  if (lua_pcall(L, argc - script - 1, 0, 1) != 0) return lua_error(L);
  return 0;
}

int main (int argc, char **argv) {
  const char *wanted = getenv("EVENTBUS_GC_STRESS");
  lua_State *L = lua_newstate(allocate, NULL);
  if (L == NULL) return EXIT_FAILURE;
  stress.every = wanted != NULL ? atoi(wanted) : 0;
  lua_pushcfunction(L, run);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  int failed = lua_pcall(L, 2, 0, 0);
  if (failed) fprintf(stderr, "%s: %s\n", argv[0], lua_tostring(L, -1));
  bool stressed = stress.every > 0;
  stress.every = 0;
  lua_close(L);
  if (stressed)
    fprintf(stderr, "gc-stress: %lu calls and returns of the core, %lu allocations failed at first\n", stress.calls,
            stress.denials);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
