/* program_topology: what the program declares, binds, takes back and looks up. See user.h. */
#include "world.h"

#include <stdio.h>
#include <string.h>

typedef struct wish {
  const char *name, *source, *key;
  int arguments, nature;
  unsigned flags;
} wish;

static void call (world *w, eb_rpc_method method, wish what) {
  eb_item *item;
  asked *a = program_begin(w, EB_ITEM_RPC, sizeof(eb_rpc), &item);
  char detail[DETAIL];
  if (item == NULL) return;
  eb_rpc *op = (eb_rpc *)item;
  a->method = op->method = method;
  a->record = op->record = method != EB_GET;
  a->passive = (what.flags & EB_PASSIVE) != 0;
  a->arguments = what.arguments;
  a->nature = what.nature;
  op->flags = what.flags;
  snprintf(a->queue, sizeof a->queue, "%s", what.name);
  snprintf(a->source, sizeof a->source, "%s", what.source != NULL ? what.source : "");
  snprintf(a->key, sizeof a->key, "%s", what.key != NULL ? what.key : "");
  snprintf(detail, sizeof detail, "%s", names_arguments_text(a->arguments));
  op->name = program_keep(item, a->queue);
  op->source = program_keep(item, a->source);
  op->routing_key = program_keep(item, a->key);
  bool unbinds = method == EB_QUEUE_UNBIND || method == EB_EXCHANGE_UNBIND;
  op->arguments = unbinds ? names_arguments_turned(a->arguments) : names_arguments(a->arguments);
  if (method == EB_EXCHANGE_DECLARE) {
    op->type = program_keep(item, names_type(a->nature));
    op->arguments = names_nature_arguments(a->nature);
    names_nature_text(names_exchange(a->queue), a->nature, detail);
  }
  promise_asked(w, a, item->id);
  trace(w, "user", "calls %d as operation %d: '%s' '%s' '%s' {%s}", (int)method, (int)item->id, a->queue, a->source,
        a->key, detail);
  program_submit(w, item);
}

void program_called (world *w, const eb_rpc *op) {
  const asked *a = &w->ledger.asked[op->item.id - 1];
  promise_answered(w, a, op->item.id);
  if (op->item.code == EB_OK && op->method == EB_QUEUE_DECLARE && a->queue[0] == '\0' && op->answer_name.n < NAME)
    snprintf(w->user.given, sizeof w->user.given, "%.*s", (int)op->answer_name.n, op->answer_name.p);
}

static unsigned below (world *w, size_t n) { return draw_below(&w->draw, (unsigned)n); }

const char *program_some_queue (world *w) {
  unsigned i = below(w, 14);
  if (i == 13 && w->user.given[0] != '\0') return w->user.given;
  return names_of_queue(i == 12 ? OTHER_QUEUE : (int)i % PROGRAM_QUEUES);
}

void program_get (world *w) { call(w, EB_GET, (wish){.name = program_some_queue(w)}); }

/* Declarations. */

static void declare_queue (world *w, int q) {
  call(w, EB_QUEUE_DECLARE, (wish){.name = names_of_queue(q), .flags = names_queue_durable(q) ? EB_DURABLE : 0});
}

static void declare_exchange (world *w, int x, unsigned flags) {
  if (names_exchange_durable(x)) flags |= EB_DURABLE;
  call(w, EB_EXCHANGE_DECLARE,
       (wish){.name = names_of_exchange(x), .nature = names_nature(x, &w->draw), .flags = flags});
}

static int some_exchange (world *w) {
  static const int exchanges[] = {X_DIRECT, X_DIRECT, X_PASSING, X_TOPIC, X_TOPIC, X_FANOUT, X_HEADERS, X_CHANGING};
  return exchanges[below(w, sizeof exchanges / sizeof *exchanges)];
}

static int some_queue (world *w) { return (int)below(w, PROGRAM_QUEUES); }

/* Bindings. */

/* Patterns for topics mostly, arguments for headers mostly; elsewhere both are allowed and mean nothing. */
static const char *some_key (world *w, int x) {
  bool dotted = x == X_TOPIC || x == X_CHANGING || below(w, 8) == 0;
  return names_key((int)(dotted ? below(w, BINDING_KEYS) : below(w, 5)));
}

static int some_arguments (world *w, int x) {
  return x == X_HEADERS || x == X_CHANGING || below(w, 6) == 0 ? (int)below(w, ARGUMENTS) : 0;
}

static wish some_binding (world *w, int x, const char *to) {
  wish what = {.name = to, .source = names_of_exchange(x)};
  what.key = some_key(w, x);
  what.arguments = some_arguments(w, x);
  return what;
}

