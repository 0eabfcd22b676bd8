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

typedef struct eb_buffer {
  uint8_t *data;  /* the allocation; live bytes are data[head .. tail) */
  size_t head;
  size_t tail;
  size_t cap;
} eb_buffer;

void eb_buffer_init (eb_buffer *b);
void eb_buffer_fini (eb_buffer *b);

/* Room for n more bytes at the end; NULL when memory is out. The pointer
** is good until the next call that grows. */
uint8_t *eb_buffer_reserve (eb_buffer *b, size_t n);

/* Bytes written behind a reserve become live. */
void eb_buffer_commit (eb_buffer *b, size_t n);

bool eb_buffer_append (eb_buffer *b, const void *p, size_t n);
bool eb_buffer_putc (eb_buffer *b, int c);

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
