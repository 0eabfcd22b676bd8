/* ledger: see ledger.h. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void violate (world *w, const char *fmt, ...) {
  if (w->violated) return;
  w->violated = true;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(w->violation, sizeof w->violation, fmt, ap);
  va_end(ap);
  trace(w, "VIOLATION", "%s", w->violation);
}

void trace_write (world *w, const char *who, const char *fmt, ...) {
  va_list ap;
  printf("%4u %8lld ms  %-8s ", w->step, (long long)w->now, who);
  va_start(ap, fmt);
  vprintf(fmt, ap);
  va_end(ap);
  putchar('\n');
}

asked *ledger_ask (world *w, eb_item_kind kind, eb_ms deadline, uint64_t *id) {
  ledger *g = &w->ledger;
  if (g->asked_count >= (w->probing ? ASKED : ASKED - PROBES)) return NULL;
  asked *a = &g->asked[g->asked_count++];
  memset(a, 0, sizeof *a);
  a->kind = (uint8_t)kind;
  a->deadline = deadline;
  a->log_at = g->log_count;
  g->unanswered++;
  *id = (uint64_t)g->asked_count;
  return a;
}

/* What the answers say must be so. */

static void check_publish (world *w, const asked *a, uint64_t id) {
  if (a->unconfirmed && a->code == EB_OK) return;
  if (a->unconfirmed && !w->user.failed &&
      (a->code == EB_ERR_RETURNED || a->code == EB_ERR_NACKED || a->code == EB_ERR_NOT_FOUND || a->code == EB_ERR_UNKNOWN))
    violate(w, "event %llu wants no confirm, and is '%s'", (unsigned long long)id, eb_code_name((eb_code)a->code));
  switch (a->code) {
    case EB_OK:
      if (!a->acked) violate(w, "event %llu was confirmed to the user, not by the broker", (unsigned long long)id);
      if (a->mandatory && !a->could_arrive && !w->poisoned && !w->ledger.full)
        violate(w, "event %llu was confirmed, but nothing is bound for it", (unsigned long long)id);
      break;
    case EB_ERR_RETURNED:
      if (!a->acked_returned) violate(w, "event %llu: 'returned', but it was not", (unsigned long long)id);
      if (!a->could_return && !w->poisoned && !w->ledger.full)
        violate(w, "event %llu: 'returned', but a queue is bound for it", (unsigned long long)id);
      break;
    case EB_ERR_NACKED:
      if (!a->nacked) violate(w, "event %llu: 'nacked', but it was not", (unsigned long long)id);
      break;
    case EB_ERR_NOT_FOUND:
      if (!a->refused && !w->user.failed) violate(w, "event %llu: 'not_found', which is another's fault", (unsigned long long)id);
      break;
    case EB_ERR_UNKNOWN:
      if (w->plan.config.resend && !w->user.failed)
        violate(w, "event %llu: 'unknown', though it could be sent again", (unsigned long long)id);
      break;
    default: break;
  }
}

static bool same_or_renamed (const char *asked_name, const char *name) {
  return strcmp(asked_name, name) == 0 || (strncmp(asked_name, "amq.gen", 7) == 0 && strncmp(name, "amq.gen", 7) == 0);
}

/* The broker did, or refused, such a call after it was asked. */
static bool in_log (const world *w, const asked *a, bool refused) {
  char detail[DETAIL];
  snprintf(detail, sizeof detail, "%s", names_arguments_text(a->arguments));
  if (a->method == EB_EXCHANGE_DECLARE) names_nature_text(names_exchange(a->queue), a->nature, detail);
  for (int i = w->ledger.log_count - 1; i >= a->log_at; i--) {
    const logged *e = &w->ledger.log[i];
    if (e->method == a->method && e->refused == refused && same_or_renamed(a->queue, e->name) &&
        strcmp(a->source, e->source) == 0 && strcmp(a->key, e->key) == 0 && strcmp(detail, e->detail) == 0)
      return true;
  }
  return false;
}

bool ledger_done (const world *w, const asked *call) { return in_log(w, call, false); }

static void check_call (world *w, const asked *a, const eb_rpc *call) {
  unsigned long long id = call->item.id;
  if (w->poisoned || w->ledger.full) return;
  if (a->code == EB_OK && !in_log(w, a, false)) violate(w, "call %llu is 'ok', but the broker never did it", id);
  if (a->code == EB_ERR_NOT_FOUND && !w->user.failed && !in_log(w, a, true))
    violate(w, "call %llu is 'not_found', but the broker never said so", id);
  if (a->code == EB_OK && a->method == EB_QUEUE_DECLARE && a->queue[0] != '\0' &&
      (call->answer_name.n != strlen(a->queue) || memcmp(call->answer_name.p, a->queue, call->answer_name.n) != 0) &&
      strncmp(a->queue, "amq.gen", 7) != 0)
    violate(w, "call %llu declared '%s' and was told another name", id, a->queue);
}

