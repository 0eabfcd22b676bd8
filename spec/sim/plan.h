/* plan: what a seed decides before its run begins: the session's settings, the broker's, which faults there are and how
 * often. Most runs have a few kinds of faults only: a rare mixture hides behind a common one otherwise.
 */
#ifndef SIM_PLAN_H
#define SIM_PLAN_H

#include "../../src/eb_session.h"
#include "draw.h"

typedef enum fault {
  FAULT_RESET,            /* each side still gets some of what was under way */
  FAULT_HANG_UP,          /* the broker ends the stream in order */
  FAULT_HALF_OPEN,        /* bytes vanish, one way or both */
  FAULT_STILL,            /* a stream stands still for a while */
  FAULT_SILENCE,          /* the broker is frozen: reads and says nothing */
  FAULT_RESTART,          /* the broker: loses what it may */
  FAULT_CONNECTION_CLOSE,
  FAULT_CHANNEL_CLOSE,    /* a channel, in whatever state it is */
  FAULT_LOGIN,            /* refused during the handshake */
  FAULT_WITHHOLD,         /* confirms */
  FAULT_REPEAT_CONFIRM,   /* confirms that were given before */
  FAULT_BLOCKED,
  FAULT_QUEUE_DELETED,    /* by somebody else */
  FAULT_EXCHANGE_DELETED,
  FAULT_UNBOUND,          /* a binding, likewise */
  FAULT_CANCEL,           /* consumers, by the broker */
  FAULT_LATE,             /* the loop wakes up late */
  FAULT_GIVEN_UP,         /* eb_session_fail, and a new attach later */
  FAULT_HOSTILE,          /* the broker breaks the protocol */
  FAULT_COUNT
} fault;

typedef enum act {
  ACT_PUBLISH,
  ACT_SETTLE,
  ACT_SETTLE_TWICE,
  ACT_CALL,
  ACT_GET,
  ACT_SUBSCRIBE,
  ACT_CANCEL,
  ACT_COUNT
} act;

typedef struct plan {
  eb_session_config config;
  unsigned steps;
  unsigned frame_max, channel_max, heartbeat;  /* the broker's offer */
  unsigned pieces;      /* how bytes are cut: 0 whole, 1 single bytes, 2 few, 3 anything */
  unsigned rates[FAULT_COUNT];   /* in 1/1000 of the steps */
  unsigned weights[ACT_COUNT];   /* of what the user does next */
  unsigned timeouts;    /* operations with a deadline, in 1/1000 */
  unsigned nacks;       /* confirms that are a nack, in 1/1000 */
  unsigned stuck;       /* channels that ask a node which stands still, in 1/1000 */
  unsigned unconfirmed; /* publishes that want no confirm, in 1/1000 */
  bool large_bodies;
  bool prepared;        /* exchanges and queues are there already */
  bool orderly;         /* the run ends with eb_session_close */
} plan;

plan plan_draw (draw *d);
const char *fault_name (fault f);

/* How many of n bytes the session is fed at once. */
size_t plan_piece (const plan *p, draw *d, size_t n);

#endif
