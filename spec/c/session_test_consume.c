/* Consumers and settlement. Included by session_test.c. */

static eb_delivery *delivered (peer *p, uint64_t tag) {
  return peer_deliver(p, 3, tag, "body") ? peer_delivery(p) : NULL;
}

TEST(qos_comes_before_consume_and_prefetch_is_never_zero) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  p.manual = true;
  uint64_t id = peer_subscribe(&p, "q", 42, 0);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  WANT(&p, AMQP_BASIC_QOS_METHOD);
  CHECK_INT(((amqp_basic_qos_t *)p.method)->prefetch_count, 42);
  CHECK_INT(((amqp_basic_qos_t *)p.method)->global, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  const amqp_basic_consume_t *m = p.method;
  CHECK(peer_is(m->queue, "q") && !m->no_ack && !m->exclusive && m->consumer_tag.len > 0);
  amqp_channel_open_ok_t ok = {amqp_empty_bytes};
  CHECK(peer_say(&p, 3, AMQP_CHANNEL_OPEN_OK_METHOD, &ok));
  CHECK(peer_ok_on(&p, 3, AMQP_BASIC_QOS_OK_METHOD));
  CHECK_INT(peer_outcome(&p, id), -1);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(peer_outcome(&p, id), EB_OK);
  eb_delivery *d = delivered(&p, 1);
  CHECK(d != NULL);
  CHECK_INT(d->consumer, id);
  CHECK(d->epoch != 0);
  eb_item_free(&d->item);
  CHECK_INT(peer_stats(&p).unsettled, 1);
  CHECK(peer_end(&p));
}

TEST(acks_coalesce_only_up_to_the_lowest_unsettled) {
  peer p;
  eb_session_config c = peer_config();
  eb_delivery *d[8];
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  for (uint64_t tag = 1; tag <= 7; tag++) CHECK((d[tag] = delivered(&p, tag)) != NULL);
  peer_settle(&p, d[1], EB_ACK);
  peer_settle(&p, d[2], EB_ACK);
  peer_settle(&p, d[4], EB_ACK);
  WANT(&p, PEER_NOTHING);  /* they wait for company */
  peer_sleep(&p, 5);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  const amqp_basic_ack_t *ack = p.method;
  CHECK(ack->delivery_tag == 2 && ack->multiple);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  ack = p.method;
  CHECK(ack->delivery_tag == 4 && !ack->multiple);
  WANT(&p, PEER_NOTHING);
  peer_settle(&p, d[7], EB_ACK);
  peer_settle(&p, d[3], EB_ACK);
  peer_settle(&p, d[6], EB_ACK);
  peer_settle(&p, d[5], EB_ACK);
  WANT(&p, AMQP_BASIC_ACK_METHOD);  /* nothing unsettled: at once */
  ack = p.method;
  CHECK(ack->delivery_tag == 7 && ack->multiple);
  WANT(&p, PEER_NOTHING);
  CHECK_INT(peer_stats(&p).acked, 7);
  CHECK_INT(peer_stats(&p).ack_frames, 3);
  CHECK(peer_end(&p));
}

TEST(rejects_are_sent_at_once) {
  peer p;
  eb_session_config c = peer_config();
  eb_delivery *d[4];
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  for (uint64_t tag = 1; tag <= 3; tag++) CHECK((d[tag] = delivered(&p, tag)) != NULL);
  peer_settle(&p, d[2], EB_REQUEUE);
  WANT(&p, AMQP_BASIC_REJECT_METHOD);
  CHECK(((amqp_basic_reject_t *)p.method)->requeue);
  peer_settle(&p, d[1], EB_REJECT);
  WANT(&p, AMQP_BASIC_REJECT_METHOD);
  CHECK(((amqp_basic_reject_t *)p.method)->delivery_tag == 1 && !((amqp_basic_reject_t *)p.method)->requeue);
  peer_settle(&p, d[3], EB_ACK);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  CHECK(((amqp_basic_ack_t *)p.method)->delivery_tag == 3 && !((amqp_basic_ack_t *)p.method)->multiple);
  CHECK(peer_end(&p));
}

