/* promise: what the program knows of the topology by the session's answers alone, and where its events must go by that.
 *
 * Of each exchange, queue and binding it knows that it is there, that it is not, or neither: while a call about it is
 * unanswered, after one that timed out, and of what others made. The model is never asked: it is held against this.
 */
#ifndef SIM_PROMISE_H
#define SIM_PROMISE_H

#include <stdbool.h>
#include <stdint.h>

#include "names.h"

typedef struct asked asked;
typedef struct world world;

enum { PROMISED_BINDINGS = 160, PROMISED_KEY = 24 };

typedef enum surety { ABSENT, UNSURE, THERE } surety;

typedef struct promised {
  surety state;
  uint64_t adds, drops;   /* the last operations that do */
} promised;

typedef struct promised_exchange {
  promised is;
  int nature;             /* known while it is THERE, or always the same */
  surety before;          /* state and nature before the last declaration, should it be refused */
  int nature_before;
} promised_exchange;

typedef struct promised_binding {
  promised is;
  bool to_exchange;
  int source, target;     /* target: an exchange, or one of the program's queues, or OTHER_QUEUE */
  char key[PROMISED_KEY];
  int arguments;
} promised_binding;

typedef struct promise {
  promised queues[PROGRAM_QUEUES];
  promised_exchange exchanges[EXCHANGES];
  promised_binding bindings[PROMISED_BINDINGS];
  int binding_count;
  bool disturbed;         /* something may be gone, until the session restores it */
} promise;

void promise_reset (promise *p);
/* Somebody else made it, or may have. */
void promise_unsure_queue (promise *p, int q);
void promise_unsure_exchange (promise *p, int x);
void promise_unsure_binding (world *w, const promised_binding *b);

/* A call was submitted, and was answered. */
void promise_asked (world *w, const asked *a, uint64_t id);
void promise_answered (world *w, const asked *a, uint64_t id);

/* A connection that the session has left changed something: nothing is sure any more. */
void promise_nothing (world *w);

/* Where an event goes that is published now: a bit for each of the program's queues and OTHER_QUEUE. Not under 'must':
 * perhaps not. Not under 'may': certainly not. */
void promise_route (const promise *p, const asked *event, unsigned *must, unsigned *may);

/* What the model should have after everything was restored; NULL when it has it. */
const char *promise_broken (const world *w);

#endif
