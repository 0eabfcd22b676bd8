/* eb_quiet: see eb_quiet.h. */
#include "eb_quiet.h"

#include <stdlib.h>

void eb_quiet_init (eb_quiet *q) {
  q->states = NULL;
  q->size = 0;
  q->first = q->end = 1;
  q->open = 0;
  q->newest = 0;
}

void eb_quiet_fini (eb_quiet *q) {
  if (q == NULL) return;
  free(q->states);
  eb_quiet_init(q);
}

static uint8_t *at (const eb_quiet *q, uint64_t id) {
  return &q->states[id & (q->size - 1)];
}

bool eb_quiet_reserve (eb_quiet *q, uint64_t id) {
  if (q->open == 0) q->first = q->end = id;
  if (id - q->first < q->size) return true;
  eb_quiet bigger = *q;
  bigger.size = q->size == 0 ? 1024 : q->size;
  while (id - q->first >= bigger.size) {
    if (bigger.size > SIZE_MAX / 2) return false;
    bigger.size *= 2;
  }
  bigger.states = malloc(bigger.size);
  if (bigger.states == NULL) return false;
  for (uint64_t i = q->first; i < q->end; i++) *at(&bigger, i) = *at(q, i);
  free(q->states);
  *q = bigger;
  return true;
}

void eb_quiet_add (eb_quiet *q, uint64_t id) {
  for (; q->end < id; q->end++) *at(q, q->end) = EB_QUIET_NONE;
  *at(q, id) = EB_QUIET_OPEN;
  q->newest = id;
  q->end = id + 1;
  q->open++;
}

eb_quiet_state eb_quiet_look (const eb_quiet *q, uint64_t id) {
  if (id < q->first || id >= q->end) return EB_QUIET_NONE;
  return (eb_quiet_state)*at(q, id);
}

eb_quiet_state eb_quiet_take (eb_quiet *q, uint64_t id) {
  eb_quiet_state was = eb_quiet_look(q, id);
  if (was == EB_QUIET_NONE) return was;
  *at(q, id) = EB_QUIET_NONE;
  q->open--;
  while (q->first < q->end && *at(q, q->first) == EB_QUIET_NONE) q->first++;
  return was;
}

bool eb_quiet_watch (eb_quiet *q, uint64_t id) {
  if (eb_quiet_look(q, id) == EB_QUIET_NONE) return false;
  *at(q, id) = EB_QUIET_WATCHED;
  return true;
}

size_t eb_quiet_count (const eb_quiet *q, uint64_t id) {
  size_t n = 0;
  if (id >= q->end) return q->open;
  for (uint64_t i = q->first; i <= id; i++) n += *at(q, i) != EB_QUIET_NONE;
  return n;
}

uint64_t eb_quiet_newest (const eb_quiet *q) {
  return q->newest;
}

uint64_t eb_quiet_oldest (const eb_quiet *q) {
  return q->open == 0 ? 0 : q->first;
}
