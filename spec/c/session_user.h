/* session_user: the user's side of one session in a test: operations, their answers, deliveries and notices. */
#ifndef SESSION_USER_H
#define SESSION_USER_H

#include "session_peer.h"

/* Operations. */

static inline void *peer_op (peer *p, eb_item_kind kind, size_t size) {
  eb_item *item = eb_item_new(kind, size, 512);
  if (item == NULL) abort();
  item->id = ++p->ids;
  return item;
}

static inline eb_bytes peer_keep (void *op, const char *text) {
  if (text == NULL) return eb_bytes_of(NULL, 0);
  size_t n = strlen(text);
  return eb_bytes_of(eb_arena_copy(((eb_item *)op)->arena, text, n), n);
}

static inline uint64_t peer_submit (peer *p, void *op, int64_t timeout) {
  eb_item *item = op;
  uint64_t id = item->id;
  if (timeout > 0) item->deadline = p->now + timeout;
  peer_inside = true;
  eb_session_submit(p->s, item, p->now);
  peer_inside = false;
  peer_turn(p);
  return id;
}

static inline eb_publish *peer_publish_op (peer *p, const char *body) {
  eb_publish *op = peer_op(p, EB_ITEM_PUBLISH, sizeof *op);
  char id[32];
  snprintf(id, sizeof id, "m%llu", (unsigned long long)op->item.id);
  op->exchange = peer_keep(op, "orders");
  op->routing_key = peer_keep(op, "order.created");
  op->properties.message_id = peer_keep(op, id);
  op->properties.delivery_mode = 2;
  op->body = peer_keep(op, body);
  op->mandatory = true;
  return op;
}

static inline uint64_t peer_publish (peer *p, const char *body, int64_t timeout) {
  return peer_submit(p, peer_publish_op(p, body), timeout);
}

static inline eb_rpc *peer_call_op (peer *p, eb_rpc_method method, const char *name) {
  eb_rpc *op = peer_op(p, EB_ITEM_RPC, sizeof *op);
  op->method = method;
  op->name = peer_keep(op, name);
  return op;
}

static inline uint64_t peer_call (peer *p, eb_rpc_method method, const char *name, int64_t timeout) {
  return peer_submit(p, peer_call_op(p, method, name), timeout);
}

/* Recorded, so that it is restored. */
static inline uint64_t peer_declare (peer *p, const char *queue) {
  eb_rpc *op = peer_call_op(p, EB_QUEUE_DECLARE, queue);
  op->record = true;
  op->flags = EB_DURABLE;
  return peer_submit(p, op, 0);
}

static inline uint64_t peer_bind_with (peer *p, eb_rpc_method method, const char *queue, const char *exchange,
                                       const eb_table *arguments) {
  eb_rpc *op = peer_call_op(p, method, queue);
  op->record = true;
  op->source = peer_keep(op, exchange);
  op->routing_key = peer_keep(op, "#");
  op->arguments = arguments;
  return peer_submit(p, op, 0);
}

static inline uint64_t peer_subscribe (peer *p, const char *queue, unsigned prefetch, int64_t timeout) {
  eb_subscribe *op = peer_op(p, EB_ITEM_SUBSCRIBE, sizeof *op);
  op->queue = peer_keep(op, queue);
  op->prefetch = (uint16_t)prefetch;
  return peer_submit(p, op, timeout);
}

static inline uint64_t peer_cancel (peer *p, uint64_t consumer, int64_t timeout) {
  eb_cancel *op = peer_op(p, EB_ITEM_CANCEL, sizeof *op);
  op->consumer = consumer;
  return peer_submit(p, op, timeout);
}

static inline void peer_settle (peer *p, eb_delivery *d, eb_settlement how) {
  d->settlement = how;
  peer_inside = true;
  eb_session_submit(p->s, &d->item, p->now);
  peer_inside = false;
}

/* Events, taken out in any order; the caller frees them. */

static inline bool peer_matches (const eb_item *item, int kind, uint64_t id, int event) {
  if (kind >= 0 && (int)item->kind != kind) return false;
  if (kind < 0 && (item->kind == EB_ITEM_NOTICE || item->kind == EB_ITEM_DELIVERY)) return false;
  if (id != 0 && item->id != id) return false;
  return event < 0 || (int)((const eb_notice *)item)->event == event;
}

static inline eb_item *peer_pick (peer *p, int kind, uint64_t id, int event) {
  eb_list kept;
  eb_item *item, *found = NULL;
  eb_list_init(&kept);
  peer_take_events(p);
  while ((item = eb_list_pop(&p->events)) != NULL) {
    if (found == NULL && peer_matches(item, kind, id, event))
      found = item;
    else
      eb_list_push(&kept, item);
  }
  p->events = kept;
  return found;
}

static inline eb_delivery *peer_delivery (peer *p) { return (eb_delivery *)peer_pick(p, EB_ITEM_DELIVERY, 0, -1); }

/* How the operation was answered; -1: not yet. The text is kept in p->err. */
static inline int peer_outcome (peer *p, uint64_t id) {
  eb_item *item = peer_pick(p, -1, id, -1);
  if (item == NULL) return -1;
  int code = (int)item->code;
  eb_error_clear(&p->err);
  if (item->error != NULL) memcpy(&p->err, item->error, offsetof(eb_error, message) + strlen(item->error->message) + 1);
  eb_item_free(item);
  return code;
}

static inline bool peer_noticed (peer *p, eb_event event) {
  eb_item *item = peer_pick(p, EB_ITEM_NOTICE, 0, (int)event);
  if (item != NULL) eb_item_free(item);
  return item != NULL;
}

static inline eb_session_stats peer_stats (peer *p) {
  eb_session_stats s;
  memset(&s, 0, sizeof s);
  eb_session_get_stats(p->s, &s);
  return s;
}

static inline void peer_fini (peer *p) {
  eb_session_free(p->s);
  eb_list_free(&p->events);
  eb_buffer_fini(&p->wire);
  eb_buffer_fini(&p->sent);
  empty_amqp_pool(&p->pool);
}

/* The end of a test. True: every operation made was answered exactly once, and the session never span. */
static inline bool peer_end (peer *p) {
  eb_error why;
  bool good = !p->spins;
  if (p->spins) printf("the session's deadline stays in the past\n");
  eb_error_set(&why, EB_ERR_CLOSED, "the test is over");
  eb_session_detach(p->s, &why, p->now);
  eb_session_fail(p->s, &why, p->now);
  peer_take_events(p);
  for (uint64_t id = 1; id <= p->ids; id++) {
    if (p->answers[id] == 1) continue;
    printf("operation %llu was answered %u times\n", (unsigned long long)id, p->answers[id]);
    good = false;
  }
  peer_fini(p);
  return good;
}

#endif
