/* eb_item: what crosses the thread boundary, in either direction.
**
** An operation goes down to the I/O thread and comes back up answered: the
** same item, its answer filled in. A delivery goes up, and comes down again as
** its own settlement. A notice only goes up. Each item lives in an arena of its
** own with everything it points to; exactly one list or one owner holds it.
** Thread: any, one at a time.
*/
#ifndef EB_ITEM_H
#define EB_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eb_arena.h"
#include "eb_clock.h"
#include "eb_error.h"
#include "eb_table.h"

typedef enum eb_item_kind {
  EB_ITEM_PUBLISH,
  EB_ITEM_RPC,
  EB_ITEM_SUBSCRIBE,
  EB_ITEM_CANCEL,
  EB_ITEM_DELIVERY,
  EB_ITEM_NOTICE
} eb_item_kind;

typedef struct eb_item {
  struct eb_item *next;
  eb_arena *arena;  /* holds this item */
  eb_item_kind kind;
  eb_code code;     /* the answer: EB_OK, or why not */
  eb_error *error;  /* in the arena; NULL when the code says it all */
  uint64_t id;      /* chosen by whoever made the operation */
  eb_ms deadline;   /* answered 'timeout' then; EB_NEVER for none */
} eb_item;

typedef struct eb_list {
  eb_item *first;
  eb_item *last;
  size_t count;
  size_t notices;  /* of these */
} eb_list;

/* Basic properties of AMQP 0-9-1, section 1.8.1; absent ones have p == NULL. */
typedef struct eb_properties {
  eb_bytes content_type;
  eb_bytes content_encoding;
  eb_bytes correlation_id;
  eb_bytes reply_to;
  eb_bytes expiration;
  eb_bytes message_id;
  eb_bytes type;
  eb_bytes user_id;
  eb_bytes app_id;
  const eb_table *headers;
  uint64_t timestamp;
  bool has_timestamp;
  bool has_priority;
  uint8_t priority;
  uint8_t delivery_mode;  /* 0 absent, 1 transient, 2 persistent */
} eb_properties;

/* What its way through queues and windows needs comes first and lies together, in one
** cache line or two: by the time of its confirm a thousand others have been through. */
typedef struct eb_publish {
  eb_item item;
  bool mandatory;     /* without a confirm its return is nobody's news */
  bool unconfirmed;   /* answered when it is sent: may be lost */
  bool quiet;         /* lua thread: its success is nobody's news, see eb_quiet */
  bool sent;          /* session: it may have reached a broker */
  bool returned;      /* session: a basic.return named it */
  int reply_code;     /* of that return */
  eb_bytes body;
  eb_bytes exchange;
  eb_bytes routing_key;
  eb_properties properties;
} eb_publish;

typedef enum eb_rpc_method {
  EB_EXCHANGE_DECLARE,
  EB_EXCHANGE_DELETE,
  EB_EXCHANGE_BIND,
  EB_EXCHANGE_UNBIND,
  EB_QUEUE_DECLARE,
  EB_QUEUE_DELETE,
  EB_QUEUE_BIND,
  EB_QUEUE_UNBIND,
  EB_QUEUE_PURGE,
  EB_GET
} eb_rpc_method;

enum {
  EB_PASSIVE = 1,
  EB_DURABLE = 2,
  EB_EXCLUSIVE = 4,
  EB_AUTO_DELETE = 8,
  EB_INTERNAL = 16,
  EB_IF_UNUSED = 32,
  EB_IF_EMPTY = 64
};

typedef struct eb_delivery eb_delivery;

typedef struct eb_rpc {
  eb_item item;
  eb_rpc_method method;
  unsigned flags;
  bool record;          /* restore it after a reconnect */
  bool internal;        /* session: a restoration, nobody waits for it */
  unsigned tries;       /* session: connections it was sent on */
  eb_bytes name;        /* exchange, queue, or destination of a binding */
  eb_bytes source;      /* exchange a binding is from */
  eb_bytes routing_key;
  eb_bytes type;        /* of an exchange */
  const eb_table *arguments;
  eb_bytes answer_name;      /* the queue's name, which the broker may choose */
  uint32_t messages;
  uint32_t consumers;
  eb_delivery *delivery;     /* of a get; NULL when the queue was empty */
} eb_rpc;

