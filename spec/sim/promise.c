/* promise: see promise.h. */
#include "world.h"

#include <stdio.h>
#include <string.h>

void promise_reset (promise *p) {
  memset(p->queues, 0, sizeof p->queues);
  memset(p->exchanges, 0, sizeof p->exchanges);
  for (int x = 0; x < EXCHANGES; x++)
    if (names_nature_is_fixed(x)) p->exchanges[x].nature = names_nature(x, NULL);
  p->binding_count = 0;
  p->disturbed = false;
}

/* A later call with the opposite effect may have been done before the answer came. */

typedef void change (promised *is, uint64_t id);

static void comes (promised *is, uint64_t id) {
  is->adds = id;
  if (is->state == ABSENT) is->state = UNSURE;
}

static void goes (promised *is, uint64_t id) {
  is->drops = id;
  if (is->state == THERE) is->state = UNSURE;
}

static void came (promised *is, uint64_t id) {
  if (id > is->drops) is->state = THERE;
}

static void went (promised *is, uint64_t id) {
  if (id > is->adds) is->state = ABSENT;
}

static void unsure (promised *is, uint64_t until) {
  is->state = UNSURE;
  is->adds = is->drops = until;
}

void promise_unsure_queue (promise *p, int q) { p->queues[q].state = UNSURE; }
void promise_unsure_exchange (promise *p, int x) { p->exchanges[x].is.state = UNSURE; }

void promise_nothing (world *w) {
  promise *p = &w->promise;
  uint64_t now = (uint64_t)w->ledger.asked_count;
  for (int q = 0; q < PROGRAM_QUEUES; q++) unsure(&p->queues[q], now);
  for (int x = X_DEFAULT + 1; x < EXCHANGES; x++) {
    unsure(&p->exchanges[x].is, now);
    p->exchanges[x].before = UNSURE;
  }
  for (int i = 0; i < p->binding_count; i++) unsure(&p->bindings[i].is, now);
}

/* Bindings. */

static promised_binding *find (promise *p, const promised_binding *like) {
  for (int i = 0; i < p->binding_count; i++) {
    promised_binding *b = &p->bindings[i];
    if (b->to_exchange == like->to_exchange && b->source == like->source && b->target == like->target &&
        b->arguments == like->arguments && strcmp(b->key, like->key) == 0)
      return b;
  }
  return NULL;
}

/* NULL: there are too many to know anything. */
static promised_binding *find_or_add (world *w, const promised_binding *like) {
  promise *p = &w->promise;
  promised_binding *b = find(p, like);
  if (b != NULL) return b;
  if (p->binding_count == PROMISED_BINDINGS) {
    w->ledger.full = true;
    return NULL;
  }
  b = &p->bindings[p->binding_count++];
  *b = *like;
  memset(&b->is, 0, sizeof b->is);
  return b;
}

void promise_unsure_binding (world *w, const promised_binding *like) {
  promised_binding *b = find_or_add(w, like);
  if (b != NULL) b->is.state = UNSURE;
}

static promised_binding binding_of (const asked *a) {
  promised_binding b;
  memset(&b, 0, sizeof b);
  b.to_exchange = a->method == EB_EXCHANGE_BIND || a->method == EB_EXCHANGE_UNBIND;
  b.source = names_exchange(a->source);
  b.target = b.to_exchange ? names_exchange(a->queue) : names_queue(a->queue);
  b.arguments = a->arguments;
  snprintf(b.key, sizeof b.key, "%s", a->key);
  return b;
}

static bool hangs_on (const promised_binding *b, bool exchange, int which) {
  return (b->to_exchange == exchange && b->target == which) || (exchange && b->source == which);
}

static void bindings_of (promise *p, bool exchange, int which, change *how, uint64_t id) {
  for (int i = 0; i < p->binding_count; i++)
    if (hangs_on(&p->bindings[i], exchange, which)) how(&p->bindings[i].is, id);
}

/* Queues that are not the program's come and go by themselves: what is bound to them is never sure. */
static void bound (world *w, const asked *a, change *how, uint64_t id) {
  promised_binding like = binding_of(a);
  promised_binding *b = find_or_add(w, &like);
  if (b == NULL) return;
  how(&b->is, id);
  if (!b->to_exchange && b->target == OTHER_QUEUE) b->is.state = UNSURE;
}

