/* eb_window: see eb_window.h. */
#include "eb_window.h"

#include <stdlib.h>

/* In the slot of a publish that nobody waits for any more, until its confirm;
** only its address counts. */
static eb_publish abandoned;

static bool waits (const eb_publish *p) {
  return p != NULL && p != &abandoned;
}

void eb_window_init (eb_window *w, size_t limit) {
  w->slots = NULL;
  w->size = 0;
  w->limit = limit;
  w->count = 0;
  w->live = 0;
  w->bytes = 0;
  w->base = 1;
}

void eb_window_fini (eb_window *w) {
  if (w == NULL) return;
  free(w->slots);
  eb_window_init(w, w->limit);
}

/* A tag keeps its slot while the ring keeps its size. */
static eb_publish **slot (const eb_window *w, uint64_t tag) {
  return &w->slots[tag & (w->size - 1)];
}

bool eb_window_reserve (eb_window *w) {
  if (w->count < w->size) return true;
  eb_window bigger = *w;
  bigger.size = w->size == 0 ? 64 : w->size * 2;
  bigger.slots = malloc(bigger.size * sizeof *bigger.slots);
  if (bigger.slots == NULL) return false;
  for (uint64_t tag = w->base; tag < w->base + w->count; tag++)
    *slot(&bigger, tag) = *slot(w, tag);
  free(w->slots);
  *w = bigger;
  return true;
}

void eb_window_push (eb_window *w, eb_publish *p) {
  *slot(w, w->base + w->count) = p;
  w->count++;
  w->live++;
  w->bytes += p->body.n;
}

/* NULL when nobody waits for it. */
static eb_publish *clear (eb_window *w, uint64_t tag) {
  eb_publish *p = *slot(w, tag);
  *slot(w, tag) = NULL;
  if (!waits(p)) return NULL;
  w->bytes -= p->body.n;
  w->live--;
  return p;
}

static void drop_confirmed (eb_window *w) {
  while (w->count > 0 && *slot(w, w->base) == NULL) {
    w->base++;
    w->count--;
  }
}

eb_tag_status eb_window_take (eb_window *w, uint64_t tag, eb_publish **p) {
  *p = NULL;
  if (tag == 0 || eb_window_unknown(w, tag)) return EB_TAG_UNKNOWN;
  if (tag < w->base) return EB_TAG_BEHIND;
  /* Confirmed out of order, its slot waits for the older ones, and holds the
  ** window open, so that tags still map to slots. */
  *p = clear(w, tag);
  drop_confirmed(w);
  return EB_TAG_TAKEN;
}

bool eb_window_take_upto (eb_window *w, uint64_t tag, eb_publish **p) {
  if (w->count == 0 || tag < w->base) return false;
  *p = clear(w, w->base);
  drop_confirmed(w);
  return true;
}

eb_publish *eb_window_find (const eb_window *w, const eb_delivery *back) {
  for (uint64_t tag = w->base; tag < w->base + w->count; tag++) {
    eb_publish *p = *slot(w, tag);
    if (waits(p) && p->mandatory && !p->returned &&
        eb_bytes_equal(p->properties.message_id, back->properties.message_id) &&
        eb_bytes_equal(p->exchange, back->exchange) &&
        eb_bytes_equal(p->routing_key, back->routing_key))
      return p;
  }
  return NULL;
}

void eb_window_abandon (eb_window *w, eb_window_pred *want, void *arg,
                        eb_list *to) {
  for (uint64_t tag = w->base; tag < w->base + w->count; tag++) {
    eb_publish *p = *slot(w, tag);
    if (!waits(p) || !want(p, arg)) continue;
    clear(w, tag);
    *slot(w, tag) = &abandoned;
    eb_list_push(to, &p->item);
  }
}

eb_ms eb_window_deadline (const eb_window *w) {
  eb_ms t = EB_NEVER;
  for (uint64_t tag = w->base; tag < w->base + w->count; tag++) {
    const eb_publish *p = *slot(w, tag);
    if (waits(p)) t = eb_ms_min(t, p->item.deadline);
  }
  return t;
}

void eb_window_reset (eb_window *w, eb_list *to) {
  eb_publish *p;
  while (eb_window_take_upto(w, UINT64_MAX, &p))
    if (p != NULL) eb_list_push(to, &p->item);
  w->base = 1;
}
