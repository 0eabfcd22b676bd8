/* Memory runs out at every place where the session, or rabbitmq-c for it, asks for some. Included by session_test.c. */
#include "scarce.h"

/* One of all that a table can hold; each long text takes a chunk of an arena for itself. */
static const eb_table *memory_table (void) {
  static char text[700];
  static eb_field items[2];
  static eb_array list = {2, items};
  static eb_pair in_pair, pairs[3];
  static eb_table in = {1, &in_pair}, table = {3, pairs};
  memset(text, 'x', sizeof text);
  items[0] = (eb_field){EB_FIELD_STRING, {.bytes = {text, sizeof text}}};
  items[1] = (eb_field){EB_FIELD_INT, {.integer = 7}};
  in_pair = (eb_pair){{"inner", 5}, {EB_FIELD_BYTES, {.bytes = {text, sizeof text}}}};
  pairs[0] = (eb_pair){{"list", 4}, {EB_FIELD_ARRAY, {.array = &list}}};
  pairs[1] = (eb_pair){{"table", 5}, {EB_FIELD_TABLE, {.table = &in}}};
  pairs[2] = (eb_pair){{text, 200}, {EB_FIELD_STRING, {.bytes = {text, sizeof text}}}};
  return &table;
}

static uint64_t memory_declare (peer *p) {
  eb_rpc *op = peer_call_op(p, EB_QUEUE_DECLARE, "q");
  op->record = true;
  op->arguments = memory_table();
  return peer_submit(p, op, 0);
}

static uint64_t memory_subscribe (peer *p) {
  eb_subscribe *op = peer_op(p, EB_ITEM_SUBSCRIBE, sizeof *op);
  op->queue = peer_keep(op, "q");
  op->prefetch = 10;
  op->arguments = memory_table();
  return peer_submit(p, op, 1000);
}

static void memory_publish (peer *p) {
  eb_publish *op = peer_publish_op(p, "body");
  op->properties.headers = memory_table();
  peer_submit(p, op, 1000);
}

/* The header of a delivery, with a table of its own. */
static void memory_put_header (peer *p, unsigned channel) {
  static char text[700];
  amqp_basic_properties_t props;
  amqp_table_entry_t said[2], in;
  memset(text, 'y', sizeof text);
  memset(&props, 0, sizeof props);
  memset(said, 0, sizeof said);
  memset(&in, 0, sizeof in);
  in.key = said[0].key = said[1].key = peer_text("key");
  in.value.kind = said[0].value.kind = AMQP_FIELD_KIND_UTF8;
  in.value.value.bytes = said[0].value.value.bytes = (amqp_bytes_t){sizeof text, text};
  said[1].value.kind = AMQP_FIELD_KIND_TABLE;
  said[1].value.value.table.num_entries = 1;
  said[1].value.value.table.entries = &in;
  props._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_TYPE_FLAG;
  props.type = peer_text("order.created");
  props.headers.num_entries = 2;
  props.headers.entries = said;
  peer_put_header(p, channel, &props, 0);
}

static void memory_drain (peer *p) {
  for (int i = 0; i < 100 && peer_next(p) != PEER_NOTHING; i++) {}
  if (!p->alive) peer_lost(p);
}

/* All that a session does once, as far as it comes; what it was answered does not matter, only that it was. */
static bool memory_run (void) {
  peer p;
  eb_session_config c = peer_config();
  c.heartbeat_s = 10;
  peer_init(&p, &c);
  if (p.s == NULL) return false;
  for (int round = 0; round < 3; round++) {
    if (!peer_up_with(&p, 100, 131072, 10)) peer_lost(&p);
    memory_drain(&p);
    if (eb_session_phase(p.s) != EB_PHASE_UP) continue;
    memory_declare(&p);
    peer_bind_with(&p, EB_QUEUE_BIND, "q", "orders", memory_table());
    if (p.alive && peer_next(&p) == AMQP_QUEUE_DECLARE_METHOD) {
      unsigned ch = p.channel;
      peer_declare_ok(&p, "q");
      p.channel = ch;
      peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD);
    }
    memory_drain(&p);
    uint64_t consumer = memory_subscribe(&p);
    uint32_t id;
    while ((id = peer_next(&p)) != PEER_NOTHING)
      if (id == AMQP_BASIC_CONSUME_METHOD) peer_consume_ok(&p);
    for (uint64_t tag = 1; tag <= 3 && p.alive; tag++) {
      if (tag == 1) put_messages(&p, 3);
      else peer_put_deliver(&p, 3, tag + 2), memory_put_header(&p, 3);
      peer_flush(&p);
      eb_delivery *d = peer_delivery(&p);
      if (d != NULL) peer_settle(&p, d, tag == 2 ? EB_REJECT : EB_ACK);
    }
    memory_drain(&p);
    uint64_t get = peer_call(&p, EB_GET, "q", 1000);
    while ((id = peer_next(&p)) != PEER_NOTHING)
      if (id == AMQP_BASIC_GET_METHOD) peer_get_ok(&p, p.channel, 1, "got");
    eb_item *answer = peer_pick(&p, EB_ITEM_RPC, get, -1);
    if (answer != NULL) eb_item_free(answer);
    memory_drain(&p);
    for (int i = 0; i < 70; i++) peer_publish(&p, "body", 1000);
    memory_publish(&p);
    publish_unconfirmed(&p, "body", 1000);
    memory_drain(&p);
    if (p.alive && peer_stats(&p).unconfirmed > 3 && eb_session_phase(p.s) == EB_PHASE_UP) peer_confirm(&p, 1, false);
    memory_drain(&p);
    peer_call(&p, EB_QUEUE_PURGE, "q", 50);
    peer_wait(&p, 60);
    memory_drain(&p);
    if (round == 1) peer_cancel(&p, consumer, 1000);
    memory_drain(&p);
    peer_sleep(&p, 200);
    peer_lost(&p);
  }
  return peer_end(&p);
}

