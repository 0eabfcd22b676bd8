/* Publishing: confirms, returns, the window, deadlines, losses. Included by session_test.c. */

static bool up (peer *p, const eb_session_config *c) {
  peer_init(p, c);
  return peer_up(p);
}

/* The next publishes are these bodies, and no more follow. */
static bool published (peer *p, const char *const *bodies) {
  for (; *bodies != NULL; bodies++) {
    const char *got = peer_published(p);
    if (got != NULL && strcmp(got, *bodies) == 0) continue;
    printf("published %s, not %s\n", got == NULL ? "nothing" : got, *bodies);
    return false;
  }
  return peer_next(p) == PEER_NOTHING;
}
#define PUBLISHED(p, ...) CHECK(published(p, (const char *const[]){__VA_ARGS__, NULL}))

TEST(a_publish_is_sent_whole_and_answered_by_its_confirm) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "one", 1000);
  WANT(&p, AMQP_BASIC_PUBLISH_METHOD);
  const amqp_basic_publish_t *m = p.method;
  CHECK(peer_is(m->exchange, "orders") && peer_is(m->routing_key, "order.created") && m->mandatory);
  CHECK_INT(peer_any(&p), PEER_HEADER);
  CHECK_INT(peer_any(&p), PEER_BODY);
  CHECK_MEM((const char *)p.frame.payload, p.frame.size, "one", 3);
  CHECK_INT(peer_outcome(&p, a), -1);
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  uint64_t b = peer_publish(&p, "", 1000);
  PUBLISHED(&p, "");
  CHECK(peer_confirm(&p, 2, false));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_body_larger_than_a_frame_is_sent_in_several) {
  peer p;
  eb_session_config c = peer_config();
  static char body[10001];
  memset(body, 'x', 10000);
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 10, 4096, 0));
  peer_publish(&p, body, 1000);
  WANT(&p, AMQP_BASIC_PUBLISH_METHOD);
  CHECK_INT(peer_any(&p), PEER_HEADER);
  size_t n = 0;
  for (size_t want = 3; want > 0; want--) {
    CHECK_INT(peer_any(&p), PEER_BODY);
    CHECK(p.frame.size + EB_FRAME_OVERHEAD <= 4096);
    n += p.frame.size;
  }
  CHECK_INT(n, 10000);
  CHECK(peer_end(&p));
}

TEST(a_publish_that_cannot_be_encoded_fails_alone) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 10, 4096, 0));
  char key[301];
  memset(key, 'k', 300);
  key[300] = '\0';
  eb_publish *op = peer_publish_op(&p, "long key");
  op->routing_key = peer_keep(op, key);
  uint64_t a = peer_submit(&p, op, 0);
  op = peer_publish_op(&p, "large headers");
  static eb_pair pair;
  static char text[5000];
  static eb_table table = {1, &pair};
  memset(text, 't', sizeof text);
  pair.key = eb_bytes_of("k", 1);
  pair.value.kind = EB_FIELD_STRING;
  pair.value.as.bytes = eb_bytes_of(text, sizeof text);
  op->properties.headers = &table;
  uint64_t b = peer_submit(&p, op, 0);
  uint64_t d = peer_publish(&p, "good", 0);
  PUBLISHED(&p, "good");
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TOO_LARGE);
  CHECK_INT(peer_outcome(&p, b), EB_ERR_TOO_LARGE);
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  CHECK(peer_end(&p));
}

TEST(confirms_come_single_multiple_out_of_order_and_repeated) {
  peer p;
  eb_session_config c = peer_config();
  uint64_t id[10];
  CHECK(up(&p, &c));
  for (int i = 1; i <= 9; i++) id[i] = peer_publish(&p, "x", 0);
  PUBLISHED(&p, "x", "x", "x", "x", "x", "x", "x", "x", "x");
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, id[1]), EB_OK);
  CHECK(peer_confirm(&p, 3, false));
  CHECK_INT(peer_outcome(&p, id[3]), EB_OK);
  CHECK(peer_confirm(&p, 3, false));  /* repeated, inside the window */
  CHECK(peer_confirm(&p, 1, false));  /* repeated, behind it */
  CHECK(peer_confirm(&p, 4, true));
  CHECK_INT(peer_outcome(&p, id[2]), EB_OK);
  CHECK_INT(peer_outcome(&p, id[4]), EB_OK);
  CHECK_INT(peer_outcome(&p, id[5]), -1);
  CHECK(peer_confirm(&p, 2, true));   /* behind */
  CHECK(peer_nack(&p, 5, false));
  CHECK_INT(peer_outcome(&p, id[5]), EB_ERR_NACKED);
  CHECK(peer_nack(&p, 7, true));
  CHECK_INT(peer_outcome(&p, id[6]), EB_ERR_NACKED);
  CHECK_INT(peer_outcome(&p, id[7]), EB_ERR_NACKED);
  CHECK(peer_confirm(&p, 0, true));   /* all that is outstanding */
  CHECK_INT(peer_outcome(&p, id[8]), EB_OK);
  CHECK_INT(peer_outcome(&p, id[9]), EB_OK);
  eb_session_stats s = peer_stats(&p);
  CHECK_INT(s.confirmed, 6);
  CHECK_INT(s.nacked, 3);
  CHECK_INT(s.unconfirmed, 0);
  CHECK(peer_end(&p));
}

