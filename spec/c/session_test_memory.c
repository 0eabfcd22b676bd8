/* Memory runs out at every place where the session, or rabbitmq-c for it, asks for some. Included by session_test.c, but
 * not where a sanitizer owns malloc. */
#include "scarce.h"

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
    peer_declare(&p, "q");
    peer_bind_with(&p, EB_QUEUE_BIND, "q", "orders", NULL);
    if (p.alive && peer_next(&p) == AMQP_QUEUE_DECLARE_METHOD) {
      unsigned ch = p.channel;
      peer_declare_ok(&p, "q");
      p.channel = ch;
      peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD);
    }
    memory_drain(&p);
    uint64_t consumer = peer_subscribe(&p, "q", 10, 1000);
    uint32_t id;
    while ((id = peer_next(&p)) != PEER_NOTHING)
      if (id == AMQP_BASIC_CONSUME_METHOD) peer_consume_ok(&p);
    for (uint64_t tag = 1; tag <= 3 && p.alive; tag++) {
      if (tag == 1) put_messages(&p, 3);
      else peer_put_deliver(&p, 3, tag + 2), peer_put_header(&p, 3, NULL, 0);
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
