/* scarce: memory that runs out at one chosen allocation, or from one on. Takes the place of malloc in the program that
 * includes it, in front of the C library's or a sanitizer's: one translation unit only.
 *
 * scarce_every(run) calls run() with the 1st, 2nd, 3rd... allocation failing, until none fails; scarce_for_good(run)
 * with all from that one on. Only what is asked for while *scarce_gate is true counts, whichever thread asks. After each
 * run there must be as many blocks and descriptors as before it.
 */
#ifndef SCARCE_H
#define SCARCE_H

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(EB_ASAN) || defined(EB_TSAN)
#define SCARCE_REAL(name) __interceptor_##name
#else
#define SCARCE_REAL(name) __libc_##name
#endif

/* Called before a sanitizer is ready. */
#define SCARCE_EARLY __attribute__((no_sanitize("address", "thread", "undefined")))

void *SCARCE_REAL(malloc) (size_t n);
void *SCARCE_REAL(calloc) (size_t n, size_t size);
void *SCARCE_REAL(realloc) (void *p, size_t n);
void SCARCE_REAL(free) (void *p);
/* Seen by the libraries, too, but for a sanitizer, whose own allocations come from them. */
#if defined(EB_ASAN) || defined(EB_TSAN)
#pragma GCC visibility push(hidden)
#else
#pragma GCC visibility push(default)
#endif
void *malloc (size_t n);
void *calloc (size_t n, size_t size);
void *realloc (void *p, size_t n);
void free (void *p);
char *strdup (const char *text);
#pragma GCC visibility pop

static atomic_long scarce_live;
static atomic_long scarce_asked, scarce_fails_at, scarce_failed;
static atomic_long scarce_pages;     /* that rabbitmq-c may have lost */
static bool scarce_lasts;            /* those behind the chosen one fail, too */
static const atomic_bool *scarce_gate;

/* amqp_pool_alloc of rabbitmq-c 0.11 loses the block it has just made when the list of the pool's blocks, which is grown
 * behind that by malloc or realloc, cannot grow. */
SCARCE_EARLY static bool scarce_loses_page (const void *caller) {
  Dl_info info;
  if (dladdr(caller, &info) == 0 || strstr(info.dli_fname, "rabbitmq") == NULL) return false;
  void *frames[12];
  int n = backtrace(frames, 12);
  for (int i = 0; i < n; i++)
    if (dladdr(frames[i], &info) != 0 && info.dli_sname != NULL && strcmp(info.dli_sname, "amqp_pool_alloc") == 0)
      return true;
  return false;
}

SCARCE_EARLY static bool scarce_out (void) {
  if (scarce_gate == NULL || !*scarce_gate || scarce_fails_at == 0) return false;
  long n = ++scarce_asked;
  if (n < scarce_fails_at || (n > scarce_fails_at && !scarce_lasts)) return false;
  scarce_failed++;
  errno = ENOMEM;
  return true;
}

SCARCE_EARLY void *malloc (size_t n) {
  if (scarce_out()) {
    if (scarce_loses_page(__builtin_return_address(0))) scarce_pages++;
    return NULL;
  }
  void *p = SCARCE_REAL(malloc)(n);
  if (p != NULL) atomic_fetch_add(&scarce_live, 1);
  return p;
}

SCARCE_EARLY void *calloc (size_t n, size_t size) {
  void *p = scarce_out() ? NULL : SCARCE_REAL(calloc)(n, size);
  if (p != NULL) atomic_fetch_add(&scarce_live, 1);
  return p;
}

SCARCE_EARLY void *realloc (void *old, size_t n) {
  if (scarce_out()) {
    if (scarce_loses_page(__builtin_return_address(0))) scarce_pages++;
    return NULL;
  }
  void *p = SCARCE_REAL(realloc)(old, n);
  if (p != NULL && old == NULL) atomic_fetch_add(&scarce_live, 1);
  return p;
}

SCARCE_EARLY void free (void *p) {
  if (p != NULL) atomic_fetch_sub(&scarce_live, 1);
  SCARCE_REAL(free)(p);
}

/* The C library's own, and a sanitizer's, need not ask this malloc. */
char *strdup (const char *text) {
  size_t n = strlen(text) + 1;
  char *p = malloc(n);
  return p == NULL ? NULL : memcpy(p, text, n);
}

/* What is taken once is not to look lost. */
__attribute__((constructor)) static void scarce_begin (void) {
  static char out[BUFSIZ];
  void *frame;
  setvbuf(stdout, out, _IOFBF, sizeof out);
  backtrace(&frame, 1);  /* the first one loads its library */
}

/* The lowest that is free: higher after a run that leaves one open. */
static int scarce_descriptor (void) {
  int fd = dup(STDOUT_FILENO);
  close(fd);
  return fd;
}

/* Before a run: its n-th allocation fails; 0: none. */
static void scarce_at (long n) {
  scarce_asked = scarce_failed = scarce_pages = 0;
  scarce_fails_at = n;
}

/* Whether 'run' survived the failure at its n-th allocation, and left nothing behind. */
static bool scarce_survives (bool (*run)(void), long n) {
  long before = atomic_load(&scarce_live);
  int descriptor = scarce_descriptor();
  scarce_at(n);
  bool ok = run();
  scarce_fails_at = 0;
  long left = atomic_load(&scarce_live) - before;
  if (!ok) printf("allocation %ld: not survived\n", n);
  if (left < 0 || left > scarce_pages) printf("allocation %ld: %ld blocks are left behind\n", n, left);
  if (scarce_descriptor() != descriptor) printf("allocation %ld: a descriptor stays open\n", n);
  return ok && left >= 0 && left <= scarce_pages && scarce_descriptor() == descriptor;
}

/* 0, or the allocation whose failure 'run' did not survive. */
static long scarce_each (bool (*run)(void), bool lasts) {
  scarce_at(0);
  if (!run()) return -1;
  scarce_lasts = lasts;
  for (long n = 1; n < 20000; n++) {
    if (!scarce_survives(run, n)) return n;
    if (scarce_failed == 0) return 0;
  }
  return -2;
}

static inline long scarce_every (bool (*run)(void)) { return scarce_each(run, false); }
static inline long scarce_for_good (bool (*run)(void)) { return scarce_each(run, true); }

#endif
