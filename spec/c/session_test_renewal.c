/* A publisher that the broker refuses: a new channel, and a new connection. Included by session_test.c. */

TEST(a_channel_that_is_refused_for_a_second_is_renewed_once_all_is_answered) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_publish(&p, "a", 0);
  PUBLISHED(&p, "a");
  CHECK(peer_nack(&p, 1, false));
  CHECK_INT(peer_outcome(&p, a), EB_ERR_NACKED);
  peer_sleep(&p, 900);
  peer_publish(&p, "b", 0);
  PUBLISHED(&p, "b");
  CHECK(peer_nack(&p, 2, false));
  peer_sleep(&p, 100);
  uint64_t c3 = peer_publish(&p, "c", 0), d = peer_publish(&p, "d", 0);
  PUBLISHED(&p, "c", "d");
  CHECK(peer_nack(&p, 3, false));
  CHECK_INT(peer_outcome(&p, c3), EB_ERR_NACKED);
  p.manual = true;
  uint64_t e = peer_publish(&p, "e", 0);
  WANT(&p, PEER_NOTHING);  /* d is not answered */
  CHECK(peer_confirm(&p, 4, false));
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(peer_ok_on(&p, 1, AMQP_CHANNEL_CLOSE_OK_METHOD));
  p.manual = false;
  PUBLISHED(&p, "e");
  CHECK(peer_confirm(&p, 1, false));  /* tags begin anew */
  CHECK_INT(peer_outcome(&p, e), EB_OK);
  CHECK_INT(peer_stats(&p).nacked, 3);
  CHECK_INT(peer_stats(&p).resent, 0);
  CHECK(peer_end(&p));
}

TEST(what_is_not_answered_holds_a_renewal_up_for_a_moment_and_once_timed_out_not_at_all) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  peer_publish(&p, "a", 0);
  uint64_t stuck = peer_publish(&p, "stuck", 2000);
  PUBLISHED(&p, "a", "stuck");
  CHECK(peer_nack(&p, 1, false));
  peer_sleep(&p, 1000);
  peer_publish(&p, "b", 0);
  PUBLISHED(&p, "b");
  CHECK(peer_nack(&p, 3, false));
  p.manual = true;
  peer_publish(&p, "c", 0);
  peer_sleep(&p, 199);
  WANT(&p, PEER_NOTHING);
  peer_sleep(&p, 1);
  PUBLISHED(&p, "c");
  CHECK(peer_nack(&p, 4, false));
  peer_sleep(&p, 2000);
  CHECK_INT(peer_outcome(&p, stuck), EB_ERR_TIMEOUT);
  peer_publish(&p, "d", 0);
  PUBLISHED(&p, "d");
  CHECK(peer_nack(&p, 5, false));
  uint64_t e = peer_publish(&p, "e", 0);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  /* What has timed out may come back still: nobody is told. */
  CHECK(peer_return(&p, NULL));
  CHECK(peer_confirm(&p, 2, false));
  CHECK(peer_ok_on(&p, 1, AMQP_CHANNEL_CLOSE_OK_METHOD));
  p.manual = false;
  PUBLISHED(&p, "e");
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, e), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_publisher_that_is_refused_each_time_renews_its_channel_every_ten_seconds_at_most) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  int renewals = 0;
  uint64_t tag = 0;
  for (int second = 0; second < 600; second++) {
    peer_publish(&p, "x", 0);
    uint32_t got = peer_any(&p);
    if (got == AMQP_CHANNEL_CLOSE_METHOD) {
      renewals++;
      tag = 0;
      CHECK(peer_ok_on(&p, 1, AMQP_CHANNEL_CLOSE_OK_METHOD));
      got = peer_any(&p);
      CHECK_INT(got, AMQP_CHANNEL_OPEN_METHOD);
    }
    if (got == AMQP_CHANNEL_OPEN_METHOD) {
      CHECK(peer_ok_on(&p, 1, AMQP_CHANNEL_OPEN_OK_METHOD));
      CHECK_INT(peer_any(&p), AMQP_CONFIRM_SELECT_METHOD);
      CHECK(peer_ok_on(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD));
      got = peer_any(&p);
    }
    CHECK_INT(got, AMQP_BASIC_PUBLISH_METHOD);
    CHECK_INT(peer_any(&p), PEER_HEADER);
    CHECK_INT(peer_any(&p), PEER_BODY);
    CHECK(peer_nack(&p, ++tag, false));
    peer_sleep(&p, 1000);
  }
  CHECK(renewals >= 40 && renewals <= 65);
  CHECK(peer_end(&p));
}

