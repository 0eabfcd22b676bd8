/* eb_codec: frames cut off a stream, what is refused before rabbitmq-c sees it, and values there and back. */
#include "../../src/eb_codec.h"

#include <stdlib.h>

#include "check.h"

static eb_cut cut (const char *bytes, size_t n, size_t frame_max, eb_frame *f, size_t *used) {
  eb_error err;
  /* A copy of just these bytes: reading past them is noticed. */
  uint8_t *copy = malloc(n == 0 ? 1 : n);
  if (copy == NULL) abort();
  memcpy(copy, bytes, n);
  eb_cut c = eb_codec_cut(copy, n, frame_max, f, used, &err);
  free(copy);
  return c;
}

TEST(a_frame_is_cut_when_it_is_whole) {
  static const char frame[] = "\1\0\5\0\0\0\3abc\xCE";
  eb_frame f;
  size_t used = 0;
  for (size_t n = 0; n < 11; n++) CHECK_INT(cut(frame, n, 4096, &f, &used), EB_CUT_MORE);
  CHECK_INT(cut(frame, 11, 4096, &f, &used), EB_CUT_FRAME);
  CHECK_INT(used, 11);
  CHECK_INT(f.channel, 5);
  CHECK_INT(f.size, 3);
  CHECK_INT(cut(frame, 11, 11, &f, &used), EB_CUT_FRAME);
  CHECK_INT(cut(frame, 7, 10, &f, &used), EB_CUT_BAD);
  CHECK_INT(cut("\1\0\5\0\0\0\3abc\xCD", 11, 4096, &f, &used), EB_CUT_BAD);
}

TEST(only_the_four_types_of_frames_are_frames) {
  eb_frame f;
  size_t used;
  for (int type = 0; type < 256; type++) {
    char byte = (char)type;
    bool good = type == 1 || type == 2 || type == 3 || type == 8 || type == 'A';
    CHECK_INT(cut(&byte, 1, 4096, &f, &used), good ? EB_CUT_MORE : EB_CUT_BAD);
  }
  CHECK_INT(cut("AM", 2, 4096, &f, &used), EB_CUT_MORE);
  CHECK_INT(cut("AX", 2, 4096, &f, &used), EB_CUT_BAD);
  CHECK_INT(cut("AMQP", 4, 4096, &f, &used), EB_CUT_BAD);
}

/* A table written and read again. */
TEST(every_kind_of_field_survives_the_wire) {
  eb_field items[2] = {{EB_FIELD_INT, {.integer = 1}}, {EB_FIELD_STRING, {.bytes = {"two", 3}}}};
  eb_array array = {2, items};
  eb_pair inner_pairs[1] = {{{"deep", 4}, {EB_FIELD_BOOL, {.boolean = true}}}};
  eb_table inner = {1, inner_pairs};
  eb_pair pairs[] = {{{"void", 4}, {EB_FIELD_VOID, {0}}},
                     {{"int", 3}, {EB_FIELD_INT, {.integer = INT64_MIN}}},
                     {{"double", 6}, {EB_FIELD_DOUBLE, {.number = 0.1}}},
                     {{"string", 6}, {EB_FIELD_STRING, {.bytes = {"a\0b", 3}}}},
                     {{"bytes", 5}, {EB_FIELD_BYTES, {.bytes = {"\xff", 1}}}},
                     {{"time", 4}, {EB_FIELD_TIMESTAMP, {.integer = 1700000000}}},
                     {{"table", 5}, {EB_FIELD_TABLE, {.table = &inner}}},
                     {{"array", 5}, {EB_FIELD_ARRAY, {.array = &array}}},
                     {{"", 0}, {EB_FIELD_STRING, {.bytes = {"", 0}}}}};
  eb_table table = {sizeof pairs / sizeof *pairs, pairs};
  amqp_pool_t pool;
  amqp_basic_properties_t props;
  uint8_t space[1024];
  eb_error err;
  init_amqp_pool(&pool, 4096);
  memset(&props, 0, sizeof props);
  props._flags = AMQP_BASIC_HEADERS_FLAG;
  CHECK(eb_codec_from_table(&pool, &table, &props.headers));
  memset(space, 0, 12);
  space[1] = AMQP_BASIC_CLASS;
  amqp_bytes_t to = {sizeof space - 12, space + 12};
  int n = amqp_encode_properties(AMQP_BASIC_CLASS, &props, to);
  CHECK(n > 0);
  CHECK_INT((size_t)n, 2 + eb_codec_table_size(&table));
  eb_frame f = {AMQP_FRAME_HEADER, 1, space, (size_t)n + 12};
  eb_header h;
  CHECK(eb_codec_header(&pool, &f, &h, &err));
  CHECK(!h.bad_headers);
  eb_arena *a = eb_arena_new(256);
  eb_properties back;
  memset(&back, 0, sizeof back);
  CHECK(a != NULL && eb_codec_to_properties(a, h.properties, &back));
  CHECK_INT(back.headers->count, table.count);
  for (size_t i = 0; i < table.count; i++) {
    const eb_field *x = &pairs[i].value, *y = &back.headers->pairs[i].value;
    CHECK(eb_bytes_equal(pairs[i].key, back.headers->pairs[i].key));
    CHECK_INT(y->kind, x->kind);
    switch (x->kind) {
      case EB_FIELD_INT: case EB_FIELD_TIMESTAMP: CHECK(x->as.integer == y->as.integer); break;
      case EB_FIELD_DOUBLE: CHECK(x->as.number == y->as.number); break;
      case EB_FIELD_STRING: case EB_FIELD_BYTES: CHECK(eb_bytes_equal(x->as.bytes, y->as.bytes)); break;
      case EB_FIELD_TABLE: CHECK(eb_table_find(y->as.table, "deep")->as.boolean); break;
      case EB_FIELD_ARRAY: CHECK(y->as.array->count == 2 && y->as.array->items[0].as.integer == 1); break;
      default: break;
    }
  }
  eb_arena_free(a);
  empty_amqp_pool(&pool);
}

