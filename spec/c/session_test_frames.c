/* Frames and content: cut anywhere, out of place, hostile. Included by session_test.c. */

static uint64_t frames_consumer (peer *p) {
  uint64_t id = peer_subscribe(p, "q", 10, 0);
  if (peer_next(p) != AMQP_BASIC_CONSUME_METHOD || !peer_consume_ok(p)) return 0;
  return peer_outcome(p, id) == EB_OK ? id : 0;
}

/* Three messages: two bodies over several frames, one empty; and properties of all kinds. */
static void put_messages (peer *p, unsigned channel) {
  amqp_table_entry_t nested[2], headers[3];
  memset(nested, 0, sizeof nested);
  memset(headers, 0, sizeof headers);
  nested[0].key = peer_text("n");
  nested[0].value.kind = AMQP_FIELD_KIND_I32;
  nested[0].value.value.i32 = -5;
  nested[1].key = peer_text("u");
  nested[1].value.kind = AMQP_FIELD_KIND_U64;
  nested[1].value.value.u64 = UINT64_MAX;
  headers[0].key = peer_text("tenant_id");
  headers[0].value.kind = AMQP_FIELD_KIND_UTF8;
  headers[0].value.value.bytes = peer_text("t1");
  headers[1].key = peer_text("more");
  headers[1].value.kind = AMQP_FIELD_KIND_TABLE;
  headers[1].value.value.table.num_entries = 2;
  headers[1].value.value.table.entries = nested;
  headers[2].key = peer_text("yes");
  headers[2].value.kind = AMQP_FIELD_KIND_BOOLEAN;
  headers[2].value.value.boolean = 1;
  amqp_basic_properties_t props;
  memset(&props, 0, sizeof props);
  props._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG |
                 AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_PRIORITY_FLAG;
  props.headers.num_entries = 3;
  props.headers.entries = headers;
  props.message_id = peer_text("evt_1");
  props.content_type = peer_text("application/json");
  props.timestamp = 1700000000;
  props.delivery_mode = 2;
  props.priority = 0;
  peer_put_deliver(p, channel, 1);
  peer_put_header(p, channel, &props, 26);
  peer_put_body(p, channel, "abcdefghijklmnopqrstuvwxyz", 26, 10);
  peer_put_frame(p, AMQP_FRAME_HEARTBEAT, 0, "", 0);
  peer_put_deliver(p, channel, 2);
  peer_put_header(p, channel, NULL, 0);
  peer_put_deliver(p, channel, 3);
  peer_put_header(p, channel, NULL, 3);
  peer_put_body(p, channel, "xyz", 3, 1);
}

static bool messages_came (peer *p) {
  eb_delivery *a = peer_delivery(p), *b = peer_delivery(p), *c = peer_delivery(p), *d = peer_delivery(p);
  bool ok = a && b && c && !d && a->tag == 1 && b->tag == 2 && c->tag == 3 && a->body.n == 26 && b->body.n == 0 &&
            c->body.n == 3 && memcmp(a->body.p, "abcdefghijklmnopqrstuvwxyz", 26) == 0 &&
            memcmp(c->body.p, "xyz", 3) == 0;
  if (ok) {
    const eb_properties *props = &a->properties;
    const eb_field *more = eb_table_find(props->headers, "more");
    const eb_field *n = more == NULL ? NULL : eb_table_find(more->as.table, "n");
    ok = n != NULL && n->as.integer == -5 && props->has_timestamp && props->timestamp == 1700000000 &&
         props->delivery_mode == 2 && props->has_priority && props->priority == 0 &&
         eb_bytes_equal(props->message_id, eb_bytes_of("evt_1", 5)) && props->type.p == NULL &&
         eb_bytes_equal(a->exchange, eb_bytes_of("orders", 6));
  }
  if (a) eb_item_free(&a->item);
  if (b) eb_item_free(&b->item);
  if (c) eb_item_free(&c->item);
  if (d) eb_item_free(&d->item);
  return ok;
}

