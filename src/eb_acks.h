/* eb_acks: the deliveries of one channel that were not settled yet, and the
** acks and returns not sent yet.
**
** Acks coalesce: one basic.ack with 'multiple' covers what lies below the
** lowest delivery still unsettled; what lies above is acked one by one. A tag
** that was never acked is never covered (AMQP 0-9-1, 1.8.3.13). Returns (given
** back, in order) coalesce likewise: a classic queue takes many back at once far
** faster than one by one. https://www.rabbitmq.com/docs/nack
** How many are out is bounded by eb_session_consume. Thread: io only; pure.
*/
#ifndef EB_ACKS_H
#define EB_ACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct eb_tags {  /* ascending, a deque in an array */
  uint64_t *tags;
  size_t head;
  size_t count;
  size_t cap;
} eb_tags;

typedef struct eb_acks {
  eb_tags unsettled;
  eb_tags acked;      /* settled by ack, not sent */
  eb_tags returned;   /* given back, not sent */
  uint64_t last;      /* the newest tag delivered */
} eb_acks;

void eb_acks_init (eb_acks *a);
void eb_acks_fini (eb_acks *a);

/* A delivery came. False: the tag is not above all earlier ones (then the
** broker is wrong), or memory is out. */
bool eb_acks_deliver (eb_acks *a, uint64_t tag);

/* It was acked: remembered until the flush. False: not unsettled, or no
** memory: *unknown tells which; in the second case nothing has changed. */
bool eb_acks_ack (eb_acks *a, uint64_t tag, bool *unknown);

/* It is given back: remembered until the flush. False: as eb_acks_ack. */
bool eb_acks_return (eb_acks *a, uint64_t tag, bool *unknown);

/* It was rejected; the caller sends that. False: not unsettled. */
bool eb_acks_reject (eb_acks *a, uint64_t tag);

/* Next ack to send, or false when there is none. */
bool eb_acks_next (eb_acks *a, uint64_t *tag, bool *multiple);

/* Next return to send, or false. Only when no ack is left to send: a 'multiple'
** would cover it. */
bool eb_acks_next_return (eb_acks *a, uint64_t *tag, bool *multiple);

static inline size_t eb_acks_pending (const eb_acks *a) {
  return a->acked.count + a->returned.count;
}
static inline size_t eb_acks_unsettled (const eb_acks *a) {
  return a->unsettled.count;
}

/* Tags above 'tag' that are out, as the broker counts: no settlement was sent. */
size_t eb_acks_out_above (const eb_acks *a, uint64_t tag);

/* The channel is gone: nothing is outstanding, nothing is to be sent. */
void eb_acks_reset (eb_acks *a);

#endif
