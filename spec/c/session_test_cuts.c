/* One conversation with all that a server says, cut anywhere: what comes of it is the same. Included by session_test.c. */

enum { CUTS_PARTS = 3, CUTS_NEAR = 8 };

typedef struct cuts {
  uint8_t *bytes;            /* from the server */
  size_t ends[CUTS_PARTS];   /* a part is an answer to what the session has sent after the one before */
} cuts;

typedef struct cuts_outcome {
  char said[2048];           /* to the user, in order */
  eb_buffer sent;            /* to the server */
} cuts_outcome;

static void cuts_ok (peer *p, unsigned channel, amqp_method_number_t id) {
  union {
    uint8_t bytes[128];
    uint64_t aligned;
  } nothing;
  memset(&nothing, 0, sizeof nothing);
  peer_put(p, channel, id, &nothing);
}

static void cuts_put_handshake (peer *p) {
  amqp_connection_start_t start;
  memset(&start, 0, sizeof start);
  start.version_minor = 9;
  start.mechanisms = peer_text("PLAIN");
  peer_put(p, 0, AMQP_CONNECTION_START_METHOD, &start);
  amqp_connection_tune_t tune = {100, 8192, 0};
  peer_put(p, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
  cuts_ok(p, 0, AMQP_CONNECTION_OPEN_OK_METHOD);
}

static void cuts_put_channels (peer *p) {
  cuts_ok(p, 1, AMQP_CHANNEL_OPEN_OK_METHOD);
  cuts_ok(p, 1, AMQP_CONFIRM_SELECT_OK_METHOD);
  cuts_ok(p, 3, AMQP_CHANNEL_OPEN_OK_METHOD);
  cuts_ok(p, 3, AMQP_BASIC_QOS_OK_METHOD);
  amqp_basic_consume_ok_t ok = {peer_text("tag")};
  peer_put(p, 3, AMQP_BASIC_CONSUME_OK_METHOD, &ok);
}

static void cuts_put_return (peer *p) {
  amqp_basic_return_t m = {312, peer_text("NO_ROUTE"), peer_text("orders"), peer_text("order.created")};
  amqp_basic_properties_t props;
  memset(&props, 0, sizeof props);
  props._flags = AMQP_BASIC_MESSAGE_ID_FLAG;
  props.message_id = peer_text("m4");
  peer_put(p, 1, AMQP_BASIC_RETURN_METHOD, &m);
  peer_put_header(p, 1, &props, 4);
  peer_put_body(p, 1, "body", 4, 3);
}

static void cuts_put_close (peer *p, unsigned channel, unsigned code, const char *text) {
  amqp_channel_close_t m = {(uint16_t)code, peer_text(text), 0, 0};
  amqp_connection_close_t all = {(uint16_t)code, peer_text(text), 0, 0};
  if (channel == 0)
    peer_put(p, 0, AMQP_CONNECTION_CLOSE_METHOD, &all);
  else
    peer_put(p, channel, AMQP_CHANNEL_CLOSE_METHOD, &m);
}

static void cuts_put_rest (peer *p) {
  amqp_basic_ack_t single = {1, 0}, multiple = {3, 1}, returned = {4, 0};
  amqp_basic_nack_t no = {5, 0, 0};
  amqp_connection_blocked_t blocked = {peer_text("low on memory")};
  amqp_basic_cancel_t cancel = {peer_text("tag"), 1};
  peer_put(p, 1, AMQP_BASIC_ACK_METHOD, &single);
  peer_put(p, 1, AMQP_BASIC_ACK_METHOD, &multiple);
  put_messages(p, 3);
  cuts_put_return(p);
  peer_put(p, 1, AMQP_BASIC_ACK_METHOD, &returned);
  peer_put(p, 1, AMQP_BASIC_NACK_METHOD, &no);
  peer_put(p, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
  cuts_ok(p, 0, AMQP_CONNECTION_UNBLOCKED_METHOD);
  peer_put(p, 3, AMQP_BASIC_CANCEL_METHOD, &cancel);
  cuts_put_close(p, 1, 404, "NOT_FOUND - no exchange");
  cuts_put_close(p, 3, 406, "PRECONDITION_FAILED - too late");
  cuts_put_close(p, 0, 320, "CONNECTION_FORCED - bye");
}

static bool cuts_write (cuts *c) {
  static void (*const parts[CUTS_PARTS])(peer *) = {cuts_put_handshake, cuts_put_channels, cuts_put_rest};
  peer p;
  memset(&p, 0, sizeof p);
  eb_buffer_init(&p.wire);
  for (int i = 0; i < CUTS_PARTS; i++) {
    parts[i](&p);
    c->ends[i] = eb_buffer_size(&p.wire);
  }
  c->bytes = malloc(eb_buffer_size(&p.wire));
  if (c->bytes != NULL) memcpy(c->bytes, eb_buffer_bytes(&p.wire), eb_buffer_size(&p.wire));
  eb_buffer_fini(&p.wire);
  return c->bytes != NULL;
}

static void cuts_note (cuts_outcome *o, const eb_item *item) {
  const eb_delivery *d = (const eb_delivery *)item;
  size_t at = strlen(o->said), room = sizeof o->said - at;
  const char *why = item->error == NULL ? "" : item->error->message;
  switch (item->kind) {
    case EB_ITEM_DELIVERY:
      snprintf(o->said + at, room, "delivery %d %.*s %d headers\n", (int)d->tag, (int)d->body.n, d->body.p,
               d->properties.headers == NULL ? 0 : (int)d->properties.headers->count);
      break;
    case EB_ITEM_NOTICE:
      snprintf(o->said + at, room, "%s %s\n", eb_event_name(((const eb_notice *)item)->event), why);
      break;
    default: snprintf(o->said + at, room, "%d: %s %s\n", (int)item->id, eb_code_name(item->code), why); break;
  }
}

/* The conversation, with these cuts, or of single bytes when there are none. */
static bool cuts_converse (const cuts *c, size_t first, size_t second, cuts_outcome *o) {
  peer p;
  eb_session_config config = peer_config();
  eb_item *item;
  size_t at = 0;
  peer_init(&p, &config);
  p.manual = true;
  for (int i = 0; i < 6; i++) peer_publish(&p, "body", 0);
  peer_subscribe(&p, "q", 10, 0);
  peer_attach(&p);
  for (int part = 0; part < CUTS_PARTS; part++)
    while (at < c->ends[part] && p.alive) {
      size_t to = c->ends[part];
      if (first > at && first < to) to = first;
      if (second > at && second < to) to = second;
      if (first == 0) to = at + 1;
      peer_feed(&p, c->bytes + at, to - at);
      at = to;
    }
  bool good = at == c->ends[CUTS_PARTS - 1] && !p.alive;
  o->said[0] = '\0';
  o->sent = p.sent;
  eb_buffer_init(&p.sent);
  peer_lost(&p);
  while ((item = eb_list_pop(&p.events)) != NULL) {
    cuts_note(o, item);
    eb_item_free(item);
  }
  size_t n = strlen(o->said);
  snprintf(o->said + n, sizeof o->said - n, "%s", p.err.message);
  return peer_end(&p) && good;
}

static const char cuts_said[] =
    "up \n"
    "7: ok \n"
    "1: ok \n"
    "2: ok \n"
    "3: ok \n"
    "delivery 1 abcdefghijklmnopqrstuvwxyz 3 headers\n"
    "delivery 2  0 headers\n"
    "delivery 3 xyz 0 headers\n"
    "4: returned no queue of exchange 'orders' is bound for 'order.created'\n"
    "5: nacked the broker refused to take responsibility (nack)\n"
    "blocked the broker blocked publishing: low on memory\n"
    "unblocked \n"
    "cancelled the broker cancelled the consumer of 'q'; it will subscribe again\n"
    "6: not_found NOT_FOUND - no exchange\n"
    "consumer_failed PRECONDITION_FAILED - too late\n"
    "down the wire was cut\n"
    "CONNECTION_FORCED - bye";

/* True: it came to the same. */
static bool cuts_same (const cuts *c, const cuts_outcome *whole, size_t first, size_t second) {
  cuts_outcome o;
  bool same = cuts_converse(c, first, second, &o) && strcmp(o.said, whole->said) == 0 &&
              eb_buffer_size(&o.sent) == eb_buffer_size(&whole->sent) &&
              memcmp(eb_buffer_bytes(&o.sent), eb_buffer_bytes(&whole->sent), eb_buffer_size(&o.sent)) == 0;
  if (!same) printf("cut at %zu and %zu, %zu bytes sent:\n%s\n", first, second, eb_buffer_size(&o.sent), o.said);
  eb_buffer_fini(&o.sent);
  return same;
}

TEST(a_conversation_cut_anywhere_comes_to_the_same) {
  cuts c;
  cuts_outcome whole;
  CHECK(cuts_write(&c));
  size_t n = c.ends[CUTS_PARTS - 1];
  CHECK(cuts_converse(&c, n, n, &whole));
  CHECK_STR(whole.said, cuts_said);
  bool same = cuts_same(&c, &whole, 0, 0);
  for (size_t first = 1; first < n && same; first++)
    for (size_t second = first; second <= first + CUTS_NEAR && same; second++)
      same = cuts_same(&c, &whole, first, second);
  eb_buffer_fini(&whole.sent);
  free(c.bytes);
  CHECK(same);
}
