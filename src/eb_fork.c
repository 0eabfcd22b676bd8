/* eb_fork: see eb_fork.h. */
#include "eb_fork.h"

#include <pthread.h>
#include <stdatomic.h>

static atomic_uint generation = 1;

static void in_child (void) {
  atomic_fetch_add(&generation, 1);
}

static void watch (void) {
  pthread_atfork(NULL, NULL, in_child);
}

unsigned eb_fork_generation (void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch);
  return atomic_load_explicit(&generation, memory_order_relaxed);
}