static void bind_queue (world *w, const char *queue) {
  call(w, EB_QUEUE_BIND, some_binding(w, some_exchange(w), queue));
}

static void bind_exchange (world *w) {
  int from = some_exchange(w), to = some_exchange(w);
  call(w, EB_EXCHANGE_BIND, some_binding(w, from, names_of_exchange(to)));
}

/* One that was asked for, or one that is like it but for the key or the arguments. */
static void unbind (world *w) {
  const promise *p = &w->promise;
  if (p->binding_count == 0) return;
  const promised_binding *b = &p->bindings[below(w, (size_t)p->binding_count)];
  wish what = {.name = b->to_exchange ? names_of_exchange(b->target) : names_of_queue(b->target),
               .source = names_of_exchange(b->source),
               .key = b->key,
               .arguments = b->arguments};
  unsigned other = below(w, 8);
  if (other == 0) what.key = some_key(w, b->source);
  if (other == 1) what.arguments = (int)below(w, ARGUMENTS);
  call(w, b->to_exchange ? EB_EXCHANGE_UNBIND : EB_QUEUE_UNBIND, what);
}

/* The same once more, but for the key or the arguments: neighbours that must not be taken for each other. */
static void bind_beside (world *w) {
  const promise *p = &w->promise;
  if (p->binding_count == 0) return;
  const promised_binding *b = &p->bindings[below(w, (size_t)p->binding_count)];
  bool key = below(w, 2) == 0;
  wish what = {.name = b->to_exchange ? names_of_exchange(b->target) : names_of_queue(b->target),
               .source = names_of_exchange(b->source),
               .key = key ? some_key(w, b->source) : b->key,
               .arguments = key ? b->arguments : (int)below(w, ARGUMENTS)};
  call(w, b->to_exchange ? EB_EXCHANGE_BIND : EB_QUEUE_BIND, what);
}

/* What programs do. */

static void prepare_simple (world *w) {
  wish passing = {.name = names_of_exchange(X_DIRECT), .source = names_of_exchange(X_PASSING), .key = "k0"};
  declare_exchange(w, X_DIRECT, 0);
  if (below(w, 2) == 0) {
    declare_exchange(w, X_PASSING, 0);
    call(w, EB_EXCHANGE_BIND, passing);
  }
  for (int q = 0; q < PROGRAM_QUEUES; q++) {
    const char *name = names_of_queue(q), *exchange = names_of_exchange(X_DIRECT);
    if (below(w, 4) == 0) continue;
    declare_queue(w, q);
    call(w, EB_QUEUE_BIND, (wish){.name = name, .source = exchange, .key = names_key((int)below(w, 5))});
    call(w, EB_QUEUE_BIND, (wish){.name = name, .source = exchange, .key = name});
  }
}

static void prepare_routes (world *w) {
  for (int x = X_TOPIC; x <= X_CHANGING; x++) {
    if (below(w, 3) == 0) continue;
    declare_exchange(w, x, 0);
    for (unsigned n = below(w, 4); n > 0; n--)
      call(w, EB_QUEUE_BIND, some_binding(w, x, names_of_queue(some_queue(w))));
  }
  if (below(w, 2) == 0) bind_exchange(w);
}

void program_prepare (world *w) {
  if (below(w, 5) == 0) return;
  prepare_simple(w);
  if (below(w, 2) == 0) prepare_routes(w);
}

void program_call (world *w) {
  const char *queue = program_some_queue(w);
  int x = some_exchange(w);
  switch (below(w, 24)) {
    case 0: case 1: case 2: case 3: declare_queue(w, some_queue(w)); break;
    case 4: call(w, EB_QUEUE_DECLARE, (wish){.name = "", .flags = EB_EXCLUSIVE}); break;
    case 5: call(w, EB_QUEUE_DECLARE, (wish){.name = queue, .flags = EB_PASSIVE}); break;
    case 6: case 7: case 8: declare_exchange(w, x, 0); break;
    case 9: declare_exchange(w, x, EB_PASSIVE); break;
    case 10: case 11: case 12: case 13: bind_queue(w, queue); break;
    case 14: case 15: bind_exchange(w); break;
    case 16: case 17: bind_beside(w); break;
    case 18: case 19: case 20: unbind(w); break;
    case 21: call(w, EB_QUEUE_PURGE, (wish){.name = queue}); break;
    case 22: call(w, EB_QUEUE_DELETE, (wish){.name = queue}); break;
    default: call(w, EB_EXCHANGE_DELETE, (wish){.name = names_of_exchange(x)}); break;
  }
}
