/* Topology calls, gets, and the record of what was declared. Included by session_test.c. */

TEST(calls_are_pipelined_and_answered_in_order) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_QUEUE_DECLARE, "q", 1000), b = peer_call(&p, EB_QUEUE_PURGE, "q", 1000),
           d = peer_call(&p, EB_QUEUE_DELETE, "q", 1000);
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  WANT(&p, AMQP_QUEUE_DELETE_METHOD);
  CHECK(peer_declare_ok(&p, "q"));
  eb_rpc *answer = (eb_rpc *)peer_pick(&p, EB_ITEM_RPC, a, -1);
  CHECK(answer != NULL && answer->messages == 3 && answer->consumers == 2);
  CHECK_MEM(answer->answer_name.p, answer->answer_name.n, "q", 1);
  eb_item_free(&answer->item);
  CHECK_INT(peer_outcome(&p, b), -1);
  amqp_queue_purge_ok_t purged = {5};
  CHECK(peer_say(&p, p.channel, AMQP_QUEUE_PURGE_OK_METHOD, &purged));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  amqp_queue_delete_ok_t deleted = {6};
  CHECK(peer_say(&p, p.channel, AMQP_QUEUE_DELETE_OK_METHOD, &deleted));
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  CHECK(peer_end(&p));
}

TEST(every_call_has_its_method_and_its_reply) {
  static const struct {
    eb_rpc_method method;
    amqp_method_number_t sent, reply;
  } all[] = {{EB_EXCHANGE_DECLARE, AMQP_EXCHANGE_DECLARE_METHOD, AMQP_EXCHANGE_DECLARE_OK_METHOD},
             {EB_EXCHANGE_DELETE, AMQP_EXCHANGE_DELETE_METHOD, AMQP_EXCHANGE_DELETE_OK_METHOD},
             {EB_EXCHANGE_BIND, AMQP_EXCHANGE_BIND_METHOD, AMQP_EXCHANGE_BIND_OK_METHOD},
             {EB_EXCHANGE_UNBIND, AMQP_EXCHANGE_UNBIND_METHOD, AMQP_EXCHANGE_UNBIND_OK_METHOD},
             {EB_QUEUE_BIND, AMQP_QUEUE_BIND_METHOD, AMQP_QUEUE_BIND_OK_METHOD},
             {EB_QUEUE_UNBIND, AMQP_QUEUE_UNBIND_METHOD, AMQP_QUEUE_UNBIND_OK_METHOD},
             {EB_QUEUE_DELETE, AMQP_QUEUE_DELETE_METHOD, AMQP_QUEUE_DELETE_OK_METHOD},
             {EB_QUEUE_PURGE, AMQP_QUEUE_PURGE_METHOD, AMQP_QUEUE_PURGE_OK_METHOD}};
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    uint64_t id = peer_call(&p, all[i].method, "name", 0);
    WANT(&p, all[i].sent);
    CHECK(peer_ok(&p, all[i].reply));
    CHECK_INT(peer_outcome(&p, id), EB_OK);
  }
  CHECK(peer_end(&p));
}

TEST(a_reply_of_another_kind_is_a_protocol_error) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK(!peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD));
  CHECK_INT(p.err.code, EB_ERR_PROTOCOL);
  peer_lost(&p);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK(!peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));  /* nobody asked */
  CHECK(peer_end(&p));
}

