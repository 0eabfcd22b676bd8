/* model: a broker, as RabbitMQ behaves towards one client: connections, channels, exchanges, queues, bindings, confirms,
 * alternates, returns, consumers, redelivery. Its state outlives its connections.
 *
 * It checks what it is sent as strictly as the protocol allows: whatever a real broker would answer with an error that
 * is nobody's fault but the session's is a violation (see ledger.h). It keeps what it took: a copy of an event leaves
 * the model by an ack, a reject, a purge, the deletion of its queue, or a restart that a transient or unconfirmed event
 * does not survive, and never otherwise.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "../../src/eb_codec.h"
#include "fields.h"
#include "names.h"
#include "wire.h"

typedef struct world world;

enum {
  CONNS = 4,             /* connections, those the session has left included */
  CHANNELS = 14,
  QUEUES = 24,
  BINDINGS = 96,
  COPIES = 4096,
  WINDOW = 128,          /* confirms owed on one channel */
  UNACKED = 48,          /* deliveries out on one channel */
  PREFETCH_MOST = 6,
  LIVES = UNACKED / PREFETCH_MOST,  /* how often a prefetch may be out at once: see channel_take_back */
  NAME = 24
};

typedef struct model_exchange {
  bool there, durable;
  char type[NAME];
  fields arguments;
} model_exchange;

typedef struct model_queue {
  char name[NAME];       /* "": free */
  bool durable;
  int exclusive;         /* the conn's serial, or 0 */
  int first;             /* ready copies, oldest first: index + 1, 0 for none */
} model_queue;

typedef struct model_binding {
  bool used;
  bool to_exchange;
  int source;
  int target;            /* queue or exchange */
  char key[NAME];
  fields arguments;
} model_binding;

typedef enum copy_state { COPY_READY, COPY_OUT, COPY_GONE } copy_state;

typedef struct copy {
  uint16_t event;
  uint8_t queue;
  uint8_t state;
  bool persistent;
  bool confirmed;        /* its ack was sent: a restart may not lose it */
  bool redelivered;
  int next;              /* in its queue, as 'first' */
} copy;

typedef struct owed {    /* a confirm */
  uint16_t event;
  bool nack;
  bool returned;
  uint64_t tag;
} owed;

typedef struct out {     /* a delivery not acknowledged */
  uint64_t tag;
  int handed;            /* in the ledger */
  bool back;             /* its queue took it back, and the session was not told */
} out;

typedef struct model_channel {
  enum { CH_CLOSED, CH_OPEN, CH_CLOSING } state;
  bool confirms;
  uint64_t published;
  owed owed[WINDOW];
  size_t owed_count;
  uint64_t confirmed_upto;   /* every tag up to it was confirmed */
  bool stuck;            /* refuses one event after the other, slowly */
  bool leaving;          /* the session has closed it */
  eb_ms refuses_at;
  unsigned refused;      /* so, while others waited to be sent */
  int last_event;
  uint64_t tag;          /* last delivery's */
  out out[UNACKED];
  size_t out_count;
  unsigned prefetch;
  uint64_t before;       /* what is out up to this tag counts no longer */
  char consumer[NAME];   /* its tag; "": none */
  int queue;             /* it consumes */
  /* the content under way */
  enum { PART_NONE, PART_HEADER, PART_BODY } part;
  uint64_t part_at;      /* where in the stream it began */
  int exchange;
  char key[NAME];
  bool mandatory;
  int event;
  fields headers;
  uint64_t size, received;
} model_channel;

typedef struct conn {
  int serial;            /* 0: free */
  enum { CONN_GREETING, CONN_STARTED, CONN_TUNED, CONN_OPENING, CONN_UP, CONN_OVER } state;
  stream to_broker, to_client;
  eb_buffer in;          /* taken, not a whole frame yet */
  bool poisoned;         /* the broker broke the protocol: the session owes it nothing */
  bool parted;           /* the session has left it */
  bool refused;          /* the broker closed a channel, and did not look at what else was sent on it */
  eb_ms dies_at;         /* when the broker notices that */
  size_t frame_max;
  unsigned channel_max;
  unsigned heartbeat;
  eb_ms last_sent;
  model_channel channels[CHANNELS + 1];
} conn;