static bool confirm_breaks (uint64_t tag, bool multiple) {
  peer p;
  eb_session_config c = peer_config();
  bool ok = up(&p, &c);
  uint64_t id = peer_publish(&p, "x", 0);
  ok = ok && peer_published(&p) != NULL && !peer_confirm(&p, tag, multiple) && p.err.code == EB_ERR_PROTOCOL &&
       peer_outcome(&p, id) == -1;
  return peer_end(&p) && ok;
}

TEST(a_confirm_of_a_tag_never_published_is_a_protocol_error) {
  CHECK(confirm_breaks(2, false));
  CHECK(confirm_breaks(UINT64_MAX, false));
  CHECK(confirm_breaks(2, true));  /* it would confirm what the broker never saw */
  CHECK(confirm_breaks(0, false));
}

TEST(a_return_before_its_ack_makes_it_returned) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "a", 0), b = peer_publish(&p, "b", 0);
  PUBLISHED(&p, "a", "b");
  CHECK(peer_return(&p, "m2"));
  CHECK_INT(peer_outcome(&p, b), -1);
  CHECK(peer_return(&p, "unheard of"));
  CHECK(peer_confirm(&p, 2, true));
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK_INT(peer_outcome(&p, b), EB_ERR_RETURNED);
  CHECK_INT(p.err.reply_code, 312);
  CHECK(strstr(p.err.message, "orders") != NULL);
  CHECK(peer_end(&p));
}

TEST(a_return_without_message_id_is_of_a_mandatory_publish) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t ids[2];
  for (int i = 0; i < 2; i++) {
    eb_publish *op = peer_publish_op(&p, "x");
    op->properties.message_id = eb_bytes_of(NULL, 0);
    op->mandatory = i == 1;
    ids[i] = peer_submit(&p, op, 0);
  }
  PUBLISHED(&p, "x", "x");
  CHECK(peer_return(&p, NULL));
  CHECK(peer_confirm(&p, 2, true));
  CHECK_INT(peer_outcome(&p, ids[0]), EB_OK);
  CHECK_INT(peer_outcome(&p, ids[1]), EB_ERR_RETURNED);
  CHECK(peer_end(&p));
}

TEST(the_window_is_full_by_count) {
  peer p;
  eb_session_config c = peer_config();
  c.window_count = 2;
  CHECK(up(&p, &c));
  for (int i = 0; i < 5; i++) peer_publish(&p, "x", 0);
  PUBLISHED(&p, "x", "x");
  CHECK_INT(peer_stats(&p).pending, 3);
  CHECK(peer_confirm(&p, 2, false));  /* out of order: its slot is not free yet */
  CHECK_INT(peer_next(&p), PEER_NOTHING);
  CHECK(peer_confirm(&p, 1, false));
  PUBLISHED(&p, "x", "x");
  CHECK(peer_end(&p));
}

TEST(the_window_is_full_by_bytes) {
  peer p;
  eb_session_config c = peer_config();
  c.window_bytes = 10;
  CHECK(up(&p, &c));
  peer_publish(&p, "12345678901234567890", 0);  /* alone it passes */
  peer_publish(&p, "123456", 0);
  peer_publish(&p, "123456", 0);
  peer_publish(&p, "123456", 0);
  PUBLISHED(&p, "12345678901234567890");
  CHECK(peer_confirm(&p, 1, false));
  PUBLISHED(&p, "123456", "123456");
  CHECK(peer_confirm(&p, 3, false));
  PUBLISHED(&p, "123456");
  CHECK(peer_end(&p));
}

TEST(more_than_the_output_holds_goes_on_as_soon_as_it_is_written) {
  peer p;
  eb_session_config c = peer_config();
  c.window_bytes = 1 << 30;
  CHECK(up(&p, &c));
  static char body[4001];
  memset(body, 'x', 4000);
  peer_publish(&p, "first", 0);
  CHECK(peer_published(&p) != NULL);
  for (int i = 0; i < 99; i++) {
    eb_session_submit(p.s, &peer_publish_op(&p, body)->item, p.now);
  }
  /* As eb_io: a tick, then the writing; nothing comes from the broker. */
  size_t total = 0;
  for (int i = 0; i < 10; i++) {
    CHECK(eb_session_tick(p.s, p.now, &p.err));
    eb_buffer *out = eb_session_output(p.s);
    total += eb_buffer_size(out);
    eb_buffer_consume(out, eb_buffer_size(out));
    eb_session_wrote(p.s, p.now);
    if (eb_session_deadline(p.s) > p.now) break;
  }
  CHECK(total > 99 * 4000);
  CHECK(eb_session_deadline(p.s) > p.now);
  CHECK(peer_end(&p));
}