TEST(a_name_or_table_too_large_fails_its_call_alone) {
  peer p;
  eb_session_config c = peer_config();
  char name[301];
  memset(name, 'n', 300);
  name[300] = '\0';
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_QUEUE_DECLARE, name, 0), b = peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  uint64_t d = peer_subscribe(&p, name, 1, 0);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TOO_LARGE);
  CHECK_INT(peer_outcome(&p, d), EB_ERR_TOO_LARGE);
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_channel_close_is_the_oldest_calls_and_the_rest_are_sent_again) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_QUEUE_PURGE, "a", 0), b = peer_call(&p, EB_QUEUE_DELETE, "b", 0),
           d = peer_call(&p, EB_QUEUE_PURGE, "d", 0);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  WANT(&p, AMQP_QUEUE_DELETE_METHOD);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK(peer_close_channel(&p, p.channel, 406, "PRECONDITION_FAILED - queue 'b' in use"));
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  CHECK_INT(peer_outcome(&p, b), EB_ERR_PRECONDITION);
  CHECK_INT(p.err.reply_code, 406);
  CHECK(strstr(p.err.message, "in use") != NULL);
  CHECK_INT(peer_outcome(&p, d), -1);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK(peer_is(((amqp_queue_purge_t *)p.method)->queue, "d"));
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK_INT(peer_outcome(&p, d), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_call_times_out_and_its_late_reply_keeps_the_order) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_QUEUE_PURGE, "a", 100), b = peer_call(&p, EB_QUEUE_PURGE, "b", 1000);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TIMEOUT);
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK_INT(peer_outcome(&p, b), -1);
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_call_that_timed_out_is_never_sent_again_after_a_channel_error) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_QUEUE_BIND, "a", 0), late = peer_call(&p, EB_QUEUE_PURGE, "late", 100),
           b = peer_call(&p, EB_QUEUE_BIND, "b", 0);
  WANT(&p, AMQP_QUEUE_BIND_METHOD);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  WANT(&p, AMQP_QUEUE_BIND_METHOD);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, late), EB_ERR_TIMEOUT);
  CHECK(peer_close_channel(&p, p.channel, 404, "NOT_FOUND"));
  CHECK_INT(peer_outcome(&p, a), EB_ERR_NOT_FOUND);
  WANT(&p, AMQP_QUEUE_BIND_METHOD);  /* not: purge the queue that was declared last */
  CHECK(peer_is(((amqp_queue_bind_t *)p.method)->queue, "b"));
  WANT(&p, PEER_NOTHING);
  CHECK(peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD));
  CHECK_INT(peer_outcome(&p, b), EB_OK);
  CHECK(peer_end(&p));
}

TEST(calls_survive_a_lost_connection_but_not_three) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_QUEUE_PURGE, "a", 0);
  for (int i = 0; i < 3; i++) {
    WANT(&p, AMQP_QUEUE_PURGE_METHOD);
    CHECK_INT(peer_outcome(&p, a), -1);
    peer_lost(&p);
    if (i < 2) CHECK(peer_up(&p));
  }
  CHECK_INT(peer_outcome(&p, a), EB_ERR_CONNECTION);
  CHECK(peer_end(&p));
}

TEST(get_brings_a_message_or_none) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_GET, "q", 0);
  WANT(&p, AMQP_BASIC_GET_METHOD);
  CHECK(!((amqp_basic_get_t *)p.method)->no_ack);
  unsigned channel = p.channel;
  CHECK(peer_get_ok(&p, channel, 1, "hello"));
  eb_rpc *answer = (eb_rpc *)peer_pick(&p, EB_ITEM_RPC, a, -1);
  CHECK(answer != NULL && answer->delivery != NULL && answer->messages == 7);
  CHECK_MEM(answer->delivery->body.p, answer->delivery->body.n, "hello", 5);
  peer_settle(&p, answer->delivery, EB_ACK);
  answer->delivery = NULL;
  eb_item_free(&answer->item);
  peer_sleep(&p, 10);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  CHECK_INT(((amqp_basic_ack_t *)p.method)->delivery_tag, 1);
  a = peer_call(&p, EB_GET, "q", 0);
  WANT(&p, AMQP_BASIC_GET_METHOD);
  amqp_basic_get_empty_t empty = {amqp_empty_bytes};
  CHECK(peer_say(&p, p.channel, AMQP_BASIC_GET_EMPTY_METHOD, &empty));
  answer = (eb_rpc *)peer_pick(&p, EB_ITEM_RPC, a, -1);
  CHECK(answer != NULL && answer->item.code == EB_OK && answer->delivery == NULL);
  eb_item_free(&answer->item);
  CHECK(!peer_get_ok(&p, channel, 2, "nobody asked"));
  CHECK(peer_end(&p));
}

