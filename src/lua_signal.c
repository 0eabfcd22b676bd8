/* lua_signal: SIGINT and SIGTERM for a program that runs a bus.
**
** The handler counts and makes the bus's wait return; Lua asks what came. One
** bus at a time; what was there before is put back, in a forked child before a
** signal can reach it: the bus, and what came, are its parent's. When asked to, a
** second signal also sets an alarm that ends the process, for a handler that never
** comes back to us.
*/
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "lua_bus.h"

static volatile sig_atomic_t last_signal;
static volatile sig_atomic_t signal_count;
static eb_wake trapped_wake;               /* set before the handlers are */
static volatile sig_atomic_t trapping;
static volatile sig_atomic_t kill_after;   /* seconds; 0: never */
static const eb_bus *trapped_for;
static struct sigaction old_int, old_term;

static void on_alarm (int signo) {
  (void)signo;
  _exit(128 + (int)last_signal);
}

static void on_signal (int signo) {
  int saved = errno;
  last_signal = signo;
  signal_count++;
  if (signal_count == 2 && kill_after > 0) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_alarm;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGALRM, &sa, NULL);
    alarm((unsigned)kill_after);
  }
  if (trapping) eb_wake_ring(&trapped_wake);
  errno = saved;
}

static void untrap (void) {
  if (!trapping) return;
  sigaction(SIGINT, &old_int, NULL);
  sigaction(SIGTERM, &old_term, NULL);
  trapping = 0;
}

/* A child begins with its parent's handlers: a signal meant for it waits until
** they are gone, or it would be taken as the parent's and forgotten. */
static _Thread_local sigset_t mask_before_fork;
/* Others' handlers may fork within a fork: the outermost has the mask. */
static _Thread_local volatile sig_atomic_t forking;

static void before_fork (void) {
  sigset_t ours, before;
  sigemptyset(&ours);
  sigaddset(&ours, SIGINT);
  sigaddset(&ours, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ours, &before);
  if (forking++ == 0) mask_before_fork = before;
}

/* A child of an inner fork that goes on through the outer one is told here, too. */
static void in_parent (void) {
  if (forking > 0 && --forking == 0) pthread_sigmask(SIG_SETMASK, &mask_before_fork, NULL);
}

static void in_child (void) {
  untrap();
  signal_count = 0;
  forking = 0;
  pthread_sigmask(SIG_SETMASK, &mask_before_fork, NULL);
}

static void watch (void) {
  pthread_atfork(before_fork, in_parent, in_child);
}

/* trap(bus [, seconds]): begins to catch both signals for it. After a second
** one the process may live that long, whatever it does. */
int lua_signal_trap (lua_State *L) {
  eb_bus *bus = lua_bus_get(lua_bus_check(L, 1));
  lua_Number seconds = luaL_optnumber(L, 2, 0);
  struct sigaction sa;
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (bus == NULL) return luaL_error(L, "the bus is closed");
  pthread_once(&once, watch);
  if (trapping) return luaL_error(L, "signals are trapped by another bus");
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = on_signal;
  sigemptyset(&sa.sa_mask);
  trapped_wake = *eb_bus_wake(bus);
  last_signal = signal_count = 0;
  kill_after = seconds <= 0 ? 0 : seconds < 1 ? 1 : seconds > 3600 ? 3600 : (int)seconds;
  trapped_for = bus;
  trapping = 1;
  sigaction(SIGINT, &sa, &old_int);
  sigaction(SIGTERM, &sa, &old_term);
  return 0;
}

int lua_signal_untrap (lua_State *L) {
  (void)L;
  untrap();
  return 0;
}

void lua_signal_release (const eb_bus *bus) {
  if (trapping && trapped_for == bus) untrap();
}

/* trapped() -> number of the last signal, how many came; nil when none. */
int lua_signal_trapped (lua_State *L) {
  if (signal_count == 0) return 0;
  lua_pushinteger(L, last_signal);
  lua_pushinteger(L, signal_count);
  return 2;
}
