/* eb_tls_priv: what eb_tls.c and eb_tls_stream.c share. The only header of the
** engine that includes OpenSSL's.
*/
#ifndef EB_TLS_PRIV_H
#define EB_TLS_PRIV_H

#include <openssl/ssl.h>

#include "eb_tls.h"

struct eb_tls {
  SSL_CTX *ctx;
  char *cacertfile;   /* NULL: the system's store */
  char *certfile;     /* NULL: none */
  char *server_name;  /* NULL: the host's; "": no SNI */
};

/* The text of an entry of OpenSSL's error queue. */
const char *eb_tls_reason (unsigned long e);
/* Whether something in OpenSSL's queue of errors, which is empty then, came of that. */
bool eb_tls_out_of_memory (void);

/* OpenSSL calls these for every stream, found by SSL_get_app_data. The first
** keeps for the message what was wrong with a certificate, and changes nothing:
** the certificate is at hand only there. The second is called when the broker
** asks for a client certificate and we have none. */
int eb_tls_verify_step (int ok, X509_STORE_CTX *store);
int eb_tls_note_asked (SSL *ssl, X509 **cert, EVP_PKEY **key);

#endif
