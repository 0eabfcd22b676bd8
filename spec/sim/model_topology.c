/* model_topology: exchanges, queues, bindings and copies of the model. See model.h. */
#include "world.h"

#include <stdio.h>
#include <string.h>

static const char *const exchange_names[EXCHANGES] = {"", "direct", "passing", "missing"};

int topology_exchange (const char *name) {
  for (int x = 0; x < EXCHANGES; x++)
    if (strcmp(exchange_names[x], name) == 0) return x;
  return -1;
}

const char *topology_exchange_name (int x) { return exchange_names[x]; }

int topology_queue (const world *w, const char *name) {
  for (int q = 0; q < QUEUES; q++)
    if (name[0] != '\0' && strcmp(w->broker.queues[q].name, name) == 0) return q;
  return -1;
}

int topology_add_queue (world *w, const char *name, bool durable, int exclusive) {
  for (int q = 0; q < QUEUES; q++) {
    model_queue *mq = &w->broker.queues[q];
    if (mq->name[0] != '\0') continue;
    snprintf(mq->name, sizeof mq->name, "%s", name);
    mq->durable = durable;
    mq->exclusive = exclusive;
    mq->first = 0;
    return q;
  }
  w->ledger.full = true;
  return -1;
}

unsigned topology_count (const world *w, int q) {
  unsigned n = 0;
  for (int c = w->broker.queues[q].first; c != 0; c = w->broker.copies[c - 1].next) n++;
  return n;
}

void topology_purge (world *w, int q) {
  model_queue *mq = &w->broker.queues[q];
  for (int c = mq->first; c != 0; c = w->broker.copies[c - 1].next) w->broker.copies[c - 1].state = COPY_GONE;
  mq->first = 0;
}

/* Its consumers hear of it, its deliveries that are out stay out until they are settled, for nothing. */
void topology_remove_queue (world *w, int q) {
  model *b = &w->broker;
  topology_purge(w, q);
  for (int i = 0; i < b->copy_count; i++)
    if (b->copies[i].queue == q && b->copies[i].state == COPY_OUT) b->copies[i].state = COPY_GONE;
  for (int i = 0; i < BINDINGS; i++)
    if (b->bindings[i].used && !b->bindings[i].to_exchange && b->bindings[i].target == q) b->bindings[i].used = false;
  b->queues[q].name[0] = '\0';
  for (int i = 0; i < CONNS; i++)
    for (unsigned n = 1; b->conns[i].serial != 0 && n <= CHANNELS; n++) {
      model_channel *ch = &b->conns[i].channels[n];
      if (ch->state == CH_OPEN && ch->consumer[0] != '\0' && ch->queue == q)
        channel_cancel_consumer(w, &b->conns[i], n);
    }
}

static model_binding *find_binding (world *w, bool to_exchange, int source, int target, const char *key) {
  for (int i = 0; i < BINDINGS; i++) {
    model_binding *m = &w->broker.bindings[i];
    if (m->used && m->to_exchange == to_exchange && m->source == source && m->target == target &&
        strcmp(m->key, key) == 0)
      return m;
  }
  return NULL;
}

bool topology_bound (const world *w, bool to_exchange, int source, int target, const char *key) {
  return find_binding((world *)(uintptr_t)w, to_exchange, source, target, key) != NULL;
}

void topology_bind (world *w, bool to_exchange, int source, int target, const char *key, bool bind) {
  model_binding *m = find_binding(w, to_exchange, source, target, key);
  if (!bind) {
    if (m != NULL) m->used = false;
    return;
  }
  for (int i = 0; m == NULL && i < BINDINGS; i++) {
    if (w->broker.bindings[i].used) continue;
    m = &w->broker.bindings[i];
    m->used = true;
    m->to_exchange = to_exchange;
    m->source = source;
    m->target = target;
    snprintf(m->key, sizeof m->key, "%s", key);
  }
  if (m == NULL) w->ledger.full = true;
}

static uint32_t route (const world *w, int x, const char *key, int depth) {
  uint32_t queues = 0;
  for (int i = 0; i < BINDINGS && depth < 3; i++) {
    const model_binding *m = &w->broker.bindings[i];
    if (!m->used || m->source != x || strcmp(m->key, key) != 0) continue;
    queues |= m->to_exchange ? route(w, m->target, key, depth + 1) : UINT32_C(1) << m->target;
  }
  return queues;
}

uint32_t topology_route (const world *w, int x, const char *key) {
  if (x != X_DEFAULT) return route(w, x, key, 0);
  int q = topology_queue(w, key);
  return q < 0 ? 0 : UINT32_C(1) << q;
}

