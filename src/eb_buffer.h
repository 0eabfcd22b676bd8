/* eb_buffer: bytes that grow at the end and are consumed at the front.
**
** A buffer that has overflowed its limit or run out of memory says so and
** keeps what it had. Embedded: init/fini; fini may be called twice.
** Thread: any, one at a time.
*/
#ifndef EB_BUFFER_H
#define EB_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct eb_buffer {
  uint8_t *data;  /* the allocation; live bytes are data[head .. tail) */
  size_t head;
  size_t tail;
  size_t cap;
} eb_buffer;

void eb_buffer_init (eb_buffer *b);
void eb_buffer_fini (eb_buffer *b);

uint8_t *eb_buffer_grow (eb_buffer *b, size_t n);

/* Room for n more bytes at the end; NULL when memory is out. The pointer
** is good until the next call that grows. Inline, as are the next three: JSON is
** written a byte and a word at a time. */
static inline uint8_t *eb_buffer_reserve (eb_buffer *b, size_t n) {
  return b->cap - b->tail >= n && b->data != NULL ? b->data + b->tail
                                                  : eb_buffer_grow(b, n);
}

/* Bytes written behind a reserve become live. */
static inline void eb_buffer_commit (eb_buffer *b, size_t n) { b->tail += n; }

static inline bool eb_buffer_append (eb_buffer *b, const void *p, size_t n) {
  if (n == 0) return true;
  uint8_t *to = eb_buffer_reserve(b, n);
  if (to == NULL) return false;
  memcpy(to, p, n);
  b->tail += n;
  return true;
}

static inline bool eb_buffer_putc (eb_buffer *b, int c) {
  uint8_t *to = eb_buffer_reserve(b, 1);
  if (to == NULL) return false;
  *to = (uint8_t)c;
  b->tail++;
  return true;
}

/* The first live byte, and how many are live. */
static inline const uint8_t *eb_buffer_bytes (const eb_buffer *b) {
  return b->data + b->head;
}
static inline size_t eb_buffer_size (const eb_buffer *b) {
  return b->tail - b->head;
}

/* Drops n bytes at the front; n at most the size. */
void eb_buffer_consume (eb_buffer *b, size_t n);

/* Drops what lies behind the first 'size' live bytes: the rollback of a
** message half encoded. */
void eb_buffer_truncate (eb_buffer *b, size_t size);

/* Gives a large idle allocation back; live bytes are kept. */
void eb_buffer_shrink (eb_buffer *b, size_t keep);

#endif