void ledger_answered (world *w, const eb_item *item) {
  ledger *g = &w->ledger;
  if (item->id == 0 || item->id > (uint64_t)g->asked_count) {
    violate(w, "an answer to operation %llu, which nobody asked", (unsigned long long)item->id);
    return;
  }
  asked *a = &g->asked[item->id - 1];
  trace(w, "user", "operation %llu is answered '%s'%s%s", (unsigned long long)item->id, eb_code_name(item->code),
        item->error != NULL ? ": " : "", item->error != NULL ? item->error->message : "");
  if (a->answered) {
    violate(w, "operation %llu was answered twice", (unsigned long long)item->id);
    return;
  }
  if (a->kind != item->kind) violate(w, "operation %llu came back as another kind", (unsigned long long)item->id);
  a->answered = true;
  a->code = (uint8_t)item->code;
  g->unanswered--;
  while (g->oldest < g->asked_count && g->asked[g->oldest].answered) g->oldest++;
  a->answered_on = w->user.conn != NULL ? w->user.conn->serial : 0;
  a->answered_at = w->user.encoded;
  if ((a->code == EB_ERR_TIMEOUT || a->code == EB_ERR_BLOCKED) && w->now < a->deadline)
    violate(w, "operation %llu: '%s' before its deadline", (unsigned long long)item->id, eb_code_name(item->code));
  if (a->code == EB_ERR_INTERNAL || a->code == EB_ERR_NO_MEMORY || a->code == EB_ERR_INVALID)
    violate(w, "operation %llu: '%s'", (unsigned long long)item->id, eb_code_name(item->code));
  if (a->kind == EB_ITEM_PUBLISH) check_publish(w, a, item->id);
  if (a->kind == EB_ITEM_RPC) check_call(w, a, (const eb_rpc *)item);
}

void ledger_check_deadlines (world *w) {
  const ledger *g = &w->ledger;
  for (int i = g->oldest; i < g->asked_count; i++)
    if (!g->asked[i].answered && g->asked[i].deadline <= w->now)
      violate(w, "operation %d should have been answered at %lld ms", i + 1, (long long)g->asked[i].deadline);
}

/* The broker's side. */

uint8_t ledger_byte (int event, uint64_t at) { return (uint8_t)((unsigned)event * 31u + (unsigned)at * 7u + (unsigned)(at >> 8)); }

void ledger_published (world *w, conn *l, int event, uint64_t at, uint64_t size, int exchange, const char *key,
                       bool mandatory, bool persistent) {
  if (event < 1 || event > w->ledger.asked_count || w->ledger.asked[event - 1].kind != EB_ITEM_PUBLISH) {
    model_accuse(w, l, "it published event %d, which nobody asked for", event);
    return;
  }
  asked *a = &w->ledger.asked[event - 1];
  if (a->unconfirmed && a->taken) violate(w, "event %d wants no confirm, and is sent twice", event);
  a->taken = true;
  if (a->exchange != exchange || strcmp(a->key, key) != 0 || a->mandatory != mandatory || a->size != size ||
      a->persistent != persistent)
    violate(w, "event %d was published otherwise than asked", event);
  if (a->answered && a->answered_on == l->serial && at >= a->answered_at)
    violate(w, "event %d was sent after it was answered '%s'", event, eb_code_name((eb_code)a->code));
}

static unsigned by_program (const world *w, uint32_t queues) {
  unsigned reached = 0;
  for (int i = 0; i < PROGRAM_QUEUES; i++) {
    int q = topology_queue(w, names_of_queue(i));
    if (q < 0 || (queues & UINT32_C(1) << q) == 0) continue;
    reached |= 1u << i;
    queues &= ~(UINT32_C(1) << q);
  }
  return queues == 0 ? reached : reached | 1u << OTHER_QUEUE;
}

void ledger_routed (world *w, int event, uint32_t queues) {
  asked *a = &w->ledger.asked[event - 1];
  unsigned reached = by_program(w, queues), must, may;
  promise_route(&w->promise, a, &must, &may);
  a->could_arrive |= may != 0;
  a->could_return |= must == 0;
  if (w->poisoned || w->ledger.full) return;
  for (int q = 0; q <= OTHER_QUEUE; q++) {
    const char *name = q == OTHER_QUEUE ? "one the broker named" : names_of_queue(q);
    if ((must & ~reached) & 1u << q) violate(w, "event %d does not reach a queue that is bound for it: %s", event, name);
    if ((reached & ~may) & 1u << q) violate(w, "event %d reaches a queue that is not bound for it: %s", event, name);
  }
  w->tally.sure += must == may && !w->promise.disturbed;
  w->tally.routed += must != 0;
}