static bool whole_conversation (size_t cut) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  p.cut = cut;
  bool ok = peer_up(&p) && frames_consumer(&p) != 0;
  put_messages(&p, 3);
  ok = ok && peer_flush(&p) && messages_came(&p);
  return peer_end(&p) && ok;
}

TEST(messages_arrive_however_the_bytes_are_cut) {
  for (size_t cut = 0; cut < 70; cut++) CHECK(whole_conversation(cut));
}

TEST(messages_arrive_when_the_bytes_are_cut_once_anywhere) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  put_messages(&p, 3);
  size_t n = eb_buffer_size(&p.wire);
  uint8_t *bytes = malloc(n);
  CHECK(bytes != NULL);
  memcpy(bytes, eb_buffer_bytes(&p.wire), n);
  for (size_t at = 0; at <= n; at++) {
    CHECK(peer_up(&p));
    if (at == 0) CHECK(frames_consumer(&p) != 0);
    else WANT(&p, AMQP_BASIC_CONSUME_METHOD);
    if (at > 0) CHECK(peer_consume_ok(&p));
    CHECK(at == 0 || peer_feed(&p, bytes, at));
    CHECK(at == n || peer_feed(&p, bytes + at, n - at));
    CHECK(messages_came(&p));
    peer_lost(&p);
  }
  free(bytes);
  CHECK(peer_end(&p));
}

/* The code that some frames on a consumer's channel (3) are answered with; -1: taken. */
typedef void say_frames (peer *p);
static int frames_code (say_frames *say) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  if (!peer_up(&p) || frames_consumer(&p) == 0) return -3;
  say(&p);
  int code = peer_flush(&p) ? -1 : (int)p.err.code;
  return peer_end(&p) ? code : -2;
}

static void say_oversized (peer *p) { eb_buffer_append(&p->wire, "\1\0\0\0\x02\0\0", 7); }
static void say_without_end (peer *p) { eb_buffer_append(&p->wire, "\x08\0\0\0\0\0\0\xCD", 8); }
static void say_header_first (peer *p) { peer_put_header(p, 3, NULL, 3); }
static void say_body_first (peer *p) { peer_put_body(p, 3, "abc", 3, 3); }
static void say_body_before_header (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_body(p, 3, "abc", 3, 3);
}
static void say_two_headers (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_header(p, 3, NULL, 3);
  peer_put_header(p, 3, NULL, 3);
}
static void say_long_body (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_header(p, 3, NULL, 3);
  peer_put_body(p, 3, "abcd", 4, 4);
}
static void say_method_inside (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_header(p, 3, NULL, 3);
  peer_put_deliver(p, 3, 2);
}
static void say_wrong_channel (peer *p) { peer_put_deliver(p, 9, 1); }
static void say_highest_channel (peer *p) { peer_put_deliver(p, 65535, 1); }
static void say_content_on_0 (peer *p) { peer_put_body(p, 0, "abc", 3, 3); }
static void say_unknown_type (peer *p) { peer_put_frame(p, 5, 3, "abc", 3); }
static void say_unknown_type_in_content (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_header(p, 3, NULL, 3);
  peer_put_frame(p, 4, 3, "abc", 3);
}
static void say_short_header (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_frame(p, AMQP_FRAME_HEADER, 3, "\0\x3C\0\0\0\0\0\0\0\0\0\0", 12);
}
static void say_other_class (peer *p) {
  peer_put_deliver(p, 3, 1);
  peer_put_frame(p, AMQP_FRAME_HEADER, 3, "\0\x3D\0\0\0\0\0\0\0\0\0\0\0\0", 14);
}
static void say_tag_again (peer *p) {
  for (int i = 0; i < 2; i++) {
    peer_put_deliver(p, 3, 1);
    peer_put_header(p, 3, NULL, 0);
  }
}
static void say_a_confirm (peer *p) {
  amqp_basic_ack_t m = {1, 0};
  peer_put(p, 3, AMQP_BASIC_ACK_METHOD, &m);
}