TEST(what_is_given_back_goes_together_after_the_acks) {
  peer p;
  eb_session_config c = peer_config();
  eb_delivery *d[7];
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  for (uint64_t tag = 1; tag <= 6; tag++) CHECK((d[tag] = delivered(&p, tag)) != NULL);
  peer_settle(&p, d[2], EB_ACK);
  peer_settle(&p, d[1], EB_RETURN);
  WANT(&p, PEER_NOTHING);
  peer_settle(&p, d[3], EB_RETURN);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  CHECK(((amqp_basic_ack_t *)p.method)->delivery_tag == 2 && !((amqp_basic_ack_t *)p.method)->multiple);
  WANT(&p, AMQP_BASIC_NACK_METHOD);
  amqp_basic_nack_t *nack = p.method;
  CHECK(nack->delivery_tag == 3 && nack->multiple && nack->requeue);
  peer_settle(&p, d[6], EB_RETURN);
  peer_sleep(&p, 100);
  WANT(&p, AMQP_BASIC_NACK_METHOD);
  nack = p.method;
  CHECK(nack->delivery_tag == 6 && !nack->multiple && nack->requeue);
  WANT(&p, PEER_NOTHING);
  eb_item_free(&d[4]->item);
  eb_item_free(&d[5]->item);
  CHECK(peer_end(&p));
}

TEST(settlements_of_an_earlier_connection_or_channel_are_never_sent) {
  peer p;
  eb_session_config c = peer_config();
  eb_delivery *d[6];
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  for (uint64_t tag = 1; tag <= 3; tag++) CHECK((d[tag] = delivered(&p, tag)) != NULL);
  peer_settle(&p, d[1], EB_ACK);  /* waits for company, in vain */
  peer_lost(&p);
  peer_settle(&p, d[2], EB_ACK);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK((d[4] = delivered(&p, 1)) != NULL);
  peer_settle(&p, d[3], EB_REJECT);
  peer_sleep(&p, 100);
  WANT(&p, PEER_NOTHING);
  CHECK_INT(peer_stats(&p).stale, 2);
  CHECK(peer_close_channel(&p, 3, 406, "PRECONDITION_FAILED - delivery acknowledgement timed out"));
  CHECK(peer_noticed(&p, EB_EVENT_CONSUMER_FAILED));
  peer_settle(&p, d[4], EB_ACK);
  peer_sleep(&p, 1000);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK_INT(peer_stats(&p).stale, 3);
  CHECK(peer_end(&p));
}

TEST(deliveries_not_taken_when_the_connection_is_lost_are_dropped) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  eb_delivery *d = delivered(&p, 1);
  CHECK(d != NULL);
  /* Read in the turn that finds the connection lost. */
  peer_put_deliver(&p, 3, 2);
  peer_put_header(&p, 3, NULL, 4);
  peer_put_body(&p, 3, "late", 4, 4000);
  CHECK(eb_session_feed(p.s, eb_buffer_bytes(&p.wire), eb_buffer_size(&p.wire), p.now, &p.err));
  eb_buffer_truncate(&p.wire, 0);
  eb_error why;
  eb_error_set(&why, EB_ERR_CONNECTION, "lost");
  eb_session_detach(p.s, &why, p.now);
  CHECK(peer_delivery(&p) == NULL);
  eb_item_free(&d->item);
  CHECK(peer_end(&p));
}

TEST(a_delivery_settled_twice_is_sent_once) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  eb_delivery *d = delivered(&p, 1), *twin = eb_item_new(EB_ITEM_DELIVERY, sizeof *twin, 0);
  CHECK(d != NULL && twin != NULL);
  twin->channel = d->channel;
  twin->epoch = d->epoch;
  twin->tag = d->tag;
  peer_settle(&p, d, EB_REQUEUE);
  peer_settle(&p, twin, EB_ACK);
  WANT(&p, AMQP_BASIC_REJECT_METHOD);
  peer_sleep(&p, 100);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(a_server_cancel_restores_the_topology_and_subscribes_again_later_and_later) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "q"));
  CHECK(frames_consumer(&p) != 0);
  eb_delivery *d = delivered(&p, 1);
  CHECK(d != NULL);
  CHECK(peer_cancel_consumer(&p, 3));
  CHECK(peer_noticed(&p, EB_EVENT_CANCELLED));
  WANT(&p, PEER_NOTHING);
  peer_sleep(&p, 500);
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_declare_ok(&p, "q"));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);  /* on the same channel: what it delivered can be settled still */
  CHECK_INT(p.channel, 3);
  peer_settle(&p, d, EB_ACK);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  CHECK(peer_close_channel(&p, 3, 404, "NOT_FOUND - no queue 'q'"));
  eb_ms began = p.now;
  for (int i = 0; i < 6; i++) {
    peer_sleep(&p, 40000);
    WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
    CHECK(peer_declare_ok(&p, "q"));
    WANT(&p, AMQP_BASIC_CONSUME_METHOD);
    CHECK(peer_close_channel(&p, 3, 404, "NOT_FOUND - no queue 'q'"));
    WANT(&p, PEER_NOTHING);
  }
  peer_sleep(&p, 10000);
  WANT(&p, PEER_NOTHING);  /* by now it waits 15 to 30 s */
  CHECK(p.now > began);
  CHECK(peer_end(&p));
}

