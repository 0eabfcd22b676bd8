/* The session's inside: one struct, in parts that each have a file.
**
**   eb_session.c           life, handshake, timers, the way of a frame
**   eb_session_channel.c   channels, and content assembled on them
**   eb_session_publish.c   the publishing channels: window, confirms, returns
**   eb_session_rpc.c       topology calls and gets, in order
**   eb_session_record.c    what was declared, to declare it again
**   eb_session_consume.c   consumers and settlement
**
** Only those files include this. Thread: io only.
*/
#ifndef EB_SESSION_PRIV_H
#define EB_SESSION_PRIV_H

#include "eb_acks.h"
#include "eb_backoff.h"
#include "eb_codec.h"
#include "eb_renewal.h"
#include "eb_session.h"
#include "eb_window.h"

enum {
  OUT_SOFT_LIMIT = 256 * 1024,  /* publishes are not encoded above it */
  RPC_TRIES = 3                 /* connections one call may bring down */
};

typedef enum channel_state {
  CHAN_CLOSED,
  CHAN_OPENING,  /* channel.open sent, and what must follow it */
  CHAN_OPEN,
  CHAN_CLOSING   /* channel.close sent */
} channel_state;

typedef enum channel_role {
  ROLE_PUBLISH,
  ROLE_UNCONFIRMED,
  ROLE_RPC,
  ROLE_GET,
  ROLE_CONSUMER
} channel_role;

typedef enum content_kind {
  CONTENT_NONE,
  CONTENT_DELIVER,
  CONTENT_GET,
  CONTENT_RETURN
} content_kind;

typedef struct consumer consumer;

typedef struct channel {
  uint16_t number;      /* 0: not in the table */
  channel_role role;
  channel_state state;
  consumer *owner;      /* of ROLE_CONSUMER */
  uint64_t epoch;       /* new at every open, unique in the session */
  eb_acks acks;
  size_t held;          /* bytes of the consumer's deliveries not settled */
  eb_ms ack_since;      /* when the oldest unsent ack was given */
  struct channel *ack_next;  /* of the channels with unsent acks */
  bool ack_listed;
  /* content being assembled */
  content_kind content;
  bool has_header;
  eb_delivery *assembly;
  uint64_t expected;    /* bytes of body still to come */
  int return_code;
} channel;

typedef struct publisher {
  channel ch;
  bool confirms;        /* false: a publish is answered when it is sent */
  eb_list pending;      /* not sent on this channel yet */
  eb_window window;
  size_t solo;          /* sent one at a time: one of them broke a channel */
  eb_ms retry_at;       /* not to be opened before */
  eb_ms expiry;         /* no deadline is earlier than this */
  eb_renewal renewal;
} publisher;

typedef struct caller {
  channel ch;
  eb_list waiting;      /* not sent on this channel yet */
  eb_list sent;         /* in order; a call that timed out leaves a stub */
  eb_ms expiry;         /* no deadline is earlier than this */
} caller;

typedef enum consumer_state {
  CONSUMER_WAITING,     /* for a connection, or until retry_at */
  CONSUMER_STARTING,    /* open, qos, consume are sent */
  CONSUMER_ACTIVE,
  CONSUMER_CANCELLING,  /* basic.cancel sent */
  CONSUMER_DRAINING,    /* cancelled; unsettled deliveries remain */
  CONSUMER_CLOSING      /* channel.close sent */
} consumer_state;

struct consumer {
  consumer *next;
  consumer *restless_next;
  bool restless;            /* in that list */
  consumer_state state;
  eb_subscribe *spec;       /* queue, prefetch, arguments; owned */
  eb_subscribe *asking;     /* to answer when consuming; then NULL */
  eb_cancel *cancelling;    /* to answer when cancelled, or NULL */
  bool unwanted;            /* cancelled by the user, who may wait no longer */
  bool restore_first;       /* its queue may be gone: declare it again */
  unsigned tries;           /* connections lost while starting */
  uint64_t id;
  char tag[EB_SHORTSTR_MAX + 1];
  size_t tag_size;
  channel ch;
  uint64_t before;          /* the channel's last delivery when it was cancelled */
  eb_backoff backoff;
  eb_ms retry_at;
};

typedef struct record {
  struct record *next;
  eb_rpc *call;             /* a copy, owned */
  char actual[EB_SHORTSTR_MAX + 1]; /* name the broker chose for a queue */
} record;

struct eb_session {
  eb_session_config config;  /* strings are ours */
  eb_arena *strings;
  eb_phase phase;
  eb_buffer in;
  eb_buffer out;
  amqp_pool_t pool;          /* recycled after every frame */
  eb_list events;
  eb_spares spares;          /* of deliveries */
  size_t frame_max;          /* agreed */
  unsigned channel_max;      /* agreed */
  int64_t heartbeat_ms;      /* agreed; 0: none */
  eb_ms last_read;
  eb_ms last_write;
  eb_ms now;                 /* of the call under way */
  bool blocked;
  bool closing;
  bool failed;               /* 'failure' answers everything */
  bool ever_up;
  bool broken;               /* a part failed: 'breakage' ends the connection */
  eb_error breakage;
  eb_error failure;
  eb_error trouble;          /* why there is no connection, for timeouts */
  eb_ms close_deadline;
  uint64_t next_epoch;
  uint64_t next_tag;
  channel **channels;        /* by number; not owned */
  channel crossed;           /* in the table for numbers whose closes crossed */
  size_t channel_count;      /* of the table */
  publisher pub;             /* with confirms */
  publisher loose;           /* without */
  bool loose_first;          /* the two take turns at the output */
  caller rpc;
  caller get;
  channel *ack_list;         /* channels with unsent acks */
  consumer *consumers;
  consumer *restless;        /* those that wait for something, or did */
  size_t consumer_count;
  size_t unsettled;          /* deliveries to all of them */
  eb_ms consumers_due;       /* when to look at them again */
  record *records;
  size_t restoring;          /* restorations not answered yet */
  eb_ms restore_by;          /* one of them is answered by then, or all have failed */
  eb_session_stats stats;
};

