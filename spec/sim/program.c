/* program: what the user asks for, and does with deliveries. See user.h. */
#include "world.h"

#include <stdio.h>
#include <string.h>

static const char *const queues[] = {"q0", "q1", "q2", "nowhere"};
static const char *const keys[] = {"q0", "q1", "q2", "k0", "k1"};

const char *program_queue (int i) { return queues[i]; }

static int index_of (const char *queue) {
  for (int i = 0; i < MUST_QUEUES; i++)
    if (strcmp(queues[i], queue) == 0) return i;
  return -1;
}

static eb_bytes keep (eb_item *item, const char *text) {
  return eb_bytes_of(eb_arena_copy(item->arena, text, strlen(text)), strlen(text));
}

static eb_ms some_deadline (world *w) {
  if (!draw_chance(&w->draw, w->plan.timeouts)) return EB_NEVER;
  return w->now + (draw_below(&w->draw, 10) == 0 ? 0 : draw_below(&w->draw, 4000));
}

/* An operation, entered in the ledger. NULL: enough was asked. */
static asked *begin (world *w, eb_item_kind kind, size_t size, eb_item **item) {
  uint64_t id;
  asked *a = ledger_ask(w, kind, some_deadline(w), &id);
  *item = NULL;
  if (a == NULL) return NULL;
  *item = eb_item_new(kind, size, 256);
  if (*item == NULL) return NULL;
  (*item)->id = id;
  (*item)->deadline = a->deadline;
  w->tally.asked++;
  return a;
}

static void submit (world *w, eb_item *item) { eb_session_submit(w->user.session, item, w->now); }

/* Publishing. */

static uint32_t some_size (world *w) {
  if (w->plan.large_bodies && draw_below(&w->draw, 4) == 0) return draw_below(&w->draw, 12000);
  return draw_below(&w->draw, 5) == 0 ? 0 : draw_below(&w->draw, 40);
}

static void publish (world *w) {
  static const int exchanges[] = {X_DIRECT, X_DIRECT, X_DIRECT, X_DIRECT, X_DEFAULT, X_DEFAULT, X_PASSING, X_PASSING};
  eb_item *item;
  asked *a = begin(w, EB_ITEM_PUBLISH, sizeof(eb_publish), &item);
  if (item == NULL) return;
  eb_publish *op = (eb_publish *)item;
  a->exchange = draw_below(&w->draw, 40) == 0 ? X_MISSING : exchanges[draw_below(&w->draw, 8)];
  /* A missing exchange costs a channel: most programs know theirs. */
  if (a->exchange != X_MISSING && !w->broker.exchanges[a->exchange] && draw_below(&w->draw, 16) > 0)
    a->exchange = X_DEFAULT;
  a->mandatory = draw_below(&w->draw, 2) == 0;
  a->persistent = draw_below(&w->draw, 4) > 0;
  a->size = some_size(w);
  snprintf(a->key, sizeof a->key, "%s", keys[draw_below(&w->draw, 5)]);
  char id[16];
  snprintf(id, sizeof id, "m%d", (int)item->id);
  op->exchange = keep(item, topology_exchange_name(a->exchange));
  op->routing_key = keep(item, a->key);
  op->properties.message_id = keep(item, id);
  op->properties.delivery_mode = a->persistent ? 2 : 1;
  op->mandatory = a->mandatory;
  uint8_t *body = eb_arena_alloc(item->arena, a->size + 1);
  if (body == NULL) return;
  for (uint32_t at = 0; at < a->size; at++) body[at] = ledger_byte((int)item->id, at);
  op->body = eb_bytes_of((const char *)body, a->size);
  trace(w, "user", "publishes event %d of %u bytes to '%s', '%s'%s", (int)item->id, a->size,
        topology_exchange_name(a->exchange), a->key, a->mandatory ? ", mandatory" : "");
  submit(w, item);
}

/* Topology. */

