/* Publishes that want no confirm: another channel, answered when they are sent, never sent twice. Included by
 * session_test.c. */

static uint64_t publish_unconfirmed (peer *p, const char *body, int64_t timeout) {
  eb_publish *op = peer_publish_op(p, body);
  op->unconfirmed = true;
  op->mandatory = false;
  return peer_submit(p, op, timeout);
}

TEST(an_unconfirmed_publish_is_answered_when_it_is_sent_on_a_channel_without_confirms) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  p.manual = true;
  uint64_t a = publish_unconfirmed(&p, "a", 1000);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  WANT(&p, PEER_NOTHING);
  CHECK_INT(peer_outcome(&p, a), -1);
  amqp_channel_open_ok_t ok = {amqp_empty_bytes};
  CHECK(peer_say(&p, 2, AMQP_CHANNEL_OPEN_OK_METHOD, &ok));
  PUBLISHED(&p, "a");
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK_INT(peer_stats(&p).sent, 1);
  CHECK_INT(peer_stats(&p).confirmed, 0);
  CHECK_INT(peer_stats(&p).unconfirmed, 0);
  amqp_basic_ack_t ack = {1, 0};
  CHECK(!peer_say(&p, 2, AMQP_BASIC_ACK_METHOD, &ack));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  peer_lost(&p);
  CHECK(peer_end(&p));
}

TEST(an_unconfirmed_publish_takes_no_room_in_the_window) {
  peer p;
  eb_session_config c = peer_config();
  c.window_count = 1;
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "a", 0);
  PUBLISHED(&p, "a");
  uint64_t b = publish_unconfirmed(&p, "b", 0), d = publish_unconfirmed(&p, "d", 0);
  PUBLISHED(&p, "b", "d");
  CHECK_INT(p.channel, 2);
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  CHECK_INT(peer_outcome(&p, a), -1);
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK(peer_end(&p));
}

TEST(an_unconfirmed_publish_waits_for_a_connection_and_is_not_sent_twice) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = publish_unconfirmed(&p, "a", 0);
  PUBLISHED(&p, "a");
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  peer_lost(&p);
  uint64_t b = publish_unconfirmed(&p, "b", 0), late = publish_unconfirmed(&p, "late", 500);
  peer_sleep(&p, 500);
  CHECK_INT(peer_outcome(&p, late), EB_ERR_TIMEOUT);
  CHECK_INT(peer_outcome(&p, b), -1);
  CHECK(peer_up(&p));
  PUBLISHED(&p, "b");
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(an_unconfirmed_publish_waits_while_the_broker_is_blocked_and_times_out_as_blocked) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  amqp_connection_blocked_t m = {peer_text("low on memory")};
  CHECK(peer_say(&p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &m));
  uint64_t a = publish_unconfirmed(&p, "a", 100), b = publish_unconfirmed(&p, "b", 0);
  WANT(&p, PEER_NOTHING);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_BLOCKED);
  CHECK(peer_ok_on(&p, 0, AMQP_CONNECTION_UNBLOCKED_METHOD));
  PUBLISHED(&p, "b");
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_closed_channel_of_unconfirmed_publishes_is_told_and_opened_again_later) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "confirmed", 0);
  PUBLISHED(&p, "confirmed");
  publish_unconfirmed(&p, "lost", 0);
  PUBLISHED(&p, "lost");
  CHECK(peer_close_channel(&p, 2, 404, "NOT_FOUND - no exchange 'orders'"));
  CHECK(peer_noticed(&p, EB_EVENT_UNCONFIRMED_LOST));
  uint64_t next = publish_unconfirmed(&p, "next", 0);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_confirm(&p, 1, false));  /* the other channel goes on */
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK_INT(peer_outcome(&p, next), -1);
  peer_sleep(&p, 1000);
  PUBLISHED(&p, "next");
  CHECK_INT(peer_outcome(&p, next), EB_OK);
  CHECK(peer_end(&p));
}

