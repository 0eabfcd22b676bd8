/* transport_peer: real peers for the tests of eb_transport and eb_tls: threads on
** loopback that speak TCP or TLS, with certificates made here. */
#ifndef TRANSPORT_PEER_H
#define TRANSPORT_PEER_H

/* Each of the two programs uses its part of the kit. */
#pragma GCC diagnostic ignored "-Wunused-function"

#include "../../src/eb_transport.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/eb_clock.h"
#include "addresses.h"
#include "check.h"

enum { PATIENCE_MS = 30000 };

/* Certificates: a CA, a stranger's CA, and leaves of them, as files. */

static char dir[64];

static const char *in_dir (const char *name) {
  static char paths[8][160];
  static unsigned turn;
  char *path = paths[turn++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", dir, name);
  return path;
}

typedef struct identity {
  X509 *cert;
  EVP_PKEY *key;
} identity;

static EVP_PKEY *new_key (void) {
  EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
  EVP_PKEY *key = NULL;
  EVP_PKEY_keygen_init(c);
  EVP_PKEY_CTX_set_ec_paramgen_curve_nid(c, NID_X9_62_prime256v1);
  if (EVP_PKEY_keygen(c, &key) != 1) abort();
  EVP_PKEY_CTX_free(c);
  return key;
}

static void add_extension (X509 *cert, int nid, const char *value) {
  X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
  if (e == NULL) abort();
  X509_add_ext(cert, e, -1);
  X509_EXTENSION_free(e);
}

/* Valid from 'from' to 'until', in seconds from now; 'issuer' NULL: itself. */
static identity new_identity (const char *name, const char *alt_names,
                              const identity *issuer, long from, long until) {
  static long serial = 1;
  identity id = {X509_new(), new_key()};
  X509_set_version(id.cert, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
  X509_gmtime_adj(X509_getm_notBefore(id.cert), from);
  X509_gmtime_adj(X509_getm_notAfter(id.cert), until);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(id.cert), "CN", MBSTRING_ASC,
                             (const unsigned char *)name, -1, -1, 0);
  X509 *by = issuer != NULL ? issuer->cert : id.cert;
  X509_set_issuer_name(id.cert, X509_get_subject_name(by));
  X509_set_pubkey(id.cert, id.key);
  if (alt_names != NULL)
    add_extension(id.cert, NID_subject_alt_name, alt_names);
  else
    add_extension(id.cert, NID_basic_constraints, "critical,CA:TRUE");
  X509_sign(id.cert, issuer != NULL ? issuer->key : id.key, EVP_sha256());
  return id;
}

static void save (const identity *id, const char *cert, const char *key,
                  const char *password) {
  FILE *f = fopen(in_dir(cert), "w");
  if (f == NULL || PEM_write_X509(f, id->cert) != 1) abort();
  fclose(f);
  f = fopen(in_dir(key), "w");
  if (f == NULL) abort();
  PEM_write_PrivateKey(f, id->key, password != NULL ? EVP_aes_128_cbc() : NULL,
                       (const unsigned char *)password,
                       password != NULL ? (int)strlen(password) : 0, NULL, NULL);
  fclose(f);
}

static void save_text (const char *name, const char *text) {
  FILE *f = fopen(in_dir(name), "w");
  if (f == NULL || fputs(text, f) < 0) abort();
  fclose(f);
}

static void drop (identity *id) {
  X509_free(id->cert);
  EVP_PKEY_free(id->key);
}

static void make_certificates (void) {
  enum { HOUR = 3600, DAY = 86400 };
  static const char *const local = "DNS:localhost,IP:127.0.0.1";
  identity ca = new_identity("test CA", NULL, NULL, -DAY, DAY);
  identity stranger = new_identity("stranger CA", NULL, NULL, -DAY, DAY);
  struct {
    const char *cert, *key;
    identity id;
  } leaves[] = {
      {"good.pem", "good.key", new_identity("good", local, &ca, -HOUR, DAY)},
      {"named.pem", "named.key",
       new_identity("named", "DNS:broker.example", &ca, -HOUR, DAY)},
      {"expired.pem", "expired.key",
       new_identity("expired", local, &ca, -DAY, -HOUR)},
      {"future.pem", "future.key", new_identity("future", local, &ca, HOUR, DAY)},
      {"self.pem", "self.key", new_identity("self", local, NULL, -HOUR, DAY)},
      {"client.pem", "client.key",
       new_identity("client", "DNS:client", &ca, -HOUR, DAY)},
      {"alien.pem", "alien.key",
       new_identity("alien", "DNS:client", &stranger, -HOUR, DAY)},
  };
  char hashed[32];
  snprintf(dir, sizeof dir, "/tmp/eb_transport_test.XXXXXX");
  if (mkdtemp(dir) == NULL) abort();
  save(&ca, "ca.pem", "ca.key", NULL);
  save(&stranger, "stranger.pem", "stranger.key", NULL);
  for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
    save(&leaves[i].id, leaves[i].cert, leaves[i].key, NULL);
    if (i == 5) save(&leaves[i].id, "locked.pem", "locked.key", "secret");
    drop(&leaves[i].id);
  }
  mkdir(in_dir("cas"), 0700);
  snprintf(hashed, sizeof hashed, "cas/%08lx.0", X509_subject_name_hash(ca.cert));
  save(&ca, hashed, "ca.key", NULL);
  save_text("garbage.pem", "this is not PEM\n");
  drop(&ca);
  drop(&stranger);
}