/* Calls. */

static void exchange_comes (promised_exchange *e, const asked *a, uint64_t id) {
  e->before = e->is.state;
  e->nature_before = e->nature;
  comes(&e->is, id);
  if (e->nature == a->nature) return;
  e->is.state = UNSURE;
  e->nature = a->nature;
}

/* One that is declared otherwise stays as it is, and is refused; unless it was done before and its answer was lost. */
static void exchange_came (const world *w, promised_exchange *e, const asked *a, uint64_t id) {
  if (id != e->is.adds || id <= e->is.drops) return;
  if (a->code == EB_OK) {
    e->is.state = THERE;
  } else if (a->code == EB_ERR_PRECONDITION && !ledger_done(w, a)) {
    e->is.state = e->before;
    e->nature = e->nature_before;
  }
}

void promise_asked (world *w, const asked *a, uint64_t id) {
  promise *p = &w->promise;
  int q = names_queue(a->queue), x = names_exchange(a->queue);
  if (a->passive) return;
  switch (a->method) {
    case EB_QUEUE_DECLARE:
      if (q != OTHER_QUEUE) comes(&p->queues[q], id);
      break;
    case EB_QUEUE_DELETE:
      if (q == OTHER_QUEUE) break;
      goes(&p->queues[q], id);
      bindings_of(p, false, q, goes, id);
      break;
    case EB_EXCHANGE_DECLARE: exchange_comes(&p->exchanges[x], a, id); break;
    case EB_EXCHANGE_DELETE:
      goes(&p->exchanges[x].is, id);
      bindings_of(p, true, x, goes, id);
      break;
    case EB_QUEUE_BIND: case EB_EXCHANGE_BIND: bound(w, a, comes, id); break;
    case EB_QUEUE_UNBIND: case EB_EXCHANGE_UNBIND: bound(w, a, goes, id); break;
    default: break;
  }
}

void promise_answered (world *w, const asked *a, uint64_t id) {
  promise *p = &w->promise;
  int q = names_queue(a->queue), x = names_exchange(a->queue);
  if (a->passive) return;
  if (a->method == EB_EXCHANGE_DECLARE) exchange_came(w, &p->exchanges[x], a, id);
  if (a->code != EB_OK) return;
  switch (a->method) {
    case EB_QUEUE_DECLARE:
      if (q != OTHER_QUEUE) came(&p->queues[q], id);
      break;
    case EB_QUEUE_DELETE:
      if (q == OTHER_QUEUE) break;
      went(&p->queues[q], id);
      bindings_of(p, false, q, went, id);
      break;
    case EB_EXCHANGE_DELETE:
      went(&p->exchanges[x].is, id);
      bindings_of(p, true, x, went, id);
      break;
    case EB_QUEUE_BIND: case EB_EXCHANGE_BIND: bound(w, a, came, id); break;
    case EB_QUEUE_UNBIND: case EB_EXCHANGE_UNBIND: bound(w, a, went, id); break;
    default: break;
  }
}

/* Routes. */

static surety target_of (const promise *p, const promised_binding *b) {
  if (b->to_exchange) return p->exchanges[b->target].is.state;
  return b->target == OTHER_QUEUE ? UNSURE : p->queues[b->target].state;
}

/* Whether it is there and can be used. */
static surety usable (const promise *p, const promised_binding *b) {
  surety s = b->is.state, x = p->exchanges[b->source].is.state, t = target_of(p, b);
  if (x < s) s = x;
  return t < s ? t : s;
}

static bool nature_known (const promise *p, int x) {
  return names_nature_is_fixed(x) || p->exchanges[x].is.state == THERE;
}

static surety matches (const promise *p, const promised_binding *b, const asked *e) {
  if (!nature_known(p, b->source)) return UNSURE;
  return names_match(p->exchanges[b->source].nature, b->key, b->arguments, e->key, e->arguments) ? THERE : ABSENT;
}

typedef struct way {       /* the exchanges to pass, and the queues reached */
  unsigned todo, queues;
} way;

static void follow (const promised_binding *b, way *to) {
  *(b->to_exchange ? &to->todo : &to->queues) |= 1u << b->target;
}