TEST(publishes_time_out_pending_and_in_flight) {
  peer p;
  eb_session_config c = peer_config();
  c.window_count = 1;
  peer_init(&p, &c);
  uint64_t early = peer_publish(&p, "early", 50);
  peer_sleep(&p, 49);
  CHECK_INT(peer_outcome(&p, early), -1);
  peer_sleep(&p, 1);
  CHECK_INT(peer_outcome(&p, early), EB_ERR_TIMEOUT);
  CHECK(peer_up(&p));
  uint64_t a = peer_publish(&p, "a", 100), b = peer_publish(&p, "b", 200), d = peer_publish(&p, "d", 5000);
  PUBLISHED(&p, "a");
  peer_sleep(&p, 150);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TIMEOUT);
  CHECK_INT(peer_outcome(&p, b), -1);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, b), EB_ERR_TIMEOUT);
  CHECK(peer_confirm(&p, 1, false));  /* late: nobody waits; the slot is free */
  PUBLISHED(&p, "d");
  CHECK(peer_confirm(&p, 2, false));
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_timeout_without_connection_says_why_there_is_none) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  peer_lost(&p);
  uint64_t a = peer_publish(&p, "a", 100);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TIMEOUT);
  CHECK(strstr(p.err.message, "the wire was cut") != NULL);
  CHECK(peer_end(&p));
}

TEST(a_blocked_broker_gets_no_publishes_and_they_time_out_as_blocked) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  amqp_connection_blocked_t m = {peer_text("low on memory")};
  CHECK(peer_say(&p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &m));
  CHECK(peer_noticed(&p, EB_EVENT_BLOCKED));
  CHECK(peer_stats(&p).blocked);
  uint64_t a = peer_publish(&p, "a", 100), b = peer_publish(&p, "b", 10000);
  CHECK_INT(peer_next(&p), PEER_NOTHING);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_BLOCKED);
  CHECK(peer_ok_on(&p, 0, AMQP_CONNECTION_UNBLOCKED_METHOD));
  CHECK(peer_noticed(&p, EB_EVENT_UNBLOCKED));
  PUBLISHED(&p, "b");
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  peer_say(&p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &m);
  peer_lost(&p);
  CHECK(!peer_stats(&p).blocked);  /* the next connection tells anew */
  CHECK(peer_end(&p));
}

TEST(unconfirmed_are_sent_again_in_order_with_the_same_ids) {
  peer p;
  eb_session_config c = peer_config();
  c.window_count = 3;
  CHECK(up(&p, &c));
  uint64_t id[6];
  static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
  for (int i = 0; i < 5; i++) id[i] = peer_publish(&p, names[i], 0);
  PUBLISHED(&p, "a", "b", "c");
  CHECK(peer_confirm(&p, 2, false));
  CHECK(peer_return(&p, "m1"));  /* a return of the old connection counts no more */
  peer_lost(&p);
  CHECK(peer_noticed(&p, EB_EVENT_DOWN));
  id[5] = peer_publish(&p, names[5], 0);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_BASIC_PUBLISH_METHOD);
  CHECK_INT(peer_any(&p), PEER_HEADER);
  eb_arena *a = eb_arena_new(64);
  amqp_basic_properties_t *props;
  amqp_bytes_t encoded = {p.frame.size - 12, (void *)(uintptr_t)(p.frame.payload + 12)};
  CHECK(amqp_decode_properties(AMQP_BASIC_CLASS, &p.pool, encoded, (void **)&props) >= 0);
  CHECK(peer_is(props->message_id, "m1"));
  eb_arena_free(a);
  CHECK_INT(peer_any(&p), PEER_BODY);
  PUBLISHED(&p, "c", "d");
  CHECK(peer_confirm(&p, 3, true));
  PUBLISHED(&p, "e", "f");
  CHECK(peer_confirm(&p, 5, true));
  for (int i = 0; i < 6; i++) CHECK_INT(peer_outcome(&p, id[i]), EB_OK);
  CHECK_INT(peer_stats(&p).resent, 2);
  CHECK(peer_end(&p));
}