typedef struct eb_subscribe {
  eb_item item;         /* its id is the consumer's id from then on */
  eb_bytes queue;
  eb_bytes tag;         /* absent: chosen by the session */
  uint16_t prefetch;    /* 1..65535 */
  bool exclusive;
  const eb_table *arguments;
} eb_subscribe;

typedef struct eb_cancel {
  eb_item item;
  uint64_t consumer;
} eb_cancel;

typedef enum eb_settlement {
  EB_UNSETTLED,
  EB_ACK,
  EB_REJECT,          /* to the broker's dead-lettering, or gone */
  EB_REQUEUE,
  EB_RETURN           /* to the queue, unharmed: no failure, so many at once */
} eb_settlement;

struct eb_delivery {
  eb_item item;
  uint64_t consumer;    /* id of the subscription; 0 for a get */
  uint16_t channel;     /* it came on, and is settled on */
  uint64_t epoch;       /* of that channel: a number is used again */
  uint64_t tag;
  size_t weight;        /* session: the memory that it is counted for */
  eb_settlement settlement;
  bool redelivered;
  bool oversized;          /* body not kept: body.n tells how large it is */
  bool bad_headers;        /* nested too deep: not kept */
  eb_bytes exchange;
  eb_bytes routing_key;
  eb_properties properties;
  eb_bytes body;
};

typedef enum eb_event {
  EB_EVENT_UP,
  EB_EVENT_DOWN,
  EB_EVENT_ATTEMPT_FAILED,
  EB_EVENT_FAILED,
  EB_EVENT_BLOCKED,
  EB_EVENT_UNBLOCKED,
  EB_EVENT_CANCELLED,
  EB_EVENT_RESUBSCRIBED,
  EB_EVENT_CONSUMER_FAILED,
  EB_EVENT_TOPOLOGY_FAILED,
  EB_EVENT_UNCONFIRMED_LOST, /* the broker closed their channel */
  EB_EVENT_CLOSED
} eb_event;

typedef struct eb_notice {
  eb_item item;       /* id: which connection (set by eb_bus) */
  eb_event event;
  uint64_t consumer;
} eb_notice;

const char *eb_event_name (eb_event event);

/* A zeroed item of 'size' bytes in an arena with 'extra' bytes of room behind
** it. NULL when memory is out. */
void *eb_item_new (eb_item_kind kind, size_t size, size_t extra);
/* The same in an arena of those that are spare. */
void *eb_item_make (eb_spares *spares, eb_item_kind kind, size_t size,
                    size_t extra);
void eb_item_free (eb_item *item);  /* NULL allowed; frees a get's delivery */
/* The same of one that holds no other item: its arena is spare. */
void eb_item_spare (eb_spares *spares, eb_item *item);

/* Records the answer. The text may be lost when memory is out, the code not. */
void eb_item_fail (eb_item *item, const eb_error *err);
void eb_item_failf (eb_item *item, eb_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void eb_list_init (eb_list *l);
void eb_list_push (eb_list *l, eb_item *item);
void eb_list_push_front (eb_list *l, eb_item *item);
eb_item *eb_list_pop (eb_list *l);             /* NULL when empty */
/* The one behind 'before', or the first if that is NULL; there is one. */
eb_item *eb_list_pop_after (eb_list *l, eb_item *before);
void eb_list_append (eb_list *to, eb_list *from); /* empties 'from' */
void eb_list_prepend (eb_list *to, eb_list *from);
void eb_list_free (eb_list *l);                /* frees what is in it */

/* Moves the items for which 'want' is true from 'l' to the end of 'to',
** order kept. Cost: the length of 'l'. */
void eb_list_split (eb_list *l, eb_list *to,
                    bool (*want) (const eb_item *item, void *arg), void *arg);

/* Thread: any. For eb_list_split; 'unused' is NULL. */
bool eb_item_is_delivery (const eb_item *item, void *unused);

#endif