void ledger_confirm_sent (world *w, const owed *o) {
  asked *a = &w->ledger.asked[o->event - 1];
  if (o->nack)
    a->nacked = true;
  else if (o->returned)
    a->acked_returned = true;
  else
    a->acked = true;
  w->tally.confirms++;
}

void ledger_log (world *w, const logged *e) {
  ledger *g = &w->ledger;
  if (g->log_count == LOGGED) {
    g->full = true;
    return;
  }
  g->log[g->log_count++] = *e;
  trace(w, "broker", "  %s call %d: '%s' '%s' '%s' {%s}", e->refused ? "refuses" : "does", (int)e->method, e->name,
        e->source, e->key, e->detail);
}

int ledger_hand (world *w, int c, const conn *l, unsigned channel, uint64_t tag, int consumer) {
  ledger *g = &w->ledger;
  if (g->handed_count == HANDED) {
    g->full = true;
    return -1;
  }
  handed *h = &g->handed[g->handed_count];
  memset(h, 0, sizeof *h);
  h->copy = c;
  h->conn = l->serial;
  h->channel = channel;
  h->tag = tag;
  h->consumer = consumer;
  h->redelivered = w->broker.copies[c].redelivered;
  return g->handed_count++;
}

void ledger_settled_on_wire (world *w, conn *l, int i, eb_settlement how) {
  static const char *const names[] = {"nothing", "ack", "reject", "requeue", "return"};
  handed *h = &w->ledger.handed[i];
  bool too_late = h->consumer == 0 && h->state == HANDED_SENT && how == EB_REQUEUE;  /* a get that timed out */
  if (h->state != HANDED_SETTLED && !too_late)
    model_accuse(w, l, "%s of delivery %d, which the user has not settled", names[how], i);
  else if (h->settlement != how && !too_late)
    model_accuse(w, l, "%s of delivery %d, for which the user asked for %s", names[how], i, names[h->settlement]);
  h->over = true;
  w->tally.settled++;
}

/* The user's. */

static void hold (world *w, const eb_delivery *d) {
  asked *a = &w->ledger.asked[d->consumer - 1];
  if (a->epoch != d->epoch) {
    a->epoch = d->epoch;
    a->before = a->unsettled = 0;
  }
  a->newest = d->tag;
  if (++a->unsettled > LIVES * a->prefetch)
    violate(w, "consumer %d has a prefetch of %u, and %u deliveries", (int)d->consumer, a->prefetch, a->unsettled);
}

void ledger_settled (world *w, const eb_delivery *d) {
  asked *a = d->consumer == 0 ? NULL : &w->ledger.asked[d->consumer - 1];
  if (a != NULL && a->epoch == d->epoch && d->tag > a->before) a->unsettled--;
}

void ledger_cancelled (world *w, uint64_t consumer) {
  asked *a = &w->ledger.asked[consumer - 1];
  a->before = a->newest;
  a->unsettled = 0;
}

handed *ledger_delivered (world *w, const eb_delivery *d) {
  ledger *g = &w->ledger;
  uint64_t i = d->properties.timestamp;
  if (d->consumer != 0) hold(w, d);
  if (!d->properties.has_timestamp || i >= (uint64_t)g->handed_count) {
    if (!w->poisoned) violate(w, "a delivery that the broker never made");
    return NULL;
  }
  handed *h = &g->handed[i];
  const copy *c = &w->broker.copies[h->copy];
  if (h->state != HANDED_SENT) violate(w, "delivery %d reached the user twice", (int)i);
  if (h->tag != d->tag || h->channel != d->channel) violate(w, "delivery %d has the wrong tag or channel", (int)i);
  if (d->consumer != (uint64_t)h->consumer || d->redelivered != h->redelivered)
    violate(w, "delivery %d has the wrong consumer, or 'redelivered'", (int)i);
  const asked *a = &g->asked[c->event - 1];
  if (d->body.n != a->size) violate(w, "delivery %d has %zu bytes, not %u", (int)i, d->body.n, a->size);
  if (d->oversized != (a->size > w->plan.config.max_body)) violate(w, "delivery %d is oversized or not, wrongly", (int)i);
  for (size_t at = 0; !d->oversized && !w->violated && at < d->body.n; at++)
    if ((uint8_t)d->body.p[at] != ledger_byte(c->event, at)) violate(w, "delivery %d is damaged at byte %zu", (int)i, at);
  h->state = HANDED_HELD;
  w->tally.delivered++;
  return h;
}