TEST(many_cancelled_consumers_restore_the_topology_once) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "q"));
  for (int i = 0; i < 10; i++) CHECK(frames_consumer(&p) != 0);
  for (unsigned i = 0; i < 10; i++) CHECK(peer_cancel_consumer(&p, 3 + i));
  peer_wait(&p, 1000);
  int declares = 0;
  uint32_t id;
  while ((id = peer_next(&p)) == AMQP_QUEUE_DECLARE_METHOD) declares++;
  CHECK_INT(id, PEER_NOTHING);
  CHECK_INT(declares, 1);
  CHECK(peer_declare_ok(&p, "q"));
  for (int i = 0; i < 10; i++) WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_end(&p));
}

TEST(subscribing_to_a_missing_queue_answers_not_found) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_subscribe(&p, "nope", 1, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_close_channel(&p, 3, 404, "NOT_FOUND - no queue 'nope' in vhost '/'"));
  CHECK_INT(peer_outcome(&p, id), EB_ERR_NOT_FOUND);
  CHECK_INT(peer_stats(&p).consumers, 0);
  peer_sleep(&p, 100000);
  WANT(&p, PEER_NOTHING);
  CHECK(frames_consumer(&p) != 0);  /* its channel is free again */
  CHECK(peer_end(&p));
}

TEST(a_subscription_that_does_not_start_in_time_leaves_nothing_behind) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_subscribe(&p, "q", 10, 100);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  p.manual = true;
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, id), EB_ERR_TIMEOUT);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(peer_consume_ok(&p));  /* crossed with the close: the broker did start it */
  CHECK(peer_deliver(&p, 3, 1, "for nobody"));
  CHECK(peer_delivery(&p) == NULL);
  CHECK_INT(peer_stats(&p).unsettled, 0);
  CHECK(peer_ok_on(&p, 3, AMQP_CHANNEL_CLOSE_OK_METHOD));
  CHECK_INT(peer_stats(&p).consumers, 0);
  CHECK(peer_end(&p));
}

TEST(nothing_is_settled_on_a_channel_being_closed) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_subscribe(&p, "q", 10, 100);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  eb_delivery *d = delivered(&p, 1);  /* a broker that delivers before consume-ok */
  p.manual = true;
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, id), EB_ERR_TIMEOUT);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(d != NULL);
  peer_settle(&p, d, EB_REJECT);
  peer_sleep(&p, 100);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(closes_that_cross_keep_the_connection) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = frames_consumer(&p);
  peer_cancel(&p, id, 0);
  WANT(&p, AMQP_BASIC_CANCEL_METHOD);
  p.manual = true;
  CHECK(peer_ok(&p, AMQP_BASIC_CANCEL_OK_METHOD));
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(peer_close_channel(&p, 3, 406, "PRECONDITION_FAILED"));
  WANT(&p, AMQP_CHANNEL_CLOSE_OK_METHOD);
  CHECK_INT(peer_stats(&p).consumers, 0);
  /* RabbitMQ answers our close too. By then the number may be in use again. */
  uint64_t other = peer_subscribe(&p, "q", 10, 0);
  CHECK(peer_ok_on(&p, 3, AMQP_CHANNEL_CLOSE_OK_METHOD));
  p.manual = false;
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(peer_outcome(&p, other), EB_OK);
  CHECK(peer_ok_on(&p, 17, AMQP_CHANNEL_CLOSE_OK_METHOD));
  CHECK(peer_end(&p));
}

/* Else the answer to the first close ends the second life of the number. */
TEST(a_number_whose_closes_crossed_is_not_used_before_both_are_answered) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  p.manual = true;
  peer_subscribe(&p, "q", 10, 50);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  unsigned number = p.channel;
  WANT(&p, AMQP_BASIC_QOS_METHOD);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  peer_wait(&p, 50);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(peer_close_channel(&p, number, 404, "NOT_FOUND"));
  WANT(&p, AMQP_CHANNEL_CLOSE_OK_METHOD);
  peer_subscribe(&p, "q", 10, 0);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  CHECK(p.channel != number);
  CHECK(peer_ok_on(&p, number, AMQP_CHANNEL_CLOSE_OK_METHOD));
  peer_subscribe(&p, "q", 10, 0);
  WANT(&p, AMQP_BASIC_QOS_METHOD);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  CHECK_INT(p.channel, number);
  CHECK(peer_end(&p));
}

