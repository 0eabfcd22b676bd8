/* fork: what the fork spec needs of POSIX and no Lua package gives all Luas.
**
** fork([signal [, nested]]) -> 0 in the child, its pid in the parent; the child
**   gets the signal before what was registered for it after this module has run;
**   nested: one of the handlers before the fork forks, too, and that child once
**   more
** nested() -> how that one's child has ended: 0, or 1 when it had SIGTERM blocked
**   then
** wait(pid, seconds) -> exit code (128 + n after signal n), nil: still running
*/
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lua_compat.h"

EB_EXPORT int luaopen_spec_fork (lua_State *L);

static int early_signal;
static int nested;

static int nested_status = -1;

static int blocked_after_fork (void) {
  sigset_t mask;
  early_signal = 0;
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  if (pid < 0) return 2;
  waitpid(pid, NULL, 0);
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  return sigismember(&mask, SIGTERM);
}

static void before_fork (void) {
  if (!nested) return;
  nested = 0;
  pid_t pid = fork();
  if (pid == 0) _exit(blocked_after_fork());
  if (pid > 0) waitpid(pid, &nested_status, 0);
}

static void in_child (void) {
  if (early_signal != 0) kill(getpid(), early_signal);
}

static int posix_fork (lua_State *L) {
  early_signal = (int)luaL_optinteger(L, 1, 0);
  nested = lua_toboolean(L, 2);
  pid_t pid = fork();
  if (pid < 0) return luaL_error(L, "fork failed");
  lua_pushinteger(L, (lua_Integer)pid);
  return 1;
}

static int posix_wait (lua_State *L) {
  pid_t pid = (pid_t)luaL_checkinteger(L, 1);
  lua_Number turns = luaL_checknumber(L, 2) * 100;
  struct timespec pause = {0, 10 * 1000 * 1000};
  int status;
  for (lua_Number i = 0; i < turns; i++) {
    if (waitpid(pid, &status, WNOHANG) == pid) {
      int code = WIFEXITED(status) ? WEXITSTATUS(status)
                                   : 128 + WTERMSIG(status);
      lua_pushinteger(L, code);
      return 1;
    }
    nanosleep(&pause, NULL);
  }
  return 0;
}

static int posix_nested (lua_State *L) {
  lua_pushinteger(L, WIFEXITED(nested_status) ? WEXITSTATUS(nested_status)
                                              : 128 + WTERMSIG(nested_status));
  return 1;
}

static const luaL_Reg functions[] = {{"fork", posix_fork},
                                     {"wait", posix_wait},
                                     {"nested", posix_nested},
                                     {NULL, NULL}};

int luaopen_spec_fork (lua_State *L) {
  pthread_atfork(before_fork, NULL, in_child);
  luaL_newlib(L, functions);
  return 1;
}
