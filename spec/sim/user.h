/* user: the session under test, the loop around it, and the program that uses it.
 *
 * The loop does what the I/O thread does, in its order: read, submit, tick, write, take. How much it reads and writes at
 * a time is drawn. The program asks, holds deliveries for a while, and settles them.
 */
#ifndef SIM_USER_H
#define SIM_USER_H

#include "../../src/eb_session.h"
#include "draw.h"
#include "model.h"
#include "promise.h"

enum { HELD = 256 };

typedef struct user {
  eb_session *session;
  conn *conn;            /* NULL: there is none */
  uint64_t written;      /* bytes, on this connection */
  uint64_t encoded;      /* bytes the session has put out, written or not */
  eb_ms retry_at;
  eb_ms attempt_deadline;
  bool failed;           /* eb_session_fail answered everything, no attach since */
  bool closing;          /* eb_session_close */
  eb_ms close_deadline;
  eb_ms last_fed, last_wrote;
  unsigned spins;        /* turns in a row that left the deadline in the past */
  eb_delivery *held[HELD];
  size_t held_count;
  bool settled_one;      /* and this was it: to settle it again */
  eb_delivery settled;
  char given[NAME];      /* the name of a queue that the broker named */
} user;

bool user_init (world *w);
void user_fini (world *w);

/* The loop. */
void user_turn (world *w);              /* tick, write, take */
void user_read (world *w, size_t most); /* feeds what has arrived */
void user_connect (world *w);
void user_lost (world *w, const char *why);  /* the connection */
void user_fail (world *w);              /* gives up, until the next connection */
void user_close (world *w, eb_ms deadline);
void user_take (world *w);
eb_ms user_due (const world *w);

/* program.c: what the program does. */
void program_act (world *w);            /* one of what the plan's program does */
void program_settle_all (world *w);
void program_answered (world *w, eb_item *item);  /* owns it */
void program_delivered (world *w, eb_delivery *d);
void program_drop_held (world *w);      /* half of them, as a lost connection does */
void program_probe (world *w);          /* publishes what shows where events go */
void program_settle_one (world *w);

/* program_topology.c: what it declares and binds. */
void program_prepare (world *w);        /* as programs do when they begin */
void program_call (world *w);           /* one of its calls */
void program_get (world *w);
void program_called (world *w, const eb_rpc *op);
const char *program_some_queue (world *w);
/* An operation, entered in the ledger. NULL: enough was asked. */
asked *program_begin (world *w, eb_item_kind kind, size_t size, eb_item **item);
eb_bytes program_keep (eb_item *item, const char *text);
void program_submit (world *w, eb_item *item);

#endif
