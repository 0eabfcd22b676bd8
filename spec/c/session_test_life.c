/* Heartbeats, the end, and all of it at random. Included by session_test.c. */

TEST(heartbeats_are_sent_after_half_the_interval_of_silence) {
  peer p;
  eb_session_config c = peer_config();
  c.heartbeat_s = 10;
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 10, 65536, 20));
  peer_wait(&p, 4999);
  WANT(&p, PEER_NOTHING);
  peer_wait(&p, 1);
  WANT(&p, PEER_HEARTBEAT);
  WANT(&p, PEER_NOTHING);
  for (int i = 0; i < 10; i++) {
    peer_put_frame(&p, AMQP_FRAME_HEARTBEAT, 0, "", 0);
    CHECK(peer_flush(&p));
    peer_sleep(&p, 5000);
    WANT(&p, PEER_HEARTBEAT);
    WANT(&p, PEER_NOTHING);
  }
  CHECK(peer_end(&p));
}

TEST(a_peer_silent_for_two_intervals_is_lost) {
  peer p;
  eb_session_config c = peer_config();
  c.heartbeat_s = 10;
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 10, 65536, 10));
  peer_sleep(&p, 19999);
  CHECK(p.alive);
  peer_sleep(&p, 1);
  CHECK(!p.alive);
  CHECK_INT(p.err.code, EB_ERR_CONNECTION);
  CHECK(peer_end(&p));
}

TEST(without_heartbeats_silence_is_no_failure) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 10, 65536, 10));
  peer_sleep(&p, 10000000);
  CHECK(p.alive);
  WANT(&p, PEER_NOTHING);
  CHECK(peer_end(&p));
}

TEST(a_socket_that_takes_nothing_does_not_pile_up_heartbeats) {
  peer p;
  eb_session_config c = peer_config();
  c.heartbeat_s = 10;
  peer_init(&p, &c);
  CHECK(peer_up_with(&p, 10, 65536, 10));
  for (int i = 0; i < 3; i++) {
    p.now += 5000;
    CHECK(eb_session_tick(p.s, p.now, &p.err));
    CHECK(eb_session_deadline(p.s) > p.now);
  }
  CHECK_INT(eb_buffer_size(eb_session_output(p.s)), 8);
  CHECK(peer_end(&p));
}

TEST(close_waits_for_the_unconfirmed_flushes_acks_and_says_goodbye) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(frames_consumer(&p) != 0);
  eb_delivery *d = delivered(&p, 1), *kept = delivered(&p, 2), *other = delivered(&p, 3);
  CHECK(d != NULL && kept != NULL && other != NULL);
  uint64_t a = peer_publish(&p, "a", 0);
  PUBLISHED(&p, "a");
  peer_settle(&p, d, EB_ACK);
  eb_session_close(p.s, p.now + 1000, p.now);
  WANT(&p, AMQP_BASIC_ACK_METHOD);  /* without waiting for company */
  WANT(&p, PEER_NOTHING);
  CHECK(!eb_session_done(p.s, p.now));
  uint64_t late = peer_publish(&p, "late", 0);
  CHECK_INT(peer_outcome(&p, late), EB_ERR_CLOSED);
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  WANT(&p, AMQP_CONNECTION_CLOSE_METHOD);
  CHECK(!eb_session_done(p.s, p.now));
  peer_settle(&p, kept, EB_ACK);  /* too late: it goes back to its queue */
  peer_settle(&p, other, EB_REJECT);
  WANT(&p, PEER_NOTHING);
  CHECK(!peer_ok_on(&p, 0, AMQP_CONNECTION_CLOSE_OK_METHOD));
  CHECK_INT(p.err.code, EB_ERR_CLOSED);
  peer_lost(&p);
  CHECK(eb_session_done(p.s, p.now));
  CHECK(peer_end(&p));
}

TEST(close_without_connection_is_done_when_nothing_waits) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  eb_session_close(p.s, p.now + 1000, p.now);
  CHECK(eb_session_done(p.s, p.now));
  CHECK(peer_end(&p));
}