/* A node that stands still answers one event in seven seconds, with a nack, and there are always others. */
TEST(what_is_refused_too_slowly_for_a_renewal_costs_the_connection_at_the_second_and_is_sent_again) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
  uint64_t id[8];
  for (int i = 0; i < 6; i++) id[i] = peer_publish(&p, names[i], 0);
  PUBLISHED(&p, "a", "b", "c", "d", "e", "f");
  for (uint64_t tag = 1; tag <= 2; tag++) {
    peer_sleep(&p, 7000);
    CHECK(peer_nack(&p, tag, false));
  }
  id[6] = peer_publish(&p, names[6], 0);
  peer_sleep(&p, 199);
  WANT(&p, PEER_NOTHING);
  peer_sleep(&p, 1);
  PUBLISHED(&p, "g");
  for (uint64_t tag = 3; tag <= 4; tag++) {
    peer_sleep(&p, 7000);
    CHECK(peer_nack(&p, tag, false));
  }
  id[7] = peer_publish(&p, names[7], 0);
  peer_sleep(&p, 4999);
  WANT(&p, PEER_NOTHING);
  CHECK(p.alive);
  peer_sleep(&p, 1);
  CHECK(!p.alive);
  CHECK_INT(p.err.code, EB_ERR_CONNECTION);
  CHECK(strstr(p.err.message, "leaves 3 without an answer") != NULL);
  peer_lost(&p);
  CHECK(peer_up(&p));
  PUBLISHED(&p, "e", "f", "g", "h");
  CHECK(peer_confirm(&p, 4, true));
  for (int i = 0; i < 8; i++) CHECK_INT(peer_outcome(&p, id[i]), i < 4 ? EB_ERR_NACKED : EB_OK);
  CHECK_INT(peer_stats(&p).resent, 3);
  CHECK(peer_end(&p));
}

/* As above, to the moment in which the last drain has begun: b and c wait for an answer, d to be sent. */
static bool up_to_the_last_drain (peer *p, const eb_session_config *c) {
  bool ok = up(p, c);
  static const char *const names[] = {"x", "x", "x", "x", "b", "c"};
  for (int i = 0; i < 6; i++) peer_publish(p, names[i], 0);
  while (peer_published(p) != NULL) {}
  for (uint64_t tag = 1; tag <= 4; tag++) {
    peer_sleep(p, 7000);
    ok = ok && peer_nack(p, tag, false);
  }
  peer_publish(p, "d", 0);
  return ok && peer_next(p) == PEER_NOTHING;
}

TEST(nothing_is_given_up_while_the_broker_is_blocked_and_what_waited_has_its_time_after_that) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up_to_the_last_drain(&p, &c));
  amqp_connection_blocked_t m = {peer_text("low on memory")};
  CHECK(peer_say(&p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &m));
  peer_sleep(&p, 62500);
  CHECK(p.alive);
  CHECK(peer_ok_on(&p, 0, AMQP_CONNECTION_UNBLOCKED_METHOD));
  peer_sleep(&p, 2499);
  CHECK(p.alive);
  WANT(&p, PEER_NOTHING);
  peer_sleep(&p, 1);
  CHECK(!p.alive);
  CHECK(peer_end(&p));
}

TEST(nothing_is_given_up_for_what_has_not_been_written) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  peer_publish(&p, "a", 0);
  peer_publish(&p, "b", 0);
  PUBLISHED(&p, "a", "b");
  CHECK(peer_nack(&p, 1, false));
  peer_sleep(&p, 1000);
  /* The socket takes nothing from here on. */
  eb_publish *op = peer_publish_op(&p, "large");
  eb_session_submit(p.s, &op->item, p.now);
  CHECK(eb_session_tick(p.s, p.now, &p.err));
  amqp_basic_nack_t no = {2, 0, 0};
  peer_put(&p, 1, AMQP_BASIC_NACK_METHOD, &no);
  CHECK(eb_session_feed(p.s, eb_buffer_bytes(&p.wire), eb_buffer_size(&p.wire), p.now, &p.err));
  eb_buffer_consume(&p.wire, eb_buffer_size(&p.wire));
  op = peer_publish_op(&p, "next");
  eb_session_submit(p.s, &op->item, p.now);
  for (int i = 0; i < 100; i++) {
    p.now += 200;
    CHECK(eb_session_tick(p.s, p.now, &p.err));
    CHECK(eb_session_deadline(p.s) > p.now);
  }
  PUBLISHED(&p, "large");  /* now it does, and the drain has all its time */
  peer_sleep(&p, 199);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_confirm(&p, 3, false));
  PUBLISHED(&p, "next");
  CHECK(peer_end(&p));
}