/* Whatever bytes a header has: a result, no crash, no read past the frame (the sanitizer tells). */
TEST(random_headers_never_crash) {
  static const char kinds[] = "VtbBsuIifDlLdTSxFA?";
  uint64_t x = 99;
  int decoded = 0;
  for (int round = 0; round < 200000; round++) {
    size_t n = 18 + 2 * ((x >> 40) % 28);
    uint8_t *p = calloc(1, n);
    CHECK(p != NULL);
    p[1] = AMQP_BASIC_CLASS;
    p[12] = (AMQP_BASIC_HEADERS_FLAG >> 8) & 0xff;
    /* Tables of nothing but tables, voids and strings, then a few bytes changed. */
    size_t i = 18;
    p[17] = (uint8_t)(n - 18);
    while (i + 2 <= n) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
      unsigned r = (unsigned)(x >> 33);
      p[i + 1] = n - i >= 6 && r % 3 ? (r % 3 == 1 ? 'S' : 'F') : 'V';
      if (p[i + 1] == 'V') {
        i += 2;
      } else {
        p[i + 5] = (uint8_t)(p[i + 1] == 'F' ? n - i - 6 : 0);
        i += 6;
      }
    }
    for (unsigned change = (unsigned)(x >> 50) % 4; change > 0; change--) {
      x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
      p[12 + (x >> 33) % (n - 12)] = change % 2 ? (uint8_t)kinds[(x >> 20) % 19] : (uint8_t)(x >> 20);
    }
    amqp_pool_t pool;
    eb_frame f = {AMQP_FRAME_HEADER, 1, p, n};
    eb_header h;
    eb_error err;
    init_amqp_pool(&pool, 4096);
    if (eb_codec_header(&pool, &f, &h, &err)) {
      eb_arena *a = eb_arena_new(64);
      eb_properties props;
      memset(&props, 0, sizeof props);
      CHECK(a != NULL && eb_codec_to_properties(a, h.properties, &props));
      eb_arena_free(a);
      decoded++;
    }
    empty_amqp_pool(&pool);
    free(p);
  }
  if (decoded < 10000) CHECK_FAIL("only %d of them decoded", decoded);
}