static void call (world *w, eb_rpc_method method, const char *name, const char *source, const char *key, unsigned flags) {
  eb_item *item;
  user *u = &w->user;
  asked *a = begin(w, EB_ITEM_RPC, sizeof(eb_rpc), &item);
  if (item == NULL) return;
  eb_rpc *op = (eb_rpc *)item;
  a->method = op->method = method;
  a->record = op->record = method != EB_GET;
  a->passive = (flags & EB_PASSIVE) != 0;
  op->flags = flags;
  snprintf(a->queue, sizeof a->queue, "%s", name);
  snprintf(a->source, sizeof a->source, "%s", source);
  snprintf(a->key, sizeof a->key, "%s", key);
  op->name = keep(item, name);
  op->source = keep(item, source);
  op->routing_key = keep(item, key);
  op->type = keep(item, "direct");
  int q = index_of(name), x = topology_exchange(name);
  if (method == EB_QUEUE_DELETE && q >= 0) {
    u->must_queue[q] = false;
    u->deleted_queue[q] = item->id;
  }
  if (method == EB_QUEUE_DECLARE && q >= 0) {
    u->must_not_queue[q] = false;
    u->declared_queue[q] = item->id;
  }
  if (method == EB_EXCHANGE_DELETE && x >= 0) {
    u->must_exchange[x] = false;
    u->deleted_exchange[x] = item->id;
  }
  if (method == EB_QUEUE_DELETE || method == EB_EXCHANGE_DELETE || method == EB_QUEUE_UNBIND) {
    u->must_binding_count = 0;
    u->unbound = item->id;
  }
  trace(w, "user", "calls %d as operation %d: '%s' '%s' '%s'", (int)method, (int)item->id, name, source, key);
  submit(w, item);
}

static void declare (world *w, int i) {
  call(w, EB_QUEUE_DECLARE, queues[i], "", "", i < 2 ? EB_DURABLE : 0);
}

void program_prepare (world *w) {
  if (draw_below(&w->draw, 5) == 0) return;
  call(w, EB_EXCHANGE_DECLARE, topology_exchange_name(X_DIRECT), "", "", EB_DURABLE);
  if (draw_below(&w->draw, 2) == 0) {
    call(w, EB_EXCHANGE_DECLARE, topology_exchange_name(X_PASSING), "", "", EB_DURABLE);
    call(w, EB_EXCHANGE_BIND, topology_exchange_name(X_DIRECT), topology_exchange_name(X_PASSING), "k0", 0);
  }
  for (int i = 0; i < 3; i++) {
    if (draw_below(&w->draw, 4) == 0) continue;
    declare(w, i);
    call(w, EB_QUEUE_BIND, queues[i], topology_exchange_name(X_DIRECT), keys[draw_below(&w->draw, 5)], 0);
    call(w, EB_QUEUE_BIND, queues[i], topology_exchange_name(X_DIRECT), queues[i], 0);
  }
}

static const char *some_queue (world *w) {
  unsigned i = draw_below(&w->draw, 14);
  if (i == 13 && w->user.given[0] != '\0') return w->user.given;
  return queues[i == 12 ? 3 : i % 3];
}

static void some_call (world *w) {
  const char *queue = some_queue(w), *key = keys[draw_below(&w->draw, 5)];
  int x = X_DIRECT + (int)draw_below(&w->draw, 2);
  const char *exchange = topology_exchange_name(x), *other = topology_exchange_name(X_DIRECT + X_PASSING - x);
  switch (draw_below(&w->draw, 15)) {
    case 0: case 1: case 2: declare(w, (int)draw_below(&w->draw, 3)); break;
    case 3: call(w, EB_QUEUE_DECLARE, "", "", "", EB_EXCLUSIVE); break;
    case 4: call(w, EB_QUEUE_DECLARE, queue, "", "", EB_PASSIVE); break;
    case 5: call(w, EB_EXCHANGE_DECLARE, exchange, "", "", EB_DURABLE); break;
    case 6: call(w, EB_EXCHANGE_DECLARE, exchange, "", "", EB_PASSIVE); break;
    case 7: case 8: call(w, EB_QUEUE_BIND, queue, exchange, key, 0); break;
    case 9: call(w, EB_QUEUE_UNBIND, queue, exchange, key, 0); break;
    case 10: call(w, EB_EXCHANGE_BIND, other, exchange, key, 0); break;
    case 11: call(w, EB_QUEUE_PURGE, queue, "", "", 0); break;
    case 12: call(w, EB_QUEUE_DELETE, queue, "", "", 0); break;
    case 13: call(w, EB_EXCHANGE_UNBIND, other, exchange, key, 0); break;
    default: call(w, EB_EXCHANGE_DELETE, exchange, "", "", 0); break;
  }
}

