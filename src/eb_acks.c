/* eb_acks: see eb_acks.h. */
#include "eb_acks.h"

#include <stdlib.h>
#include <string.h>

static void tags_fini (eb_tags *t) {
  free(t->tags);
  memset(t, 0, sizeof *t);
}

static bool tags_reserve (eb_tags *t) {
  if (t->head + t->count < t->cap) return true;
  if (t->head > 0 && t->head >= t->cap / 2) {
    memmove(t->tags, t->tags + t->head, t->count * sizeof *t->tags);
    t->head = 0;
    return true;
  }
  size_t cap = t->cap == 0 ? 32 : t->cap * 2;
  uint64_t *tags = malloc(cap * sizeof *tags);
  if (tags == NULL) return false;
  if (t->count > 0)
    memcpy(tags, t->tags + t->head, t->count * sizeof *tags);
  free(t->tags);
  t->tags = tags;
  t->head = 0;
  t->cap = cap;
  return true;
}

/* Index of the first tag not below 'tag'. */
static size_t tags_search (const eb_tags *t, uint64_t tag) {
  size_t lo = 0, hi = t->count;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (t->tags[t->head + mid] < tag)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static bool tags_has (const eb_tags *t, size_t i, uint64_t tag) {
  return i < t->count && t->tags[t->head + i] == tag;
}

static void tags_drop (eb_tags *t, size_t i) {
  uint64_t *at = t->tags + t->head;
  if (i == 0)
    t->head++;
  else
    memmove(at + i, at + i + 1, (t->count - i - 1) * sizeof *at);
  t->count--;
  if (t->count == 0) t->head = 0;
}

void eb_acks_init (eb_acks *a) {
  memset(a, 0, sizeof *a);
}

void eb_acks_fini (eb_acks *a) {
  if (a == NULL) return;
  tags_fini(&a->unsettled);
  tags_fini(&a->acked);
  tags_fini(&a->returned);
}

bool eb_acks_deliver (eb_acks *a, uint64_t tag) {
  if (tag <= a->last || !tags_reserve(&a->unsettled)) return false;
  eb_tags *t = &a->unsettled;
  t->tags[t->head + t->count++] = tag;
  a->last = tag;
  return true;
}

/* From the unsettled to 't'. */
static bool settle (eb_acks *a, eb_tags *t, uint64_t tag, bool *unknown) {
  size_t i = tags_search(&a->unsettled, tag);
  *unknown = !tags_has(&a->unsettled, i, tag);
  if (*unknown || !tags_reserve(t)) return false;
  tags_drop(&a->unsettled, i);
  size_t at = tags_search(t, tag);
  uint64_t *p = t->tags + t->head + at;
  memmove(p + 1, p, (t->count - at) * sizeof *p);
  *p = tag;
  t->count++;
  return true;
}

bool eb_acks_ack (eb_acks *a, uint64_t tag, bool *unknown) {
  return settle(a, &a->acked, tag, unknown);
}

bool eb_acks_return (eb_acks *a, uint64_t tag, bool *unknown) {
  return settle(a, &a->returned, tag, unknown);
}

bool eb_acks_reject (eb_acks *a, uint64_t tag) {
  size_t i = tags_search(&a->unsettled, tag);
  if (!tags_has(&a->unsettled, i, tag)) return false;
  tags_drop(&a->unsettled, i);
  return true;
}

static uint64_t lowest_of (const eb_tags *t) {
  return t->count > 0 ? t->tags[t->head] : UINT64_MAX;
}

/* Takes all of 't' below 'limit' at once, or else one. */
static bool take (eb_tags *t, uint64_t limit, uint64_t *tag, bool *multiple) {
  if (t->count == 0) return false;
  size_t below = tags_search(t, limit);
  if (below == 0) below = 1;  /* above a gap: one by one */
  *tag = t->tags[t->head + below - 1];
  *multiple = below > 1;
  t->head += below;
  t->count -= below;
  if (t->count == 0) t->head = 0;
  return true;
}

bool eb_acks_next (eb_acks *a, uint64_t *tag, bool *multiple) {
  uint64_t unsettled = lowest_of(&a->unsettled);
  uint64_t returned = lowest_of(&a->returned);
  return take(&a->acked, unsettled < returned ? unsettled : returned, tag,
              multiple);
}

bool eb_acks_next_return (eb_acks *a, uint64_t *tag, bool *multiple) {
  return a->acked.count == 0 &&
         take(&a->returned, lowest_of(&a->unsettled), tag, multiple);
}

static size_t above (const eb_tags *t, uint64_t tag) {
  return t->count - tags_search(t, tag + 1);
}

size_t eb_acks_out_above (const eb_acks *a, uint64_t tag) {
  return above(&a->unsettled, tag) + above(&a->acked, tag) +
         above(&a->returned, tag);
}

void eb_acks_reset (eb_acks *a) {
  a->unsettled.head = a->unsettled.count = 0;
  a->acked.head = a->acked.count = 0;
  a->returned.head = a->returned.count = 0;
  a->last = 0;
}
