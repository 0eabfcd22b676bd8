/* The beginning of a connection, and all the ways it can go wrong. Included by session_test.c. */

TEST(handshake_with_plain_reaches_up) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  peer_attach(&p);
  WANT(&p, PEER_GREETING);
  CHECK(peer_start(&p, "EXTERNAL PLAIN AMQPLAIN"));
  WANT(&p, AMQP_CONNECTION_START_OK_METHOD);
  const amqp_connection_start_ok_t *ok = p.method;
  CHECK(peer_is(ok->mechanism, "PLAIN"));
  CHECK_MEM((const char *)ok->response.bytes, ok->response.len, "\0guest\0secret", 13);
  CHECK(peer_tune(&p, 100, 16384, 0));
  WANT(&p, AMQP_CONNECTION_TUNE_OK_METHOD);
  WANT(&p, AMQP_CONNECTION_OPEN_METHOD);
  CHECK(peer_is(((amqp_connection_open_t *)p.method)->virtual_host, "/"));
  CHECK(!eb_session_ever_up(p.s));
  CHECK(peer_open_ok(&p));
  CHECK(eb_session_ever_up(p.s));
  CHECK(peer_noticed(&p, EB_EVENT_UP));
  CHECK_INT(peer_stats(&p).connections, 1);
  CHECK_INT(peer_stats(&p).frame_max, 16384);
  CHECK_INT(peer_stats(&p).heartbeat_ms, 0);
  CHECK(strcmp(peer_stats(&p).server, "RabbitMQ 3.10.8") == 0);
  CHECK(peer_end(&p));
}

TEST(handshake_with_external_sends_no_secret) {
  peer p;
  eb_session_config c = peer_config();
  c.auth = EB_AUTH_EXTERNAL;
  peer_init(&p, &c);
  peer_attach(&p);
  WANT(&p, PEER_GREETING);
  CHECK(peer_start(&p, "EXTERNAL PLAIN"));
  WANT(&p, AMQP_CONNECTION_START_OK_METHOD);
  const amqp_connection_start_ok_t *ok = p.method;
  CHECK(peer_is(ok->mechanism, "EXTERNAL"));
  CHECK_INT(ok->response.len, 0);
  CHECK(peer_end(&p));
}

TEST(a_mechanism_that_is_not_offered_is_refused) {
  peer p;
  eb_session_config c = peer_config();
  c.auth = EB_AUTH_EXTERNAL;
  peer_init(&p, &c);
  peer_attach(&p);
  CHECK(!peer_start(&p, "PLAIN EXTERNALLY AMQPLAIN"));
  CHECK_INT(p.err.code, EB_ERR_REFUSED);
  CHECK(peer_end(&p));
}

TEST(the_client_tells_its_properties_and_capabilities) {
  static const char *const able[] = {"authentication_failure_close", "exchange_exchange_bindings",
                                     "consumer_cancel_notify",       "connection.blocked",
                                     "basic.nack",                   "publisher_confirms"};
  peer p;
  eb_session_config c = peer_config();
  c.connection_name = "oms-service";
  peer_init(&p, &c);
  peer_attach(&p);
  WANT(&p, PEER_GREETING);
  CHECK(peer_start(&p, "PLAIN"));
  WANT(&p, AMQP_CONNECTION_START_OK_METHOD);
  const amqp_table_t *props = &((amqp_connection_start_ok_t *)p.method)->client_properties;
  const amqp_table_t *capabilities = NULL;
  const char *const names[] = {"product", "version", "platform", "connection_name", "capabilities"};
  for (size_t i = 0; i < 5; i++) {
    const amqp_table_entry_t *found = NULL;
    for (int e = 0; e < props->num_entries; e++)
      if (peer_is(props->entries[e].key, names[i])) found = &props->entries[e];
    CHECK(found != NULL);
    if (i == 3) CHECK(peer_is(found->value.value.bytes, "oms-service"));
    if (i == 4) capabilities = &found->value.value.table;
  }
  CHECK_INT(capabilities->num_entries, 6);
  for (int i = 0; i < 6; i++) {
    CHECK(peer_is(capabilities->entries[i].key, able[i]));
    CHECK_INT(capabilities->entries[i].value.value.boolean, 1);
  }
  CHECK(peer_end(&p));
}

