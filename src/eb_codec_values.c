/* eb_codec_values: field tables and properties, between our structs and those of
** rabbitmq-c. See eb_codec.h.
*/
#include <string.h>

#include "eb_codec.h"

amqp_bytes_t eb_codec_bytes (eb_bytes b) {
  amqp_bytes_t a;
  a.len = b.p == NULL ? 0 : b.n;
  a.bytes = (void *)(uintptr_t)b.p;
  return a;
}

amqp_bytes_t eb_codec_cstring (const char *s) {
  return eb_codec_bytes(eb_bytes_of(s, strlen(s)));
}

amqp_bytes_t eb_codec_find_text (const amqp_table_t *table, const char *key) {
  const amqp_bytes_t want = eb_codec_cstring(key);
  for (int i = 0; i < table->num_entries; i++) {
    const amqp_table_entry_t *e = &table->entries[i];
    if (e->value.kind == AMQP_FIELD_KIND_UTF8 && e->key.len == want.len &&
        memcmp(e->key.bytes, want.bytes, want.len) == 0)
      return e->value.value.bytes;
  }
  return eb_codec_cstring("");
}

static size_t field_size (const eb_field *f) {
  switch (f->kind) {
    case EB_FIELD_VOID: return 1;
    case EB_FIELD_BOOL: return 2;
    case EB_FIELD_STRING: case EB_FIELD_BYTES: return 5 + f->as.bytes.n;
    case EB_FIELD_TABLE: return 1 + eb_codec_table_size(f->as.table);
    case EB_FIELD_ARRAY: {
      size_t n = 5;
      for (size_t i = 0; i < f->as.array->count; i++)
        n += field_size(&f->as.array->items[i]);
      return n;
    }
    default: return 9;
  }
}

size_t eb_codec_table_size (const eb_table *t) {
  size_t n = 4;
  if (t == NULL) return n;
  for (size_t i = 0; i < t->count; i++)
    n += 1 + t->pairs[i].key.n + field_size(&t->pairs[i].value);
  return n;
}

static bool from_field (amqp_pool_t *pool, const eb_field *f,
                        amqp_field_value_t *to);

static bool from_array (amqp_pool_t *pool, const eb_array *a,
                        amqp_array_t *to) {
  to->num_entries = (int)a->count;
  to->entries = NULL;
  if (a->count == 0) return true;
  to->entries = amqp_pool_alloc(pool, a->count * sizeof *to->entries);
  if (to->entries == NULL) return false;
  for (size_t i = 0; i < a->count; i++)
    if (!from_field(pool, &a->items[i], &to->entries[i])) return false;
  return true;
}

static bool from_field (amqp_pool_t *pool, const eb_field *f,
                        amqp_field_value_t *to) {
  switch (f->kind) {
    case EB_FIELD_VOID: to->kind = AMQP_FIELD_KIND_VOID; return true;
    case EB_FIELD_BOOL:
      to->kind = AMQP_FIELD_KIND_BOOLEAN;
      to->value.boolean = f->as.boolean;
      return true;
    case EB_FIELD_INT:
      to->kind = AMQP_FIELD_KIND_I64;
      to->value.i64 = f->as.integer;
      return true;
    case EB_FIELD_DOUBLE:
      to->kind = AMQP_FIELD_KIND_F64;
      to->value.f64 = f->as.number;
      return true;
    case EB_FIELD_TIMESTAMP:
      to->kind = AMQP_FIELD_KIND_TIMESTAMP;
      to->value.u64 = (uint64_t)f->as.integer;
      return true;
    case EB_FIELD_STRING:
      to->kind = AMQP_FIELD_KIND_UTF8;
      to->value.bytes = eb_codec_bytes(f->as.bytes);
      return true;
    case EB_FIELD_BYTES:
      to->kind = AMQP_FIELD_KIND_BYTES;
      to->value.bytes = eb_codec_bytes(f->as.bytes);
      return true;
    case EB_FIELD_TABLE:
      to->kind = AMQP_FIELD_KIND_TABLE;
      return eb_codec_from_table(pool, f->as.table, &to->value.table);
    case EB_FIELD_ARRAY:
      to->kind = AMQP_FIELD_KIND_ARRAY;
      return from_array(pool, f->as.array, &to->value.array);
  }
  return false;
}

