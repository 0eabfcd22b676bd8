/* eb_transport: a non-blocking byte stream to a broker, over TCP or TLS.
**
** One transport is one attempt at one host: resolve, connect, shake hands,
** stream, close. It never blocks but in eb_transport_open, which may ask the
** system's resolver for a name (an address needs no asking). It owns no timer:
** whoever polls decides when it took too long. Thread: io only.
*/
#ifndef EB_TRANSPORT_H
#define EB_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "eb_error.h"

typedef struct eb_transport eb_transport;
typedef struct eb_tls eb_tls;  /* client-side TLS settings, shared by attempts */

typedef struct eb_tls_options {
  const char *cacertfile;   /* NULL: the system's store */
  const char *certfile;     /* client certificate chain, PEM; NULL: none */
  const char *keyfile;      /* NULL: in certfile */
  const char *server_name;  /* checked and sent as SNI; NULL: the host's;
                               "": the host's is checked, no SNI is sent */
  bool verify;              /* peer certificate and name; on unless told */
} eb_tls_options;

/* Loads certificates; 'err' names the file that is wrong (tls). Minimum TLS 1.2.
** The options are copied. */
eb_tls *eb_tls_new (const eb_tls_options *options, eb_error *err);
void eb_tls_free (eb_tls *tls);  /* NULL allowed; after the last transport */

typedef enum eb_io_status {
  EB_IO_OK,     /* progress was made; for read and write: *done > 0 */
  EB_IO_AGAIN,  /* wait for eb_transport_events, then call again */
  EB_IO_EOF,    /* the peer closed (read only) */
  EB_IO_FAILED  /* see err; only free is left */
} eb_io_status;

/* Begins to connect to host:port; tls NULL for plain TCP. NULL: err says why
** (connection). All addresses of the name are tried in turn by 'advance', from
** that of the number 'first' on, which may be larger than there are. */
eb_transport *eb_transport_open (const char *host, unsigned port, size_t first,
                                 eb_tls *tls, eb_error *err);

/* Drives connecting and the TLS handshake. OK: the stream is ready. The
** descriptor may change with every call: another address has another. */
eb_io_status eb_transport_advance (eb_transport *t, eb_error *err);

/* TCP was connected: that address takes connections, whatever came of it. */
bool eb_transport_was_connected (const eb_transport *t);

/* Addresses of the name that were not tried yet. */
size_t eb_transport_addresses_left (const eb_transport *t);

/* Gives up an address that does not answer and goes on with the next: AGAIN.
** FAILED when there is none, or when TCP is connected already. So that a name
** whose first address swallows packets is reached by its second, the caller
** gives each address its share of the time: left / (addresses_left + 1). */
eb_io_status eb_transport_skip_address (eb_transport *t, eb_error *err);

/* Reads at most n bytes, n > 0. */
eb_io_status eb_transport_read (eb_transport *t, void *to, size_t n,
                                size_t *done, eb_error *err);
/* Writes at most n bytes, n > 0. After AGAIN pass the same bytes again, or more;
** the buffer may have moved. */
eb_io_status eb_transport_write (eb_transport *t, const void *from, size_t n,
                                 size_t *done, eb_error *err);

/* What to poll for: the descriptor, and POLLIN/POLLOUT that the last AGAIN
** asked for (TLS may want to read to write). 'want_write': the caller has bytes
** to send. */
int eb_transport_fd (const eb_transport *t);
short eb_transport_events (const eb_transport *t, bool want_write);

/* TLS holds decrypted bytes that poll does not know of. */
bool eb_transport_pending (const eb_transport *t);

/* "127.0.0.1:5672", for messages. */
const char *eb_transport_peer (const eb_transport *t);

/* Closes at once (a TLS close_notify is tried without waiting). NULL allowed.
** OpenSSL writes with write(2): a thread that uses TLS blocks SIGPIPE. */
void eb_transport_free (eb_transport *t);

#endif