TEST(close_reconnects_for_what_is_unconfirmed) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  uint64_t a = peer_publish(&p, "a", 0);
  eb_session_close(p.s, p.now + 1000, p.now);
  peer_turn(&p);
  CHECK(!eb_session_done(p.s, p.now));
  CHECK(peer_up(&p));
  PUBLISHED(&p, "a");
  CHECK(peer_confirm(&p, 1, false));
  CHECK_INT(peer_outcome(&p, a), EB_OK);
  WANT(&p, AMQP_CONNECTION_CLOSE_METHOD);
  CHECK(peer_end(&p));
}

TEST(close_does_not_wait_for_replies_that_nobody_waits_for) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "q"));
  uint64_t a = peer_call(&p, EB_QUEUE_PURGE, "q", 100);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  peer_sleep(&p, 100);
  CHECK_INT(peer_outcome(&p, a), EB_ERR_TIMEOUT);
  eb_session_close(p.s, p.now + 100000, p.now);
  WANT(&p, AMQP_CONNECTION_CLOSE_METHOD);
  CHECK(peer_end(&p));
}

TEST(close_is_done_at_its_deadline_and_fail_answers_all) {
  peer p;
  eb_session_config c = peer_config();
  c.window_count = 1;
  CHECK(up(&p, &c));
  uint64_t consumer = frames_consumer(&p);
  uint64_t sent = peer_publish(&p, "sent", 0), pending = peer_publish(&p, "pending", 0);
  peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  peer_call(&p, EB_GET, "q", 0);
  peer_subscribe(&p, "other", 1, 0);
  peer_cancel(&p, consumer, 0);
  while (peer_next(&p) != PEER_NOTHING) {}
  eb_session_close(p.s, p.now + 100, p.now);
  peer_sleep(&p, 99);
  CHECK(!eb_session_done(p.s, p.now));
  p.now += 1;
  CHECK(eb_session_done(p.s, p.now));
  eb_error why;
  eb_error_set(&why, EB_ERR_CLOSED, "the bus was closed");
  eb_session_detach(p.s, &why, p.now);
  eb_session_fail(p.s, &why, p.now);
  CHECK_INT(peer_outcome(&p, sent), EB_ERR_UNKNOWN);  /* it may be in its queue */
  CHECK_INT(peer_outcome(&p, pending), EB_ERR_CLOSED);
  CHECK(peer_end(&p));
}

TEST(fail_answers_at_once_also_what_comes_later_until_attach) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  uint64_t ids[5];
  ids[0] = peer_publish(&p, "a", 0);
  ids[1] = peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  ids[2] = peer_subscribe(&p, "q", 1, 0);
  eb_error why;
  eb_error_set(&why, EB_ERR_REFUSED, "wrong password");
  eb_session_fail(p.s, &why, p.now);
  ids[3] = peer_publish(&p, "b", 0);
  ids[4] = peer_subscribe(&p, "q", 1, 0);
  for (int i = 0; i < 5; i++) CHECK_INT(peer_outcome(&p, ids[i]), EB_ERR_REFUSED);
  CHECK(peer_up(&p));
  CHECK(frames_consumer(&p) != 0);
  CHECK(peer_end(&p));
}

TEST(fail_in_the_middle_of_everything_is_survived) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "q"));
  CHECK(frames_consumer(&p) != 0);
  peer_call(&p, EB_GET, "q", 0);
  WANT(&p, AMQP_BASIC_GET_METHOD);
  unsigned channel = p.channel;
  amqp_basic_get_ok_t m;
  memset(&m, 0, sizeof m);
  m.delivery_tag = 1;
  CHECK(peer_say(&p, channel, AMQP_BASIC_GET_OK_METHOD, &m));
  CHECK(peer_cancel_consumer(&p, 3));
  peer_sleep(&p, 1000);
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);  /* a restoration is under way */
  eb_error why;
  eb_error_set(&why, EB_ERR_CLOSED, "over");
  eb_session_fail(p.s, &why, p.now);
  peer_put_header(&p, channel, NULL, 0);
  peer_flush(&p);
  peer_lost(&p);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  CHECK(peer_declare_ok(&p, "q"));
  CHECK(frames_consumer(&p) != 0);  /* starts: nothing is taken for being restored still */
  CHECK(peer_end(&p));
}

