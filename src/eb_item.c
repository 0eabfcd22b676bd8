/* eb_item: see eb_item.h. */
#include "eb_item.h"

#include <string.h>

static const char *const events[] = {
    [EB_EVENT_UP] = "up",
    [EB_EVENT_DOWN] = "down",
    [EB_EVENT_ATTEMPT_FAILED] = "attempt_failed",
    [EB_EVENT_FAILED] = "failed",
    [EB_EVENT_BLOCKED] = "blocked",
    [EB_EVENT_UNBLOCKED] = "unblocked",
    [EB_EVENT_CANCELLED] = "cancelled",
    [EB_EVENT_RESUBSCRIBED] = "resubscribed",
    [EB_EVENT_CONSUMER_FAILED] = "consumer_failed",
    [EB_EVENT_TOPOLOGY_FAILED] = "topology_failed",
    [EB_EVENT_UNCONFIRMED_LOST] = "unconfirmed_lost",
    [EB_EVENT_CLOSED] = "closed",
};

const char *eb_event_name (eb_event event) {
  return events[event];
}

static void *make (eb_arena *a, eb_item_kind kind, size_t size) {
  if (a == NULL) return NULL;
  eb_item *item = eb_arena_alloc(a, size);
  if (item == NULL) {
    eb_arena_free(a);
    return NULL;
  }
  memset(item, 0, size);
  item->arena = a;
  item->kind = kind;
  item->deadline = EB_NEVER;
  return item;
}

void *eb_item_new (eb_item_kind kind, size_t size, size_t extra) {
  if (extra > SIZE_MAX / 8) return NULL;
  return make(eb_arena_new(size + extra + 32), kind, size);
}

void *eb_item_make (eb_spares *spares, eb_item_kind kind, size_t size,
                    size_t extra) {
  if (extra > SIZE_MAX / 8) return NULL;
  return make(eb_spares_take(spares, size + extra + 32), kind, size);
}

void eb_item_spare (eb_spares *spares, eb_item *item) {
  eb_spares_give(spares, item->arena);
}

void eb_item_free (eb_item *item) {
  if (item == NULL) return;
  if (item->kind == EB_ITEM_RPC) {
    eb_delivery *d = ((eb_rpc *)item)->delivery;
    if (d != NULL) eb_arena_free(d->item.arena);
  }
  eb_arena_free(item->arena);
}

void eb_item_fail (eb_item *item, const eb_error *err) {
  item->code = err->code;
  size_t text = strlen(err->message);
  size_t size = offsetof(eb_error, message) + text + 1;
  item->error = eb_arena_alloc(item->arena, size);
  if (item->error != NULL) memcpy(item->error, err, size);
}

void eb_item_failf (eb_item *item, eb_code code, const char *fmt, ...) {
  eb_error err;
  va_list ap;
  va_start(ap, fmt);
  eb_error_setv(&err, code, fmt, ap);
  va_end(ap);
  eb_item_fail(item, &err);
}

void eb_list_init (eb_list *l) {
  l->first = l->last = NULL;
  l->count = l->notices = 0;
}

static void count_in (eb_list *l, const eb_item *item) {
  l->count++;
  if (item->kind == EB_ITEM_NOTICE) l->notices++;
}

static eb_item *count_out (eb_list *l, eb_item *item) {
  l->count--;
  if (item->kind == EB_ITEM_NOTICE) l->notices--;
  item->next = NULL;
  return item;
}

void eb_list_push (eb_list *l, eb_item *item) {
  item->next = NULL;
  if (l->last != NULL)
    l->last->next = item;
  else
    l->first = item;
  l->last = item;
  count_in(l, item);
}

void eb_list_push_front (eb_list *l, eb_item *item) {
  item->next = l->first;
  l->first = item;
  if (l->last == NULL) l->last = item;
  count_in(l, item);
}

eb_item *eb_list_pop (eb_list *l) {
  eb_item *item = l->first;
  if (item == NULL) return NULL;
  l->first = item->next;
  if (l->first == NULL) l->last = NULL;
  return count_out(l, item);
}

eb_item *eb_list_pop_after (eb_list *l, eb_item *before) {
  if (before == NULL) return eb_list_pop(l);
  eb_item *item = before->next;
  before->next = item->next;
  if (l->last == item) l->last = before;
  return count_out(l, item);
}

void eb_list_append (eb_list *to, eb_list *from) {
  if (from->first == NULL) return;
  if (to->last != NULL)
    to->last->next = from->first;
  else
    to->first = from->first;
  to->last = from->last;
  to->count += from->count;
  to->notices += from->notices;
  eb_list_init(from);
}

void eb_list_prepend (eb_list *to, eb_list *from) {
  eb_list_append(from, to);
  *to = *from;
  eb_list_init(from);
}

void eb_list_free (eb_list *l) {
  eb_item *item;
  while ((item = eb_list_pop(l)) != NULL) eb_item_free(item);
}

void eb_list_split (eb_list *l, eb_list *to,
                    bool (*want) (const eb_item *item, void *arg), void *arg) {
  eb_list kept;
  eb_list_init(&kept);
  eb_item *item;
  while ((item = eb_list_pop(l)) != NULL)
    eb_list_push(want(item, arg) ? to : &kept, item);
  *l = kept;
}

bool eb_item_is_delivery (const eb_item *item, void *unused) {
  (void)unused;
  return item->kind == EB_ITEM_DELIVERY;
}
