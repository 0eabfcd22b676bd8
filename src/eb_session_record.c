/* eb_session_record: what was declared, to declare it again.
**
** A declaration that the broker accepted is kept until it is deleted or unbound
** through this session. After a reconnect, and before a consumer returns to a
** queue that vanished, all of it is declared again, what was declared in the
** order it first was, then what was bound: it costs a round trip and changes
** nothing that is there.
*/
#include "eb_session_priv.h"

#include <stdlib.h>
#include <string.h>

enum { RESTORE_MS = 30000 };  /* a broker without a word for so long gives no answer */

static bool same_table (const eb_table *a, const eb_table *b);

static bool same_field (const eb_field *a, const eb_field *b) {
  if (a->kind != b->kind) return false;
  switch (a->kind) {
    case EB_FIELD_VOID: return true;
    case EB_FIELD_BOOL: return a->as.boolean == b->as.boolean;
    case EB_FIELD_INT: case EB_FIELD_TIMESTAMP:
      return a->as.integer == b->as.integer;
    case EB_FIELD_DOUBLE:
      return memcmp(&a->as.number, &b->as.number, sizeof a->as.number) == 0;
    case EB_FIELD_STRING: case EB_FIELD_BYTES:
      return eb_bytes_equal(a->as.bytes, b->as.bytes);
    case EB_FIELD_TABLE: return same_table(a->as.table, b->as.table);
    case EB_FIELD_ARRAY: {
      const eb_array *x = a->as.array, *y = b->as.array;
      if (x->count != y->count) return false;
      for (size_t i = 0; i < x->count; i++)
        if (!same_field(&x->items[i], &y->items[i])) return false;
      return true;
    }
  }
  return false;
}

static const eb_field *find_key (const eb_table *t, eb_bytes key) {
  for (size_t i = 0; i < t->count; i++)
    if (eb_bytes_equal(t->pairs[i].key, key)) return &t->pairs[i].value;
  return NULL;
}

/* In any order: they come out of Lua tables. */
static bool same_table (const eb_table *a, const eb_table *b) {
  size_t n = a == NULL ? 0 : a->count, m = b == NULL ? 0 : b->count;
  if (n != m) return false;
  for (size_t i = 0; i < n; i++) {
    const eb_field *other = find_key(b, a->pairs[i].key);
    if (other == NULL || !same_field(&a->pairs[i].value, other)) return false;
  }
  return true;
}

static bool same_binding (const eb_rpc *a, const eb_rpc *b) {
  return eb_bytes_equal(a->name, b->name) &&
         eb_bytes_equal(a->source, b->source) &&
         eb_bytes_equal(a->routing_key, b->routing_key) &&
         same_table(a->arguments, b->arguments);
}

static bool is_binding (const eb_rpc *c) {
  return c->method == EB_QUEUE_BIND || c->method == EB_EXCHANGE_BIND;
}

static void drop (record **at) {
  record *r = *at;
  *at = r->next;
  eb_item_free(&r->call->item);
  free(r);
}

/* What 'call' takes back. */
static bool takes_back (const eb_rpc *call, const eb_rpc *old) {
  switch (call->method) {
    case EB_QUEUE_UNBIND:
      return old->method == EB_QUEUE_BIND && same_binding(call, old);
    case EB_EXCHANGE_UNBIND:
      return old->method == EB_EXCHANGE_BIND && same_binding(call, old);
    case EB_QUEUE_DELETE:
      if (old->method == EB_QUEUE_DECLARE && old->name.n == 0)
        return eb_bytes_equal(call->name, old->answer_name);
      return (old->method == EB_QUEUE_DECLARE ||
              old->method == EB_QUEUE_BIND) &&
             eb_bytes_equal(call->name, old->name);
    case EB_EXCHANGE_DELETE:
      if (old->method == EB_QUEUE_BIND)
        return eb_bytes_equal(call->name, old->source);
      if (old->method == EB_EXCHANGE_BIND)
        return eb_bytes_equal(call->name, old->source) ||
               eb_bytes_equal(call->name, old->name);
      return old->method == EB_EXCHANGE_DECLARE &&
             eb_bytes_equal(call->name, old->name);
    default:
      return false;
  }
}

static bool same_thing (const eb_rpc *a, const eb_rpc *b) {
  if (a->method != b->method) return false;
  return is_binding(a) ? same_binding(a, b) : eb_bytes_equal(a->name, b->name);
}

static bool copy_name (eb_arena *a, eb_bytes from, eb_bytes *to) {
  *to = from;
  if (from.p == NULL) return true;
  to->p = eb_arena_copy(a, from.p, from.n);
  return to->p != NULL;
}

