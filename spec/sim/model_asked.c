/* model_asked: what the model is asked about topology. See model.h.
 *
 * Each call is logged, done or refused, so that its answer can be judged.
 */
#include "world.h"

#include <stdio.h>
#include <string.h>

static const char *text_of (amqp_bytes_t b, char to[NAME]) {
  size_t n = b.len < NAME ? b.len : NAME - 1;
  if (n > 0) memcpy(to, b.bytes, n);
  to[n] = '\0';
  return to;
}

static logged entry (eb_rpc_method method, amqp_bytes_t name) {
  logged e;
  memset(&e, 0, sizeof e);
  e.method = method;
  text_of(name, e.name);
  return e;
}

static void refuse (world *w, conn *l, unsigned number, logged *e, unsigned code, const char *text) {
  e->refused = true;
  ledger_log(w, e);
  channel_error(w, l, number, code, text);
}

static void refuse_missing (world *w, conn *l, unsigned number, logged *e) {
  refuse(w, l, number, e, 404, "NOT_FOUND - no such thing");
}

/* A connection that the session has left still changes things: its answers reach nobody. */
static void note_change (world *w, const conn *l) {
  if (l->parted) promise_nothing(w);
}

static void declare_queue (world *w, conn *l, unsigned number, const amqp_queue_declare_t *m) {
  logged e = entry(EB_QUEUE_DECLARE, m->queue);
  char given[NAME];
  snprintf(given, sizeof given, "%s", e.name);
  int q = topology_queue(w, e.name);
  if (q < 0 && m->passive) {
    refuse_missing(w, l, number, &e);
    return;
  }
  if (!m->passive) note_change(w, l);
  if (q < 0) {
    if (e.name[0] == '\0') snprintf(given, sizeof given, "amq.gen-%u", ++w->broker.named);
    q = topology_add_queue(w, given, m->durable != 0, m->exclusive ? l->serial : 0);
    if (q < 0) {
      channel_error(w, l, number, 406, "PRECONDITION_FAILED - too many queues");
      return;
    }
  }
  if (w->broker.queues[q].exclusive != 0 && w->broker.queues[q].exclusive != l->serial) {
    refuse(w, l, number, &e, 405, "RESOURCE_LOCKED - exclusive to another connection");
    return;
  }
  ledger_log(w, &e);
  amqp_queue_declare_ok_t ok = {frame_text(given), topology_count(w, q), 0};
  frame_method(w, l, number, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
}

typedef struct asked_binding {  /* the four methods that bind and unbind are alike */
  amqp_bytes_t to, from, key;
  const amqp_table_t *arguments;
  eb_rpc_method method;
  amqp_method_number_t reply;
} asked_binding;

static void bind (world *w, conn *l, unsigned number, const asked_binding *a) {
  logged e = entry(a->method, a->to);
  model_binding m;
  memset(&m, 0, sizeof m);
  text_of(a->key, m.key);
  snprintf(e.key, sizeof e.key, "%s", m.key);
  m.to_exchange = a->method == EB_EXCHANGE_BIND || a->method == EB_EXCHANGE_UNBIND;
  m.source = names_exchange(text_of(a->from, e.source));
  m.target = m.to_exchange ? names_exchange(e.name) : topology_queue(w, e.name);
  if (!fields_from(&m.arguments, a->arguments)) model_accuse(w, l, "a binding with arguments that nobody gave it");
  fields_text(&m.arguments, e.detail);
  bool there = m.source > X_DEFAULT && w->broker.exchanges[m.source].there &&
               (m.to_exchange ? m.target > X_DEFAULT && w->broker.exchanges[m.target].there : m.target >= 0);
  bool binds = a->method == EB_QUEUE_BIND || a->method == EB_EXCHANGE_BIND;
  if (binds && !there) {
    refuse_missing(w, l, number, &e);
    return;
  }
  note_change(w, l);
  if (binds)
    topology_bind(w, &m);
  else if (there)
    topology_unbind(w, &m);
  ledger_log(w, &e);
  frame_empty(w, l, number, a->reply);
}

static void declare_exchange (world *w, conn *l, unsigned number, const amqp_exchange_declare_t *m) {
  logged e = entry(EB_EXCHANGE_DECLARE, m->exchange);
  char type[NAME], arguments[FIELDS_TEXT], there[DETAIL];
  int x = names_exchange(e.name);
  fields f;
  if (!fields_from(&f, &m->arguments)) model_accuse(w, l, "an exchange with arguments that nobody gave it");
  fields_text(&f, arguments);
  snprintf(e.detail, sizeof e.detail, "%s%s%s%s", text_of(m->type, type), m->durable ? " durable" : "",
           f.count > 0 ? " " : "", arguments);
  if (x < 0 || (m->passive && !w->broker.exchanges[x].there)) {
    refuse_missing(w, l, number, &e);
    return;
  }
  if (w->broker.exchanges[x].there) {
    topology_exchange_text(w, x, there);
    if (!m->passive && strcmp(there, e.detail) != 0) {
      refuse(w, l, number, &e, 406, "PRECONDITION_FAILED - inequivalent arg");
      return;
    }
  } else {
    note_change(w, l);
    topology_add_exchange(w, x, type, m->durable != 0, &f);
  }
  ledger_log(w, &e);
  frame_empty(w, l, number, AMQP_EXCHANGE_DECLARE_OK_METHOD);
}

static void delete_exchange (world *w, conn *l, unsigned number, const amqp_exchange_delete_t *m) {
  logged e = entry(EB_EXCHANGE_DELETE, m->exchange);
  int x = names_exchange(e.name);
  if (x > X_DEFAULT) {
    note_change(w, l);
    topology_remove_exchange(w, x);
  }
  ledger_log(w, &e);
  frame_empty(w, l, number, AMQP_EXCHANGE_DELETE_OK_METHOD);
}

static void delete_queue (world *w, conn *l, unsigned number, const amqp_queue_delete_t *m) {
  logged e = entry(EB_QUEUE_DELETE, m->queue);
  int q = topology_queue(w, e.name);
  amqp_queue_delete_ok_t ok = {q < 0 ? 0 : topology_count(w, q)};
  ledger_log(w, &e);
  frame_method(w, l, number, AMQP_QUEUE_DELETE_OK_METHOD, &ok);
  if (q < 0) return;
  note_change(w, l);
  topology_remove_queue(w, q);
}

static void purge_queue (world *w, conn *l, unsigned number, const amqp_queue_purge_t *m) {
  logged e = entry(EB_QUEUE_PURGE, m->queue);
  int q = topology_queue(w, e.name);
  if (q < 0) {
    refuse_missing(w, l, number, &e);
    return;
  }
  amqp_queue_purge_ok_t ok = {topology_count(w, q)};
  ledger_log(w, &e);
  frame_method(w, l, number, AMQP_QUEUE_PURGE_OK_METHOD, &ok);
  topology_purge(w, q);
}

#define BINDING(type, to, from, method, reply)                                                                      \
  {                                                                                                                 \
    const type *b = m->decoded;                                                                                     \
    bind(w, l, number, &(asked_binding){b->to, b->from, b->routing_key, &b->arguments, method, reply});             \
    return true;                                                                                                    \
  }

bool topology_asked (world *w, conn *l, unsigned number, amqp_method_t *m) {
  switch (m->id) {
    case AMQP_QUEUE_DECLARE_METHOD: declare_queue(w, l, number, m->decoded); return true;
    case AMQP_QUEUE_DELETE_METHOD: delete_queue(w, l, number, m->decoded); return true;
    case AMQP_QUEUE_PURGE_METHOD: purge_queue(w, l, number, m->decoded); return true;
    case AMQP_EXCHANGE_DECLARE_METHOD: declare_exchange(w, l, number, m->decoded); return true;
    case AMQP_EXCHANGE_DELETE_METHOD: delete_exchange(w, l, number, m->decoded); return true;
    case AMQP_QUEUE_BIND_METHOD:
      BINDING(amqp_queue_bind_t, queue, exchange, EB_QUEUE_BIND, AMQP_QUEUE_BIND_OK_METHOD)
    case AMQP_QUEUE_UNBIND_METHOD:
      BINDING(amqp_queue_unbind_t, queue, exchange, EB_QUEUE_UNBIND, AMQP_QUEUE_UNBIND_OK_METHOD)
    case AMQP_EXCHANGE_BIND_METHOD:
      BINDING(amqp_exchange_bind_t, destination, source, EB_EXCHANGE_BIND, AMQP_EXCHANGE_BIND_OK_METHOD)
    case AMQP_EXCHANGE_UNBIND_METHOD:
      BINDING(amqp_exchange_unbind_t, destination, source, EB_EXCHANGE_UNBIND, AMQP_EXCHANGE_UNBIND_OK_METHOD)
    default: return false;
  }
}