static bool tuned (unsigned ours_hb, size_t ours_frame, unsigned channel_max, unsigned frame_max, unsigned heartbeat,
                   const amqp_connection_tune_ok_t *want) {
  peer p;
  eb_session_config c = peer_config();
  c.heartbeat_s = ours_hb;
  c.frame_max = ours_frame;
  peer_init(&p, &c);
  peer_attach(&p);
  bool ok = peer_next(&p) == PEER_GREETING && peer_start(&p, "PLAIN") &&
            peer_next(&p) == AMQP_CONNECTION_START_OK_METHOD && peer_tune(&p, channel_max, frame_max, heartbeat) &&
            peer_next(&p) == AMQP_CONNECTION_TUNE_OK_METHOD;
  if (ok) {
    const amqp_connection_tune_ok_t *m = p.method;
    ok = m->channel_max == want->channel_max && m->frame_max == want->frame_max && m->heartbeat == want->heartbeat;
    if (!ok) printf("agreed on %u channels, frames of %u, heartbeat %u\n", m->channel_max, m->frame_max, m->heartbeat);
  }
  return peer_end(&p) && ok;
}

TEST(tune_takes_the_smaller_and_zero_means_no_limit) {
  CHECK(tuned(60, 0, 100, 8192, 30, &(amqp_connection_tune_ok_t){100, 8192, 30}));
  CHECK(tuned(10, 0, 0, 0, 60, &(amqp_connection_tune_ok_t){2047, 131072, 10}));
  CHECK(tuned(10, 0, 65535, 1000000, 0, &(amqp_connection_tune_ok_t){2047, 131072, 10}));
  CHECK(tuned(0, 16384, 10, 65536, 60, &(amqp_connection_tune_ok_t){10, 16384, 0}));
}

TEST(a_heartbeat_over_65535_seconds_is_not_taken_for_none) {
  CHECK(tuned(65536 + 0, 0, 10, 65536, 0, &(amqp_connection_tune_ok_t){10, 65536, 65535}));
}

TEST(frames_below_4096_bytes_are_a_protocol_error) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  peer_attach(&p);
  CHECK(peer_start(&p, "PLAIN"));
  CHECK(!peer_tune(&p, 10, 4095, 0));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(peer_end(&p));
}

/* The code that a connection.close during the handshake becomes; -1: it was not an end. */
static int handshake_closed (bool opening, unsigned reply, const char *text, bool *said_ok) {
  peer p;
  eb_session_config c = peer_config();
  int code = -1;
  peer_init(&p, &c);
  peer_attach(&p);
  peer_start(&p, "PLAIN");
  if (opening) peer_tune(&p, 10, 65536, 0);
  if (!peer_close_connection(&p, reply, text)) code = (int)p.err.code;
  uint32_t id, last = 0;
  while ((id = peer_any(&p)) != PEER_NOTHING) last = id;
  *said_ok = last == AMQP_CONNECTION_CLOSE_OK_METHOD;
  return peer_end(&p) ? code : -1;
}

TEST(a_close_during_the_handshake_is_named_and_answered) {
  bool ok;
  CHECK_INT(handshake_closed(false, 403, "ACCESS_REFUSED - Login was refused", &ok), EB_ERR_REFUSED);
  CHECK(ok);
  CHECK_INT(handshake_closed(true, 530, "NOT_ALLOWED - vhost nope not found", &ok), EB_ERR_NOT_FOUND);
  CHECK(ok);
  CHECK_INT(handshake_closed(true, 530, "NOT_ALLOWED - access to vhost 'x' refused for user 'y'", &ok), EB_ERR_REFUSED);
  CHECK_INT(handshake_closed(true, 530, "NOT_ALLOWED - all is forbidden today", &ok), EB_ERR_NOT_ALLOWED);
  CHECK_INT(handshake_closed(true, 541, "INTERNAL_ERROR - access to vhost '/' refused: vhost '/' is down", &ok),
            EB_ERR_CONNECTION);
  CHECK(eb_code_retryable(EB_ERR_CONNECTION));
}