/* From one exchange on: the ways that are certain, or all that are possible. */
static void pass (const promise *p, int x, const asked *e, bool certain, way *to) {
  bool some_certain = false, some_possible = false;
  for (int i = 0; i < p->binding_count; i++) {
    const promised_binding *b = &p->bindings[i];
    if (b->source != x) continue;
    surety there = usable(p, b), match = matches(p, b, e);
    if (match < there) there = match;
    some_certain |= there == THERE && !p->disturbed;
    some_possible |= there != ABSENT;
    if (there == THERE || (there == UNSURE && !certain)) follow(b, to);
  }
  int alternate = names_alternate(p->exchanges[x].nature);
  if (!nature_known(p, x)) alternate = certain ? -1 : X_FANOUT;
  if (alternate >= 0 && !(certain ? some_possible : some_certain)) to->todo |= 1u << alternate;
}

static unsigned route (const promise *p, const asked *e, bool certain) {
  way to = {1u << e->exchange, 0};
  unsigned seen = 0;
  while ((to.todo &= ~seen) != 0) {
    int x = __builtin_ctz(to.todo);
    seen |= 1u << x;
    surety there = p->exchanges[x].is.state;
    if (there == THERE || (there == UNSURE && !certain)) pass(p, x, e, certain, &to);
  }
  return to.queues;
}

static unsigned by_name (const promise *p, const asked *e, bool certain) {
  int q = names_queue(e->key);
  if (q == OTHER_QUEUE) return 0;
  return p->queues[q].state == THERE || (p->queues[q].state == UNSURE && !certain) ? 1u << q : 0;
}

void promise_route (const promise *p, const asked *e, unsigned *must, unsigned *may) {
  bool named = e->exchange == X_DEFAULT;
  *must = p->disturbed ? 0 : named ? by_name(p, e, true) : route(p, e, true);
  *may = named ? by_name(p, e, false) : route(p, e, false);
}

/* What is there. */

static bool is_bound (const world *w, const promised_binding *b) {
  int target = b->to_exchange ? b->target : topology_queue(w, names_of_queue(b->target));
  for (int i = 0; i < BINDINGS; i++) {
    const model_binding *m = &w->broker.bindings[i];
    char arguments[FIELDS_TEXT];
    if (!m->used || m->to_exchange != b->to_exchange || m->source != b->source || m->target != target ||
        strcmp(m->key, b->key) != 0)
      continue;
    fields_text(&m->arguments, arguments);
    if (strcmp(arguments, names_arguments_text(b->arguments)) == 0) return true;
  }
  return false;
}

static const char *binding_broken (const world *w, const promised_binding *b) {
  bool there = is_bound(w, b);
  if (usable(&w->promise, b) == THERE && !there) return "a binding was not made again";
  return b->is.state == ABSENT && there ? "a binding that the user took back is back" : NULL;
}

static const char *exchange_broken (const world *w, int x) {
  const promised_exchange *e = &w->promise.exchanges[x];
  char is[DETAIL], should[DETAIL];
  bool there = w->broker.exchanges[x].there;
  if (e->is.state == ABSENT && there) return "an exchange that the user deleted is back";
  if (e->is.state != THERE) return NULL;
  if (!there) return "an exchange was not declared again";
  topology_exchange_text(w, x, is);
  names_nature_text(x, e->nature, should);
  return strcmp(is, should) == 0 || w->poisoned ? NULL : "an exchange is another than was declared";
}

const char *promise_broken (const world *w) {
  const promise *p = &w->promise;
  const char *why = NULL;
  for (int q = 0; q < PROGRAM_QUEUES && why == NULL; q++) {
    bool there = topology_queue(w, names_of_queue(q)) >= 0;
    if (p->queues[q].state == THERE && !there) why = "a queue was not declared again";
    if (p->queues[q].state == ABSENT && there) why = "a queue that the user deleted is back";
  }
  for (int x = X_DEFAULT + 1; x < EXCHANGES && why == NULL; x++) why = exchange_broken(w, x);
  for (int i = 0; i < p->binding_count && why == NULL; i++)
    if (p->bindings[i].to_exchange || p->bindings[i].target != OTHER_QUEUE) why = binding_broken(w, &p->bindings[i]);
  return why;
}
