/* scarce: memory that runs out at one chosen allocation. Takes the place of malloc in the program that includes it, so
 * one translation unit only, and not where a sanitizer owns malloc.
 *
 * scarce_every(run) calls run() with the 1st, 2nd, 3rd... allocation failing, until none fails. Only what is asked for
 * while *scarce_gate is true counts, whichever thread asks.
 */
#ifndef SCARCE_H
#define SCARCE_H

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc (size_t n);
void *__libc_calloc (size_t n, size_t size);
void *__libc_realloc (void *p, size_t n);
void __libc_free (void *p);
void *malloc (size_t n);
void *calloc (size_t n, size_t size);
void *realloc (void *p, size_t n);
void free (void *p);
char *strdup (const char *text);

static atomic_long scarce_live;
static atomic_long scarce_asked, scarce_fails_at, scarce_failed;
static const bool *scarce_gate;
static bool scarce_librarys;  /* rabbitmq-c asked: its pools lose what they had when their list cannot grow */

static bool scarce_out (const void *caller) {
  if (scarce_gate == NULL || !*scarce_gate || scarce_fails_at == 0) return false;
  if (++scarce_asked != scarce_fails_at) return false;
  Dl_info info;
  scarce_librarys = dladdr(caller, &info) != 0 && strstr(info.dli_fname, "rabbitmq") != NULL;
  scarce_failed++;
  return true;
}

void *malloc (size_t n) {
  void *p = scarce_out(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
  if (p != NULL) atomic_fetch_add(&scarce_live, 1);
  return p;
}

void *calloc (size_t n, size_t size) {
  void *p = scarce_out(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
  if (p != NULL) atomic_fetch_add(&scarce_live, 1);
  return p;
}

void *realloc (void *old, size_t n) {
  void *p = scarce_out(__builtin_return_address(0)) ? NULL : __libc_realloc(old, n);
  if (p != NULL && old == NULL) atomic_fetch_add(&scarce_live, 1);
  return p;
}

void free (void *p) {
  if (p != NULL) atomic_fetch_sub(&scarce_live, 1);
  __libc_free(p);
}

/* The C library's own would ask its own malloc. */
char *strdup (const char *text) {
  size_t n = strlen(text) + 1;
  char *p = malloc(n);
  return p == NULL ? NULL : memcpy(p, text, n);
}

/* Before a run: its n-th allocation fails; 0: none. */
static void scarce_at (long n) {
  scarce_asked = scarce_failed = 0;
  scarce_librarys = false;
  scarce_fails_at = n;
}

/* 0, or the allocation whose failure 'run' did not survive (it returned false) or after which something leaked. */
static long scarce_every (bool (*run)(void)) {
  scarce_at(0);
  if (!run()) return -1;
  for (long n = 1; n < 5000; n++) {
    long before = atomic_load(&scarce_live);
    scarce_at(n);
    bool ok = run();
    scarce_fails_at = 0;
    if (!ok || (atomic_load(&scarce_live) != before && !scarce_librarys)) return n;
    if (scarce_failed == 0) return 0;
  }
  return -2;
}

#endif