static void insert (world *w, int c) {
  copy *m = &w->broker.copies[c];
  int *at = &w->broker.queues[m->queue].first;
  while (*at != 0 && *at - 1 < c) at = &w->broker.copies[*at - 1].next;
  m->next = *at;
  *at = c + 1;
  m->state = COPY_READY;
}

void topology_put (world *w, uint32_t queues, int event) {
  model *b = &w->broker;
  for (int q = 0; q < QUEUES; q++) {
    if ((queues & UINT32_C(1) << q) == 0) continue;
    if (b->copy_count == COPIES) {
      w->ledger.full = true;
      return;
    }
    copy *m = &b->copies[b->copy_count];
    memset(m, 0, sizeof *m);
    m->event = (uint16_t)event;
    m->queue = (uint8_t)q;
    m->persistent = w->ledger.asked[event - 1].persistent;
    insert(w, b->copy_count++);
  }
}

/* Where it was, as quorum and classic queues do when they can. */
void topology_put_back (world *w, int c) {
  copy *m = &w->broker.copies[c];
  if (m->state != COPY_OUT) return;  /* its queue was deleted */
  m->redelivered = true;
  insert(w, c);
}

int topology_take (world *w, int q) {
  model_queue *mq = &w->broker.queues[q];
  if (mq->first == 0) return -1;
  int c = mq->first - 1;
  mq->first = w->broker.copies[c].next;
  w->broker.copies[c].state = COPY_OUT;
  return c;
}

/* What is asked. Each is logged, done or refused, so that answers can be judged. */

static const char *text_of (amqp_bytes_t b, char to[NAME]) {
  size_t n = b.len < NAME ? b.len : NAME - 1;
  if (n > 0) memcpy(to, b.bytes, n);
  to[n] = '\0';
  return to;
}

static void refuse (world *w, conn *l, unsigned number, eb_rpc_method method, const char *name, const char *source,
                    const char *key) {
  ledger_log(w, method, true, name, source, key);
  channel_error(w, l, number, 404, "NOT_FOUND - no such thing");
}