static eb_rpc *copy_call (const eb_rpc *c) {
  eb_rpc *n = eb_item_new(EB_ITEM_RPC, sizeof *n,
                          c->name.n + c->source.n + c->routing_key.n + 128);
  if (n == NULL) return NULL;
  eb_arena *a = n->item.arena;
  n->method = c->method;
  n->flags = c->flags;
  n->record = n->internal = true;
  n->arguments = NULL;
  if (copy_name(a, c->name, &n->name) && copy_name(a, c->source, &n->source) &&
      copy_name(a, c->routing_key, &n->routing_key) &&
      copy_name(a, c->type, &n->type) &&
      (c->arguments == NULL ||
       (n->arguments = eb_table_copy(a, c->arguments)) != NULL))
    return n;
  eb_item_free(&n->item);
  return NULL;
}

static void set_actual (record *r, const eb_rpc *call) {
  size_t n = call->answer_name.n <= EB_SHORTSTR_MAX ? call->answer_name.n : 0;
  if (n > 0) memcpy(r->actual, call->answer_name.p, n);
  r->actual[n] = '\0';
}

/* A queue declared without a name gets one from the broker: users go on with
** the first one they were told, the record maps it to the present one. */
static record *record_of_queue (eb_session *s, eb_bytes name) {
  for (record *r = s->records; r != NULL; r = r->next)
    if (r->call->method == EB_QUEUE_DECLARE &&
        eb_bytes_equal(r->call->answer_name, name))
      return r;
  return NULL;
}

eb_bytes records_name (const eb_session *s, eb_bytes queue) {
  for (const record *r = s->records; r != NULL; r = r->next)
    if (r->call->method == EB_QUEUE_DECLARE && r->call->name.n == 0 &&
        eb_bytes_equal(r->call->answer_name, queue))
      return eb_bytes_of(r->actual, strlen(r->actual));
  return queue;
}

static record *record_of (eb_session *s, const eb_rpc *call) {
  if (call->method == EB_QUEUE_DECLARE && call->name.n == 0) return NULL;
  record *r = s->records;
  while (r != NULL && !same_thing(r->call, call)) r = r->next;
  return r;
}

/* Declarations go before all bindings: what is bound may have been another's
** when it was, and ours only later. */
static record *add_record (eb_session *s, const eb_rpc *call) {
  record *r = calloc(1, sizeof *r), **at = &s->records;
  if (r == NULL) return NULL;
  while (*at != NULL && (is_binding(call) || !is_binding((*at)->call)))
    at = &(*at)->next;
  r->next = *at;
  *at = r;
  return r;
}

/* Of two declarations the later counts: the broker accepts another of the same
** name only when the first is gone. */
static bool remember (eb_session *s, const eb_rpc *call) {
  record *r = record_of(s, call);
  if (r != NULL && is_binding(call)) return true;
  eb_rpc *kept = copy_call(call);
  if (kept == NULL) return false;
  if (!copy_name(kept->item.arena, call->answer_name, &kept->answer_name) ||
      (r == NULL && (r = add_record(s, call)) == NULL)) {
    eb_item_free(&kept->item);
    return false;
  }
  if (r->call != NULL) eb_item_free(&r->call->item);
  r->call = kept;
  set_actual(r, call);
  return true;
}

bool record_answered (eb_session *s, const eb_rpc *call) {
  switch (call->method) {
    case EB_EXCHANGE_DECLARE: case EB_QUEUE_DECLARE:
    case EB_EXCHANGE_BIND: case EB_QUEUE_BIND:
      if (call->internal) {
        record *r = record_of_queue(s, call->routing_key);
        if (call->method == EB_QUEUE_DECLARE && r != NULL) set_actual(r, call);
      } else if ((call->flags & EB_PASSIVE) == 0) {
        return remember(s, call) ||
               session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
      }
      return true;
    default:
      for (record **at = &s->records; *at != NULL;)
        if (takes_back(call, (*at)->call))
          drop(at);
        else
          at = &(*at)->next;
      return true;
  }
}

void records_await (eb_session *s, size_t restorations) {
  s->restoring = restorations;
  s->restore_by =
      restorations > 0 ? eb_ms_after(s->now, RESTORE_MS) : EB_NEVER;
}

bool records_restore (eb_session *s) {
  eb_list calls;
  eb_list_init(&calls);
  for (record *r = s->records; r != NULL; r = r->next) {
    eb_rpc *c = copy_call(r->call);
    /* A nameless queue is found again by the name users know it by. */
    if (c == NULL ||
        (c->method == EB_QUEUE_DECLARE &&
         !copy_name(c->item.arena, r->call->answer_name, &c->routing_key))) {
      eb_item_free(c == NULL ? NULL : &c->item);
      eb_list_free(&calls);
      return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
    }
    eb_list_push(&calls, &c->item);
  }
  records_await(s, s->restoring + calls.count);
  eb_list_prepend(&s->rpc.waiting, &calls);
  return true;
}

void records_free (eb_session *s) {
  while (s->records != NULL) drop(&s->records);
}