TEST(closes_that_crossed_are_forgotten_with_their_connection) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  p.manual = true;
  peer_subscribe(&p, "q", 10, 50);
  WANT(&p, AMQP_CHANNEL_OPEN_METHOD);
  unsigned number = p.channel;
  peer_wait(&p, 50);
  CHECK(peer_close_channel(&p, number, 404, "NOT_FOUND"));
  peer_lost(&p);
  p.manual = false;
  CHECK(peer_up(&p));
  peer_subscribe(&p, "q", 10, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK_INT(p.channel, number);
  CHECK(peer_end(&p));
}

TEST(a_cancel_that_timed_out_before_its_consumer_started_is_still_carried_out) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_subscribe(&p, "q", 1, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  uint64_t cancel = peer_cancel(&p, id, 50);
  peer_wait(&p, 50);
  CHECK_INT(peer_outcome(&p, cancel), EB_ERR_TIMEOUT);
  CHECK(peer_consume_ok(&p));
  WANT(&p, AMQP_BASIC_CANCEL_METHOD);
  CHECK(peer_ok(&p, AMQP_BASIC_CANCEL_OK_METHOD));
  WANT(&p, PEER_NOTHING);
  CHECK_INT(peer_stats(&p).consumers, 0);
  CHECK(peer_end(&p));
}

TEST(a_cancel_whose_time_is_over_together_with_that_of_its_start_is_answered_at_once) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_subscribe(&p, "q", 1, 50);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  uint64_t cancel = peer_cancel(&p, id, 50);
  p.now += 60;
  CHECK(eb_session_tick(p.s, p.now, &p.err));
  CHECK_INT(peer_outcome(&p, id), EB_ERR_TIMEOUT);
  CHECK_INT(peer_outcome(&p, cancel), EB_ERR_TIMEOUT);
  CHECK(peer_end(&p));
}

TEST(what_is_restored_does_not_overtake_a_deletion_under_way) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  peer_declare(&p, "q");
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(peer_declare_ok(&p, "q"));
  peer_declare(&p, "r");
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(peer_declare_ok(&p, "r"));
  unsigned calls = p.channel;
  CHECK(frames_consumer(&p) != 0);
  eb_rpc *op = peer_call_op(&p, EB_QUEUE_DELETE, "r");
  op->record = true;
  peer_submit(&p, op, 0);
  WANT(&p, AMQP_QUEUE_DELETE_METHOD);
  CHECK(peer_cancel_consumer(&p, 3));
  peer_sleep(&p, 5000);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_ok_on(&p, calls, AMQP_QUEUE_DELETE_OK_METHOD));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(peer_is(((amqp_queue_declare_t *)p.method)->queue, "q"));
  WANT(&p, PEER_NOTHING);
  p.channel = calls;
  CHECK(peer_declare_ok(&p, "q"));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_end(&p));
}

TEST(a_cancel_drains_and_closes_the_channel) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = frames_consumer(&p);
  eb_delivery *a = delivered(&p, 1), *b = delivered(&p, 2);
  CHECK(a != NULL && b != NULL);
  uint64_t cancel = peer_cancel(&p, id, 0);
  WANT(&p, AMQP_BASIC_CANCEL_METHOD);
  eb_delivery *late = delivered(&p, 3);  /* before the broker read it */
  CHECK(late != NULL);
  CHECK_INT(peer_outcome(&p, cancel), -1);
  CHECK(peer_ok(&p, AMQP_BASIC_CANCEL_OK_METHOD));
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  uint64_t again_cancel = peer_cancel(&p, id, 0);
  CHECK_INT(peer_outcome(&p, again_cancel), EB_OK);
  WANT(&p, PEER_NOTHING);
  peer_settle(&p, a, EB_ACK);
  peer_settle(&p, late, EB_REQUEUE);
  p.manual = true;
  peer_settle(&p, b, EB_ACK);
  WANT(&p, AMQP_BASIC_REJECT_METHOD);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  CHECK(((amqp_basic_ack_t *)p.method)->delivery_tag == 2 && ((amqp_basic_ack_t *)p.method)->multiple);
  WANT(&p, AMQP_CHANNEL_CLOSE_METHOD);
  CHECK(peer_ok(&p, AMQP_CHANNEL_CLOSE_OK_METHOD));
  CHECK_INT(peer_stats(&p).consumers, 0);
  CHECK(peer_end(&p));
}

