/* eb_window: the publishes that were sent and not yet confirmed.
**
** Confirm tags count from 1 on each channel (https://www.rabbitmq.com/confirms):
** the n-th publish gets tag n. The window maps a tag to its publish, in a ring
** that grows up to its capacity. Thread: io only; pure.
*/
#ifndef EB_WINDOW_H
#define EB_WINDOW_H

#include "eb_item.h"

typedef struct eb_window {
  eb_publish **slots;  /* NULL: confirmed already */
  size_t size;         /* of the ring, a power of two */
  size_t limit;        /* most publishes in it */
  size_t count;        /* from the oldest unconfirmed to the newest */
  size_t live;         /* of those, not answered yet */
  size_t bytes;        /* of their bodies */
  uint64_t base;       /* tag of the oldest */
} eb_window;

void eb_window_init (eb_window *w, size_t limit);
void eb_window_fini (eb_window *w);  /* the publishes are not freed */

static inline bool eb_window_full (const eb_window *w) {
  return w->count >= w->limit;
}

/* Makes room for one more; false when memory is out. */
bool eb_window_reserve (eb_window *w);

/* The publish just sent; there must be room. */
void eb_window_push (eb_window *w, eb_publish *p);

typedef enum eb_tag_status {
  EB_TAG_TAKEN,    /* *p is that publish, or NULL when it was answered before */
  EB_TAG_BEHIND,   /* confirmed before: a repetition */
  EB_TAG_UNKNOWN   /* never sent: the broker is wrong */
} eb_tag_status;

static inline bool eb_window_unknown (const eb_window *w, uint64_t tag) {
  return tag >= w->base + w->count;
}

/* The broker spoke of one tag. */
eb_tag_status eb_window_take (eb_window *w, uint64_t tag, eb_publish **p);

/* The oldest publish with a tag up to 'tag'; false when there is none (left).
** *p may be NULL, as above. For confirms with 'multiple'. */
bool eb_window_take_upto (eb_window *w, uint64_t tag, eb_publish **p);

/* The oldest mandatory publish that was not returned yet and is the one that
** came back: same message id, exchange and routing key; or NULL. The id is not
** enough: copies of one event go to several places at a time. */
eb_publish *eb_window_find (const eb_window *w, const eb_delivery *back);

/* Takes a publish out of answering: its slot stays until its confirm. */
typedef bool eb_window_pred (const eb_publish *p, void *arg);
void eb_window_abandon (eb_window *w, eb_window_pred *want, void *arg,
                        eb_list *to);

/* The earliest deadline of those not answered. Cost: the window. */
eb_ms eb_window_deadline (const eb_window *w);

/* The channel is gone: all unanswered publishes, oldest first, to 'to';
** tags begin anew at 1. */
void eb_window_reset (eb_window *w, eb_list *to);

#endif
