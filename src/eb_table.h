/* eb_table: AMQP field tables as plain values, without AMQP headers.
**
** Headers and arguments cross the engine in this form; the codec turns them
** into wire fields. Everything points into the arena of the operation or the
** delivery that carries it. AMQP 0-9-1 section 4.2.5, and the types RabbitMQ
** adds or omits (https://www.rabbitmq.com/amqp-0-9-1-errata, section 3).
** Thread: any, one at a time.
*/
#ifndef EB_TABLE_H
#define EB_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eb_arena.h"

enum {
  EB_TABLE_MAX_DEPTH = 32,  /* nested tables and arrays we accept */
  EB_SHORTSTR_MAX = 255     /* bytes: names, keys, ids, types */
};

typedef struct eb_bytes {
  const char *p;  /* NULL means absent; "" is present and empty */
  size_t n;
} eb_bytes;

typedef enum eb_field_kind {
  EB_FIELD_VOID,
  EB_FIELD_BOOL,
  EB_FIELD_INT,        /* every integer width; written as 'l' */
  EB_FIELD_DOUBLE,
  EB_FIELD_STRING,     /* long string, any bytes */
  EB_FIELD_BYTES,      /* 'x' */
  EB_FIELD_TIMESTAMP,  /* seconds since 1970 */
  EB_FIELD_TABLE,
  EB_FIELD_ARRAY
} eb_field_kind;

typedef struct eb_table eb_table;
typedef struct eb_array eb_array;

typedef struct eb_field {
  eb_field_kind kind;
  union {
    bool boolean;
    int64_t integer;
    double number;
    eb_bytes bytes;
    const eb_table *table;
    const eb_array *array;
  } as;
} eb_field;

typedef struct eb_pair {
  eb_bytes key;
  eb_field value;
} eb_pair;

struct eb_table {
  size_t count;
  eb_pair *pairs;
};

struct eb_array {
  size_t count;
  eb_field *items;
};

static inline eb_bytes eb_bytes_of (const char *p, size_t n) {
  eb_bytes b = {p, n};
  return b;
}

bool eb_bytes_equal (eb_bytes a, eb_bytes b);

/* The first pair of that key, or NULL. */
const eb_field *eb_table_find (const eb_table *t, const char *key);

/* A table of 't' (NULL: empty) and one pair more, which share what they point
** to; 'key' outlives it. NULL when memory is out. */
const eb_table *eb_table_with (eb_arena *a, const eb_table *t, const char *key,
                               const eb_field *value);

/* A deep copy into another arena; NULL when memory is out or the table is
** nested deeper than EB_TABLE_MAX_DEPTH. */
eb_table *eb_table_copy (eb_arena *a, const eb_table *t);

#endif
