/* eb_error: the closed list of what can go wrong, and one error by value.
**
** An eb_error owns nothing: it is copied freely, across threads too. Its text
** is cut to fit, never allocated, so reporting an error cannot itself fail.
** Thread: any.
*/
#ifndef EB_ERROR_H
#define EB_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

typedef enum eb_code {
  EB_OK = 0,
  EB_ERR_INVALID,       /* what the caller asked for cannot be sent */
  EB_ERR_MALFORMED,     /* what arrived cannot be understood */
  EB_ERR_TOO_LARGE,     /* a body, header or name over its limit */
  EB_ERR_CLOSED,        /* the bus was closed */
  EB_ERR_FORKED,        /* the bus belongs to the parent process */
  EB_ERR_TIMEOUT,       /* the deadline passed; the outcome may still come */
  EB_ERR_FULL,          /* the outbox stayed at capacity */
  EB_ERR_BLOCKED,       /* the broker has a resource alarm */
  EB_ERR_RETURNED,      /* mandatory, and no queue took it */
  EB_ERR_NACKED,        /* the broker refused responsibility */
  EB_ERR_UNKNOWN,       /* sent, connection lost, not sent again */
  EB_ERR_CONNECTION,    /* no connection, or it was lost */
  EB_ERR_REFUSED,       /* credentials or permissions (403) */
  EB_ERR_NOT_FOUND,     /* exchange, queue (404) or vhost does not exist */
  EB_ERR_PRECONDITION,  /* declared otherwise (406) */
  EB_ERR_LOCKED,        /* exclusive to another connection (405) */
  EB_ERR_NOT_ALLOWED,   /* not allowed (530), or not implemented (540) */
  EB_ERR_PROTOCOL,      /* the peer broke AMQP 0-9-1 */
  EB_ERR_TLS,           /* certificate or handshake */
  EB_ERR_CANCELLED,     /* the broker cancelled the consumer */
  EB_ERR_STALE,         /* a delivery of an earlier channel: already given back */
  EB_ERR_NO_MEMORY,
  EB_ERR_INTERNAL,
  EB_CODE_COUNT
} eb_code;

/* Of a function that is called when something went wrong: the compiler keeps what
** leads there apart from the usual way. */
#define EB_COLD __attribute__((cold))

enum { EB_ERROR_TEXT = 512 };

typedef struct eb_error {
  eb_code code;
  int reply_code;             /* AMQP reply code, 0 when the broker sent none */
  char message[EB_ERROR_TEXT]; /* always terminated */
} eb_error;

/* The stable name users branch on: "timeout", "not_found", ... */
const char *eb_code_name (eb_code code);

/* Whether doing the same again later can succeed. */
bool eb_code_retryable (eb_code code);

/* AMQP 0-9-1 reply code (section 1.2, "Constants") to ours. */
eb_code eb_code_of_reply (int reply_code);

void eb_error_clear (eb_error *err);

/* Sets code and text. Part of the text may come from a peer and reach a terminal
** or a log: control characters become '?'. 'err' may be NULL. Returns false, so
** that a failing function can end with 'return eb_error_set(...)'. */
bool eb_error_set (eb_error *err, eb_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))) EB_COLD;
bool eb_error_setv (eb_error *err, eb_code code, const char *fmt, va_list ap)
    EB_COLD;

#endif