TEST(a_failed_session_that_restores_lets_consumers_start_after_attach) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  CHECK(declared(&p, "q"));
  peer_lost(&p);
  CHECK(peer_up(&p));
  eb_error why;
  eb_error_set(&why, EB_ERR_CLOSED, "over");
  peer_lost(&p);
  eb_session_fail(p.s, &why, p.now);
  CHECK(peer_up(&p));
  WANT(&p, AMQP_QUEUE_DECLARE_METHOD);
  uint64_t id = peer_subscribe(&p, "q", 1, 0);
  CHECK_INT(peer_next(&p), PEER_NOTHING);
  CHECK(peer_declare_ok(&p, "q"));
  WANT(&p, AMQP_BASIC_CONSUME_METHOD);
  CHECK(peer_consume_ok(&p));
  CHECK_INT(peer_outcome(&p, id), EB_OK);
  CHECK(peer_end(&p));
}

/* A broker and a user that do anything at any time. Whatever happens: every operation is answered exactly once, every
 * publish that was answered 'ok' was confirmed, the session never spins, and does not leak or touch freed memory. */

typedef struct storm {
  peer p;
  uint64_t random;
  uint64_t consumers[64];
  size_t consumer_count;
  eb_delivery *held[64];
  size_t held_count;
  uint64_t tags[64];         /* last delivery tag on that channel */
  bool consuming[64];        /* that channel has a consumer */
  uint64_t published_tag;    /* on the present channel */
  uint32_t waiting[256];     /* methods of the present connection to be answered, with their channels */
  unsigned waiting_channel[256];
  size_t waiting_count;
} storm;

static uint64_t draw_below (storm *s, uint64_t n) {
  s->random ^= s->random << 13;
  s->random ^= s->random >> 7;
  s->random ^= s->random << 17;
  return s->random % n;
}

static void storm_lost (storm *s) {
  peer_lost(&s->p);
  s->waiting_count = 0;
  s->published_tag = 0;
  memset(s->tags, 0, sizeof s->tags);
  memset(s->consuming, 0, sizeof s->consuming);
}

/* Reads what the session sent; questions are kept to be answered, or not. */
static void storm_read (storm *s) {
  uint32_t id;
  while ((id = peer_any(&s->p)) != PEER_NOTHING) {
    unsigned ch = s->p.channel;
    if (id == AMQP_BASIC_PUBLISH_METHOD) s->published_tag++;
    if (id == AMQP_CHANNEL_CLOSE_METHOD && ch < 64) s->consuming[ch] = false;
    if (id < 10 || ch == 0 || id == AMQP_BASIC_PUBLISH_METHOD || id == AMQP_BASIC_ACK_METHOD || id == AMQP_BASIC_REJECT_METHOD ||
        id == AMQP_CHANNEL_CLOSE_OK_METHOD || s->waiting_count == 256)
      continue;
    s->waiting[s->waiting_count] = id;
    s->waiting_channel[s->waiting_count++] = ch;
  }
}

static void storm_close_channel (storm *s, unsigned ch) {
  size_t kept = 0;
  for (size_t i = 0; i < s->waiting_count; i++) {
    if (s->waiting_channel[i] == ch) continue;
    s->waiting[kept] = s->waiting[i];
    s->waiting_channel[kept++] = s->waiting_channel[i];
  }
  s->waiting_count = kept;
  s->tags[ch] = 0;
  s->consuming[ch] = false;
  if (ch == 1) s->published_tag = 0;
  peer_close_channel(&s->p, ch, draw_below(s, 2) ? 404 : 406, "the storm");
}

static void storm_answer (storm *s) {
  if (s->waiting_count == 0) return;
  uint32_t id = s->waiting[0];
  unsigned ch = s->waiting_channel[0];
  s->p.channel = ch;
  if (draw_below(s, 12) == 0 && id != AMQP_CHANNEL_CLOSE_METHOD) {
    storm_close_channel(s, ch);
    return;
  }
  s->waiting_count--;
  memmove(s->waiting, s->waiting + 1, s->waiting_count * sizeof *s->waiting);
  memmove(s->waiting_channel, s->waiting_channel + 1, s->waiting_count * sizeof *s->waiting_channel);
  switch (id) {
    case AMQP_CHANNEL_OPEN_METHOD: s->tags[ch] = 0; break;
    case AMQP_BASIC_CONSUME_METHOD:
      s->consuming[ch] = true;
      peer_consume_ok(&s->p);
      return;
    case AMQP_BASIC_CANCEL_METHOD: s->consuming[ch] = false; break;
    case AMQP_QUEUE_DECLARE_METHOD: peer_declare_ok(&s->p, draw_below(s, 2) ? "q" : "amq.gen-9"); return;
    case AMQP_BASIC_GET_METHOD:
      if (draw_below(s, 2)) {
        peer_get_ok(&s->p, ch, ++s->tags[ch], "got");
      } else {
        peer_ok_on(&s->p, ch, AMQP_BASIC_GET_EMPTY_METHOD);
      }
      return;
    default: break;
  }
  peer_ok_on(&s->p, ch, id == AMQP_EXCHANGE_UNBIND_METHOD ? AMQP_EXCHANGE_UNBIND_OK_METHOD : id + 1);
}

