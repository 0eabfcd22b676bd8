/* eb_mailbox: the two queues at the thread boundary.
**
** The outbox carries items from the Lua thread to one I/O thread; the inbox
** carries items from I/O threads to the Lua thread. Lists move under the lock,
** all work happens outside it, but for the ring: who sees the flag that it was
** rung under the lock may clear the wake, and swallows no ring still to come.
** A sleeper is woken on the edge only.
**
** Neither counts its items: operations under way are bounded by eb_bus, before an
** item is made, deliveries by the session. Notices alone are bounded here.
*/
#ifndef EB_MAILBOX_H
#define EB_MAILBOX_H

#include <pthread.h>

#include "eb_bell.h"
#include "eb_item.h"
#include "eb_wake.h"

/* How deeply the I/O thread sleeps, and so who wakes it. */
typedef enum eb_sleep {
  EB_AWAKE,   /* it will look before it sleeps: nobody rings */
  EB_DOZING,  /* it looks again within a millisecond: only who waits rings */
  EB_LED,     /* for some milliseconds the Lua thread does its work whenever that
              ** waits: only a pile of what is to go out soon rings */
  EB_ASLEEP   /* everybody rings */
} eb_sleep;

/* What whoever posts does next. */
typedef enum eb_haste {
  EB_LATER,   /* the item may wait some milliseconds, or until a kick: an ack */
  EB_SOON,    /* more of the same: the thread sends beside it */
  EB_WAITING  /* waits for the answer */
} eb_haste;

typedef struct eb_outbox {
  pthread_mutex_t lock;
  eb_list list;          /* under lock */
  eb_sleep sleep;        /* under lock */
  bool rung;             /* under lock: the wake was rung, not cleared */
  bool stopping;         /* under lock: close until close_deadline */
  bool abandoned;        /* under lock: end at once */
  bool unseen;           /* under lock: the end, an alarm, a rouse, not looked at */
  eb_ms close_deadline;  /* under lock */
  eb_ms alarm;           /* under lock: EB_NEVER when none is set */
  eb_wake wake;
} eb_outbox;

bool eb_outbox_init (eb_outbox *o);
void eb_outbox_fini (eb_outbox *o);  /* frees what is in it */

/* Thread: lua. The outbox owns the item. */
void eb_outbox_post (eb_outbox *o, eb_item *item, eb_haste haste);
/* Thread: lua. Wakes the I/O thread if anything waits for it. */
void eb_outbox_kick (eb_outbox *o);
/* Thread: lua. Wakes the I/O thread, though there is nothing. */
void eb_outbox_rouse (eb_outbox *o);
/* Thread: lua. Moves all items to the end of 'to', on behalf of the I/O thread:
** how deeply that sleeps stays as it is. */
void eb_outbox_take_for (eb_outbox *o, eb_list *to);
/* Thread: lua. Whether anything waits for the I/O thread. */
bool eb_outbox_has_some (eb_outbox *o);
/* Thread: lua. Asks for the end: in order until 'deadline', or at once. */
void eb_outbox_stop (eb_outbox *o, eb_ms deadline);
void eb_outbox_abandon (eb_outbox *o);

/* Thread: lua. Asks the I/O thread to ring the inbox at that time; a later call
** replaces an earlier one. */
void eb_outbox_set_alarm (eb_outbox *o, eb_ms at);
/* Thread: io. When it is due: EB_NEVER if none is set. One that is due is
** taken. */
eb_ms eb_outbox_alarm (eb_outbox *o, eb_ms now);

/* Thread: io. Moves all items to the end of 'to'; the thread is awake now. */
void eb_outbox_take (eb_outbox *o, eb_list *to);
/* Thread: io. About to poll; false when something came in meanwhile, be it the
** wish to stop. */
bool eb_outbox_sleep (eb_outbox *o, eb_sleep depth);
bool eb_outbox_stopping (eb_outbox *o, eb_ms *deadline, bool *abandoned);

typedef struct eb_inbox {
  pthread_mutex_t lock;
  eb_list list;       /* under lock */
  bool wake_pending;  /* under lock: rung; rings again only after a re-arm */
  bool heard;         /* lua thread only, who sets it back: a ring was cleared, which
                      ** may have been a signal handler's */
  eb_wake wake;
  eb_bell bell;       /* rung whenever the wake is */
} eb_inbox;

bool eb_inbox_init (eb_inbox *i);
void eb_inbox_fini (eb_inbox *i);  /* frees what is in it */

/* Thread: io. Empties 'from'. */
void eb_inbox_push (eb_inbox *i, eb_list *from);
/* Thread: lua, which looks at once: rings nobody. */
void eb_inbox_add (eb_inbox *i, eb_list *from);

/* Thread: any. Wakes the Lua thread, though there is nothing. */
void eb_inbox_ring (eb_inbox *i);

/* Thread: io. Frees the deliveries not taken yet: their connection is gone, so
** they can no longer be settled, and the broker will deliver them again. Without
** it a program busy for long would collect a prefetch for each reconnect. Only
** for the one connection of those that share the inbox that delivers. */
void eb_inbox_drop_deliveries (eb_inbox *i);

/* Thread: lua. Moves all items to the end of 'to'. When there was none, the
** wake is re-armed: whoever stops before that is never woken again. True when
** there were items, or the re-arming may have swallowed a signal handler's ring:
** then look at what the handler said before you sleep. */
bool eb_inbox_take (eb_inbox *i, eb_list *to);

/* Thread: lua. The wake was readable: when no item rang it, a signal handler
** did, and has been heard. */
void eb_inbox_woken (eb_inbox *i);

#endif
