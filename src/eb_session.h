/* eb_session: one side of an AMQP 0-9-1 conversation, without I/O.
**
** Bytes in, events out; operations in, bytes out; the clock is an argument. It
** opens no socket, starts no thread, reads no clock and has no global: the same
** calls give the same bytes. It outlives its connections: what a user declared,
** subscribed to and published waits through a disconnect and is restored or
** sent again after the next attach.
**
** The life of a connection, as 'phase' names it:
**
**   DOWN -attach-> GREETED -start-> TUNING -tune-> OPENING -open-ok-> UP
**     UP -close-> CLOSING -close-ok-> DOWN;  any -detach-> DOWN
**
** Every operation given is answered exactly once, through eb_session_take: by
** the broker, by its deadline, or when the session ends.
** Thread: io only; a session is used by one thread at a time.
*/
#ifndef EB_SESSION_H
#define EB_SESSION_H

#include "eb_buffer.h"
#include "eb_clock.h"
#include "eb_item.h"
#include "eb_url.h"

typedef struct eb_session eb_session;

typedef struct eb_session_config {
  const char *vhost;
  const char *user;
  const char *password;
  eb_auth auth;
  const char *connection_name;
  unsigned heartbeat_s;     /* 0: none */
  unsigned channel_max;     /* 0: 2047 */
  size_t frame_max;         /* 0: 131072 */
  size_t window_count;      /* publishes sent and unconfirmed */
  size_t window_bytes;
  size_t max_body;          /* larger deliveries come without a body */
  int64_t ack_delay_ms;     /* how long an ack may wait for others */
  bool resend;              /* unconfirmed publishes, after a reconnect */
  uint64_t seed;            /* for the delays between resubscriptions */
} eb_session_config;

typedef enum eb_phase {
  EB_PHASE_DOWN,
  EB_PHASE_GREETED,
  EB_PHASE_TUNING,
  EB_PHASE_OPENING,
  EB_PHASE_UP,
  EB_PHASE_CLOSING
} eb_phase;

typedef struct eb_session_stats {
  uint64_t published;     /* sent, resends included */
  uint64_t sent;          /* of these: without a confirm */
  uint64_t confirmed;
  uint64_t returned;
  uint64_t nacked;
  uint64_t resent;
  uint64_t delivered;
  uint64_t acked;
  uint64_t rejected;
  uint64_t stale;         /* settlements of an earlier channel, dropped */
  uint64_t ack_frames;
  uint64_t connections;   /* times UP was reached */
  size_t pending;         /* publishes not sent yet */
  size_t unconfirmed;
  size_t consumers;
  size_t unsettled;       /* deliveries */
  size_t input;           /* bytes of a frame that is not whole yet */
  /* Counted by eb_io: rounds of its loop, each a poll or none, and how many of
  ** them the Lua thread led; calls to the transport. */
  uint64_t turns;
  uint64_t led;
  uint64_t reads;
  uint64_t writes;
  bool blocked;
  eb_phase phase;
  /* What was agreed, and with whom, at the last handshake. */
  size_t frame_max;
  int64_t heartbeat_ms;   /* 0: none */
  char server[64];        /* "RabbitMQ 3.10.8" */
} eb_session_stats;

/* Copies the config. NULL when memory is out. */
eb_session *eb_session_new (const eb_session_config *config);
void eb_session_free (eb_session *s);  /* what is not answered is freed */

/* A byte stream is ready: the conversation begins. Only while DOWN. */
void eb_session_attach (eb_session *s, eb_ms now);

/* The byte stream is gone, for 'why'. Deliveries not settled will come again,
** and those not taken yet are dropped: whoever drops what waits to be handled
** must not get one that came behind it. Operations wait for the next attach or
** their deadline. */
void eb_session_detach (eb_session *s, const eb_error *why, eb_ms now);

/* Bytes from the broker, any number at a time. False: 'err' is fatal for the
** connection; flush the output (it may hold a close), then detach. */
bool eb_session_feed (eb_session *s, const void *p, size_t n, eb_ms now,
                      eb_error *err);

/* Bytes for the broker. Whoever sends them consumes them from the buffer and
** says so. */
eb_buffer *eb_session_output (eb_session *s);
void eb_session_wrote (eb_session *s, eb_ms now);

/* Takes an operation or a settled delivery; the session owns it. */
void eb_session_submit (eb_session *s, eb_item *item, eb_ms now);

/* Timers, and encoding of what waits: call after any of the above, and at
** eb_session_deadline. False: as for feed (a silent peer, or memory is out). */
bool eb_session_tick (eb_session *s, eb_ms now, eb_error *err);
eb_ms eb_session_deadline (const eb_session *s);

/* Moves what happened to the end of 'to': answers, deliveries, notices. */
void eb_session_take (eb_session *s, eb_list *to);

/* Begins the end: no new operations, the unconfirmed are awaited until
** 'deadline', acks are sent, the connection is closed in order. */
void eb_session_close (eb_session *s, eb_ms deadline, eb_ms now);

/* After eb_session_close: nothing is left to wait for. */
bool eb_session_done (const eb_session *s, eb_ms now);

/* Answers every operation with 'why': the end, or a connection that will not
** come. Operations submitted later are answered the same way, until attach. */
void eb_session_fail (eb_session *s, const eb_error *why, eb_ms now);

/* Whether AMQP can carry it: short strings, header names, header size. Asked
** before it is queued; frame_max 0 is the size we ask brokers for. Thread: any. */
bool eb_session_check_publish (const eb_publish *op, size_t frame_max,
                               eb_error *err);

eb_phase eb_session_phase (const eb_session *s);
bool eb_session_ever_up (const eb_session *s);

void eb_session_notice (eb_session *s, eb_event event, uint64_t consumer,
                        const eb_error *why);
void eb_session_get_stats (const eb_session *s, eb_session_stats *to);

#endif
