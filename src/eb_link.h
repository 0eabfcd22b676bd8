/* eb_link: the byte stream under a session, opened again when it is lost.
**
** Connects to the hosts of the URL in turn, backs off when all have failed,
** carries bytes between the transport and the session, and tells the session
** when the stream comes and goes. It has no thread and never sleeps: whoever
** drives it calls it when the descriptor is ready and at eb_link_deadline. Only
** eb_link_open may block, in the system's resolver. Thread: one at a time.
*/
#ifndef EB_LINK_H
#define EB_LINK_H

#include <stdatomic.h>

#include "eb_backoff.h"
#include "eb_session.h"
#include "eb_transport.h"
#include "eb_url.h"

enum { EB_LINK_READ_SIZE = 64 * 1024 };

typedef struct eb_link_config {
  const eb_url *url;               /* outlives the link, as does what is next */
  atomic_bool *reached;            /* by any of the links that share it */
  int64_t connection_timeout_ms;   /* for one host: from its address to open-ok */
  int64_t reconnect_delay_ms;      /* first back-off */
  int64_t reconnect_max_ms;
  bool retry_refused;              /* go on after refused credentials */
} eb_link_config;

typedef enum eb_link_state {
  EB_LINK_NONE,        /* until retry_at */
  EB_LINK_CONNECTING,  /* TCP, TLS */
  EB_LINK_STREAMING    /* the session speaks */
} eb_link_state;

typedef struct eb_link {
  eb_link_state state;
  bool lost;             /* an established connection was; the owner resets it */
  bool given_up;         /* refused: no more attempts, unless another link was let in */
  uint64_t reads;        /* calls to the transport */
  uint64_t writes;
  /* its own, from here */
  eb_session *session;   /* not ours */
  const eb_url *url;
  atomic_bool *reached;  /* not ours */
  eb_tls *tls;
  eb_transport *transport;
  eb_transport *retired; /* dropped, its descriptor still open */
  eb_backoff backoff;
  int64_t connection_timeout_ms;
  bool retry_refused;
  size_t host;           /* next to try */
  size_t failed_hosts;   /* in this round */
  bool deaf;             /* one of them took a connection, and no more */
  size_t address;        /* of each name: the one to begin with, in this round */
  eb_error round;        /* what they said */
  eb_ms retry_at;
  eb_ms attempt_deadline;  /* of this host */
  eb_ms address_deadline;  /* of its present address */
  uint8_t read_buffer[EB_LINK_READ_SIZE];
} eb_link;

/* Loads certificates, connects to nothing. False: err says why; fini is due all
** the same. */
bool eb_link_init (eb_link *l, const eb_link_config *config,
                   eb_session *session, uint64_t seed, eb_error *err);
void eb_link_fini (eb_link *l);

/* Goes on connecting, or begins to when it is time and the stream before is buried:
** what it held on the broker, an exclusive queue, may be wanted again. */
void eb_link_open (eb_link *l, eb_ms now);
/* Reads what is there, but no more than a turn should. */
void eb_link_read (eb_link *l, eb_ms now);
/* Writes what the session has to say, as far as the socket takes it. */
void eb_link_write (eb_link *l, eb_ms now);
/* What is due besides the session's own timers. */
void eb_link_check (eb_link *l, eb_ms now);

/* The session found the peer to be broken, or silent. */
void eb_link_session_failed (eb_link *l, const eb_error *why, eb_ms now);

/* The end: what the session still has to say is tried once, the stream dropped. */
void eb_link_end (eb_link *l);

/* Closes the descriptor of a stream that was dropped, if there is one. Somebody
** may still be polling it when it is dropped: not now. */
void eb_link_bury (eb_link *l);

/* When eb_link_open or eb_link_check is due; EB_NEVER for never, and for as long as a
** stream is to be buried first. */
eb_ms eb_link_deadline (const eb_link *l);

/* What to poll for; false: nothing, there is no descriptor. */
bool eb_link_poll (const eb_link *l, int *fd, short *events);
/* There is something to read that poll does not know of. */
bool eb_link_pending (const eb_link *l);

#endif