static eb_delivery *storm_hold (storm *s, eb_delivery *d) {
  if (s->held_count < 64) {
    s->held[s->held_count++] = d;
    return NULL;
  }
  return d;
}

static void storm_events (storm *s) {
  eb_item *item;
  peer_take_events(&s->p);
  while ((item = eb_list_pop(&s->p.events)) != NULL) {
    eb_delivery *d = item->kind == EB_ITEM_DELIVERY ? (eb_delivery *)item : NULL;
    if (item->kind == EB_ITEM_RPC) {
      d = ((eb_rpc *)item)->delivery;
      ((eb_rpc *)item)->delivery = NULL;
      eb_item_free(item);
    } else if (d == NULL) {
      eb_item_free(item);
    }
    if (d != NULL && (d = storm_hold(s, d)) != NULL) peer_settle(&s->p, d, EB_REQUEUE);
  }
}

static void storm_user (storm *s) {
  peer *p = &s->p;
  static const char *const queues[] = {"q", "r", "", "amq.gen-9"};
  const char *queue = queues[draw_below(s, 4)];
  int64_t timeout = draw_below(s, 3) ? 0 : 1 + (int64_t)draw_below(s, 500);
  if (p->ids >= PEER_IDS - 2) return;
  switch (draw_below(s, 8)) {
    case 0: case 1: peer_publish(p, "storm", timeout); break;
    case 2: {
      eb_rpc *op = peer_call_op(p, (eb_rpc_method)draw_below(s, EB_GET + 1), queue);
      op->record = true;
      op->source = peer_keep(op, "orders");
      op->routing_key = peer_keep(op, "k");
      peer_submit(p, op, timeout);
      break;
    }
    case 3:
      if (s->consumer_count < 64)
        s->consumers[s->consumer_count++] = peer_subscribe(p, queue, 1 + (unsigned)draw_below(s, 9), timeout);
      break;
    case 4:
      if (s->consumer_count > 0)
        peer_cancel(p, s->consumers[draw_below(s, s->consumer_count)], timeout);
      break;
    default:
      if (s->held_count > 0) {
        size_t i = draw_below(s, s->held_count);
        peer_settle(p, s->held[i], (eb_settlement)(1 + draw_below(s, 3)));
        s->held[i] = s->held[--s->held_count];
        peer_turn(p);
      }
      break;
  }
}

static void storm_broker (storm *s) {
  peer *p = &s->p;
  unsigned ch = 3 + (unsigned)draw_below(s, 8);
  switch (draw_below(s, 16)) {
    case 0:
      if (s->published_tag > 0) peer_confirm(p, 1 + draw_below(s, s->published_tag), draw_below(s, 2));
      break;
    case 1:
      if (s->published_tag > 0) peer_confirm(p, 0, true);
      break;
    case 2:
      if (s->published_tag > 0) {
        char id[32];
        snprintf(id, sizeof id, "m%llu", (unsigned long long)(p->ids - draw_below(s, 15)));
        peer_return(p, id);
      }
      break;
    case 3: case 4: case 5:
      if (s->consuming[ch]) peer_deliver(p, ch, ++s->tags[ch], "storm");
      break;
    case 6:
      if (s->consuming[ch] && draw_below(s, 4) == 0) {
        s->consuming[ch] = false;
        peer_cancel_consumer(p, ch);
      }
      break;
    case 7: {
      amqp_connection_blocked_t m = {peer_text("storm")};
      if (draw_below(s, 4) == 0) peer_say(p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &m);
      else peer_ok_on(p, 0, AMQP_CONNECTION_UNBLOCKED_METHOD);
      break;
    }
    case 8:
      if (draw_below(s, 20) == 0) peer_close_connection(p, 320, "CONNECTION_FORCED");
      break;
    default: storm_answer(s); break;
  }
}