TEST(unconfirmed_are_unknown_when_resending_is_off) {
  peer p;
  eb_session_config c = peer_config();
  c.resend = false;
  c.window_count = 1;
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "a", 0), b = peer_publish(&p, "b", 0);
  PUBLISHED(&p, "a");
  peer_lost(&p);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_UNKNOWN);
  CHECK_INT(peer_outcome(&p, b), -1);
  CHECK(peer_up(&p));
  PUBLISHED(&p, "b");
  CHECK(peer_end(&p));
}

TEST(a_channel_error_finds_the_guilty_and_confirms_the_others) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  static const char *const names[] = {"a", "b", "guilty", "d", "e"};
  uint64_t id[5];
  for (int i = 0; i < 5; i++) id[i] = peer_publish(&p, names[i], 0);
  PUBLISHED(&p, "a", "b", "guilty", "d", "e");
  CHECK(peer_close_channel(&p, 1, 404, "NOT_FOUND - no exchange 'nope'"));
  PUBLISHED(&p, "a");  /* one at a time now */
  CHECK(peer_confirm(&p, 1, false));
  PUBLISHED(&p, "b");
  CHECK(peer_confirm(&p, 2, false));
  PUBLISHED(&p, "guilty");
  CHECK(peer_close_channel(&p, 1, 404, "NOT_FOUND - no exchange 'nope'"));
  CHECK_INT(peer_outcome(&p, id[2]), EB_ERR_NOT_FOUND);
  CHECK_INT(p.err.reply_code, 404);
  PUBLISHED(&p, "d");
  CHECK(peer_confirm(&p, 1, false));
  PUBLISHED(&p, "e");
  CHECK(peer_confirm(&p, 2, false));
  for (int i = 0; i < 5; i++)
    if (i != 2) CHECK_INT(peer_outcome(&p, id[i]), EB_OK);
  /* And then as fast as before. */
  for (int i = 0; i < 3; i++) peer_publish(&p, "x", 0);
  PUBLISHED(&p, "x", "x", "x");
  CHECK(peer_end(&p));
}

TEST(the_guilty_is_found_also_as_the_last_in_front_of_new_ones) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "a", 0), b = peer_publish(&p, "guilty", 0);
  PUBLISHED(&p, "a", "guilty");
  CHECK(peer_close_channel(&p, 1, 403, "ACCESS_REFUSED"));
  uint64_t d = peer_publish(&p, "d", 0);
  PUBLISHED(&p, "a");
  CHECK(peer_confirm(&p, 1, false));
  CHECK(peer_published(&p) != NULL);  /* guilty; d may follow it */
  while (peer_next(&p) != PEER_NOTHING) {}
  CHECK(peer_close_channel(&p, 1, 403, "ACCESS_REFUSED"));
  for (int i = 0; i < 4 && peer_published(&p) != NULL; i++) {
    if (peer_stats(&p).unconfirmed == 1 && peer_outcome(&p, b) == -1 && i == 0) {
      CHECK(peer_close_channel(&p, 1, 403, "ACCESS_REFUSED"));
      CHECK_INT(peer_outcome(&p, b), EB_ERR_REFUSED);
      continue;
    }
    CHECK(peer_confirm(&p, 0, true));
  }
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_channel_error_does_not_blame_the_only_one_not_timed_out) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t guilty = peer_publish(&p, "guilty", 100), innocent = peer_publish(&p, "innocent", 0);
  PUBLISHED(&p, "guilty", "innocent");
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, guilty), EB_ERR_TIMEOUT);
  CHECK(peer_close_channel(&p, 1, 404, "NOT_FOUND"));
  CHECK_INT(peer_outcome(&p, innocent), -1);
  PUBLISHED(&p, "innocent");
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, innocent), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_channel_error_without_resend_leaves_the_others_unknown) {
  peer p;
  eb_session_config c = peer_config();
  c.resend = false;
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "a", 0), b = peer_publish(&p, "b", 0);
  PUBLISHED(&p, "a", "b");
  CHECK(peer_close_channel(&p, 1, 404, "NOT_FOUND"));
  CHECK_INT(peer_outcome(&p, a), EB_ERR_UNKNOWN);
  CHECK_INT(peer_outcome(&p, b), EB_ERR_UNKNOWN);
  CHECK(peer_end(&p));
}

TEST(a_publishing_channel_refused_at_once_is_tried_again_later) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  p.manual = true;
  peer_publish(&p, "a", 0);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  WANT(&p, AMQP_CONFIRM_SELECT_METHOD);
  CHECK(peer_close_channel(&p, 1, 506, "RESOURCE_ERROR"));
  WANT(&p, AMQP_CHANNEL_CLOSE_OK_METHOD);
  WANT(&p, PEER_NOTHING);
  peer_sleep(&p, 1000);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  CHECK(peer_end(&p));
}