bool eb_codec_from_table (amqp_pool_t *pool, const eb_table *t,
                          amqp_table_t *to) {
  to->num_entries = 0;
  to->entries = NULL;
  if (t == NULL || t->count == 0) return true;
  to->entries = amqp_pool_alloc(pool, t->count * sizeof *to->entries);
  if (to->entries == NULL) return false;
  for (size_t i = 0; i < t->count; i++) {
    to->entries[i].key = eb_codec_bytes(t->pairs[i].key);
    if (!from_field(pool, &t->pairs[i].value, &to->entries[i].value))
      return false;
  }
  to->num_entries = (int)t->count;
  return true;
}

bool eb_codec_from_properties (amqp_pool_t *pool, const eb_properties *from,
                               amqp_basic_properties_t *to) {
  amqp_flags_t flags = 0;
#define NAME(field, FLAG)                        \
  if (from->field.p != NULL) {                   \
    flags |= AMQP_BASIC_##FLAG##_FLAG;           \
    to->field = eb_codec_bytes(from->field);     \
  }
  NAME(content_type, CONTENT_TYPE)
  NAME(content_encoding, CONTENT_ENCODING)
  NAME(correlation_id, CORRELATION_ID)
  NAME(reply_to, REPLY_TO)
  NAME(expiration, EXPIRATION)
  NAME(message_id, MESSAGE_ID)
  NAME(type, TYPE)
  NAME(user_id, USER_ID)
  NAME(app_id, APP_ID)
#undef NAME
  if (from->headers != NULL && from->headers->count > 0) {
    flags |= AMQP_BASIC_HEADERS_FLAG;
    if (!eb_codec_from_table(pool, from->headers, &to->headers)) return false;
  }
  if (from->delivery_mode != 0) {
    flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
    to->delivery_mode = from->delivery_mode;
  }
  if (from->has_priority) {
    flags |= AMQP_BASIC_PRIORITY_FLAG;
    to->priority = from->priority;
  }
  if (from->has_timestamp) {
    flags |= AMQP_BASIC_TIMESTAMP_FLAG;
    to->timestamp = from->timestamp;
  }
  to->_flags = flags;
  return true;
}

/* Copying out of rabbitmq-c's structs. */

bool eb_codec_to_bytes (eb_arena *a, amqp_bytes_t from, eb_bytes *to) {
  char *p = eb_arena_copy(a, from.bytes, from.len);
  *to = eb_bytes_of(p, from.len);
  return p != NULL;
}

static bool to_table (eb_arena *a, const amqp_table_t *from,
                      const eb_table **to);