static bool storm_run (uint64_t seed) {
  storm *s = calloc(1, sizeof *s);
  eb_session_config c = peer_config();
  c.window_count = 5;
  c.resend = seed % 3 != 0;
  c.heartbeat_s = seed % 2 ? 2 : 0;
  if (s == NULL) return false;
  s->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
  peer *p = &s->p;
  peer_init(p, &c);
  p->manual = true;
  p->cut = draw_below(s, 3) ? 0 : 1 + draw_below(s, 20);
  for (int step = 0; step < 1500 && !p->spins; step++) {
    if (eb_session_phase(p->s) == EB_PHASE_DOWN) {
      if (draw_below(s, 4) == 0) peer_up_with(p, 12, 131072, seed % 2 ? 2 : 0);
      if (eb_session_phase(p->s) != EB_PHASE_UP) storm_lost(s);
    } else {
      storm_broker(s);
    }
    storm_user(s);
    if (draw_below(s, 5) == 0) peer_sleep(p, (int64_t)draw_below(s, 300));
    if (draw_below(s, 200) == 0) storm_lost(s);
    if (!p->alive) storm_lost(s);
    storm_read(s);
    storm_events(s);
  }
  for (size_t i = 0; i < s->held_count; i++) eb_item_free(&s->held[i]->item);
  bool ok = peer_end(p);
  free(s);
  return ok;
}

TEST(a_storm_answers_every_operation_exactly_once) {
  for (uint64_t seed = 1; seed <= 60; seed++)
    if (!storm_run(seed)) CHECK_FAIL("seed %llu", (unsigned long long)seed);
}

TEST(what_a_close_says_is_never_empty_and_fit_for_a_terminal) {
  peer p;
  eb_session_config c = peer_config();
  CHECK(up(&p, &c));
  uint64_t id = peer_call(&p, EB_QUEUE_PURGE, "q", 0);
  WANT(&p, AMQP_QUEUE_PURGE_METHOD);
  CHECK(peer_close_channel(&p, p.channel, 404, ""));
  CHECK_INT(peer_outcome(&p, id), EB_ERR_NOT_FOUND);
  CHECK_STR(p.err.message, "the broker closed it with code 404 and no text");
  CHECK(!peer_close_connection(&p, 320, "gone\033[2J\n"));
  CHECK_STR(p.err.message, "gone?[2J?");
  CHECK(peer_end(&p));
}

/* Garbage inside well-formed frames, and well-formed frames of garbage: an error or not, but no crash. */
TEST(random_frames_never_crash) {
  storm s;
  memset(&s, 0, sizeof s);
  s.random = 12345;
  for (int round = 0; round < 400; round++) {
    peer p;
    eb_session_config c = peer_config();
    CHECK(up(&p, &c));
    CHECK(frames_consumer(&p) != 0);
    peer_publish(&p, "x", 0);
    peer_call(&p, EB_GET, "q", 0);
    peer_call(&p, EB_QUEUE_DECLARE, "q", 0);
    while (peer_next(&p) != PEER_NOTHING) {}
    for (int i = 0; i < 20 && p.alive; i++) {
      uint8_t payload[64];
      size_t n = 4 + draw_below(&s, 60);
      for (size_t at = 0; at < n; at++) payload[at] = draw_below(&s, 3) ? 0 : (uint8_t)draw_below(&s, 256);
      static const uint8_t classes[] = {10, 20, 40, 50, 60, 85, 90};
      unsigned type = 1 + (unsigned)draw_below(&s, 3);
      payload[0] = 0;
      payload[1] = type == 2 ? 60 : classes[draw_below(&s, 7)];
      payload[2] = 0;
      if (type == 1) payload[3] = (uint8_t)(10 + draw_below(&s, 112));
      peer_put_frame(&p, (int)type, (unsigned)draw_below(&s, 5), payload, n);
      peer_flush(&p);
    }
    if (!peer_end(&p)) CHECK_FAIL("round %d", round);
  }
}