TEST(what_is_sent_already_is_sent_again_though_nothing_else_waits) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = 0;
  for (int i = 0; i < 6; i++) id = peer_publish(&p, "x", 0);
  PUBLISHED(&p, "x", "x", "x", "x", "x", "x");
  for (uint64_t tag = 1; tag <= 4; tag++) {
    peer_sleep(&p, 7000);
    CHECK(peer_nack(&p, tag, false));
  }
  peer_sleep(&p, 5000);
  CHECK(!p.alive);
  peer_lost(&p);
  CHECK(peer_up(&p));
  PUBLISHED(&p, "x", "x");
  CHECK(peer_confirm(&p, 2, true));
  CHECK_INT(peer_outcome(&p, id), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_channel_that_the_broker_does_not_close_costs_the_connection_and_nothing_is_repeated) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  for (int i = 0; i < 4; i++) peer_publish(&p, "x", 10000);
  PUBLISHED(&p, "x", "x", "x", "x");
  CHECK(peer_nack(&p, 1, false));
  peer_sleep(&p, 7000);
  CHECK(peer_nack(&p, 2, false));
  peer_sleep(&p, 3000);  /* the others' time is over */
  p.manual = true;
  peer_publish(&p, "y", 0);
  PUBLISHED(&p, "y");
  peer_sleep(&p, 4000);
  CHECK(peer_nack(&p, 3, false));
  peer_sleep(&p, 7000);
  CHECK(peer_nack(&p, 4, false));
  CHECK(peer_nack(&p, 5, false));
  uint64_t z = peer_publish(&p, "z", 0);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  peer_sleep(&p, 4999);
  WANT(&p, PEER_NOTHING);
  CHECK(p.alive);
  peer_sleep(&p, 1);
  CHECK(!p.alive);
  CHECK(strstr(p.err.message, "does not close the channel") != NULL);
  p.manual = false;
  peer_lost(&p);
  CHECK(peer_up(&p));
  PUBLISHED(&p, "z");
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, z), EB_OK);
  CHECK_INT(peer_stats(&p).resent, 0);
  CHECK(peer_end(&p));
}

TEST(a_channel_or_connection_that_is_lost_while_a_renewal_is_due_has_it_no_longer) {
  for (int all = 0; all < 2; all++) {
    peer p;
    eb_session_config c = peer_config();
    CHECK(up_to_the_last_drain(&p, &c));
    if (all) {
      peer_lost(&p);
      CHECK(peer_up(&p));
      PUBLISHED(&p, "b", "c", "d");
    } else {
      p.manual = true;
      CHECK(peer_close_channel(&p, 1, 506, "RESOURCE_ERROR"));
      WANT(&p, AMQP_CHANNEL_CLOSE_OK_METHOD);
      WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
      WANT(&p, AMQP_CONFIRM_SELECT_METHOD);
      CHECK(peer_ok_on(&p, 1, AMQP_CHANNEL_OPEN_OK_METHOD));
      CHECK(peer_ok_on(&p, 1, AMQP_CONFIRM_SELECT_OK_METHOD));
      PUBLISHED(&p, "b");  /* one at a time: one of them may be the reason */
    }
    peer_sleep(&p, 6000);
    CHECK(p.alive);
    CHECK(peer_end(&p));
  }
}

TEST(a_close_sends_what_a_renewal_holds_back) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up_to_the_last_drain(&p, &c));
  eb_session_close(p.s, p.now + 8000, p.now);
  PUBLISHED(&p, "d");
  peer_sleep(&p, 7000);
  CHECK(p.alive);
  CHECK(peer_confirm(&p, 7, true));
  WANT(&p, AMQP_CONNECTION_CLOSE_METHOD);
  CHECK(peer_end(&p));
}

TEST(nacks_of_many_at_a_time_count_and_those_of_what_was_answered_do_not) {
  for (int again = 0; again < 2; again++) {
    peer p;
    eb_session_config c = peer_config();
    CHECK(up(&p, &c));
    for (int i = 0; i < 4; i++) peer_publish(&p, "x", 0);
    PUBLISHED(&p, "x", "x", "x", "x");
    if (again) CHECK(peer_confirm(&p, 4, true));
    CHECK(peer_nack(&p, 2, !again));
    peer_sleep(&p, 1000);
    CHECK(peer_nack(&p, again ? 2 : 4, !again));
    p.manual = true;
    peer_publish(&p, "y", 0);
    if (again)
      PUBLISHED(&p, "y");
    else
      WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
    CHECK(peer_end(&p));
  }
}