TEST(a_get_that_timed_out_is_given_back_when_it_arrives) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t a = peer_call(&p, EB_GET, "q", 100);
  WANT(&p, AMQP_BASIC_GET_METHOD);
  unsigned channel = p.channel;
  amqp_basic_get_ok_t m;
  memset(&m, 0, sizeof m);
  m.delivery_tag = 1;
  CHECK(peer_say(&p, channel, AMQP_BASIC_GET_OK_METHOD, &m));
  peer_put_header(&p, channel, NULL, 6);
  CHECK(peer_flush(&p));
  peer_sleep(&p, 100);  /* in the middle of its content */
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TIMEOUT);
  peer_put_body(&p, channel, "secret", 6, 6);
  CHECK(peer_flush(&p));
  WANT(&p, AMQP_BASIC_REJECT_METHOD);
  CHECK_INT(((amqp_basic_reject_t *)p.method)->delivery_tag, 1);
  CHECK_INT(((amqp_basic_reject_t *)p.method)->requeue, 1);
  CHECK(peer_end(&p));
}

/* The record. */

static bool declared (peer *p, const char *queue) {
  uint64_t id = peer_declare(p, queue);
  return peer_next(p) == AMQP_QUEUE_DECLARE_METHOD && peer_declare_ok(p, queue[0] ? queue : "amq.gen-1") &&
         peer_outcome(p, id) == EB_OK;
}

static bool bound (peer *p, const char *queue, const eb_table *arguments) {
  uint64_t id = peer_bind_with(p, EB_QUEUE_BIND, queue, "orders", arguments);
  return peer_next(p) == AMQP_QUEUE_BIND_METHOD && peer_ok(p, AMQP_QUEUE_BIND_OK_METHOD) &&
         peer_outcome(p, id) == EB_OK;
}