typedef struct model {
  conn conns[CONNS];
  int serials;
  model_exchange exchanges[EXCHANGES];
  model_queue queues[QUEUES];
  model_binding bindings[BINDINGS];
  copy copies[COPIES];
  int copy_count;
  unsigned named;        /* queues the broker has named */
  eb_ms frozen_until;
  eb_ms withheld_until;
  eb_ms blocked_until;
  bool blocked;
  bool prompt;           /* the end of a run: everything as soon as possible */
  unsigned stuck;        /* channels that were */
  amqp_pool_t pool;
} model;

/* model.c: conns, and the broker's own activity. */
void model_init (world *w);
void model_reset (world *w);
void model_fini (world *w);
conn *model_accept (world *w);
/* Reads up to n bytes and does what they ask for. */
void model_read (world *w, conn *l, size_t n);
/* The stream is gone for the broker: unacknowledged deliveries go back. */
void model_drop (world *w, conn *l);
void model_restart (world *w);
void model_block (world *w, bool blocked);
/* What is due: confirms, deliveries, heartbeats, ends of zombies. True: something was sent. */
bool model_pump (world *w);
eb_ms model_due (const world *w);
/* The session broke the protocol: a violation, unless the broker broke it first. */
void model_accuse (world *w, conn *l, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* model_frame.c: bytes to frames to methods, the handshake, and back. */
void frame_read (world *w, conn *l);
void frame_put (conn *l, int type, unsigned channel, const void *payload, size_t n);
void frame_method (world *w, conn *l, unsigned channel, amqp_method_number_t id, void *decoded);
void frame_empty (world *w, conn *l, unsigned channel, amqp_method_number_t id);  /* a method of zeros */
void frame_content (world *w, conn *l, unsigned channel, int event, uint64_t stamp);
void frame_close_connection (world *w, conn *l, unsigned code, const char *text);
amqp_bytes_t frame_text (const char *s);

/* model_channel.c: what a channel is asked, published and acknowledged. */
void channel_asked (world *w, conn *l, unsigned number, amqp_method_t *m);
void channel_content (world *w, conn *l, unsigned number, const uint8_t *payload, size_t n, bool header);
void channel_error (world *w, conn *l, unsigned number, unsigned code, const char *text);
void channel_end (world *w, conn *l, unsigned number);  /* what was out goes back */
bool channel_confirm (world *w, conn *l, unsigned number);
bool channel_deliver (world *w, conn *l, unsigned number);
void channel_cancel_consumer (world *w, conn *l, unsigned number);
/* As when the leader of a queue fails over: what is out goes back and is delivered again, a whole prefetch of it, and
 * the consumer hears nothing. */
void channel_take_back (world *w, conn *l, unsigned number);
/* No broker: it sends far more than the prefetch, of nothing. */
void channel_flood (world *w, conn *l, unsigned number);

/* model_topology.c: exchanges, queues, bindings, routing, copies. */
int topology_queue (const world *w, const char *name);
int topology_add_queue (world *w, const char *name, bool durable, int exclusive);
unsigned topology_count (const world *w, int q);
void topology_remove_queue (world *w, int q);
void topology_forget (world *w);                     /* all of it: the broker is another, and empty */
void topology_add_exchange (world *w, int x, const char *type, bool durable, const fields *arguments);
void topology_remove_exchange (world *w, int x);
/* There is one such binding, or none, from now on. */
void topology_bind (world *w, const model_binding *what);
void topology_unbind (world *w, const model_binding *what);
void topology_exchange_text (const world *w, int x, char to[DETAIL]);
void topology_put (world *w, uint32_t queues, int event);
void topology_put_back (world *w, int c);
int topology_take (world *w, int q);                /* the oldest copy, now out; -1 for none */
void topology_purge (world *w, int q);
/* model_route.c: a bit for each queue. */
uint32_t topology_route (const world *w, int x, const char *key, const fields *headers);

/* model_asked.c: a channel method that is about topology; false: it is not. */
bool topology_asked (world *w, conn *l, unsigned number, amqp_method_t *m);

#endif
