/* eb_renewal: when a publishing channel that the broker refuses is given up for a
** new one, and when its connection is.
**
** RabbitMQ decides at a channel's first publish to a quorum queue which node it asks
** (rabbit_fifo_client, 3.10). If that has died, and the queue's new leader was not
** known yet, it refuses all that the channel sends there until the node is back. So
** at a nack that comes a second or more after the channel's first nothing is sent
** until all is answered, and then the channel is closed. The same may befall the new
** one, so it is tried again soon. Where nacks have another reason, as a queue's limit,
** a new channel now and then costs little.
**
** If that node stands still, the broker waits 7 s for it at each event, and there is
** no moment in which all is answered. Then the connection is given up: when a second
** renewal comes to nothing, in seconds without any answer; or when the broker does not
** close the channel, for it deals first with what has timed out on it. As after any
** loss of one, what was in flight is sent again. That may repeat events, and a broker
** that is slow only must not suffer: so it is spared longer each time.
**
** Pure: the caller tells the time.
*/
#ifndef EB_RENEWAL_H
#define EB_RENEWAL_H

#include <stdbool.h>
#include <stdint.h>

#include "eb_clock.h"

typedef enum eb_renewal_stage {
  EB_RENEWAL_NONE,
  EB_RENEWAL_DRAIN,       /* what was sent is to be answered */
  EB_RENEWAL_LAST_DRAIN,  /* likewise; or the connection is given up */
  EB_RENEWAL_CLOSE        /* the channel is to be closed; likewise */
} eb_renewal_stage;

typedef struct eb_renewal {
  eb_ms due_by;         /* nothing is to be sent until then; EB_NEVER: none is due */
  /* its own */
  eb_renewal_stage stage;
  bool undrained;       /* the last one came to nothing */
  eb_ms refused_since;  /* the channel's first nack; EB_NEVER: none */
  eb_ms refused_last;   /* of any channel, as what follows */
  eb_ms answered_last;
  int64_t patience_ms;  /* so long nacks are taken */
  eb_ms spared_until;   /* the connection is not given up before */
  int64_t spared_ms;
} eb_renewal;

typedef enum eb_remedy {
  EB_REMEDY_NONE,
  EB_REMEDY_CHANNEL,    /* close it */
  EB_REMEDY_CONNECTION  /* give it up */
} eb_remedy;

void eb_renewal_init (eb_renewal *r);
/* The channel is gone; or with it the connection. */
void eb_renewal_channel_gone (eb_renewal *r);
void eb_renewal_connection_gone (eb_renewal *r);
/* The broker answered something: took it or refused it (nack). */
void eb_renewal_answered (eb_renewal *r, bool nacked, eb_ms now);
/* One is due, and all 'answered', so that nobody waits, or 'due_by' reached: what is to
** be done. */
eb_remedy eb_renewal_remedy (eb_renewal *r, bool answered, eb_ms now);
/* Instead: it is not the broker's fault that 'due_by' is reached. Then all again. */
void eb_renewal_put_off (eb_renewal *r, eb_ms now);

#endif