/* As RabbitMQ says it of each limit: with a word that otherwise means wrong credentials. */
TEST(a_limit_of_connections_is_not_taken_for_a_refusal) {
  static const char *const texts[] = {
      "NOT_ALLOWED - access to vhost 'x' refused for user 'y': connection limit (1) is reached",
      "NOT_ALLOWED - access to vhost 'x' refused for user 'y': connection limit cannot be queried, timeout",
      "NOT_ALLOWED - connection refused for user 'y': user connection limit (1) is reached",
      "NOT_ALLOWED - connection refused: node connection limit (1) is reached"};
  bool ok;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    CHECK_INT(handshake_closed(true, 530, texts[i], &ok), EB_ERR_CONNECTION);
    CHECK(ok);
  }
  CHECK_INT(handshake_closed(true, 530, "NOT_ALLOWED - access to vhost 'limit' refused for user 'y'", &ok),
            EB_ERR_REFUSED);
}

static int answered_with (const void *bytes, size_t n, size_t cut) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  p.cut = cut;
  peer_attach(&p);
  int code = peer_feed(&p, bytes, n) ? -1 : (int)p.err.code;
  return peer_end(&p) ? code : -2;
}

TEST(a_server_that_answers_with_its_protocol_header_is_a_protocol_error) {
  for (size_t cut = 0; cut <= 8; cut++) CHECK_INT(answered_with("AMQP\0\1\0\0", 8, cut), EB_ERR_PROTOCOL);
}

TEST(what_is_not_amqp_is_a_protocol_error) {
  CHECK_INT(answered_with("HTTP/1.1 400 Bad Request\r\n\r\n", 28, 0), EB_ERR_PROTOCOL);
  CHECK_INT(answered_with("SSH-2.0-OpenSSH_9.2p1 Debian\r\n", 30, 1), EB_ERR_PROTOCOL);
  CHECK_INT(answered_with("\x15\x03\x01\0\x02\x02\x46", 7, 0), EB_ERR_PROTOCOL);
  CHECK_INT(answered_with("A\0\0\0\0\0\0\xCE", 8, 0), EB_ERR_PROTOCOL);
  CHECK_INT(answered_with("A\0\0\0\0\0\0\xCE", 8, 1), EB_ERR_PROTOCOL);
  CHECK_INT(answered_with("\1\0\0\0\0\0\0\xCE", 8, 0), EB_ERR_PROTOCOL);
  CHECK_INT(answered_with("\1\0\0\0\0\0\4\0\x0A\0\x0A\xCE", 12, 0), EB_ERR_PROTOCOL);
}

TEST(bytes_after_the_end_say_why_again) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(!peer_feed(&p, "junk", 4));
  eb_error again;
  memset(&again, 0, sizeof again);
  CHECK(!eb_session_feed(p.s, "more", 4, p.now, &again));
  CHECK_INT(again.code, EB_ERR_PROTOCOL);
  peer_lost(&p);
  memset(&again, 0, sizeof again);
  CHECK(!eb_session_feed(p.s, "more", 4, p.now, &again));
  CHECK(again.code != EB_OK && again.message[0] != '\0');
  CHECK(peer_end(&p));
}

TEST(handshake_methods_at_the_wrong_time_are_protocol_errors) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  peer_attach(&p);
  CHECK(!peer_tune(&p, 0, 0, 0));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  peer_lost(&p);
  peer_attach(&p);
  CHECK(!peer_open_ok(&p));
  peer_lost(&p);
  CHECK(peer_up(&p));
  CHECK(!peer_start(&p, "PLAIN"));
  peer_lost(&p);
  peer_attach(&p);
  CHECK(!peer_deliver(&p, 1, 1, "before the handshake"));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  CHECK(peer_end(&p));
}

TEST(a_broken_connection_does_not_break_the_next) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up(&p));
  CHECK(!peer_close_connection(&p, 320, "CONNECTION_FORCED - broker forced connection closure"));
  CHECK_INT(p.err.code, EB_ERR_CONNECTION);
  peer_lost(&p);
  CHECK(p.alive);  /* a tick while there is no connection has nothing to complain about */
  CHECK(!p.spins);
  uint64_t id = peer_subscribe(&p, "q", 10, 100);
  peer_sleep(&p, 200);
  CHECK_INT(peer_outcome(&p, id), EB_ERR_TIMEOUT);
  CHECK(peer_up(&p));
  CHECK(peer_end(&p));
}
