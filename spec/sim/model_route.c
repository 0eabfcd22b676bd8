/* model_route: where the model's exchanges send an event, as RabbitMQ does. See model.h. */
#include "world.h"

#include <string.h>

/* Words between dots; the empty key has none. */
static const char *next_word (const char *key, size_t *n) {
  *n = strcspn(key, ".");
  return key[*n] == '.' ? key + *n + 1 : NULL;
}

/* NULL: no more words. */
static bool words_match (const char *pattern, const char *key) {
  size_t p, k;
  if (pattern == NULL) return key == NULL;
  const char *patterns = next_word(pattern, &p);
  if (p == 1 && pattern[0] == '#') {
    for (;;) {
      if (words_match(patterns, key)) return true;
      if (key == NULL) return false;
      key = next_word(key, &k);
    }
  }
  if (key == NULL) return false;
  const char *keys = next_word(key, &k);
  if (!(p == 1 && pattern[0] == '*') && (p != k || memcmp(pattern, key, p) != 0)) return false;
  return words_match(patterns, keys);
}

static bool topic_matches (const char *pattern, const char *key) {
  return words_match(pattern[0] == '\0' ? NULL : pattern, key[0] == '\0' ? NULL : key);
}

/* A field without a value asks for its presence only; those whose names begin with x- do not count. */
static bool headers_match (const fields *wanted, const fields *headers) {
  const field *kind = fields_find(wanted, "x-match");
  bool any = kind != NULL && strcmp(kind->text, "any") == 0;
  for (unsigned i = 0; i < wanted->count; i++) {
    const field *want = &wanted->items[i], *is = fields_find(headers, want->name);
    if (strncmp(want->name, "x-", 2) == 0) continue;
    bool match = is != NULL && (want->kind == FIELD_NOTHING || field_equal(want, is));
    if (match == any) return match;
  }
  return !any;
}

static bool matches (const model_exchange *x, const model_binding *m, const char *key, const fields *headers) {
  if (strcmp(x->type, "fanout") == 0) return true;
  if (strcmp(x->type, "topic") == 0) return topic_matches(m->key, key);
  if (strcmp(x->type, "headers") == 0) return headers_match(&m->arguments, headers);
  return strcmp(m->key, key) == 0;
}

static unsigned bit (int i) { return 1u << i; }

/* To its alternate only what no binding of its own is for. */
static unsigned alternate_of (const world *w, int x) {
  const field *name = fields_find(&w->broker.exchanges[x].arguments, "alternate-exchange");
  int to = name == NULL ? -1 : names_exchange(name->text);
  return to < 0 ? 0 : bit(to);
}

static uint32_t route_one (const world *w, int x, const char *key, const fields *headers, unsigned *onward) {
  const model *b = &w->broker;
  uint32_t queues = 0;
  bool none = true;
  for (int i = 0; i < BINDINGS; i++) {
    const model_binding *m = &b->bindings[i];
    if (!m->used || m->source != x || !matches(&b->exchanges[x], m, key, headers)) continue;
    none = false;
    if (m->to_exchange)
      *onward |= bit(m->target);
    else
      queues |= UINT32_C(1) << m->target;
  }
  if (none) *onward |= alternate_of(w, x);
  return queues;
}

/* Each exchange is passed once: bindings may run in circles. */
uint32_t topology_route (const world *w, int x, const char *key, const fields *headers) {
  uint32_t queues = 0;
  unsigned todo = bit(x), seen = 0;
  if (x == X_DEFAULT) {
    int q = topology_queue(w, key);
    return q < 0 ? 0 : UINT32_C(1) << q;
  }
  while (todo != 0) {
    int at = __builtin_ctz(todo);
    seen |= bit(at);
    if (w->broker.exchanges[at].there) queues |= route_one(w, at, key, headers, &todo);
    todo &= ~seen;
  }
  return queues;
}
