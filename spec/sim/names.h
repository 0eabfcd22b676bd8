/* names: what the program calls things: its exchanges and queues, the keys and arguments of its bindings, the keys and
 * headers of its events; and which binding is for which event.
 *
 * The answer to that is written down here by hand, pair by pair. The model works it out from what it was sent, and
 * neither asks the other: a difference between them is somebody's mistake.
 */
#ifndef SIM_NAMES_H
#define SIM_NAMES_H

#include "../../src/eb_table.h"
#include "draw.h"

enum { X_DEFAULT, X_DIRECT, X_PASSING, X_TOPIC, X_FANOUT, X_HEADERS, X_CHANGING, X_MISSING, EXCHANGES };

/* Of an exchange: its type, and whether events without a way go to the fanout. */
enum { TYPE_DIRECT, TYPE_FANOUT, TYPE_TOPIC, TYPE_HEADERS, WITH_ALTERNATE = 4 };

enum {
  PROGRAM_QUEUES = 3,
  OTHER_QUEUE = PROGRAM_QUEUES,  /* any that is not among them */
  EVENT_KEYS = 9,                /* the first of the binding keys, which have no wildcards */
  BINDING_KEYS = 17,
  ARGUMENTS = 5,                 /* of bindings; 0: none */
  HEADERS = 5,                   /* of events; 0: none */
  DETAIL = 120
};

int names_exchange (const char *name);  /* -1: no such name */
const char *names_of_exchange (int x);
int names_queue (const char *name);     /* OTHER_QUEUE: no such name */
const char *names_of_queue (int q);     /* of OTHER_QUEUE: one that nobody declares */
bool names_queue_durable (int q);

/* Of X_CHANGING it is drawn anew for each declaration, of the others always the same. */
int names_nature (int x, draw *d);
bool names_nature_is_fixed (int x);
bool names_exchange_durable (int x);
const char *names_type (int nature);
int names_alternate (int nature);       /* an exchange, or -1 */
const eb_table *names_nature_arguments (int nature);
/* "topic durable alternate-exchange='fanout'": what fields_text gives for it. */
void names_nature_text (int x, int nature, char to[DETAIL]);

const char *names_key (int i);          /* below BINDING_KEYS */
const eb_table *names_arguments (int i);
const eb_table *names_arguments_turned (int i);  /* in another order: they come out of Lua tables in any */
const char *names_arguments_text (int i);
const eb_table *names_headers (int i);
const char *names_headers_text (int i);

/* Whether a binding of an exchange of that type is for an event. */
bool names_match (int nature, const char *binding_key, int arguments, const char *event_key, int headers);

#endif