static void declare_queue (world *w, conn *l, unsigned number, const amqp_queue_declare_t *m) {
  char asked_name[NAME], given[NAME];
  text_of(m->queue, asked_name);
  snprintf(given, sizeof given, "%s", asked_name);
  int q = topology_queue(w, asked_name);
  if (l->parted) program_expects_nothing(w);
  if (q < 0 && m->passive) {
    refuse(w, l, number, EB_QUEUE_DECLARE, asked_name, "", "");
    return;
  }
  if (q < 0) {
    if (asked_name[0] == '\0') snprintf(given, sizeof given, "amq.gen-%u", ++w->broker.named);
    q = topology_add_queue(w, given, m->durable != 0, m->exclusive ? l->serial : 0);
    if (q < 0) {
      channel_error(w, l, number, 406, "PRECONDITION_FAILED - too many queues");
      return;
    }
  }
  if (w->broker.queues[q].exclusive != 0 && w->broker.queues[q].exclusive != l->serial) {
    ledger_log(w, EB_QUEUE_DECLARE, true, asked_name, "", "");
    channel_error(w, l, number, 405, "RESOURCE_LOCKED - exclusive to another connection");
    return;
  }
  ledger_log(w, EB_QUEUE_DECLARE, false, asked_name, "", "");
  amqp_queue_declare_ok_t ok = {frame_text(given), topology_count(w, q), 0};
  frame_method(w, l, number, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
}

static void bind_queue (world *w, conn *l, unsigned number, amqp_bytes_t queue, amqp_bytes_t exchange, amqp_bytes_t rk,
                        bool bind) {
  char name[NAME], source[NAME], key[NAME];
  eb_rpc_method method = bind ? EB_QUEUE_BIND : EB_QUEUE_UNBIND;
  int q = topology_queue(w, text_of(queue, name)), x = topology_exchange(text_of(exchange, source));
  text_of(rk, key);
  if (bind && (q < 0 || x <= X_DEFAULT || !w->broker.exchanges[x])) {
    refuse(w, l, number, method, name, source, key);
    return;
  }
  if (!bind && l->parted) program_expects_nothing(w);
  if (q >= 0 && x >= 0) topology_bind(w, false, x, q, key, bind);
  ledger_log(w, method, false, name, source, key);
  frame_empty(w, l, number, bind ? AMQP_QUEUE_BIND_OK_METHOD : AMQP_QUEUE_UNBIND_OK_METHOD);
}

static void bind_exchange (world *w, conn *l, unsigned number, amqp_bytes_t to, amqp_bytes_t from, amqp_bytes_t rk,
                           bool bind) {
  char name[NAME], source[NAME], key[NAME];
  eb_rpc_method method = bind ? EB_EXCHANGE_BIND : EB_EXCHANGE_UNBIND;
  int t = topology_exchange(text_of(to, name)), x = topology_exchange(text_of(from, source));
  text_of(rk, key);
  if (bind && (t <= X_DEFAULT || x <= X_DEFAULT || !w->broker.exchanges[t] || !w->broker.exchanges[x])) {
    refuse(w, l, number, method, name, source, key);
    return;
  }
  if (t >= 0 && x >= 0) topology_bind(w, true, x, t, key, bind);
  ledger_log(w, method, false, name, source, key);
  frame_empty(w, l, number, bind ? AMQP_EXCHANGE_BIND_OK_METHOD : AMQP_EXCHANGE_UNBIND_OK_METHOD);
}

static void declare_exchange (world *w, conn *l, unsigned number, const amqp_exchange_declare_t *m) {
  char name[NAME];
  int x = topology_exchange(text_of(m->exchange, name));
  if (x < 0 || (m->passive && !w->broker.exchanges[x])) {
    refuse(w, l, number, EB_EXCHANGE_DECLARE, name, "", "");
    return;
  }
  w->broker.exchanges[x] = true;
  ledger_log(w, EB_EXCHANGE_DECLARE, false, name, "", "");
  frame_empty(w, l, number, AMQP_EXCHANGE_DECLARE_OK_METHOD);
}

static void delete_exchange (world *w, conn *l, unsigned number, const amqp_exchange_delete_t *m) {
  char name[NAME];
  int x = topology_exchange(text_of(m->exchange, name));
  if (x > X_DEFAULT) {
    if (l->parted) program_expects_nothing(w);
    w->broker.exchanges[x] = false;
    for (int i = 0; i < BINDINGS; i++) {
      model_binding *b = &w->broker.bindings[i];
      if (b->source == x || (b->to_exchange && b->target == x)) b->used = false;
    }
  }
  ledger_log(w, EB_EXCHANGE_DELETE, false, name, "", "");
  frame_empty(w, l, number, AMQP_EXCHANGE_DELETE_OK_METHOD);
}

static void delete_queue (world *w, conn *l, unsigned number, amqp_bytes_t queue, bool purge) {
  char name[NAME];
  int q = topology_queue(w, text_of(queue, name));
  amqp_queue_delete_ok_t ok = {q < 0 ? 0 : topology_count(w, q)};  /* purge-ok is the same */
  if (q < 0 && purge) {
    refuse(w, l, number, EB_QUEUE_PURGE, name, "", "");
    return;
  }
  ledger_log(w, purge ? EB_QUEUE_PURGE : EB_QUEUE_DELETE, false, name, "", "");
  frame_method(w, l, number, purge ? AMQP_QUEUE_PURGE_OK_METHOD : AMQP_QUEUE_DELETE_OK_METHOD, &ok);
  if (q < 0) return;
  if (purge) {
    topology_purge(w, q);
  } else {
    if (l->parted) program_expects_nothing(w);
    topology_remove_queue(w, q);
  }
}

bool topology_asked (world *w, conn *l, unsigned number, amqp_method_t *m) {
  switch (m->id) {
    case AMQP_QUEUE_DECLARE_METHOD: declare_queue(w, l, number, m->decoded); return true;
    case AMQP_QUEUE_DELETE_METHOD:
      delete_queue(w, l, number, ((amqp_queue_delete_t *)m->decoded)->queue, false);
      return true;
    case AMQP_QUEUE_PURGE_METHOD:
      delete_queue(w, l, number, ((amqp_queue_purge_t *)m->decoded)->queue, true);
      return true;
    case AMQP_QUEUE_BIND_METHOD: {
      const amqp_queue_bind_t *b = m->decoded;
      bind_queue(w, l, number, b->queue, b->exchange, b->routing_key, true);
      return true;
    }
    case AMQP_QUEUE_UNBIND_METHOD: {
      const amqp_queue_unbind_t *b = m->decoded;
      bind_queue(w, l, number, b->queue, b->exchange, b->routing_key, false);
      return true;
    }
    case AMQP_EXCHANGE_BIND_METHOD: {
      const amqp_exchange_bind_t *b = m->decoded;
      bind_exchange(w, l, number, b->destination, b->source, b->routing_key, true);
      return true;
    }
    case AMQP_EXCHANGE_UNBIND_METHOD: {
      const amqp_exchange_unbind_t *b = m->decoded;
      bind_exchange(w, l, number, b->destination, b->source, b->routing_key, false);
      return true;
    }
    case AMQP_EXCHANGE_DECLARE_METHOD: declare_exchange(w, l, number, m->decoded); return true;
    case AMQP_EXCHANGE_DELETE_METHOD: delete_exchange(w, l, number, m->decoded); return true;
    default: return false;
  }
}