TEST(a_cancel_is_answered_in_every_state_of_its_consumer) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  /* Waiting for a connection. */
  uint64_t id = peer_subscribe(&p, "q", 1, 0), cancel = peer_cancel(&p, id, 0);
  CHECK_INT(peer_outcome(&p, id), EB_ERR_CANCELLED);
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  CHECK(peer_up(&p));
  /* Starting. */
  id = peer_subscribe(&p, "q", 1, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  cancel = peer_cancel(&p, id, 0);
  CHECK_INT(peer_outcome(&p, cancel), -1);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(peer_outcome(&p, id), EB_OK);
  WANT(&p, AMQP_BASIC_CANCEL_METHOD);
  /* Cancelling, and the broker cancels too. */
  CHECK(peer_cancel_consumer(&p, 3));
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  CHECK(peer_ok_on(&p, 3, AMQP_BASIC_CANCEL_OK_METHOD));
  WANT(&p, PEER_NOTHING);
  CHECK_INT(peer_stats(&p).consumers, 0);
  /* Starting, and its queue is missing. */
  id = peer_subscribe(&p, "q", 1, 0);
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  cancel = peer_cancel(&p, id, 0);
  CHECK(peer_close_channel(&p, 3, 404, "NOT_FOUND"));
  CHECK_INT(peer_outcome(&p, id), EB_ERR_NOT_FOUND);
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  /* Waiting to come back, its channel open. */
  id = frames_consumer(&p);
  eb_delivery *d = delivered(&p, 1);
  CHECK(d != NULL && peer_cancel_consumer(&p, 3));
  cancel = peer_cancel(&p, id, 0);
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  peer_sleep(&p, 10000);
  WANT(&p, PEER_NOTHING);
  peer_settle(&p, d, EB_ACK);
  WANT(&p, AMQP_BASIC_ACK_METHOD);
  WANT(&p, PEER_NOTHING);
  CHECK_INT(peer_stats(&p).consumers, 0);
  /* Active, and the broker does not answer. */
  id = frames_consumer(&p);
  cancel = peer_cancel(&p, id, 100);
  WANT(&p, AMQP_BASIC_CANCEL_METHOD);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, cancel), EB_ERR_TIMEOUT);
  /* Active, and the connection is lost. */
  uint64_t other = frames_consumer(&p);
  cancel = peer_cancel(&p, other, 0);
  peer_lost(&p);
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  CHECK_INT(peer_stats(&p).consumers, 0);
  /* Of nobody. */
  cancel = peer_cancel(&p, 999, 0);
  CHECK_INT(peer_outcome(&p, cancel), EB_OK);
  CHECK(peer_end(&p));
}

TEST(a_consumer_that_breaks_three_connections_while_starting_is_given_up) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_subscribe(&p, "q", 1, 0);
  for (int i = 0; i < 3; i++) {
    WANT(&p, AMQP_BASIC_CONSUME_METHOD);
    CHECK_INT(peer_outcome(&p, id), -1);
    peer_lost(&p);
    if (i < 2) CHECK(peer_up(&p));
  }
  CHECK_INT(peer_outcome(&p, id), EB_ERR_CONNECTION);
  CHECK_INT(peer_stats(&p).consumers, 0);
  CHECK(peer_end(&p));
}

TEST(channels_run_out_for_consumers_alone) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 4, 131072, 0));
  CHECK(frames_consumer(&p) != 0);
  CHECK(frames_consumer(&p) != 0);
  uint64_t id = peer_subscribe(&p, "q", 1, 0);
  CHECK_INT(peer_outcome(&p, id), EB_ERR_NOT_ALLOWED);
  uint64_t get = peer_call(&p, EB_GET, "q", 0), purge = peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  uint32_t first = peer_next(&p), second = peer_next(&p);
  CHECK(first != PEER_NOTHING && second != PEER_NOTHING);
  CHECK_INT(peer_outcome(&p, get), -1);
  CHECK_INT(peer_outcome(&p, purge), -1);
  CHECK(peer_end(&p));
}

TEST(fewer_channels_after_a_reconnect_leave_consumers_waiting) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  for (int i = 0; i < 3; i++) CHECK(frames_consumer(&p) != 0);
  peer_lost(&p);
  CHECK(peer_up_with(&p, 4, 131072, 0));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK(peer_noticed(&p, EB_EVENT_CONSUMER_FAILED));
  peer_sleep(&p, 100000);
  CHECK_INT(peer_stats(&p).consumers, 3);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}
