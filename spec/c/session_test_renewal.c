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

/* Whether the connection is given up meanwhile; then it is made anew. */
static bool seven_slow_seconds (peer *p, uint64_t *tag) {
  for (int i = 0; i < 3; i++) peer_publish(p, "x", 20000);
  peer_sleep(p, 7000);
  bool ok = p->alive;
  if (!ok) {
    peer_lost(p);
    peer_up(p);
    *tag = 0;
  }
  while (peer_published(p) != NULL) {}
  if (!peer_nack(p, ++*tag, false)) return true;
  return !ok;
}

TEST(a_connection_is_given_up_for_slow_refusals_less_and_less_until_a_minute_without_them) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t tag = 0;
  eb_ms last = 0;
  int64_t between = 0;
  int times = 0;
  for (int i = 0; i < 300; i++) {
    if (!seven_slow_seconds(&p, &tag)) continue;
    if (times > 1) CHECK(p.now - last + 2 * 7000 >= between);
    if (times > 0) between = p.now - last;
    last = p.now;
    times++;
  }
  CHECK(times >= 6 && times <= 12);
  CHECK(between >= 320000);
  peer_sleep(&p, 60000);
  int turns = 0;
  do turns++;
  while (turns < 100 && !seven_slow_seconds(&p, &tag));
  CHECK(turns <= 10);
  CHECK(peer_end(&p));
}