TEST(frames_that_break_the_protocol_end_the_connection) {
  static const struct {
    const char *name;
    say_frames *say;
  } all[] = {{"oversized", say_oversized},
             {"without end mark", say_without_end},
             {"header first", say_header_first},
             {"body first", say_body_first},
             {"body before header", say_body_before_header},
             {"two headers", say_two_headers},
             {"body longer than its header said", say_long_body},
             {"method inside content", say_method_inside},
             {"wrong channel", say_wrong_channel},
             {"highest channel", say_highest_channel},
             {"content on channel 0", say_content_on_0},
             {"unknown frame type", say_unknown_type},
             {"unknown frame type in content", say_unknown_type_in_content},
             {"short header", say_short_header},
             {"other class", say_other_class},
             {"delivery tag again", say_tag_again},
             {"confirm on a consumer's channel", say_a_confirm}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    int code = frames_code(all[i].say);
    if (code != EB_ERR_PROTOCOL) CHECK_FAIL("%s: %d", all[i].name, code);
  }
}

/* Nested tables, innermost last: "" 'F' size ... */
static size_t nest (uint8_t *to, size_t depth) {
  size_t n = 0;
  for (size_t i = 0; i < depth; i++) {
    uint32_t rest = (uint32_t)((depth - i - 1) * 6);
    to[n++] = (uint8_t)(rest >> 24);
    to[n++] = (uint8_t)(rest >> 16);
    to[n++] = (uint8_t)(rest >> 8);
    to[n++] = (uint8_t)rest;
    if (i + 1 == depth) break;
    to[n++] = 0;
    to[n++] = 'F';
  }
  return n;
}

enum { NESTING = 5000 };
static uint8_t nested_header[14 + NESTING * 6];

static size_t make_nested_header (size_t depth) {
  memset(nested_header, 0, 14);
  nested_header[1] = AMQP_BASIC_CLASS;
  nested_header[11] = 2;  /* body */
  nested_header[12] = AMQP_BASIC_HEADERS_FLAG >> 8;
  nested_header[13] = 0;
  return 14 + nest(nested_header + 14, depth);
}

TEST(headers_nested_5000_deep_are_left_out_and_the_message_delivered) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  const size_t depths[] = {2, 32, 33, NESTING};
  for (size_t i = 0; i < 4; i++) {
    peer_put_deliver(&p, 3, i + 1);
    peer_put_frame(&p, AMQP_FRAME_HEADER, 3, nested_header, make_nested_header(depths[i]));
    peer_put_body(&p, 3, "ok", 2, 2);
    CHECK(peer_flush(&p));
    eb_delivery *d = peer_delivery(&p);
    CHECK(d != NULL);
    CHECK_INT(d->bad_headers, depths[i] > 32);
    CHECK_MEM(d->body.p, d->body.n, "ok", 2);
    peer_settle(&p, d, EB_ACK);
  }
  CHECK(peer_end(&p));
}

/* Any publisher can set them: RabbitMQ looks at its fourteen properties only, and sends on what it got. */
TEST(property_flags_that_are_none_of_basics_are_ignored) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  const size_t depths[] = {2, NESTING};
  for (unsigned i = 0; i < 6; i++) {
    size_t depth = depths[i % 2], n = make_nested_header(depth);
    nested_header[13] = (uint8_t)(1 + i / 2);
    peer_put_deliver(&p, 3, i + 1);
    peer_put_frame(&p, AMQP_FRAME_HEADER, 3, nested_header, n);
    peer_put_body(&p, 3, "ok", 2, 2);
    CHECK(peer_flush(&p));
    eb_delivery *d = peer_delivery(&p);
    CHECK(d != NULL);
    CHECK_INT(d->bad_headers, depth > 32);
    CHECK_INT(d->properties.headers->count > 0, depth <= 32);
    peer_settle(&p, d, EB_ACK);
  }
  CHECK(peer_end(&p));
}

/* Each table says it is empty, and its one field lies behind its end: to rabbitmq-c's decoder, which compares sizes with
 * the end of the frame only, they are nested all the same when the size is wrong by a byte. */