TEST(a_publish_is_encoded_whole_or_not_at_all) {
  eb_publish p;
  eb_buffer out;
  amqp_pool_t pool;
  eb_error err;
  char name[300];
  memset(name, 'n', sizeof name);
  memset(&p, 0, sizeof p);
  eb_buffer_init(&out);
  init_amqp_pool(&pool, 4096);
  CHECK(eb_buffer_append(&out, "before", 6));
  p.exchange = eb_bytes_of("x", 1);
  p.routing_key = eb_bytes_of("k", 1);
  p.properties.message_id = eb_bytes_of(name, 256);  /* the publish itself encodes, its header does not */
  CHECK(!eb_codec_check_publish(&p, 4096, &err));
  CHECK_INT(err.code, EB_ERR_TOO_LARGE);
  CHECK(!eb_codec_put_publish(&out, &pool, 1, &p, 4096, &err));
  CHECK_MEM((const char *)eb_buffer_bytes(&out), eb_buffer_size(&out), "before", 6);
  p.properties.message_id.n = 255;
  CHECK(eb_codec_check_publish(&p, 4096, &err));
  CHECK(eb_codec_put_publish(&out, &pool, 1, &p, 4096, &err));
  CHECK(eb_buffer_size(&out) > 6);
  p.routing_key = eb_bytes_of(name, 256);
  size_t before = eb_buffer_size(&out);
  CHECK(!eb_codec_put_publish(&out, &pool, 1, &p, 4096, &err));
  CHECK_INT(eb_buffer_size(&out), before);
  eb_buffer_fini(&out);
  empty_amqp_pool(&pool);
}

TEST(each_name_of_a_publish_has_at_most_255_bytes) {
  static char text[300];
  memset(text, 'n', sizeof text);
  eb_publish p;
  memset(&p, 0, sizeof p);
  eb_properties *q = &p.properties;
  struct { eb_bytes *place; const char *told; } names[] = {
      {&p.exchange, "exchange"}, {&p.routing_key, "routing key"}, {&q->message_id, "message_id"}, {&q->type, "type"},
      {&q->app_id, "app_id"}, {&q->correlation_id, "correlation_id"}, {&q->content_type, "content_type"},
      {&q->content_encoding, "content_encoding"}, {&q->reply_to, "reply_to"}, {&q->expiration, "expiration"},
      {&q->user_id, "user_id"}};
  size_t count = sizeof names / sizeof *names;
  for (size_t i = 0; i < count; i++) *names[i].place = eb_bytes_of(text, 255);
  eb_error err;
  CHECK(eb_codec_check_publish(&p, 4096, &err));
  for (size_t i = 0; i < count; i++) {
    static const size_t sizes[] = {256, 257, 511, 512, 1 << 20};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
      names[i].place->n = sizes[k];
      err.code = EB_OK;
      CHECK(!eb_codec_check_publish(&p, 4096, &err));
      CHECK_INT(err.code, EB_ERR_TOO_LARGE);
      CHECK(strncmp(err.message, names[i].told, strlen(names[i].told)) == 0);
    }
    names[i].place->n = 255;
  }
  /* And all of them together one frame. */
  size_t head = 0;
  while (!eb_codec_check_publish(&p, head, &err)) head++;
  CHECK_INT(head, 8 + 12 + 2 + 1 + 1 + 8 + 9 * 256 + 4);
}

TEST(header_names_in_nested_tables_and_arrays_are_checked) {
  static char name[300];
  memset(name, 'n', sizeof name);
  eb_pair deep_pairs[1] = {{{name, 256}, {EB_FIELD_VOID, {0}}}};
  eb_table deep = {1, deep_pairs};
  eb_field items[1] = {{EB_FIELD_TABLE, {.table = &deep}}};
  eb_array array = {1, items};
  eb_pair pairs[1] = {{{"a", 1}, {EB_FIELD_ARRAY, {.array = &array}}}};
  eb_table headers = {1, pairs};
  eb_publish p;
  eb_error err;
  memset(&p, 0, sizeof p);
  p.properties.headers = &headers;
  CHECK(!eb_codec_check_publish(&p, 4096, &err));
  pairs[0].value.kind = EB_FIELD_TABLE;
  pairs[0].value.as.table = &deep;
  CHECK(!eb_codec_check_publish(&p, 4096, &err));
  deep_pairs[0].key.n = 255;
  CHECK(eb_codec_check_publish(&p, 4096, &err));
}

int main (void) {
  RUN(a_frame_is_cut_when_it_is_whole);
  RUN(only_the_four_types_of_frames_are_frames);
  RUN(every_kind_of_field_survives_the_wire);
  RUN(random_headers_never_crash);
  RUN(a_publish_is_encoded_whole_or_not_at_all);
  RUN(each_name_of_a_publish_has_at_most_255_bytes);
  RUN(header_names_in_nested_tables_and_arrays_are_checked);
  return check_done();
}