static void remove_certificates (void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  if (system(command) != 0) printf("%s stays behind\n", dir);
}

/* Peers: each takes one connection and treats it in one manner. */

typedef enum manner {
  ECHO,    /* until the client closes */
  SILENT,  /* reads and says nothing; no TLS handshake */
  CLOSE,   /* after 10 bytes; under TLS without close_notify */
  NOTIFY,  /* as CLOSE, with close_notify */
  RESET,   /* after 10 bytes */
  GREET,   /* as RabbitMQ to what is not AMQP: its version, and close */
  HANG_UP  /* at once */
} manner;

typedef struct peer {
  manner manner;
  int listener;
  unsigned port;
  SSL_CTX *ctx;  /* NULL: plain */
  bool tiny;     /* socket buffers */
  char sni[64];  /* what the client sent, good after stop */
  pthread_t thread;
} peer;

static SSL_CTX *server_context (const char *cert, const char *key) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL ||
      SSL_CTX_use_certificate_file(ctx, in_dir(cert), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_use_PrivateKey_file(ctx, in_dir(key), SSL_FILETYPE_PEM) != 1)
    abort();
  return ctx;
}

/* Asks for a client certificate of the CA, and insists. */
static SSL_CTX *demanding_context (int version) {
  SSL_CTX *ctx = server_context("good.pem", "good.key");
  SSL_CTX_load_verify_locations(ctx, in_dir("ca.pem"), NULL);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     NULL);
  SSL_CTX_set_min_proto_version(ctx, version);
  SSL_CTX_set_max_proto_version(ctx, version);
  return ctx;
}

static ssize_t take (int fd, SSL *ssl, void *to, size_t n) {
  return ssl != NULL ? SSL_read(ssl, to, (int)n) : recv(fd, to, n, 0);
}

static bool give (int fd, SSL *ssl, const char *from, size_t n) {
  while (n > 0) {
    ssize_t put = ssl != NULL ? SSL_write(ssl, from, (int)n)
                              : send(fd, from, n, MSG_NOSIGNAL);
    if (put <= 0) return false;
    from += put;
    n -= (size_t)put;
  }
  return true;
}

static void treat (const peer *p, int fd, SSL *ssl) {
  char bytes[4096];
  ssize_t n;
  switch (p->manner) {
    case ECHO:
      while ((n = take(fd, ssl, bytes, sizeof bytes)) > 0)
        if (!give(fd, ssl, bytes, (size_t)n)) break;
      break;
    case SILENT:
      while (recv(fd, bytes, sizeof bytes, 0) > 0) {
      }
      break;
    case CLOSE: case NOTIFY: case RESET:
      for (size_t left = 10; left > 0; left -= (size_t)n)
        if ((n = take(fd, ssl, bytes, left)) <= 0) break;
      if (p->manner == NOTIFY) SSL_shutdown(ssl);
      break;
    case GREET: give(fd, NULL, "AMQP\0\0\11\1", 8); break;
    case HANG_UP: break;
  }
}