static size_t nest_overlapping (uint8_t *to, size_t depth) {
  size_t n = 0;
  for (size_t i = 0; i < depth; i++) {
    to[n++] = 0;
    to[n++] = 0;
    to[n++] = 0;
    to[n++] = 1;  /* one byte: the empty name; the field that follows is beyond it */
    to[n++] = 0;
    to[n++] = 'F';
  }
  memset(to + n, 0, 4);
  return n + 4;
}

static uint8_t overlapping[14 + NESTING * 4 * 6 + 4];

TEST(a_deep_table_larger_than_its_frame_is_the_brokers_mistake) {
  uint8_t header[14 + 5 * 40] = {0, 60};
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  header[12] = 0x20;  /* headers only */
  memset(header + 14, 0, sizeof header - 14);
  for (size_t at = 14; at + 6 <= sizeof header; at += 6) {
    memset(header + at, 0x7F, 4);  /* size, an empty name, a table */
    header[at + 4] = 0;
    header[at + 5] = 'F';
  }
  peer_put_deliver(&p, 3, 1);
  peer_put_frame(&p, AMQP_FRAME_HEADER, 3, header, sizeof header);
  CHECK(!peer_flush(&p));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(peer_end(&p));
}

TEST(tables_that_overlap_cannot_nest_deeper_than_counted) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  memset(overlapping, 0, sizeof overlapping);
  overlapping[1] = AMQP_BASIC_CLASS;
  overlapping[12] = AMQP_BASIC_HEADERS_FLAG >> 8;
  size_t n = 14 + nest_overlapping(overlapping + 14, NESTING * 4);
  peer_put_deliver(&p, 3, 1);
  peer_put_frame(&p, AMQP_FRAME_HEADER, 3, overlapping, n);
  /* The table claims one byte, and its depth cannot be told from that: what lies behind is no property. */
  bool taken = peer_flush(&p);
  eb_delivery *d = peer_delivery(&p);
  CHECK(taken ? d != NULL && d->bad_headers : p.err.code == EB_ERR_PROTOCOL);
  if (d != NULL) eb_item_free(&d->item);
  CHECK(peer_end(&p));
}

TEST(a_client_method_from_the_server_is_not_decoded) {
  static uint8_t method[200 + NESTING * 4 * 6];
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  /* queue.declare: ticket, queue, flags, arguments */
  memcpy(method, "\0\x32\0\x0A\0\0\0\0", 8);
  size_t n = 8 + nest(method + 8, NESTING * 4);
  peer_put_frame(&p, AMQP_FRAME_METHOD, 3, method, n);
  CHECK(!peer_flush(&p));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(peer_end(&p));
}

TEST(server_properties_nested_5000_deep_are_refused) {
  static uint8_t method[6 + NESTING * 6 + 16];
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  peer_attach(&p);
  memcpy(method, "\0\x0A\0\x0A\0\x09", 6);
  size_t n = 6 + nest(method + 6, NESTING);
  memcpy(method + n, "\0\0\0\5PLAIN\0\0\0\0", 13);
  peer_put_frame(&p, AMQP_FRAME_METHOD, 0, method, n + 13);
  CHECK(!peer_flush(&p));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(peer_end(&p));
}

TEST(a_body_over_the_limit_is_delivered_without_it) {
  peer p;
  eb_session_config c = peer_config();
  c.max_body = 10;
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  peer_put_deliver(&p, 3, 1);
  peer_put_header(&p, 3, NULL, 11);
  peer_put_body(&p, 3, "0123456789A", 11, 4);
  CHECK(peer_deliver(&p, 3, 2, "0123456789"));
  eb_delivery *d = peer_delivery(&p);
  CHECK(d != NULL && d->oversized && d->body.n == 11 && d->body.p == NULL);
  eb_item_free(&d->item);
  d = peer_delivery(&p);
  CHECK(d != NULL && !d->oversized && d->body.n == 10);
  eb_item_free(&d->item);
  /* 2^63 bytes announced: nothing is allocated for them. */
  peer_put_deliver(&p, 3, 3);
  peer_put_header(&p, 3, NULL, UINT64_C(1) << 63);
  peer_put_body(&p, 3, "abc", 3, 3);
  CHECK(peer_flush(&p));
  CHECK(peer_end(&p));
}
