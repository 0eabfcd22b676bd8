/* model_topology: exchanges, queues, bindings and copies that the model has. See model.h. */
#include "world.h"

#include <stdio.h>
#include <string.h>

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

static model_binding *find_binding (world *w, const model_binding *what) {
  for (int i = 0; i < BINDINGS; i++) {
    model_binding *m = &w->broker.bindings[i];
    if (m->used && m->to_exchange == what->to_exchange && m->source == what->source && m->target == what->target &&
        strcmp(m->key, what->key) == 0 && fields_equal(&m->arguments, &what->arguments))
      return m;
  }
  return NULL;
}

void topology_unbind (world *w, const model_binding *what) {
  model_binding *m = find_binding(w, what);
  if (m != NULL) m->used = false;
}

void topology_bind (world *w, const model_binding *what) {
  if (find_binding(w, what) != NULL) return;
  for (int i = 0; i < BINDINGS; i++) {
    model_binding *m = &w->broker.bindings[i];
    if (m->used) continue;
    *m = *what;
    m->used = true;
    return;
  }
  w->ledger.full = true;
}

void topology_add_exchange (world *w, int x, const char *type, bool durable, const fields *arguments) {
  model_exchange *e = &w->broker.exchanges[x];
  e->there = true;
  e->durable = durable;
  e->arguments = *arguments;
  snprintf(e->type, sizeof e->type, "%s", type);
}

void topology_remove_exchange (world *w, int x) {
  w->broker.exchanges[x].there = false;
  for (int i = 0; i < BINDINGS; i++) {
    model_binding *m = &w->broker.bindings[i];
    if (m->source == x || (m->to_exchange && m->target == x)) m->used = false;
  }
}

void topology_exchange_text (const world *w, int x, char to[DETAIL]) {
  const model_exchange *e = &w->broker.exchanges[x];
  char arguments[FIELDS_TEXT];
  fields_text(&e->arguments, arguments);
  snprintf(to, DETAIL, "%s%s%s%s", e->type, e->durable ? " durable" : "", arguments[0] != '\0' ? " " : "", arguments);
}

void topology_forget (world *w) {
  for (int q = 0; q < QUEUES; q++)
    if (w->broker.queues[q].name[0] != '\0') topology_remove_queue(w, q);
  for (int x = X_DEFAULT + 1; x < EXCHANGES; x++) topology_remove_exchange(w, x);
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