static bool to_field (eb_arena *a, const amqp_field_value_t *from,
                      eb_field *to) {
  to->kind = EB_FIELD_INT;
  switch (from->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
      to->kind = EB_FIELD_BOOL;
      to->as.boolean = from->value.boolean != 0;
      return true;
    case AMQP_FIELD_KIND_I8: to->as.integer = from->value.i8; return true;
    case AMQP_FIELD_KIND_U8: to->as.integer = from->value.u8; return true;
    case AMQP_FIELD_KIND_I16: to->as.integer = from->value.i16; return true;
    case AMQP_FIELD_KIND_U16: to->as.integer = from->value.u16; return true;
    case AMQP_FIELD_KIND_I32: to->as.integer = from->value.i32; return true;
    case AMQP_FIELD_KIND_U32: to->as.integer = from->value.u32; return true;
    case AMQP_FIELD_KIND_I64: to->as.integer = from->value.i64; return true;
    case AMQP_FIELD_KIND_U64:
      if (from->value.u64 <= INT64_MAX) {
        to->as.integer = (int64_t)from->value.u64;
      } else {
        to->kind = EB_FIELD_DOUBLE;
        to->as.number = (double)from->value.u64;
      }
      return true;
    case AMQP_FIELD_KIND_TIMESTAMP:
      to->kind = EB_FIELD_TIMESTAMP;
      to->as.integer = (int64_t)from->value.u64;
      return true;
    case AMQP_FIELD_KIND_F32:
      to->kind = EB_FIELD_DOUBLE;
      to->as.number = (double)from->value.f32;
      return true;
    case AMQP_FIELD_KIND_F64:
      to->kind = EB_FIELD_DOUBLE;
      to->as.number = from->value.f64;
      return true;
    case AMQP_FIELD_KIND_DECIMAL: {
      double v = (double)from->value.decimal.value;
      for (unsigned i = 0; i < from->value.decimal.decimals; i++) v /= 10;
      to->kind = EB_FIELD_DOUBLE;
      to->as.number = v;
      return true;
    }
    case AMQP_FIELD_KIND_UTF8:
      to->kind = EB_FIELD_STRING;
      return eb_codec_to_bytes(a, from->value.bytes, &to->as.bytes);
    case AMQP_FIELD_KIND_BYTES:
      to->kind = EB_FIELD_BYTES;
      return eb_codec_to_bytes(a, from->value.bytes, &to->as.bytes);
    case AMQP_FIELD_KIND_TABLE:
      to->kind = EB_FIELD_TABLE;
      return to_table(a, &from->value.table, &to->as.table);
    case AMQP_FIELD_KIND_ARRAY: {
      size_t count = (size_t)from->value.array.num_entries;
      eb_array *array = eb_arena_alloc(a, sizeof *array);
      if (array == NULL) return false;
      array->count = count;
      array->items = eb_arena_alloc(a, count * sizeof *array->items);
      if (array->items == NULL) return false;
      for (size_t i = 0; i < count; i++)
        if (!to_field(a, &from->value.array.entries[i], &array->items[i]))
          return false;
      to->kind = EB_FIELD_ARRAY;
      to->as.array = array;
      return true;
    }
    default:
      to->kind = EB_FIELD_VOID;
      return true;
  }
}

static bool to_table (eb_arena *a, const amqp_table_t *from,
                      const eb_table **to) {
  size_t count = (size_t)from->num_entries;
  eb_table *t = eb_arena_alloc(a, sizeof *t);
  if (t == NULL) return false;
  t->count = count;
  t->pairs = eb_arena_alloc(a, count * sizeof *t->pairs);
  if (t->pairs == NULL) return false;
  for (size_t i = 0; i < count; i++)
    if (!eb_codec_to_bytes(a, from->entries[i].key, &t->pairs[i].key) ||
        !to_field(a, &from->entries[i].value, &t->pairs[i].value))
      return false;
  *to = t;
  return true;
}

bool eb_codec_to_properties (eb_arena *a, const amqp_basic_properties_t *from,
                             eb_properties *to) {
  const amqp_flags_t flags = from->_flags;
#define NAME(field, FLAG)                                     \
  if ((flags & AMQP_BASIC_##FLAG##_FLAG) &&                   \
      !eb_codec_to_bytes(a, from->field, &to->field))         \
    return false;
  NAME(content_type, CONTENT_TYPE)
  NAME(content_encoding, CONTENT_ENCODING)
  NAME(correlation_id, CORRELATION_ID)
  NAME(reply_to, REPLY_TO)
  NAME(expiration, EXPIRATION)
  NAME(message_id, MESSAGE_ID)
  NAME(type, TYPE)
  NAME(user_id, USER_ID)
  NAME(app_id, APP_ID)
#undef NAME
  if ((flags & AMQP_BASIC_HEADERS_FLAG) &&
      !to_table(a, &from->headers, &to->headers))
    return false;
  if (flags & AMQP_BASIC_DELIVERY_MODE_FLAG)
    to->delivery_mode = from->delivery_mode;
  if (flags & AMQP_BASIC_PRIORITY_FLAG) {
    to->has_priority = true;
    to->priority = from->priority;
  }
  if (flags & AMQP_BASIC_TIMESTAMP_FLAG) {
    to->has_timestamp = true;
    to->timestamp = from->timestamp;
  }
  return true;
}
