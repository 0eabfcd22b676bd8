/* eb_arena: see eb_arena.h. */
#include "eb_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct chunk {
  struct chunk *next;
  size_t cap;
  size_t used;
  alignas(max_align_t) unsigned char bytes[];
} chunk;

struct eb_arena {
  union {
    chunk *last;         /* the one we allocate from; */
    eb_arena *next;      /* of a spare one: the next */
  };
  size_t total;
  alignas(max_align_t) chunk first;
};

enum { MIN_CHUNK = 512 };

static size_t aligned (size_t n) {
  const size_t a = alignof(max_align_t);
  return (n + a - 1) & ~(a - 1);
}

eb_arena *eb_arena_new (size_t hint) {
  if (hint > SIZE_MAX / 4) return NULL;
  hint = aligned(hint);
  size_t size = sizeof(eb_arena) + hint;
  eb_arena *a = malloc(size);
  if (a == NULL) return NULL;
  a->first.next = NULL;
  a->first.cap = hint;
  a->first.used = 0;
  a->last = &a->first;
  a->total = size;
  return a;
}

void eb_arena_free (eb_arena *a) {
  if (a == NULL) return;
  for (chunk *c = a->first.next; c != NULL;) {
    chunk *next = c->next;
    free(c);
    c = next;
  }
  free(a);
}

void *eb_arena_alloc (eb_arena *a, size_t n) {
  if (n > SIZE_MAX / 4) return NULL;
  n = aligned(n);
  chunk *c = a->last;
  if (c->cap - c->used < n) {
    size_t cap = n > MIN_CHUNK ? n : MIN_CHUNK;
    chunk *fresh = malloc(sizeof *fresh + cap);
    if (fresh == NULL) return NULL;
    fresh->next = NULL;
    fresh->cap = cap;
    fresh->used = 0;
    c->next = fresh;
    a->last = c = fresh;
    a->total += sizeof *fresh + cap;
  }
  void *p = c->bytes + c->used;
  c->used += n;
  return p;
}

char *eb_arena_copy (eb_arena *a, const void *p, size_t n) {
  if (n == SIZE_MAX) return NULL;
  char *to = eb_arena_alloc(a, n + 1);
  if (to == NULL) return NULL;
  if (n > 0) memcpy(to, p, n);
  to[n] = '\0';
  return to;
}

size_t eb_arena_size (const eb_arena *a) {
  return a->total;
}

enum { SPARE_STEP = 256, SPARE_MOST = 4096 };

static eb_arena *pop (eb_spares *s) {
  eb_arena *a = s->first;
  s->first = a->next;
  s->bytes -= a->total;
  a->last = &a->first;
  return a;
}

eb_arena *eb_spares_take (eb_spares *s, size_t hint) {
  if (s->first != NULL) {
    eb_arena *a = pop(s);
    eb_prefetch(s->first, hint);  /* for the next, while this one is filled */
    if (a->first.cap >= hint) return a;
    eb_arena_free(a);
  }
  if (hint > SPARE_MOST) return eb_arena_new(hint);
  /* So that the next one, up to an eighth larger, fits as well. */
  size_t size = (hint + hint / 8 + SPARE_STEP - 1) / SPARE_STEP * SPARE_STEP;
  return eb_arena_new(size < SPARE_MOST ? size : SPARE_MOST);
}

void eb_spares_give (eb_spares *s, eb_arena *a) {
#if defined(EB_ASAN)  /* which finds what is used after it was given back */
  (void)s;
#else
  if (s->bytes + a->total <= EB_SPARES && a->first.next == NULL &&
      a->first.cap <= SPARE_MOST) {
    a->first.used = 0;
    a->next = s->first;
    s->first = a;
    s->bytes += a->total;
    return;
  }
#endif
  eb_arena_free(a);
}

void eb_spares_fini (eb_spares *s) {
  while (s->first != NULL) eb_arena_free(pop(s));
}