TEST(memory_that_runs_out_anywhere_is_survived_and_leaked_nowhere) {
  scarce_gate = &peer_inside;
  CHECK_INT(scarce_every(memory_run), 0);
}

TEST(memory_that_is_out_for_good_is_survived_and_leaked_nowhere) {
  scarce_gate = &peer_inside;
  CHECK_INT(scarce_for_good(memory_run), 0);
}

/* The frames of a declaration and a binding that the session sends, each answered. */
static void memory_answer_calls (peer *p, int *declared, int *bound) {
  uint32_t id;
  while ((id = peer_next(p)) != PEER_NOTHING && p->alive) {
    if (id == AMQP_QUEUE_DECLARE_METHOD) ++*declared, peer_declare_ok(p, "q");
    if (id == AMQP_QUEUE_BIND_METHOD) ++*bound, peer_ok(p, AMQP_QUEUE_BIND_OK_METHOD);
  }
}

/* What was answered 'ok' is there again after the next loss. */
static bool restored_run (void) {
  peer p;
  eb_session_config c = peer_config();
  int declared, bound;
  peer_init(&p, &c);
  if (p.s == NULL) return false;
  uint64_t declare = memory_declare(&p), bind = peer_bind_with(&p, EB_QUEUE_BIND, "q", "orders", memory_table());
  for (int round = 0; round < 3; round++) {
    if (peer_up(&p)) memory_answer_calls(&p, &declared, &bound);
    peer_lost(&p);
  }
  scarce_fails_at = 0;
  bool is_declared = peer_outcome(&p, declare) == EB_OK, is_bound = peer_outcome(&p, bind) == EB_OK;
  declared = bound = 0;
  if (peer_up(&p)) memory_answer_calls(&p, &declared, &bound);
  bool good = declared == is_declared && bound == is_bound;
  if (!good) printf("declared %d, restored %d; bound %d, restored %d\n", is_declared, declared, is_bound, bound);
  peer_lost(&p);
  return peer_end(&p) && good;
}

TEST(what_was_declared_is_restored_though_memory_was_out_for_a_moment) {
  scarce_gate = &peer_inside;
  CHECK_INT(scarce_every(restored_run), 0);
}

/* The error that the loss of a connection is told with. */
static bool honest_run (void) {
  peer p;
  eb_session_config c = peer_config();
  peer_init(&p, &c);
  if (p.s == NULL) return false;
  bool good = true, consumes = false;
  if (peer_up(&p)) {
    memory_subscribe(&p);
    uint32_t id;
    while ((id = peer_next(&p)) != PEER_NOTHING)
      if (id == AMQP_BASIC_CONSUME_METHOD) consumes = peer_consume_ok(&p);
    for (uint64_t tag = 1; tag <= 3 && consumes && p.alive; tag++) {
      peer_put_deliver(&p, 3, tag);
      memory_put_header(&p, 3);
      peer_flush(&p);
    }
  }
  if (!p.alive && p.err.code != EB_ERR_NO_MEMORY) {
    printf("%s: %s\n", eb_code_name(p.err.code), p.err.message);
    good = false;
  }
  peer_lost(&p);
  return peer_end(&p) && good;
}

TEST(a_connection_lost_for_want_of_memory_says_so) {
  scarce_gate = &peer_inside;
  CHECK_INT(scarce_every(honest_run), 0);
}
