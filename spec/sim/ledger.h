/* ledger: what the user asked and was told, what the broker took, and the invariants between the two.
 *
 *   answers     every operation is answered exactly once, by its deadline, with an answer that is true
 *   confirmed   'ok' for a publish means that the broker confirmed this very event, unreturned
 *   finished    nothing is sent for a publish that was answered before
 *   unconfirmed a publish that wants no confirm is sent once at most, on a channel without, and told nothing but that
 *   settled     the broker gets an ack, reject or requeue only for a delivery that the user settled so, once, on the
 *               channel and connection it came on
 *   routed      an event reaches the queues that the program knows to be bound for it, and no others (see promise.h)
 *   deliveries  each reaches the user at most once, with the body that was published
 *   prefetch    a consumer never has more of them than a broker may hand out at the worst
 *
 * The first violation of a run is kept; the run ends with it.
 */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H

#include "../../src/eb_session.h"
#include "model.h"
#include "promise.h"

enum {
  ASKED = 420,             /* operations */
  PROBES = 16,             /* of them: kept for the end */
  HANDED = 4000,
  LOGGED = 3000
};

struct asked {             /* an operation; its id is its index + 1 */
  uint8_t kind;            /* eb_item_kind */
  bool answered;
  uint8_t code;
  eb_ms deadline;
  int log_at;              /* of the broker's log, when it was asked */
  /* publish */
  int exchange;
  char key[NAME];
  int arguments;           /* the headers, by names.h; of a binding: its arguments */
  bool mandatory, persistent;
  bool unconfirmed, taken; /* it wants no confirm; and a broker has had it */
  uint32_t size;
  bool acked, acked_returned, nacked, refused;  /* some copy of it, by the broker */
  bool could_arrive, could_return;  /* by what the program knew when the broker took it */
  int answered_on;         /* the conn's serial, and where its stream was then */
  uint64_t answered_at;
  /* calls, subscriptions */
  eb_rpc_method method;
  char queue[NAME], source[NAME];
  int nature;              /* of an exchange */
  bool record, passive, exclusive;
  unsigned prefetch;
  /* subscriptions */
  bool active;             /* started, and not to end */
  bool cancelled;          /* the cancel was answered in time: no delivery from now on */
  bool cancelling;
  int target;              /* of a cancel */
  uint64_t epoch;          /* of the channel that its deliveries come on */
  uint64_t newest, before; /* tags: its last delivery, and its last when the broker cancelled it */
  unsigned unsettled;      /* deliveries since then, not settled by the user */
};

typedef enum handed_state { HANDED_SENT, HANDED_HELD, HANDED_SETTLED, HANDED_DROPPED } handed_state;

typedef struct handed {    /* a delivery; it carries its index as the timestamp */
  int copy;
  int conn;                /* serial */
  unsigned channel;
  uint64_t tag;
  uint8_t state;           /* for the user */
  uint8_t settlement;      /* eb_settlement, the first that was given */
  int settled_on;          /* the connection's serial then, and where its stream was */
  uint64_t settled_at;
  int consumer;            /* id of its subscription; 0 for a get */
  bool redelivered;
  bool over;               /* for the broker: settled, or gone back */
} handed;

typedef struct logged {    /* a call the broker has answered */
  eb_rpc_method method;
  bool refused;
  char name[NAME], source[NAME], key[NAME], detail[DETAIL];  /* detail: arguments; what an exchange is */
} logged;

typedef struct ledger {
  asked asked[ASKED];
  int asked_count, unanswered;
  int oldest;              /* no operation below is unanswered */
  handed handed[HANDED];
  int handed_count;
  logged log[LOGGED];
  int log_count;
  bool full;               /* a table was: what was to be counted is not known */
} ledger;

void violate (world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_write (world *w, const char *who, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define trace(w, who, ...) do { if ((w)->verbose) trace_write((w), (who), __VA_ARGS__); } while (0)

/* NULL when the table is full, but for PROBES. */
asked *ledger_ask (world *w, eb_item_kind kind, eb_ms deadline, uint64_t *id);
void ledger_answered (world *w, const eb_item *item);
/* After every turn of the loop. */
void ledger_check_deadlines (world *w);

/* The broker's side. */
void ledger_published (world *w, conn *l, int event, uint64_t at, uint64_t size, int exchange, const char *key,
                       bool mandatory, bool persistent);
/* The broker has found the queues it goes to; a copy of each is there already or is about to be. */
void ledger_routed (world *w, int event, uint32_t queues);
uint8_t ledger_byte (int event, uint64_t at);  /* of an event's body */
void ledger_confirm_sent (world *w, const owed *o);
/* Whether the broker did such a call after it was asked; its answer may have been lost. */
bool ledger_done (const world *w, const asked *call);
void ledger_log (world *w, const logged *e);
int ledger_hand (world *w, int copy, const conn *l, unsigned channel, uint64_t tag, int consumer);  /* -1: full */
void ledger_settled_on_wire (world *w, conn *l, int handed, eb_settlement how);

/* The user's. */
handed *ledger_delivered (world *w, const eb_delivery *d);
void ledger_settled (world *w, const eb_delivery *d);
void ledger_cancelled (world *w, uint64_t consumer);  /* by the broker */

#endif