/* Consuming. */

static void subscribe (world *w) {
  eb_item *item;
  asked *a = begin(w, EB_ITEM_SUBSCRIBE, sizeof(eb_subscribe), &item);
  if (item == NULL) return;
  eb_subscribe *op = (eb_subscribe *)item;
  char tag[NAME];
  const char *queue = some_queue(w);
  snprintf(tag, sizeof tag, "c%d", (int)item->id);
  a->prefetch = 1 + draw_below(&w->draw, 6);
  snprintf(a->queue, sizeof a->queue, "%s", queue);
  op->queue = keep(item, queue);
  op->tag = keep(item, tag);
  op->prefetch = (uint16_t)a->prefetch;
  trace(w, "user", "subscribes to '%s' as operation %d", queue, (int)item->id);
  submit(w, item);
}

static void cancel (world *w) {
  int at = (int)draw_below(&w->draw, (unsigned)w->ledger.asked_count + 1);
  while (at > 0 && (w->ledger.asked[at - 1].kind != EB_ITEM_SUBSCRIBE)) at--;
  if (at == 0) return;
  eb_item *item;
  asked *a = begin(w, EB_ITEM_CANCEL, sizeof(eb_cancel), &item);
  if (item == NULL) return;
  asked *target = &w->ledger.asked[at - 1];
  ((eb_cancel *)item)->consumer = (uint64_t)at;
  a->target = target->cancelling ? 0 : at;  /* of the first, the answer tells when it is over */
  target->cancelling = true;
  target->active = false;
  trace(w, "user", "cancels %d as operation %d", at, (int)item->id);
  submit(w, item);
}

void program_delivered (world *w, eb_delivery *d) {
  user *u = &w->user;
  handed *h = ledger_delivered(w, d);
  trace(w, "user", "gets delivery %d", h == NULL ? -1 : (int)d->properties.timestamp);
  if (h != NULL && d->consumer != 0 && w->ledger.asked[d->consumer - 1].cancelled)
    violate(w, "a delivery of consumer %d, whose cancel was answered", (int)d->consumer);
  if (h == NULL || u->held_count == HELD) {
    if (h != NULL) h->state = HANDED_DROPPED;
    eb_item_free(&d->item);
    return;
  }
  u->held[u->held_count++] = d;
}

void program_drop_held (world *w) {
  user *u = &w->user;
  for (size_t i = 0; i < u->held_count;) {
    if (draw_below(&w->draw, 2) == 0) {
      i++;
      continue;
    }
    w->ledger.handed[u->held[i]->properties.timestamp].state = HANDED_DROPPED;
    eb_item_free(&u->held[i]->item);
    u->held[i] = u->held[--u->held_count];
  }
}

static void settle (world *w, size_t i, eb_settlement how) {
  static const char *const names[] = {"nothing", "ack", "reject", "requeue", "return"};
  user *u = &w->user;
  eb_delivery *d = u->held[i];
  u->held[i] = u->held[--u->held_count];
  handed *h = &w->ledger.handed[d->properties.timestamp];
  h->state = HANDED_SETTLED;
  h->settlement = (uint8_t)how;
  h->settled_on = u->conn != NULL ? u->conn->serial : 0;
  h->settled_at = u->written + eb_buffer_size(eb_session_output(u->session));
  u->settled = *d;
  u->settled_one = true;
  d->settlement = how;
  trace(w, "user", "settles delivery %d: %s", (int)d->properties.timestamp, names[how]);
  submit(w, &d->item);
}

static void settle_some (world *w) {
  static const eb_settlement hows[] = {EB_ACK,    EB_ACK,     EB_ACK,    EB_ACK,   EB_ACK,
                                       EB_REJECT, EB_REQUEUE, EB_RETURN, EB_RETURN, EB_RETURN};
  if (w->user.held_count == 0) return;
  settle(w, draw_below(&w->draw, (unsigned)w->user.held_count), hows[draw_below(&w->draw, 10)]);
}

