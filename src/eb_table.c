/* eb_table: see eb_table.h. */
#include "eb_table.h"

#include <string.h>

bool eb_bytes_equal (eb_bytes a, eb_bytes b) {
  if (a.n != b.n || (a.p == NULL) != (b.p == NULL)) return false;
  return a.n == 0 || memcmp(a.p, b.p, a.n) == 0;
}

const eb_field *eb_table_find (const eb_table *t, const char *key) {
  if (t == NULL) return NULL;
  eb_bytes name = eb_bytes_of(key, strlen(key));
  for (size_t i = 0; i < t->count; i++)
    if (eb_bytes_equal(t->pairs[i].key, name)) return &t->pairs[i].value;
  return NULL;
}

const eb_table *eb_table_with (eb_arena *a, const eb_table *t, const char *key,
                               const eb_field *value) {
  size_t count = t == NULL ? 0 : t->count;
  eb_table *to = eb_arena_alloc(a, sizeof *to);
  if (to == NULL) return NULL;
  to->count = count + 1;
  to->pairs = eb_arena_alloc(a, to->count * sizeof *to->pairs);
  if (to->pairs == NULL) return NULL;
  to->pairs[0].key = eb_bytes_of(key, strlen(key));
  to->pairs[0].value = *value;
  if (count > 0) memcpy(to->pairs + 1, t->pairs, count * sizeof *t->pairs);
  return to;
}

static bool copy_bytes (eb_arena *a, eb_bytes from, eb_bytes *to) {
  *to = from;
  if (from.p == NULL) return true;
  to->p = eb_arena_copy(a, from.p, from.n);
  return to->p != NULL;
}

static eb_table *copy_table (eb_arena *a, const eb_table *t, int depth);

static bool copy_field (eb_arena *a, const eb_field *from, eb_field *to,
                        int depth) {
  *to = *from;
  switch (from->kind) {
    case EB_FIELD_STRING:
    case EB_FIELD_BYTES:
      return copy_bytes(a, from->as.bytes, &to->as.bytes);
    case EB_FIELD_TABLE:
      to->as.table = copy_table(a, from->as.table, depth + 1);
      return to->as.table != NULL;
    case EB_FIELD_ARRAY: {
      if (depth >= EB_TABLE_MAX_DEPTH) return false;
      const eb_array *src = from->as.array;
      eb_array *dst = eb_arena_alloc(a, sizeof *dst);
      if (dst == NULL) return false;
      dst->count = src->count;
      dst->items = eb_arena_alloc(a, src->count * sizeof *dst->items);
      if (dst->items == NULL) return false;
      for (size_t i = 0; i < src->count; i++)
        if (!copy_field(a, &src->items[i], &dst->items[i], depth + 1))
          return false;
      to->as.array = dst;
      return true;
    }
    default:
      return true;
  }
}

static eb_table *copy_table (eb_arena *a, const eb_table *t, int depth) {
  if (depth >= EB_TABLE_MAX_DEPTH) return NULL;
  eb_table *to = eb_arena_alloc(a, sizeof *to);
  if (to == NULL) return NULL;
  to->count = t->count;
  to->pairs = eb_arena_alloc(a, t->count * sizeof *to->pairs);
  if (to->pairs == NULL) return NULL;
  for (size_t i = 0; i < t->count; i++)
    if (!copy_bytes(a, t->pairs[i].key, &to->pairs[i].key) ||
        !copy_field(a, &t->pairs[i].value, &to->pairs[i].value, depth))
      return NULL;
  return to;
}

eb_table *eb_table_copy (eb_arena *a, const eb_table *t) {
  return copy_table(a, t, 0);
}
