/* eb_tls_stream: see eb_tls.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "eb_tls_priv.h"

struct eb_tls_stream {
  SSL *ssl;
  const eb_tls *tls;    /* the transport's */
  const char *peer;     /* the transport's */
  char *name;           /* what the certificate must name */
  short read_wants;     /* POLLIN, or what the last AGAIN of a read asked for */
  short write_wants;
  bool ready;           /* the handshake is done */
  bool broken;          /* OpenSSL allows nothing but free */
  bool asked;           /* for a client certificate, and we have none */
  bool answered;        /* a byte of the stream has arrived */
  char rejected[200];   /* what was wrong with the certificate */
};

/* Bytes of a certificate that nobody vouches for: printable ones only. */
static size_t put_printable (char *to, size_t size, const unsigned char *from,
                             size_t n) {
  size_t used = 0;
  for (size_t i = 0; i < n && used + 1 < size; i++)
    to[used++] = from[i] > ' ' && from[i] < 0x7F ? (char)from[i] : '?';
  to[used] = '\0';
  return used;
}

static size_t put_name (char *to, size_t size, const GENERAL_NAME *name) {
  if (name->type == GEN_DNS) {
    const ASN1_IA5STRING *dns = name->d.dNSName;
    return put_printable(to, size, ASN1_STRING_get0_data(dns),
                         (size_t)ASN1_STRING_length(dns));
  }
  if (name->type == GEN_IPADD) {
    const ASN1_OCTET_STRING *ip = name->d.iPAddress;
    char text[INET6_ADDRSTRLEN];
    int family = ASN1_STRING_length(ip) == 4    ? AF_INET
                 : ASN1_STRING_length(ip) == 16 ? AF_INET6
                                                : AF_UNSPEC;
    if (family != AF_UNSPEC &&
        inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof text) != NULL)
      return put_printable(to, size, (const unsigned char *)text, strlen(text));
  }
  return 0;
}

static void list_names (const X509 *cert, char *to, size_t size) {
  GENERAL_NAMES *names =
      X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
  size_t used = 0;
  to[0] = '\0';
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    size_t before = used;
    if (size - used < 3) break;
    if (used > 0) {
      memcpy(to + used, ", ", 3);
      used += 2;
    }
    size_t n = put_name(to + used, size - used, sk_GENERAL_NAME_value(names, i));
    used = n > 0 ? used + n : before;
    to[used] = '\0';
  }
  GENERAL_NAMES_free(names);
}

static void put_expiry (const X509 *cert, char *to, size_t size) {
  struct tm end;
  if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1 ||
      strftime(to, size, "%Y-%m-%d %H:%M UTC", &end) == 0)
    to[0] = '\0';
}

int eb_tls_verify_step (int ok, X509_STORE_CTX *store) {
  if (ok) return ok;
  SSL *ssl = X509_STORE_CTX_get_ex_data(
      store, SSL_get_ex_data_X509_STORE_CTX_idx());
  eb_tls_stream *s = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
  const X509 *cert = X509_STORE_CTX_get_current_cert(store);
  if (s == NULL || cert == NULL) return ok;
  switch (X509_STORE_CTX_get_error(store)) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      list_names(cert, s->rejected, sizeof s->rejected);
      break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
      put_expiry(cert, s->rejected, sizeof s->rejected);
      break;
    default: break;
  }
  return ok;
}

static eb_io_status not_verified (eb_tls_stream *s, eb_error *err) {
  long result = SSL_get_verify_result(s->ssl);
  const char *why = X509_verify_cert_error_string(result);
  const char *ca = s->tls->cacertfile;
  const char *seen = s->rejected[0] != '\0' ? s->rejected : NULL;
  switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      eb_error_set(err, EB_ERR_TLS, "certificate of %s is not for %s but for "
                   "%s: %s; connect by a name it has, or pass "
                   "server_name_indication=...", s->peer, s->name,
                   seen != NULL ? seen : "no name at all", why);
      break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
      eb_error_set(err, EB_ERR_TLS, "certificate of %s, or of its CA, ended on "
                   "%s: %s; renew it on the broker, or check the clock of this "
                   "machine", s->peer, seen != NULL ? seen : "a past day", why);
      break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      eb_error_set(err, EB_ERR_TLS, "certificate of %s, or of its CA, is in the "
                   "future: %s; check the clock of this machine", s->peer, why);
      break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      if (ca == NULL)
        eb_error_set(err, EB_ERR_TLS, "certificate of %s is not trusted: %s; "
                     "pass cacertfile=... with the CA that signed it", s->peer,
                     why);
      else
        eb_error_set(err, EB_ERR_TLS, "certificate of %s is not trusted: %s; "
                     "cacertfile %s has no CA that signed it", s->peer, why, ca);
      break;
    case X509_V_ERR_INVALID_PURPOSE:
      eb_error_set(err, EB_ERR_TLS, "certificate of %s is not for servers: %s; "
                   "the broker needs one with the extended key usage serverAuth",
                   s->peer, why);
      break;
    case X509_V_ERR_EE_KEY_TOO_SMALL: case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
      eb_error_set(err, EB_ERR_TLS, "certificate of %s, or of its CA, is too "
                   "weak: %s; renew it with 2048 bits of RSA or more, or an "
                   "elliptic curve, signed with SHA-256", s->peer, why);
      break;
    default:
      eb_error_set(err, EB_ERR_TLS, "certificate of %s is not trusted: %s",
                   s->peer, why);
  }
  return EB_IO_FAILED;
}