static void *serve (void *arg) {
  peer *p = arg;
  struct pollfd ready = {p->listener, POLLIN, 0};
  if (poll(&ready, 1, PATIENCE_MS) != 1) return NULL;
  int fd = accept(p->listener, NULL, NULL);
  if (fd < 0) return NULL;
  struct timeval patience = {PATIENCE_MS / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  bool shakes = p->ctx != NULL && p->manner != SILENT && p->manner != GREET &&
                p->manner != HANG_UP;
  SSL *ssl = NULL;
  bool ok = true;
  if (shakes) {
    ERR_clear_error();
    ssl = SSL_new(p->ctx);
    SSL_set_fd(ssl, fd);
    ok = SSL_accept(ssl) == 1;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name != NULL) snprintf(p->sni, sizeof p->sni, "%s", name);
  }
  if (ok) treat(p, fd, ssl);
  if (p->manner == RESET) {
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  SSL_free(ssl);
  close(fd);
  return NULL;
}

/* The peer owns ctx. Only a failed test leaves a peer running. */
static peer *start (manner as, SSL_CTX *ctx) {
  peer *p = calloc(1, sizeof *p);
  if (p == NULL) abort();
  p->manner = as;
  p->ctx = ctx;
  p->tiny = true;
  p->listener = new_listener("127.0.0.1", &p->port, 8, p->tiny);
  if (p->listener < 0 || pthread_create(&p->thread, NULL, serve, p) != 0)
    abort();
  return p;
}

static void stop (peer *p) {
  pthread_join(p->thread, NULL);
  close(p->listener);
  SSL_CTX_free(p->ctx);
  free(p);
}

/* A port of loopback where nobody listens. */
static unsigned free_port (void) {
  unsigned port = 0;
  int fd = new_listener("127.0.0.1", &port, 1, false);
  if (fd < 0) abort();
  close(fd);
  return port;
}

/* The client, driven as the I/O thread drives it. */

static bool await (eb_transport *t, bool want_write, eb_ms deadline) {
  struct pollfd p = {eb_transport_fd(t), eb_transport_events(t, want_write), 0};
  eb_ms left = deadline - eb_clock_now();
  return left > 0 && poll(&p, 1, (int)left) >= 0;
}

static eb_io_status drive (eb_transport *t, eb_error *err) {
  eb_ms deadline = eb_clock_now() + PATIENCE_MS;
  eb_io_status status;
  do {
    status = eb_transport_advance(t, err);
  } while (status == EB_IO_AGAIN && await(t, false, deadline));
  return status;
}

static eb_io_status read_some (eb_transport *t, void *to, size_t n,
                               size_t *done, eb_error *err) {
  eb_ms deadline = eb_clock_now() + PATIENCE_MS;
  eb_io_status status;
  do {
    status = eb_transport_read(t, to, n, done, err);
  } while (status == EB_IO_AGAIN && await(t, false, deadline));
  return status;
}

static eb_io_status write_some (eb_transport *t, const void *from, size_t n,
                                size_t *done, eb_error *err) {
  eb_ms deadline = eb_clock_now() + PATIENCE_MS;
  eb_io_status status;
  do {
    status = eb_transport_write(t, from, n, done, err);
  } while (status == EB_IO_AGAIN && await(t, true, deadline));
  return status;
}

static eb_tls_options trusting (const char *ca) {
  eb_tls_options o = {.cacertfile = in_dir(ca), .verify = true};
  return o;
}

/* What a client with these options meets: "" for a connection that works both
** ways, else the error. TLS 1.3 rejections arrive with the first read. */
static const char *meets (const char *host, peer *p, const eb_tls_options *o) {
  static eb_error err;
  eb_transport *t = NULL;
  size_t n;
  char byte = 'x';
  eb_error_clear(&err);
  eb_tls *tls = eb_tls_new(o, &err);
  if (tls != NULL) t = eb_transport_open(host, p->port, 0, tls, &err);
  if (t != NULL && drive(t, &err) == EB_IO_OK &&
      write_some(t, &byte, 1, &n, &err) == EB_IO_OK &&
      read_some(t, &byte, 1, &n, &err) == EB_IO_EOF)
    snprintf(err.message, sizeof err.message, "EOF");
  eb_transport_free(t);
  eb_tls_free(tls);
  return err.message;
}

/* Meets a peer with that certificate. */
static const char *meets_cert (const char *host, const char *cert,
                               const char *key, const eb_tls_options *o) {
  peer *p = start(ECHO, server_context(cert, key));
  const char *said = meets(host, p, o);
  stop(p);
  return said;
}

#define SAYS(said, words) \
  do { \
    const char *says = (said); \
    if (strstr(says, words) == NULL) \
      CHECK_FAIL("\"%s\" lacks \"%s\"", says, words); \
  } while (0)

#define CONNECT(p, tls_settings) \
  eb_error err; \
  eb_error_clear(&err); \
  eb_transport *t = eb_transport_open("127.0.0.1", (p)->port, 0, tls_settings, &err); \
  if (t == NULL || drive(t, &err) != EB_IO_OK) CHECK_FAIL("%s", err.message)

#endif
