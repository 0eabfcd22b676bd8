/* eb_buffer: see eb_buffer.h. */
#include "eb_buffer.h"

#include <stdlib.h>
#include <string.h>

void eb_buffer_init (eb_buffer *b) {
  b->data = NULL;
  b->head = b->tail = b->cap = 0;
}

void eb_buffer_fini (eb_buffer *b) {
  if (b == NULL) return;
  free(b->data);
  eb_buffer_init(b);
}

/* The slow way of a reserve: there is no room yet. */
uint8_t *eb_buffer_grow (eb_buffer *b, size_t n) {
  if (b->cap - b->tail >= n) return b->data + b->tail;
  size_t size = eb_buffer_size(b);
  if (n > SIZE_MAX / 2 - size) return NULL;
  if (b->head >= size && b->cap - size >= n) {  /* half is dead: move down */
    memcpy(b->data, b->data + b->head, size);
    b->head = 0;
    b->tail = size;
    return b->data + b->tail;
  }
  size_t cap = b->cap < 256 ? 256 : b->cap;
  while (cap < size + n) cap *= 2;
  if (b->head > 0) {
    memmove(b->data, b->data + b->head, size);
    b->head = 0;
    b->tail = size;
  }
  uint8_t *data = realloc(b->data, cap);  /* what is large is moved without a copy */
  if (data == NULL) return NULL;
  b->data = data;
  b->cap = cap;
  return b->data + b->tail;
}

void eb_buffer_consume (eb_buffer *b, size_t n) {
  b->head += n;
  if (b->head == b->tail) b->head = b->tail = 0;
}

void eb_buffer_truncate (eb_buffer *b, size_t size) {
  b->tail = b->head + size;
  if (size == 0) b->head = b->tail = 0;
}

void eb_buffer_shrink (eb_buffer *b, size_t keep) {
  size_t size = eb_buffer_size(b);
  if (b->cap <= keep) return;
  if (size == 0) {
    eb_buffer_fini(b);
    return;
  }
  if (size > keep) return;
  uint8_t *data = malloc(keep);
  if (data == NULL) return;
  memcpy(data, b->data + b->head, size);
  free(b->data);
  b->data = data;
  b->head = 0;
  b->tail = size;
  b->cap = keep;
}