int eb_tls_note_asked (SSL *ssl, X509 **cert, EVP_PKEY **key) {
  (void)cert, (void)key;
  eb_tls_stream *s = SSL_get_app_data(ssl);
  if (s != NULL) s->asked = true;
  return 0;
}

static bool is_address (const char *name) {
  unsigned char parsed[sizeof(struct in6_addr)];
  return inet_pton(AF_INET, name, parsed) == 1 ||
         inet_pton(AF_INET6, name, parsed) == 1;
}

/* The name as certificates have it: no zone (fe80::1%eth0), no final dot. */
static char *certificate_name (const char *host) {
  char *name = strdup(host);
  if (name == NULL) return NULL;
  if (strchr(name, ':') != NULL) name[strcspn(name, "%")] = '\0';
  size_t n = strlen(name);
  if (n > 1 && name[n - 1] == '.') name[n - 1] = '\0';
  return name;
}

static bool expect_name (eb_tls_stream *s, eb_error *err) {
  X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
  const char *given = s->tls->server_name;
  bool sni = given == NULL || given[0] != '\0';
  bool ok;
  ERR_clear_error();
  if (is_address(s->name)) {
    ok = X509_VERIFY_PARAM_set1_ip_asc(param, s->name) == 1;
  } else {
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    ok = X509_VERIFY_PARAM_set1_host(param, s->name, 0) == 1 &&
         (!sni || SSL_set_tlsext_host_name(s->ssl, s->name) == 1);
  }
  if (ok) return true;
  return eb_error_set(err, EB_ERR_TLS, "%s: TLS cannot check the name %s: %s",
                      s->peer, s->name, eb_tls_reason(ERR_peek_last_error()));
}

eb_tls_stream *eb_tls_stream_new (eb_tls *tls, int fd, const char *host,
                                  const char *peer, eb_error *err) {
  const char *given = tls->server_name;
  eb_tls_stream *s = calloc(1, sizeof *s);
  if (s != NULL) {
    s->tls = tls;
    s->peer = peer;
    s->read_wants = POLLIN;
    s->write_wants = POLLOUT;
    s->name = certificate_name(given != NULL && given[0] != '\0' ? given : host);
    ERR_clear_error();
    s->ssl = SSL_new(tls->ctx);
  }
  if (s == NULL || s->name == NULL || s->ssl == NULL) {
    eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for TLS to %s", peer);
    goto fail;
  }
  if (SSL_set_app_data(s->ssl, s) != 1 || SSL_set_fd(s->ssl, fd) != 1) {
    eb_error_set(err, EB_ERR_TLS, "%s: TLS cannot use the socket: %s", peer,
                 eb_tls_reason(ERR_peek_last_error()));
    goto fail;
  }
  if (!expect_name(s, err)) goto fail;
  SSL_set_connect_state(s->ssl);
  return s;
fail:
  eb_tls_stream_free(s);
  return NULL;
}

void eb_tls_stream_free (eb_tls_stream *s) {
  if (s == NULL) return;
  ERR_clear_error();
  if (s->ready && !s->broken) SSL_shutdown(s->ssl);
  SSL_free(s->ssl);
  free(s->name);
  free(s);
  ERR_clear_error();  /* the queue is the host's, too */
}

/* How calls on the stream fail. */

typedef enum outcome {
  NONE_YET,  /* WANT_READ or WANT_WRITE, in 'wants' */
  PEER_ENDED,
  BY_SYSTEM, /* an errno */
  BY_TLS     /* an entry of OpenSSL's error queue */
} outcome;

typedef struct result {
  outcome outcome;
  short wants;
  int system;
  unsigned long tls;
} result;