TEST(close_sends_the_unconfirmed_that_wait_before_its_goodbye) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = publish_unconfirmed(&p, "a", 0);
  eb_session_close(p.s, p.now + 1000, p.now);
  const char *body = peer_published(&p);
  CHECK(body != NULL && strcmp(body, "a") == 0);
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  p.manual = true;
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);  /* answered when the broker has dealt with them */
  WANT(&p, PEER_NOTHING);
  CHECK(peer_ok_on(&p, 2, AMQP_CHANNEL_CLOSE_OK_METHOD));
  WANT(&p, AMQP_CONNECTION_CLOSE_METHOD);
  CHECK(!peer_ok_on(&p, 0, AMQP_CONNECTION_CLOSE_OK_METHOD));
  peer_lost(&p);
  CHECK(peer_end(&p));
}

TEST(close_waits_for_its_deadline_at_most_when_the_broker_does_not_deal_with_them) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  publish_unconfirmed(&p, "a", 0);
  PUBLISHED(&p, "a");
  eb_session_close(p.s, p.now + 1000, p.now);
  p.manual = true;
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  peer_sleep(&p, 999);
  CHECK(!eb_session_done(p.s, p.now));
  CHECK(eb_session_done(p.s, p.now + 1));  /* the loop looks, and leaves */
  peer_lost(&p);
  CHECK(peer_end(&p));
}

TEST(close_hears_of_an_unconfirmed_publish_that_the_broker_refuses) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  publish_unconfirmed(&p, "a", 0);
  PUBLISHED(&p, "a");
  eb_session_close(p.s, p.now + 1000, p.now);
  p.manual = true;
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(peer_close_channel(&p, 2, 404, "NOT_FOUND"));  /* it crosses ours */
  CHECK(peer_noticed(&p, EB_EVENT_UNCONFIRMED_LOST));
  WANT(&p, AMQP_CHANNEL_CLOSE_OK_METHOD);
  WANT(&p, AMQP_CONNECTION_CLOSE_METHOD);
  CHECK(peer_ok_on(&p, 2, AMQP_CHANNEL_CLOSE_OK_METHOD));
  CHECK(!peer_ok_on(&p, 0, AMQP_CONNECTION_CLOSE_OK_METHOD));
  peer_lost(&p);
  CHECK(peer_end(&p));
}

TEST(an_unconfirmed_publish_without_a_channel_fails_and_those_with_a_confirm_go_on) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 1, 131072, 0));
  uint64_t a = publish_unconfirmed(&p, "a", 0);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_NOT_ALLOWED);
  uint64_t b = peer_publish(&p, "b", 0), d = publish_unconfirmed(&p, "d", 0);
  PUBLISHED(&p, "b");
  CHECK_INT(peer_outcome(&p, d), EB_ERR_NOT_ALLOWED);
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(publishes_with_and_without_a_confirm_take_turns_at_the_output) {
  peer p;
  eb_session_config c = peer_config();
  c.window_bytes = 1 << 30;
  c.window_count = 1000;
  CHECK(up(&p, &c));
  static char body[4001];
  memset(body, 'x', 4000);
  peer_publish(&p, "first", 0);
  CHECK(peer_published(&p) != NULL);
  publish_unconfirmed(&p, "first", 0);
  CHECK(peer_published(&p) != NULL);
  for (int i = 0; i < 400; i++) eb_session_submit(p.s, &peer_publish_op(&p, body)->item, p.now);
  eb_publish *op = peer_publish_op(&p, "a");
  uint64_t a = op->item.id;
  op->unconfirmed = true;
  eb_session_submit(p.s, &op->item, p.now);
  /* A tick fills the output, which is written before the next. */
  for (int i = 0; i < 2; i++) {
    CHECK(eb_session_tick(p.s, p.now, &p.err));
    eb_buffer *out = eb_session_output(p.s);
    eb_buffer_consume(out, eb_buffer_size(out));
  }
  peer_take_events(&p);
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK(peer_stats(&p).pending > 100);
  CHECK(peer_end(&p));
}