/* A mistake of the program: the first settlement counts. */
static void settle_twice (world *w) {
  if (!w->user.settled_one) return;
  const eb_delivery *was = &w->user.settled;
  eb_delivery *d = eb_item_new(EB_ITEM_DELIVERY, sizeof *d, 0);
  if (d == NULL) return;
  d->consumer = was->consumer;
  d->channel = was->channel;
  d->epoch = was->epoch;
  d->tag = was->tag;
  d->settlement = (eb_settlement)(1 + draw_below(&w->draw, 4));
  submit(w, &d->item);
}

void program_settle_all (world *w) {
  while (w->user.held_count > 0) settle(w, 0, EB_ACK);
}

void program_settle_one (world *w) {
  if (w->user.held_count > 0) settle(w, 0, EB_ACK);
}

/* Answers. */

static void answered_call (world *w, eb_rpc *op) {
  user *u = &w->user;
  int q, x;
  if (op->delivery != NULL) {
    program_delivered(w, op->delivery);
    op->delivery = NULL;
  }
  if (op->item.code != EB_OK || (op->flags & EB_PASSIVE) != 0) return;
  const asked *a = &w->ledger.asked[op->item.id - 1];
  switch (op->method) {
    case EB_QUEUE_DECLARE:
      q = index_of(a->queue);
      if (q >= 0 && op->item.id > u->deleted_queue[q]) u->must_queue[q] = true;
      if (a->queue[0] == '\0' && op->answer_name.n < NAME)
        snprintf(u->given, sizeof u->given, "%.*s", (int)op->answer_name.n, op->answer_name.p);
      break;
    case EB_QUEUE_DELETE:
      q = index_of(a->queue);
      if (q >= 0 && op->item.id > u->declared_queue[q]) u->must_not_queue[q] = true;
      break;
    case EB_EXCHANGE_DECLARE:
      x = topology_exchange(a->queue);
      if (op->item.id > u->deleted_exchange[x]) u->must_exchange[x] = true;
      break;
    case EB_QUEUE_BIND:
      q = index_of(a->queue);
      x = topology_exchange(a->source);
      if (q < 0 || op->item.id < u->unbound || !u->must_queue[q] || !u->must_exchange[x] || u->must_binding_count == MUST_BINDINGS) break;
      must_binding *m = &u->must_bindings[u->must_binding_count++];
      m->exchange = x;
      m->queue = q;
      snprintf(m->key, sizeof m->key, "%s", a->key);
      break;
    default: break;
  }
}

void program_answered (world *w, eb_item *item) {
  asked *a = item->id > 0 && item->id <= (uint64_t)w->ledger.asked_count ? &w->ledger.asked[item->id - 1] : NULL;
  if (a != NULL && item->kind == EB_ITEM_RPC) answered_call(w, (eb_rpc *)item);
  if (a != NULL && item->kind == EB_ITEM_SUBSCRIBE)
    a->active = item->code == EB_OK && !a->cancelling && !w->user.failed;
  if (a != NULL && item->kind == EB_ITEM_CANCEL && item->code == EB_OK && a->target != 0)
    w->ledger.asked[a->target - 1].cancelled = true;
  if (item->kind == EB_ITEM_PUBLISH) {
    w->tally.confirmed += item->code == EB_OK;
    w->tally.timed_out += item->code == EB_ERR_TIMEOUT || item->code == EB_ERR_BLOCKED;
  }
  eb_item_free(item);
}

void program_expects_nothing (world *w) {
  memset(w->user.must_queue, 0, sizeof w->user.must_queue);
  memset(w->user.must_not_queue, 0, sizeof w->user.must_not_queue);
  memset(w->user.must_exchange, 0, sizeof w->user.must_exchange);
  w->user.must_binding_count = 0;
}

void program_act (world *w) {
  unsigned total = 0;
  for (int i = 0; i < ACT_COUNT; i++) total += w->plan.weights[i];
  unsigned at = draw_below(&w->draw, total);
  int i = 0;
  while (at >= w->plan.weights[i]) at -= w->plan.weights[i++];
  switch ((act)i) {
    case ACT_PUBLISH: publish(w); break;
    case ACT_SETTLE: settle_some(w); break;
    case ACT_SETTLE_TWICE: settle_twice(w); break;
    case ACT_CALL: some_call(w); break;
    case ACT_GET: call(w, EB_GET, some_queue(w), "", "", 0); break;
    case ACT_SUBSCRIBE: subscribe(w); break;
    case ACT_CANCEL: cancel(w); break;
    case ACT_COUNT: break;
  }
}