/* Right after the call: errno and the error queue speak of it only then. */
static result examine (eb_tls_stream *s, int returned) {
  result r = {BY_TLS, 0, errno, ERR_peek_error()};
  switch (SSL_get_error(s->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
      r.outcome = NONE_YET;
      r.wants = POLLIN;
      return r;
    case SSL_ERROR_WANT_WRITE:
      r.outcome = NONE_YET;
      r.wants = POLLOUT;
      return r;
    case SSL_ERROR_ZERO_RETURN:
      r.outcome = PEER_ENDED;
      return r;
    case SSL_ERROR_SYSCALL:
      r.outcome = r.system == 0 ? PEER_ENDED : BY_SYSTEM;
      break;
    default: break;
  }
#if defined(SSL_R_UNEXPECTED_EOF_WHILE_READING)
  /* Brokers close without close_notify; AMQP has its own goodbye, so a cut
  ** stream does not pass for a whole one. */
  if (ERR_GET_LIB(r.tls) == ERR_LIB_SSL &&
      ERR_GET_REASON(r.tls) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
    r.outcome = PEER_ENDED;
#endif
  s->broken = true;
  return r;
}

static bool is_about_certificate (int alert) {
  switch (alert) {
    case SSL_AD_HANDSHAKE_FAILURE:  /* TLS 1.2 brokers, when none was sent */
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_DECRYPT_ERROR:
    case 116:  /* certificate_required, TLS 1.3 */
      return true;
    default: return false;
  }
}

static void describe_alert (eb_tls_stream *s, int alert, eb_error *err) {
  const char *text = alert == 116 ? "certificate required"
                                  : SSL_alert_desc_string_long(alert);
  if (is_about_certificate(alert) && s->asked)
    eb_error_set(err, EB_ERR_TLS, "%s asks for a client certificate: pass "
                 "certfile=... and keyfile=... (TLS alert: %s)", s->peer, text);
  else if (is_about_certificate(alert) && s->tls->certfile != NULL &&
           alert != SSL_AD_HANDSHAKE_FAILURE)
    eb_error_set(err, EB_ERR_TLS, "%s does not accept the client certificate "
                 "%s (TLS alert: %s)", s->peer, s->tls->certfile, text);
  else if (alert == SSL_AD_PROTOCOL_VERSION)
    eb_error_set(err, EB_ERR_TLS, "%s speaks no TLS version that we do; at "
                 "least TLS 1.2 is needed (TLS alert: %s)", s->peer, text);
  else if (alert == SSL_AD_UNRECOGNIZED_NAME)
    eb_error_set(err, EB_ERR_TLS, "%s does not know the name %s; pass "
                 "server_name_indication=... (TLS alert: %s)", s->peer, s->name,
                 text);
  else if (alert == SSL_AD_HANDSHAKE_FAILURE)
    eb_error_set(err, EB_ERR_TLS, "%s ended TLS with the alert '%s': mostly "
                 "there is no cipher suite in common; its log tells", s->peer,
                 text);
  else
    eb_error_set(err, EB_ERR_TLS, "%s ended TLS with the alert '%s'; its log "
                 "may tell why", s->peer, text);
}

/* OpenSSL's own failure, and no verdict on the peer: it may be tried again. */
static bool is_own (unsigned long e) {
  switch (ERR_GET_LIB(e)) {
    case ERR_LIB_EVP: case ERR_LIB_BIO: case ERR_LIB_CRYPTO: case ERR_LIB_RAND:
#if defined(ERR_LIB_PROV)
    case ERR_LIB_PROV:
#endif
      return true;
    default: break;
  }
  switch (ERR_GET_REASON(e)) {
    case ERR_R_INTERNAL_ERROR: case ERR_R_INIT_FAIL: case ERR_R_EVP_LIB:
      return true;
    default: return false;
  }
}

static void describe_tls (eb_tls_stream *s, unsigned long e, eb_error *err) {
  int reason = ERR_GET_REASON(e);
  if (ERR_GET_LIB(e) == ERR_LIB_SSL) {
    if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255) {
      describe_alert(s, reason - SSL_AD_REASON_OFFSET, err);
      return;
    }
    switch (reason) {
      case SSL_R_CERTIFICATE_VERIFY_FAILED:
        not_verified(s, err);
        return;
      case SSL_R_WRONG_VERSION_NUMBER:
      case SSL_R_HTTP_REQUEST:
      case SSL_R_PACKET_LENGTH_TOO_LONG:
        if (s->ready) break;
        eb_error_set(err, EB_ERR_TLS, "%s does not answer in TLS (%s): plain "
                     "AMQP is amqp://, mostly on port 5672; TLS is amqps://, "
                     "mostly on port 5671", s->peer, eb_tls_reason(e));
        return;
      case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        eb_error_set(err, EB_ERR_TLS, "what %s sent was damaged on the way, or "
                     "forged: %s", s->peer, eb_tls_reason(e));
        return;
      default: break;
    }
  }
  eb_error_set(err, is_own(e) ? EB_ERR_CONNECTION : EB_ERR_TLS,
               "TLS with %s failed: %s", s->peer, eb_tls_reason(e));
}

/* The alert of a broker that wants a client certificate may be lost when it
** closes with our bytes unread. What was seen in the handshake may explain it;
** but RabbitMQ asks also where it does not insist, and may have been restarted. */
static bool lacks_certificate (const eb_tls_stream *s) {
  return s->asked && !s->answered;
}

static void describe (eb_tls_stream *s, const result *r, eb_error *err) {
  if (r->outcome == BY_TLS) {
    describe_tls(s, r->tls, err);
    return;
  }
  const char *why = r->outcome == PEER_ENDED ? "closed by the peer"
                                             : strerror(r->system);
  if (lacks_certificate(s))
    eb_error_set(err, EB_ERR_CONNECTION, "connection to %s lost: %s; it asked "
                 "for a client certificate, and may insist: pass certfile=... "
                 "and keyfile=...", s->peer, why);
  else if (!s->ready)
    eb_error_set(err, EB_ERR_CONNECTION, "connection to %s lost in the TLS "
                 "handshake: %s; is it a TLS port?", s->peer, why);
  else
    eb_error_set(err, EB_ERR_CONNECTION, "connection to %s lost: %s", s->peer,
                 why);
}

static eb_io_status failed (eb_tls_stream *s, const result *r, eb_error *err) {
  describe(s, r, err);
  s->broken = true;
  if (eb_tls_out_of_memory() ||
      SSL_get_verify_result(s->ssl) == X509_V_ERR_OUT_OF_MEM)
    eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for TLS with %s", s->peer);
  return EB_IO_FAILED;
}

/* Before every call: OpenSSL takes what is left there for this call's error. */
static void prepare (void) {
  ERR_clear_error();
  errno = 0;
}

eb_io_status eb_tls_stream_handshake (eb_tls_stream *s, eb_error *err) {
  prepare();
  int returned = SSL_do_handshake(s->ssl);
  if (returned == 1) {
    s->ready = true;
    s->read_wants = POLLIN;
    return EB_IO_OK;
  }
  result r = examine(s, returned);
  if (r.outcome != NONE_YET) return failed(s, &r, err);
  s->read_wants = r.wants;
  return EB_IO_AGAIN;
}

eb_io_status eb_tls_stream_read (eb_tls_stream *s, void *to, size_t n,
                                 size_t *done, eb_error *err) {
  prepare();
  int returned = SSL_read_ex(s->ssl, to, n, done);
  s->read_wants = POLLIN;
  if (returned == 1) {
    s->answered = true;
    return EB_IO_OK;
  }
  *done = 0;
  result r = examine(s, returned);
  if (r.outcome == NONE_YET) {
    s->read_wants = r.wants;
    return EB_IO_AGAIN;
  }
  if (r.outcome == PEER_ENDED && !lacks_certificate(s)) return EB_IO_EOF;
  return failed(s, &r, err);
}

/* A peer that rejects us says why, closes, and then our write fails: the reason
** is waiting to be read. True: it was, and is in err. */
static bool read_alert (eb_tls_stream *s, eb_error *err) {
  char byte;
  size_t n;
  prepare();
  int returned = SSL_peek_ex(s->ssl, &byte, 1, &n);
  if (returned == 1) return false;
  result r = examine(s, returned);
  if (r.outcome != BY_TLS) return false;
  (void)failed(s, &r, err);
  return true;
}

eb_io_status eb_tls_stream_write (eb_tls_stream *s, const void *from, size_t n,
                                  size_t *done, eb_error *err) {
  prepare();
  int returned = SSL_write_ex(s->ssl, from, n, done);
  s->write_wants = POLLOUT;
  if (returned == 1) return EB_IO_OK;
  *done = 0;
  result r = examine(s, returned);
  if (r.outcome == NONE_YET) {
    s->write_wants = r.wants;
    return EB_IO_AGAIN;
  }
  if (r.outcome == BY_SYSTEM && read_alert(s, err)) return EB_IO_FAILED;
  return failed(s, &r, err);
}

short eb_tls_stream_events (const eb_tls_stream *s, bool want_write) {
  if (!want_write || !s->ready) return s->read_wants;
  return (short)(s->read_wants | s->write_wants);
}

bool eb_tls_stream_pending (const eb_tls_stream *s) {
  return SSL_pending(s->ssl) > 0;
}
