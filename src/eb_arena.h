/* eb_arena: memory of one thing, given back at once.
**
** An operation, its names, headers and body live in one arena; mostly that is
** a single allocation. The arena is its own first chunk.
** Thread: any, one at a time; an arena moves between threads with its owner.
*/
#ifndef EB_ARENA_H
#define EB_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct eb_arena eb_arena;

/* An arena whose first chunk holds 'hint' bytes. NULL when memory is out. */
eb_arena *eb_arena_new (size_t hint);
void eb_arena_free (eb_arena *a);  /* NULL allowed */

/* Aligned for any type, not zeroed. NULL when memory is out; what was
** allocated before stays good. */
void *eb_arena_alloc (eb_arena *a, size_t n);

/* A copy of n bytes, with a '\0' behind it that does not count. */
char *eb_arena_copy (eb_arena *a, const void *p, size_t n);

/* Asks the processor for the first n bytes at p, a kilobyte at most, which are needed
** soon and likely in another core's cache. NULL, and what is not there, is ignored. */
static inline void eb_prefetch (const void *p, size_t n) {
  enum { LINE = 64, MOST = 1024 };
  uintptr_t at = (uintptr_t)p, end = at + (n < MOST ? n : MOST);
  if (p == NULL) return;
  for (; at < end; at += LINE) __builtin_prefetch((const void *)at);
}

/* Bytes allocated from the system. */
size_t eb_arena_size (const eb_arena *a);

/* Arenas that were given back, for use again: a message is made and gone within
** milliseconds, and the next is as large. Enough for a window of a thousand small
** ones; no more bytes than that, and none larger than a page. Embedded; all zero is
** an empty one. Thread: any, one at a time. */
enum { EB_SPARES = 2 * 1024 * 1024 };
typedef struct eb_spares {
  eb_arena *first;
  size_t bytes;
} eb_spares;

eb_arena *eb_spares_take (eb_spares *s, size_t hint);  /* as eb_arena_new */
void eb_spares_give (eb_spares *s, eb_arena *a);       /* as eb_arena_free */
void eb_spares_fini (eb_spares *s);

#endif
