/* eb_table: found by key, and copied so deeply that the source may go. */
#include "../../src/eb_table.h"

#include <string.h>

#include "check.h"

static eb_bytes text (const char *s) {
  return eb_bytes_of(s, strlen(s));
}

static eb_field integer (int64_t n) {
  eb_field f = {.kind = EB_FIELD_INT, .as.integer = n};
  return f;
}

/* A table of one pair, in 'a'. */
static eb_table *table_of (eb_arena *a, eb_bytes key, eb_field value) {
  eb_table *t = eb_arena_alloc(a, sizeof *t);
  if (t == NULL) return NULL;
  t->count = 1;
  t->pairs = eb_arena_alloc(a, sizeof *t->pairs);
  if (t->pairs == NULL) return NULL;
  t->pairs[0].key = key;
  t->pairs[0].value = value;
  return t;
}

TEST(absent_bytes_are_not_empty_bytes) {
  eb_bytes absent = eb_bytes_of(NULL, 0), empty = eb_bytes_of("", 0);
  CHECK(eb_bytes_equal(absent, absent));
  CHECK(eb_bytes_equal(empty, empty));
  CHECK(!eb_bytes_equal(absent, empty));
  CHECK(!eb_bytes_equal(empty, absent));
  CHECK(eb_bytes_equal(eb_bytes_of("a\0b", 3), eb_bytes_of("a\0b", 3)));
  CHECK(!eb_bytes_equal(eb_bytes_of("a\0b", 3), eb_bytes_of("a\0c", 3)));
  CHECK(!eb_bytes_equal(text("ab"), text("abc")));
}

TEST(finds_the_first_pair_of_a_key) {
  eb_pair pairs[] = {{text("a"), integer(1)}, {text("ab"), integer(2)},
                     {text("a"), integer(3)}, {text(""), integer(4)}};
  eb_table t = {4, pairs}, none = {0, NULL};
  CHECK(eb_table_find(&t, "a") == &pairs[0].value);
  CHECK(eb_table_find(&t, "ab") == &pairs[1].value);
  CHECK(eb_table_find(&t, "") == &pairs[3].value);
  CHECK(eb_table_find(&t, "b") == NULL);
  CHECK(eb_table_find(&none, "a") == NULL);
  CHECK(eb_table_find(NULL, "a") == NULL);
}

TEST(a_copy_outlives_its_source) {
  char key[] = "key", value[] = "va\0ue";
  eb_arena *from = eb_arena_new(0), *to = eb_arena_new(0);
  CHECK(from != NULL && to != NULL);
  eb_field items[] = {integer(INT64_MIN),
                      {.kind = EB_FIELD_DOUBLE, .as.number = 0.5},
                      {.kind = EB_FIELD_BOOL, .as.boolean = true},
                      {.kind = EB_FIELD_VOID},
                      {.kind = EB_FIELD_STRING, .as.bytes = {value, 5}},
                      {.kind = EB_FIELD_BYTES, .as.bytes = {NULL, 0}},
                      {.kind = EB_FIELD_TIMESTAMP, .as.integer = 1700000000}};
  eb_array array = {7, items};
  eb_field list = {.kind = EB_FIELD_ARRAY, .as.array = &array};
  eb_table *inner = table_of(from, eb_bytes_of(key, 3), list);
  CHECK(inner != NULL);
  eb_field nested = {.kind = EB_FIELD_TABLE, .as.table = inner};
  eb_table *outer = table_of(from, text("outer"), nested);
  CHECK(outer != NULL);
  eb_table *copy = eb_table_copy(to, outer);
  CHECK(copy != NULL);
  memset(key, '?', 3);
  memset(value, '?', 5);
  memset(items, 0x7F, sizeof items);
  eb_arena_free(from);
  const eb_field *table = eb_table_find(copy, "outer");
  CHECK(table != NULL && table->kind == EB_FIELD_TABLE);
  const eb_field *found = eb_table_find(table->as.table, "key");
  CHECK(found != NULL && found->kind == EB_FIELD_ARRAY);
  CHECK_INT(found->as.array->count, 7);
  const eb_field *got = found->as.array->items;
  CHECK(got[0].kind == EB_FIELD_INT && got[0].as.integer == INT64_MIN);
  CHECK(got[1].kind == EB_FIELD_DOUBLE && got[1].as.number == 0.5);
  CHECK(got[2].kind == EB_FIELD_BOOL && got[2].as.boolean);
  CHECK_INT(got[3].kind, EB_FIELD_VOID);
  CHECK(eb_bytes_equal(got[4].as.bytes, eb_bytes_of("va\0ue", 5)));
  CHECK(got[5].kind == EB_FIELD_BYTES && got[5].as.bytes.p == NULL);
  CHECK(got[6].kind == EB_FIELD_TIMESTAMP && got[6].as.integer == 1700000000);
  eb_arena_free(to);
}

TEST(empty_tables_and_arrays_copy) {
  eb_arena *a = eb_arena_new(0);
  CHECK(a != NULL);
  eb_array no_items = {0, NULL};
  eb_pair pair = {text("list"), {.kind = EB_FIELD_ARRAY, .as.array = &no_items}};
  eb_table t = {1, &pair}, none = {0, NULL};
  eb_table *copy = eb_table_copy(a, &none);
  CHECK(copy != NULL && copy->count == 0);
  copy = eb_table_copy(a, &t);
  CHECK(copy != NULL);
  CHECK_INT(eb_table_find(copy, "list")->as.array->count, 0);
  eb_arena_free(a);
}

/* Tables (and, for 'arrays', lists) nested 'depth' deep. */
static bool copies_nested (int depth, bool arrays) {
  eb_arena *a = eb_arena_new(0), *to = eb_arena_new(0);
  bool copied = false;
  if (a == NULL || to == NULL) goto done;
  eb_field value = integer(1);
  for (int i = 1; i < depth; i++) {
    if (arrays) {
      eb_array *list = eb_arena_alloc(a, sizeof *list);
      eb_field *item = eb_arena_alloc(a, sizeof *item);
      if (list == NULL || item == NULL) goto done;
      *item = value;
      list->count = 1;
      list->items = item;
      value.kind = EB_FIELD_ARRAY;
      value.as.array = list;
    } else {
      eb_table *t = table_of(a, text("k"), value);
      if (t == NULL) goto done;
      value.kind = EB_FIELD_TABLE;
      value.as.table = t;
    }
  }
  eb_table *outer = table_of(a, text("k"), value);
  copied = outer != NULL && eb_table_copy(to, outer) != NULL;
done:
  eb_arena_free(a);
  eb_arena_free(to);
  return copied;
}

TEST(refuses_to_copy_what_is_nested_too_deeply) {
  CHECK(copies_nested(1, false));
  CHECK(copies_nested(EB_TABLE_MAX_DEPTH, false));
  CHECK(!copies_nested(EB_TABLE_MAX_DEPTH + 1, false));
  CHECK(!copies_nested(100000, false));
  CHECK(copies_nested(EB_TABLE_MAX_DEPTH, true));
  CHECK(!copies_nested(100000, true));
}

int main (void) {
  RUN(absent_bytes_are_not_empty_bytes);
  RUN(finds_the_first_pair_of_a_key);
  RUN(a_copy_outlives_its_source);
  RUN(empty_tables_and_arrays_copy);
  RUN(refuses_to_copy_what_is_nested_too_deeply);
  return check_done();
}
