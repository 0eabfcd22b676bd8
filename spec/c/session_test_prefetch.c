/* More than the prefetch: what a broker may send, and what it may not. Included by session_test.c. */

enum { PREFETCH = 3, PREFETCH_MOST = 8 * PREFETCH };

static uint64_t prefetch_consumer (peer *p) {
  uint64_t id = peer_subscribe(p, "q", PREFETCH, 0);
  if (peer_next(p) != AMQP_BASIC_CONSUME_METHOD || !peer_consume_ok(p)) return 0;
  return peer_outcome(p, id) == EB_OK ? id : 0;
}

/* How many of n deliveries were taken, from the tag on; they stay unsettled. */
static size_t prefetch_taken (peer *p, uint64_t tag, size_t n) {
  size_t taken = 0;
  while (taken < n && peer_deliver(p, 3, tag + taken, "body")) {
    eb_delivery *d = peer_delivery(p);
    if (d == NULL) break;
    eb_item_free(&d->item);
    taken++;
  }
  return taken;
}

static void prefetch_put_stream (peer *p, uint64_t tag, uint64_t size) {
  static const char body[1 << 16];
  amqp_table_entry_t offset;
  amqp_basic_properties_t props;
  memset(&offset, 0, sizeof offset);
  memset(&props, 0, sizeof props);
  offset.key = peer_text("x-stream-offset");
  offset.value.kind = AMQP_FIELD_KIND_I64;
  props._flags = AMQP_BASIC_HEADERS_FLAG;
  props.headers.num_entries = 1;
  props.headers.entries = &offset;
  peer_put_deliver(p, 3, tag);
  peer_put_header(p, 3, &props, size);
  for (uint64_t at = 0; at < size; at += sizeof body)
    peer_put_body(p, 3, body, size - at < sizeof body ? (size_t)(size - at) : sizeof body, sizeof body);
}

TEST(more_than_the_prefetch_is_a_protocol_error_and_settles_nothing) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(prefetch_consumer(&p) != 0);
  eb_delivery *d = delivered(&p, 1);
  CHECK(d != NULL);
  CHECK_INT(prefetch_taken(&p, 2, 100), PREFETCH_MOST - 1);
  CHECK(!p.alive);
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  if (strstr(p.err.message, "more deliveries than the prefetch of 3: 25") == NULL) CHECK_FAIL("%s", p.err.message);
  peer_settle(&p, d, EB_ACK);
  WANT(&p, PEER_NOTHING);
  peer_lost(&p);
  CHECK_INT(peer_stats(&p).unsettled, 0);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(prefetch_taken(&p, 1, PREFETCH_MOST), PREFETCH_MOST);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(an_ack_makes_room_only_once_it_is_sent) {
  for (int sent = 0; sent < 2; sent++) {
    peer p;
    eb_session_config c = peer_config();
    CHECK(up(&p, &c));
    CHECK(prefetch_consumer(&p) != 0);
    eb_delivery *acked = delivered(&p, 1), *returned = delivered(&p, 2);
    CHECK(acked != NULL && returned != NULL);
    CHECK_INT(prefetch_taken(&p, 3, PREFETCH_MOST - 2), PREFETCH_MOST - 2);
    peer_settle(&p, acked, EB_ACK);
    peer_settle(&p, returned, EB_RETURN);
    if (sent) peer_sleep(&p, 5);
    CHECK_INT(prefetch_taken(&p, PREFETCH_MOST + 1, 100), sent ? 2 : 0);
    CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
    CHECK(peer_end(&p));
  }
}

/* The broker counts anew, on the same channel; and so do we, on the next. */
TEST(what_is_out_since_before_a_cancel_is_not_counted_by_the_broker) {
  peer p;
  eb_session_config c = peer_config();
  uint64_t tag = 1;
  CHECK(up(&p, &c));
  CHECK(prefetch_consumer(&p) != 0);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(prefetch_taken(&p, tag, PREFETCH_MOST), PREFETCH_MOST);
    tag += PREFETCH_MOST;
    CHECK(peer_cancel_consumer(&p, 3));
    peer_sleep(&p, 500);
    WANT(&p, AMQP_BASIC_CONSUME_METHOD);
    CHECK(peer_consume_ok(&p));
  }
  CHECK_INT(prefetch_taken(&p, tag, PREFETCH_MOST), PREFETCH_MOST);
  CHECK(peer_close_channel(&p, 3, 406, "PRECONDITION_FAILED"));
  peer_sleep(&p, 5000);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(prefetch_taken(&p, 1, 100), PREFETCH_MOST);
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(peer_end(&p));
}

TEST(a_stream_is_sent_by_chunks_and_bounded_by_memory) {
  peer p;
  eb_session_config c = peer_config();
  size_t taken = 0;
  eb_delivery *d;
  CHECK(up(&p, &c));
  CHECK(prefetch_consumer(&p) != 0);
  for (uint64_t tag = 1; tag <= 1000; tag++) prefetch_put_stream(&p, tag, 10);
  CHECK(peer_flush(&p));
  for (; (d = peer_delivery(&p)) != NULL; taken++) eb_item_free(&d->item);
  CHECK_INT(taken, 1000);
  CHECK_INT(peer_stats(&p).unsettled, 1000);
  /* Of the largest bodies, three of the prefetch and 64 MiB beside them. */
  for (taken = 0; taken < 100; taken++) {
    prefetch_put_stream(&p, 1001 + taken, c.max_body);
    if (!peer_flush(&p)) break;
    d = peer_delivery(&p);
    CHECK(d != NULL && d->body.n == c.max_body);
    eb_item_free(&d->item);
  }
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(taken >= 64 && taken < 64 + PREFETCH);
  CHECK(peer_end(&p));
}

/* What is settled weighs nothing. */
TEST(a_stream_that_is_settled_goes_on) {
  peer p;
  eb_session_config c = peer_config();
  eb_delivery *held[PREFETCH + 2];
  uint64_t tag = 0;
  CHECK(up(&p, &c));
  CHECK(prefetch_consumer(&p) != 0);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < PREFETCH + 2; i++) {
      prefetch_put_stream(&p, ++tag, c.max_body);
      CHECK(peer_flush(&p));
      CHECK((held[i] = peer_delivery(&p)) != NULL);
    }
    for (int i = 0; i < PREFETCH + 2; i++) peer_settle(&p, held[i], i == 0 ? EB_REJECT : i == 1 ? EB_RETURN : EB_ACK);
    peer_sleep(&p, 5);
  }
  CHECK(peer_end(&p));
}
