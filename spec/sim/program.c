/* program: what the user asks for, and does with deliveries. See user.h. */
#include "world.h"

#include <stdio.h>
#include <string.h>

eb_bytes program_keep (eb_item *item, const char *text) {
  return eb_bytes_of(eb_arena_copy(item->arena, text, strlen(text)), strlen(text));
}

static eb_ms some_deadline (world *w) {
  if (!draw_chance(&w->draw, w->plan.timeouts)) return EB_NEVER;
  return w->now + (draw_below(&w->draw, 10) == 0 ? 0 : draw_below(&w->draw, 4000));
}

asked *program_begin (world *w, eb_item_kind kind, size_t size, eb_item **item) {
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

void program_submit (world *w, eb_item *item) { eb_session_submit(w->user.session, item, w->now); }

/* Publishing. */

static uint32_t some_size (world *w) {
  if (w->plan.large_bodies && draw_below(&w->draw, 4) == 0) return draw_below(&w->draw, 12000);
  return draw_below(&w->draw, 5) == 0 ? 0 : draw_below(&w->draw, 40);
}

static int some_exchange (world *w) {
  static const int exchanges[] = {X_DIRECT, X_DIRECT, X_DIRECT,  X_DIRECT, X_DEFAULT, X_DEFAULT,
                                  X_PASSING, X_TOPIC, X_TOPIC, X_FANOUT, X_HEADERS, X_CHANGING};
  int x = draw_below(&w->draw, 40) == 0 ? X_MISSING : exchanges[draw_below(&w->draw, 12)];
  /* A missing exchange costs a channel: most programs know theirs. */
  if (x != X_MISSING && !w->broker.exchanges[x].there && draw_below(&w->draw, 16) > 0) return X_DEFAULT;
  return x;
}

static void publish_to (world *w, int exchange, bool mandatory) {
  eb_item *item;
  asked *a = program_begin(w, EB_ITEM_PUBLISH, sizeof(eb_publish), &item);
  if (item == NULL) return;
  eb_publish *op = (eb_publish *)item;
  bool dotted = exchange == X_TOPIC || exchange == X_CHANGING;
  a->exchange = exchange;
  a->mandatory = mandatory;
  a->persistent = draw_below(&w->draw, 4) > 0;
  a->unconfirmed = !mandatory && w->plan.unconfirmed > 0 && draw_chance(&w->draw, w->plan.unconfirmed);
  a->size = some_size(w);
  snprintf(a->key, sizeof a->key, "%s", names_key((int)draw_below(&w->draw, dotted ? EVENT_KEYS : 5)));
  if (exchange == X_HEADERS || exchange == X_CHANGING) a->arguments = (int)draw_below(&w->draw, HEADERS);
  char id[16];
  snprintf(id, sizeof id, "m%d", (int)item->id);
  op->exchange = program_keep(item, names_of_exchange(a->exchange));
  op->routing_key = program_keep(item, a->key);
  op->properties.message_id = program_keep(item, id);
  op->properties.delivery_mode = a->persistent ? 2 : 1;
  op->properties.headers = names_headers(a->arguments);
  op->mandatory = a->mandatory;
  op->unconfirmed = a->unconfirmed;
  uint8_t *body = eb_arena_alloc(item->arena, a->size + 1);
  if (body == NULL) return;
  for (uint32_t at = 0; at < a->size; at++) body[at] = ledger_byte((int)item->id, at);
  op->body = eb_bytes_of((const char *)body, a->size);
  trace(w, "user", "publishes event %d of %u bytes to '%s', '%s' {%s}%s", (int)item->id, a->size,
        names_of_exchange(a->exchange), a->key, names_headers_text(a->arguments),
        a->mandatory ? ", mandatory" : a->unconfirmed ? ", unconfirmed" : "");
  program_submit(w, item);
}

static void publish (world *w) {
  int x = some_exchange(w);
  publish_to(w, x, draw_below(&w->draw, 2) == 0);
}

void program_probe (world *w) {
  for (int x = X_DEFAULT; x < X_MISSING; x++)
    for (int i = 0; i < 2 && w->broker.exchanges[x].there; i++) publish_to(w, x, true);
}

/* Consuming. */

static void subscribe (world *w) {
  eb_item *item;
  asked *a = program_begin(w, EB_ITEM_SUBSCRIBE, sizeof(eb_subscribe), &item);
  if (item == NULL) return;
  eb_subscribe *op = (eb_subscribe *)item;
  char tag[NAME];
  const char *queue = program_some_queue(w);
  snprintf(tag, sizeof tag, "c%d", (int)item->id);
  a->prefetch = 1 + draw_below(&w->draw, PREFETCH_MOST);
  snprintf(a->queue, sizeof a->queue, "%s", queue);
  op->queue = program_keep(item, queue);
  op->tag = program_keep(item, tag);
  op->prefetch = (uint16_t)a->prefetch;
  trace(w, "user", "subscribes to '%s' as operation %d", queue, (int)item->id);
  program_submit(w, item);
}

static void cancel (world *w) {
  int at = (int)draw_below(&w->draw, (unsigned)w->ledger.asked_count + 1);
  while (at > 0 && (w->ledger.asked[at - 1].kind != EB_ITEM_SUBSCRIBE)) at--;
  if (at == 0) return;
  eb_item *item;
  asked *a = program_begin(w, EB_ITEM_CANCEL, sizeof(eb_cancel), &item);
  if (item == NULL) return;
  asked *target = &w->ledger.asked[at - 1];
  ((eb_cancel *)item)->consumer = (uint64_t)at;
  a->target = target->cancelling ? 0 : at;  /* of the first, the answer tells when it is over */
  target->cancelling = true;
  target->active = false;
  trace(w, "user", "cancels %d as operation %d", at, (int)item->id);
  program_submit(w, item);
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
  ledger_settled(w, d);
  d->settlement = how;
  trace(w, "user", "settles delivery %d: %s", (int)d->properties.timestamp, names[how]);
  program_submit(w, &d->item);
}

static void settle_some (world *w) {
  static const eb_settlement hows[] = {EB_ACK,    EB_ACK,     EB_ACK,    EB_ACK,   EB_ACK,
                                       EB_REJECT, EB_REQUEUE, EB_RETURN, EB_RETURN, EB_RETURN};
  if (w->user.held_count == 0) return;
  eb_settlement how = hows[draw_below(&w->draw, 10)];
  settle(w, draw_below(&w->draw, (unsigned)w->user.held_count), how);
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
  program_submit(w, &d->item);
}

void program_settle_all (world *w) {
  while (w->user.held_count > 0) settle(w, 0, EB_ACK);
}

void program_settle_one (world *w) {
  if (w->user.held_count > 0) settle(w, 0, EB_ACK);
}

/* Answers. */

void program_answered (world *w, eb_item *item) {
  asked *a = item->id > 0 && item->id <= (uint64_t)w->ledger.asked_count ? &w->ledger.asked[item->id - 1] : NULL;
  if (a != NULL && item->kind == EB_ITEM_RPC) {
    eb_rpc *call = (eb_rpc *)item;
    if (call->delivery != NULL) program_delivered(w, call->delivery);
    call->delivery = NULL;
    program_called(w, call);
  }
  if (a != NULL && item->kind == EB_ITEM_SUBSCRIBE)
    a->active = item->code == EB_OK && !a->cancelling && !w->user.failed;
  if (a != NULL && item->kind == EB_ITEM_CANCEL && item->code == EB_OK && a->target != 0)
    w->ledger.asked[a->target - 1].cancelled = true;
  if (item->kind == EB_ITEM_PUBLISH) {
    w->tally.confirmed += item->code == EB_OK && a != NULL && !a->unconfirmed;
    w->tally.timed_out += item->code == EB_ERR_TIMEOUT || item->code == EB_ERR_BLOCKED;
  }
  eb_item_free(item);
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
    case ACT_CALL: program_call(w); break;
    case ACT_GET: program_get(w); break;
    case ACT_SUBSCRIBE: subscribe(w); break;
    case ACT_CANCEL: cancel(w); break;
    case ACT_COUNT: break;
  }
}