/* eb_session.c */
void session_answer (eb_session *s, eb_item *item);
void session_answer_all (eb_session *s, eb_list *items, const eb_error *why);
/* Ends the connection at the next chance; always false. */
bool session_break (eb_session *s, const eb_error *why) EB_COLD;
bool session_breakf (eb_session *s, eb_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))) EB_COLD;
/* What a close says: never without a text, never with control characters. */
void session_reply_error (eb_error *err, eb_code code, int reply_code,
                          amqp_bytes_t text);
bool session_send (eb_session *s, uint16_t channel, amqp_method_number_t id,
                   void *decoded, size_t size_hint);

/* eb_session_channel.c */
/* Sends channel.open. False: the session is broken; or no number is left for a
** role that can wait, a consumer's or that of publishes without a confirm. */
bool channel_open (eb_session *s, channel *ch);
bool channel_close (eb_session *s, channel *ch);  /* sends channel.close */
void channel_forget (eb_session *s, channel *ch); /* no longer on the wire */
channel *channel_find (eb_session *s, uint16_t number);
void channel_fini (eb_session *s, channel *ch);
bool channel_method (eb_session *s, channel *ch, amqp_method_t *m);
bool channel_header (eb_session *s, channel *ch, const eb_frame *frame);
bool channel_body (eb_session *s, channel *ch, const eb_frame *frame);
/* 'd' was begun by a method; its header and body follow. */
void channel_expect (channel *ch, content_kind kind, eb_delivery *d);
/* It is out from now on. False: the session is broken, and 'd' freed. */
bool channel_delivers (eb_session *s, channel *ch, eb_delivery *d);
/* The delivery was settled: now sent, or to be coalesced. */
bool channel_settle (eb_session *s, channel *ch, const eb_delivery *d);
/* Sends the acks that are due; 'all' waits for no company. */
bool channels_flush_acks (eb_session *s, bool all);
eb_ms channels_ack_deadline (const eb_session *s);

/* eb_session_publish.c */
void publisher_init (publisher *p, channel_role role);
publisher *publisher_of (eb_session *s, const channel *ch);
void publisher_submit (eb_session *s, eb_publish *op);
bool publisher_pump (eb_session *s, publisher *p);
bool publisher_method (eb_session *s, publisher *p, amqp_method_t *m);
void publisher_returned (publisher *p, const eb_delivery *d, int code);
void publisher_closed (eb_session *s, publisher *p, const eb_error *why);
void publisher_detach (eb_session *s, publisher *p);
void publisher_fail (eb_session *s, publisher *p, const eb_error *why);
void publisher_expire (eb_session *s, publisher *p);
eb_ms publisher_deadline (const eb_session *s, const publisher *p);
bool publisher_idle (const publisher *p);
/* At the end, of publishes without a confirm: closes their channel. 'finished'
** when the broker has dealt with them. False: the session is broken. */
bool publisher_finish (eb_session *s, publisher *p, bool *finished);

/* eb_session_connection.c */
bool session_connection_method (eb_session *s, amqp_method_t *m);

/* eb_session_rpc.c */
void caller_submit (eb_session *s, eb_rpc *call);
bool caller_pump (eb_session *s, caller *c);
bool caller_method (eb_session *s, caller *c, amqp_method_t *m);
void caller_got (eb_session *s, eb_delivery *d);
void caller_closed (eb_session *s, caller *c, const eb_error *why);
void caller_detach (eb_session *s, caller *c);
void caller_fail (eb_session *s, caller *c, const eb_error *why);
void caller_expire (eb_session *s, caller *c);
eb_ms caller_deadline (const eb_session *s, const caller *c);
bool caller_idle (const caller *c);  /* nobody waits for an answer */
/* An answer is awaited, of a restoration or by a user. */
bool caller_under_way (const caller *c);
caller *caller_of (eb_session *s, const channel *ch);

/* eb_session_record.c */
/* False: there is no memory to keep it by, and the session is broken. */
bool record_answered (eb_session *s, const eb_rpc *call);
bool records_restore (eb_session *s);  /* queues calls in front of all others */
void records_await (eb_session *s, size_t restorations);
void records_free (eb_session *s);
/* The queue's present name; 'queue' itself unless the broker renamed it. */
eb_bytes records_name (const eb_session *s, eb_bytes queue);

/* eb_session_consume.c */
void consumer_submit (eb_session *s, eb_subscribe *spec);
void consumer_cancel (eb_session *s, eb_cancel *cancel);
bool consumers_pump (eb_session *s);
bool consumer_method (eb_session *s, consumer *c, amqp_method_t *m);
void consumer_closed (eb_session *s, consumer *c, const eb_error *why);
void consumers_detach (eb_session *s);
void consumers_fail (eb_session *s, const eb_error *why);
/* Its last delivery may have been settled. */
bool consumer_settled (eb_session *s, consumer *c);
/* 'd' came, and is counted. False: the broker sends more than it was asked for. */
bool consumer_holds (eb_session *s, const consumer *c, const eb_delivery *d);

#endif