TEST(a_reconnect_restores_the_topology_then_the_consumers) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "q"));
  CHECK(bound(&p, "q", NULL));
  CHECK(declared(&p, "q"));  /* again: recorded once */
  CHECK(bound(&p, "q", NULL));
  CHECK(frames_consumer(&p) != 0);
  peer_lost(&p);
  uint64_t purge = peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(((amqp_queue_declare_t *)p.method)->durable);
  WANT(&p, AMQP_QUEUE_BIND_METHOD);
  CHECK(peer_is(((amqp_queue_bind_t *)p.method)->exchange, "orders"));
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);  /* after the restoration */
  WANT(&p, PEER_NOTHING);             /* no consume yet */
  CHECK(peer_declare_ok(&p, "q"));
  CHECK_INT(peer_next(&p), PEER_NOTHING);
  CHECK(peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK(peer_noticed(&p, EB_EVENT_RESUBSCRIBED));
  CHECK(peer_ok_on(&p, 1, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK_INT(peer_outcome(&p, purge), EB_OK);
  CHECK(peer_end(&p));
}

/* Connected again: two queues, "a" and "b", are being declared anew, and a consumer waits. */
static bool restoring_two (peer *p, eb_session_config *c) {
  *c = peer_config();
  if (!up(p, c) || !declared(p, "a") || !declared(p, "b") || frames_consumer(p) == 0) return false;
  peer_lost(p);
  return peer_up(p) && peer_next(p) == AMQP_QUEUE_DECLARE_METHOD && peer_next(p) == AMQP_QUEUE_DECLARE_METHOD;
}

TEST(a_restoration_that_fails_is_told_and_consumers_start_all_the_same) {
  peer p;
  eb_session_config c;
  CHECK(restoring_two(&p, &c));
  unsigned channel = p.channel;
  CHECK(peer_close_channel(&p, channel, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl'"));
  CHECK(peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(peer_is(((amqp_queue_declare_t *)p.method)->queue, "b"));
  CHECK(peer_close_channel(&p, p.channel, 406, "PRECONDITION_FAILED"));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_end(&p));
}

TEST(a_restoration_without_an_answer_is_told_and_consumers_start_all_the_same) {
  peer p;
  eb_session_config c;
  CHECK(restoring_two(&p, &c));
  unsigned channel = p.channel;
  peer_sleep(&p, 29000);
  WANT(&p, PEER_NOTHING);
  CHECK(!peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  peer_sleep(&p, 2000);
  CHECK(peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED) && peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  unsigned consuming = p.channel;
  CHECK(peer_consume_ok(&p));
  CHECK(peer_noticed(&p, EB_EVENT_RESUBSCRIBED));
  /* Its queue vanishes: it is declared again, though the first answers are still owed. */
  CHECK(peer_cancel_consumer(&p, consuming));
  peer_sleep(&p, 1000);
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  WANT(&p, PEER_NOTHING);
  for (int i = 0; i < 2; i++) {
    amqp_queue_declare_ok_t late = {peer_text("late"), 0, 0};
    CHECK(peer_say(&p, channel, AMQP_QUEUE_DECLARE_OK_METHOD, &late));
  }
  WANT(&p, PEER_NOTHING);
  for (int i = 0; i < 2; i++) {
    amqp_queue_declare_ok_t ok = {peer_text("again"), 0, 0};
    CHECK(peer_say(&p, channel, AMQP_QUEUE_DECLARE_OK_METHOD, &ok));
  }
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(!peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  CHECK(peer_end(&p));
}

/* Of a large topology, on a cluster that is just coming up. */
TEST(a_restoration_may_take_long_while_answers_come) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "a"));
  CHECK(declared(&p, "b"));
  CHECK(declared(&p, "c"));
  peer_lost(&p);
  CHECK(peer_up(&p));
  for (int i = 0; i < 3; i++) WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  for (int i = 0; i < 2; i++) {
    peer_sleep(&p, 29000);
    CHECK(peer_declare_ok(&p, "ok"));
  }
  CHECK(!peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  peer_sleep(&p, 31000);
  CHECK(peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  CHECK(!peer_noticed(&p, EB_EVENT_TOPOLOGY_FAILED));
  CHECK(peer_end(&p));
}

TEST(a_connection_lost_while_restoring_restores_from_the_beginning) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "a"));
  CHECK(declared(&p, "b"));
  CHECK(frames_consumer(&p) != 0);
  peer_lost(&p);
  for (int i = 0; i < 5; i++) {
    CHECK(peer_up(&p));
    WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
    WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
    WANT(&p, PEER_NOTHING);
    CHECK(peer_declare_ok(&p, "a"));
    if (i < 4) peer_lost(&p);
  }
  CHECK(peer_declare_ok(&p, "b"));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_end(&p));
}

/* What is declared again after a reconnect; the caller looks at it. */
static bool again (peer *p) {
  peer_lost(p);
  return peer_up(p);
}

TEST(what_was_unbound_or_deleted_is_not_restored) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "a"));
  CHECK(bound(&p, "a", NULL));
  peer_bind_with(&p, EB_QUEUE_UNBIND, "a", "orders", NULL);
  WANT(&p, AMQP_QUEUE_UNBIND_METHOD);
  CHECK(peer_ok(&p, AMQP_QUEUE_UNBIND_OK_METHOD) && again(&p));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_declare_ok(&p, "a"));
  CHECK(bound(&p, "a", NULL));
  eb_rpc *op = peer_call_op(&p, EB_QUEUE_DELETE, "a");
  op->record = true;
  peer_submit(&p, op, 0);
  WANT(&p, AMQP_QUEUE_DELETE_METHOD);
  CHECK(peer_ok(&p, AMQP_QUEUE_DELETE_OK_METHOD) && again(&p));
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(a_passive_declaration_is_not_restored) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  eb_rpc *op = peer_call_op(&p, EB_QUEUE_DECLARE, "a");
  op->record = true;
  op->flags = EB_PASSIVE;
  peer_submit(&p, op, 0);
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(peer_declare_ok(&p, "a") && again(&p));
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(a_queue_named_by_the_server_keeps_its_first_name_for_users) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, ""));
  CHECK(bound(&p, "amq.gen-1", NULL));
  uint64_t id = peer_subscribe(&p, "amq.gen-1", 5, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(peer_outcome(&p, id), EB_OK);
  CHECK(again(&p));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK_INT(((amqp_queue_declare_t *)p.method)->queue.len, 0);
  /* The bind was sent with it: the broker takes no name for the newest queue of the channel, or the one answered. */
  uint32_t next = peer_next(&p);
  if (next == AMQP_QUEUE_BIND_METHOD) {
    CHECK(!peer_is(((amqp_queue_bind_t *)p.method)->queue, "amq.gen-1"));
    CHECK(peer_declare_ok(&p, "amq.gen-2"));
  } else {
    CHECK_INT(next, PEER_NOTHING);
    CHECK(peer_declare_ok(&p, "amq.gen-2"));
    WANT(&p, AMQP_QUEUE_BIND_METHOD);
    CHECK(peer_is(((amqp_queue_bind_t *)p.method)->queue, "amq.gen-2"));
  }
  CHECK(peer_ok_on(&p, 1, AMQP_QUEUE_BIND_OK_METHOD));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_is(((amqp_basic_consume_t *)p.method)->queue, "amq.gen-2"));
  CHECK(peer_consume_ok(&p));
  uint64_t purge = peer_call(&p, EB_QUEUE_PURGE, "amq.gen-1", 0);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK(peer_is(((amqp_queue_purge_t *)p.method)->queue, "amq.gen-2"));
  CHECK(peer_ok(&p, AMQP_QUEUE_PURGE_OK_METHOD));
  CHECK_INT(peer_outcome(&p, purge), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_deleted_queue_that_the_server_named_is_not_restored) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, ""));
  eb_rpc *op = peer_call_op(&p, EB_QUEUE_DELETE, "amq.gen-1");
  op->record = true;
  peer_submit(&p, op, 0);
  WANT(&p, AMQP_QUEUE_DELETE_METHOD);
  CHECK(peer_ok(&p, AMQP_QUEUE_DELETE_OK_METHOD) && again(&p));
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(the_same_binding_with_arguments_is_recorded_once_and_others_beside_it) {
  static eb_pair pairs[2] = {{{"x-match", 7}, {EB_FIELD_STRING, {.bytes = {"all", 3}}}},
                             {{"n", 1}, {EB_FIELD_INT, {.integer = 1}}}};
  static eb_pair others[1] = {{{"n", 1}, {EB_FIELD_INT, {.integer = 2}}}};
  static eb_table table = {2, pairs}, other = {1, others};
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  for (int i = 0; i < 3; i++) CHECK(bound(&p, "a", &table));
  CHECK(bound(&p, "a", &other));
  CHECK(again(&p));
  for (int i = 0; i < 2; i++) {
    WANT(&p, AMQP_QUEUE_BIND_METHOD);
    CHECK_INT(((amqp_queue_bind_t *)p.method)->arguments.num_entries, 2 - i);
  }
  WANT(&p, PEER_NOTHING);
  CHECK(peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD) && peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD));
  peer_bind_with(&p, EB_QUEUE_UNBIND, "a", "orders", &other);
  WANT(&p, AMQP_QUEUE_UNBIND_METHOD);
  CHECK(peer_ok(&p, AMQP_QUEUE_UNBIND_OK_METHOD) && again(&p));
  WANT(&p, AMQP_QUEUE_BIND_METHOD);
  CHECK_INT(((amqp_queue_bind_t *)p.method)->arguments.num_entries, 2);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(a_binding_is_restored_after_what_it_binds_though_another_had_declared_that_first) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(bound(&p, "theirs", NULL));
  CHECK(declared(&p, "theirs"));
  CHECK(bound(&p, "mine", NULL));
  CHECK(declared(&p, "mine"));
  CHECK(again(&p));
  static const char *const names[] = {"theirs", "mine"};
  for (int i = 0; i < 2; i++) {
    WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
    CHECK(peer_is(((amqp_queue_declare_t *)p.method)->queue, names[i]));
  }
  for (int i = 0; i < 2; i++) {
    WANT(&p, AMQP_QUEUE_BIND_METHOD);
    CHECK(peer_is(((amqp_queue_bind_t *)p.method)->queue, names[i]));
  }
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

/* Somebody else deleted it meanwhile, or the broker would have refused to have it otherwise. */
TEST(an_exchange_declared_anew_with_another_type_is_restored_with_that) {
  static const char *const types[] = {"direct", "fanout"};
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  for (int i = 0; i < 2; i++) {
    eb_rpc *op = peer_call_op(&p, EB_EXCHANGE_DECLARE, "x");
    op->record = true;
    op->type = eb_bytes_of(types[i], strlen(types[i]));
    peer_submit(&p, op, 0);
    WANT(&p, AMQP_EXCHANGE_DECLARE_METHOD);
    CHECK(peer_ok(&p, AMQP_EXCHANGE_DECLARE_OK_METHOD));
  }
  CHECK(again(&p));
  WANT(&p, AMQP_EXCHANGE_DECLARE_METHOD);
  CHECK(peer_is(((amqp_exchange_declare_t *)p.method)->type, "fanout"));
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}
