/* eb_tls: TLS on a connected socket, for eb_transport alone.
**
** eb_tls_new, eb_tls_free and the options are in eb_transport.h. Here is the
** seam between the two: the transport knows addresses and sockets and
** nothing of OpenSSL; the stream knows OpenSSL and nothing of addresses.
** Thread: io only.
*/
#ifndef EB_TLS_H
#define EB_TLS_H

#include "eb_transport.h"

typedef struct eb_tls_stream eb_tls_stream;

/* A client on the non-blocking socket 'fd', which stays the caller's, as does
** 'peer' ("host:port", for messages); both outlive the stream. 'host' is what
** the certificate must name unless the options say otherwise. NULL: see err. */
eb_tls_stream *eb_tls_stream_new (eb_tls *tls, int fd, const char *host,
                                  const char *peer, eb_error *err);

/* Tries to say close_notify, without waiting. NULL allowed. */
void eb_tls_stream_free (eb_tls_stream *s);

/* As those of eb_transport. */
eb_io_status eb_tls_stream_handshake (eb_tls_stream *s, eb_error *err);
eb_io_status eb_tls_stream_read (eb_tls_stream *s, void *to, size_t n,
                                 size_t *done, eb_error *err);
eb_io_status eb_tls_stream_write (eb_tls_stream *s, const void *from, size_t n,
                                  size_t *done, eb_error *err);
short eb_tls_stream_events (const eb_tls_stream *s, bool want_write);
bool eb_tls_stream_pending (const eb_tls_stream *s);

#endif
