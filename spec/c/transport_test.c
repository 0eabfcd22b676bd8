/* eb_transport and eb_tls against real peers: threads on loopback that speak TCP
** or TLS, with certificates made here. */
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
#include "check.h"

enum {
  PATIENCE_MS = 10000,
  TINY = 2048  /* send buffers (small windows make loopback crawl) */
};

/* A name with two addresses, whatever the machine's hosts file says: 127.0.0.2,
** then 127.0.0.1. Ours comes before the C library's, and asks it. */
int getaddrinfo (const char *host, const char *port,
                 const struct addrinfo *hints, struct addrinfo **to) {
  typedef int resolver (const char *, const char *, const struct addrinfo *,
                        struct addrinfo **);
  static _Atomic(resolver *) next;
  resolver *ask = atomic_load(&next);
  if (ask == NULL) {
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&ask, &symbol, sizeof ask);
    atomic_store(&next, ask);
  }
  if (host == NULL || strcmp(host, "two.test") != 0)
    return ask(host, port, hints, to);
  if (hints->ai_flags & AI_NUMERICHOST) return EAI_NONAME;
  int e = ask("127.0.0.2", port, hints, to);
  if (e != 0) return e;
  return ask("127.0.0.1", port, hints, &(*to)->ai_next);
}

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

/* *port 0: any, and told. */
static int new_listener (const char *address, unsigned *port, int backlog,
                         bool tiny) {
  struct sockaddr_storage any;
  memset(&any, 0, sizeof any);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&any;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&any;
  int family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
  socklen_t n = family == AF_INET ? sizeof *v4 : sizeof *v6;
  any.ss_family = (sa_family_t)family;
  if (family == AF_INET) {
    inet_pton(AF_INET, address, &v4->sin_addr);
    v4->sin_port = htons((uint16_t)*port);
  } else {
    inet_pton(AF_INET6, address, &v6->sin6_addr);
    v6->sin6_port = htons((uint16_t)*port);
  }
  int fd = socket(family, SOCK_STREAM, 0);
  int small = TINY;
  if (fd < 0) return -1;
  if (tiny)  /* before listen: accepted sockets inherit it */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  if (bind(fd, (struct sockaddr *)&any, n) != 0 || listen(fd, backlog) != 0 ||
      getsockname(fd, (struct sockaddr *)&any, &n) != 0) {
    close(fd);
    return -1;
  }
  *port = ntohs(family == AF_INET ? v4->sin_port : v6->sin6_port);
  return fd;
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
  if (tls != NULL) t = eb_transport_open(host, p->port, tls, &err);
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
  eb_transport *t = eb_transport_open("127.0.0.1", (p)->port, tls_settings, &err); \
  if (t == NULL || drive(t, &err) != EB_IO_OK) CHECK_FAIL("%s", err.message)

/* TCP */

TEST(echoes_over_tcp) {
  peer *p = start(ECHO, NULL);
  CONNECT(p, NULL);
  char expected[32], bytes[16];
  size_t n;
  snprintf(expected, sizeof expected, "127.0.0.1:%u", p->port);
  CHECK_STR(eb_transport_peer(t), expected);
  CHECK_INT(eb_transport_read(t, bytes, sizeof bytes, &n, &err), EB_IO_AGAIN);
  CHECK_INT(n, 0);
  CHECK_INT(eb_transport_read(t, bytes, 0, &n, &err), EB_IO_AGAIN);
  CHECK_INT(eb_transport_write(t, bytes, 0, &n, &err), EB_IO_AGAIN);
  CHECK_INT(eb_transport_events(t, false), POLLIN);
  CHECK_INT(eb_transport_events(t, true), POLLIN | POLLOUT);
  CHECK(!eb_transport_pending(t));
  CHECK_INT(write_some(t, "hello", 5, &n, &err), EB_IO_OK);
  CHECK_INT(n, 5);
  CHECK_INT(read_some(t, bytes, sizeof bytes, &n, &err), EB_IO_OK);
  CHECK_MEM(bytes, n, "hello", 5);
  CHECK_INT(eb_transport_advance(t, &err), EB_IO_OK);
  eb_transport_free(t);
  stop(p);
}

static int option_of (int fd, int level, int name) {
  int value = 0;
  socklen_t n = sizeof value;
  return getsockopt(fd, level, name, &value, &n) == 0 ? value : -1;
}

TEST(the_socket_is_set_up) {
  peer *p = start(ECHO, NULL);
  CONNECT(p, NULL);
  int fd = eb_transport_fd(t);
  size_t n;
  char byte = 'x';
  CHECK_INT(write_some(t, &byte, 1, &n, &err), EB_IO_OK);
  CHECK_INT(read_some(t, &byte, 1, &n, &err), EB_IO_OK);  /* it has accepted: */
  CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK(option_of(fd, IPPROTO_TCP, TCP_NODELAY) > 0);
  CHECK(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) > 0);
  eb_transport_free(t);
  CHECK(fcntl(fd, F_GETFD) == -1);  /* nobody takes the number meanwhile */
  eb_transport_free(NULL);
  stop(p);
}

TEST(a_refused_port_is_named) {
  eb_error err;
  char words[64];
  unsigned port = free_port();
  eb_transport *t = eb_transport_open("127.0.0.1", port, NULL, &err);
  if (t != NULL) {
    char byte;
    size_t n;
    CHECK_INT(drive(t, &err), EB_IO_FAILED);
    snprintf(words, sizeof words, "cannot connect to 127.0.0.1:%u: ", port);
    SAYS(err.message, words);
    SAYS(err.message, strerror(ECONNREFUSED));
    CHECK_INT(err.code, EB_ERR_CONNECTION);
    CHECK_INT(eb_transport_advance(t, &err), EB_IO_FAILED);
    SAYS(err.message, "failed already");
    CHECK_INT(eb_transport_read(t, &byte, 1, &n, &err), EB_IO_FAILED);
    CHECK_INT(eb_transport_write(t, "x", 1, &n, &err), EB_IO_FAILED);
    CHECK_INT(eb_transport_skip_address(t, &err), EB_IO_FAILED);
  }
  eb_transport_free(t);
}

TEST(a_name_that_does_not_resolve_is_named) {
  eb_error err;
  CHECK(eb_transport_open("no..name", 5672, NULL, &err) == NULL);
  SAYS(err.message, "cannot resolve the host of no..name:5672: ");
  CHECK_INT(err.code, EB_ERR_CONNECTION);
}

/* The peer listens on the second only. */
TEST(every_address_of_a_name_is_tried) {
  peer *p = start(ECHO, NULL);
  eb_error err;
  char byte = 'x';
  size_t n;
  eb_transport *t = eb_transport_open("two.test", p->port, NULL, &err);
  CHECK(t != NULL);
  CHECK_INT(drive(t, &err), EB_IO_OK);
  CHECK_INT(write_some(t, &byte, 1, &n, &err), EB_IO_OK);
  CHECK_INT(read_some(t, &byte, 1, &n, &err), EB_IO_OK);
  CHECK_INT(eb_transport_addresses_left(t), 0);
  eb_transport_free(t);
  stop(p);
}

TEST(a_name_connects_by_the_system_resolver) {
  peer *p = start(ECHO, NULL);
  eb_error err;
  eb_transport *t = eb_transport_open("localhost", p->port, NULL, &err);
  CHECK(t != NULL);
  CHECK_INT(drive(t, &err), EB_IO_OK);
  eb_transport_free(t);
  stop(p);
}

TEST(the_last_address_of_a_name_is_named) {
  eb_error err;
  unsigned port = free_port();
  char words[96];
  eb_transport *t = eb_transport_open("two.test", port, NULL, &err);
  if (t != NULL) CHECK_INT(drive(t, &err), EB_IO_FAILED);
  snprintf(words, sizeof words, "cannot connect to two.test:%u (127.0.0.1, the "
           "last of its addresses): ", port);
  SAYS(err.message, words);
  SAYS(err.message, strerror(ECONNREFUSED));
  eb_transport_free(t);
}

/* A listener whose backlog is full drops what knocks. */
typedef struct blackhole {
  int listener;
  int filler[32];
  size_t count;
} blackhole;

static bool swallow (blackhole *b, const char *address, unsigned *port) {
  struct sockaddr_storage at;
  socklen_t n = sizeof at;
  b->count = 0;
  b->listener = new_listener(address, port, 0, false);
  if (b->listener < 0) return false;
  if (getsockname(b->listener, (struct sockaddr *)&at, &n) != 0) return false;
  while (b->count < 32) {
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd p = {fd, POLLOUT, 0};
    b->filler[b->count++] = fd;
    if (connect(fd, (struct sockaddr *)&at, n) != 0 && poll(&p, 1, 300) == 0)
      return true;
  }
  return false;
}

static void spit (blackhole *b) {
  for (size_t i = 0; i < b->count; i++) close(b->filler[i]);
  close(b->listener);
}

TEST(a_black_hole_stays_again_until_the_caller_has_enough) {
  blackhole hole;
  unsigned port = 0;
  eb_error err;
  CHECK(swallow(&hole, "127.0.0.1", &port));
  eb_transport *t = eb_transport_open("127.0.0.1", port, NULL, &err);
  CHECK(t != NULL);
  eb_ms until = eb_clock_now() + 300;
  while (eb_clock_now() < until) {
    struct pollfd p = {eb_transport_fd(t), eb_transport_events(t, true), 0};
    CHECK_INT(p.events, POLLOUT);
    CHECK_INT(eb_transport_advance(t, &err), EB_IO_AGAIN);
    poll(&p, 1, 50);
  }
  CHECK_INT(eb_transport_addresses_left(t), 0);
  CHECK_INT(eb_transport_skip_address(t, &err), EB_IO_FAILED);
  SAYS(err.message, strerror(ETIMEDOUT));
  eb_transport_free(t);
  spit(&hole);
}

TEST(skipping_a_dead_address_reaches_the_next) {
  peer *p = start(ECHO, NULL);
  blackhole hole;
  eb_error err;
  unsigned port = p->port;
  CHECK(swallow(&hole, "127.0.0.2", &port));
  eb_transport *t = eb_transport_open("two.test", port, NULL, &err);
  CHECK(t != NULL);
  CHECK_INT(eb_transport_advance(t, &err), EB_IO_AGAIN);
  CHECK_INT(eb_transport_addresses_left(t), 1);
  CHECK_INT(eb_transport_skip_address(t, &err), EB_IO_AGAIN);
  CHECK_INT(drive(t, &err), EB_IO_OK);
  CHECK_INT(eb_transport_skip_address(t, &err), EB_IO_FAILED);
  SAYS(err.message, "did not answer in time");
  eb_transport_free(t);
  spit(&hole);
  stop(p);
}

TEST(an_ipv6_peer_is_shown_in_brackets) {
  unsigned port = 0;
  char expected[32];
  eb_error err;
  int listener = new_listener("::1", &port, 8, false);
  if (listener < 0) return;  /* no IPv6 here */
  eb_transport *t = eb_transport_open("::1", port, NULL, &err);
  CHECK(t != NULL);
  CHECK_INT(drive(t, &err), EB_IO_OK);
  snprintf(expected, sizeof expected, "[::1]:%u", port);
  CHECK_STR(eb_transport_peer(t), expected);
  eb_transport_free(t);
  close(listener);
}

/* Seen when a broker on an ephemeral port was down: TCP connected us to us. */
TEST(never_connects_to_itself) {
  unsigned port = free_port() & ~1u;  /* connect prefers even source ports */
  for (int i = 0; i < 40000; i++) {
    eb_error err;
    eb_transport *t = eb_transport_open("127.0.0.1", port, NULL, &err);
    if (t == NULL) continue;
    eb_io_status status = eb_transport_advance(t, &err);
    eb_transport_free(t);
    if (status == EB_IO_OK) CHECK_FAIL("connected to itself, try %d", i);
  }
}

/* Streams, plain and TLS. */

/* Sends 'total' bytes and reads them back, with writes of every length from a
** buffer that moves between tries. The count of wrong bytes, or -1. */
static long exchange (eb_transport *t, size_t total) {
  eb_ms deadline = eb_clock_now() + 6 * PATIENCE_MS;
  size_t sent = 0, received = 0, retry = 0;
  uint64_t random = 3;
  long wrong = 0;
  unsigned char bytes[5000];
  eb_error err;
  while (received < total) {
    size_t n = 0;
    bool idle = true;
    if (sent < total) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      size_t len = 1 + (size_t)(random >> 40) % 40000;
      if (len < retry) len = retry;
      if (len > total - sent) len = total - sent;
      unsigned char *moved = malloc(len);
      if (moved == NULL) abort();
      for (size_t i = 0; i < len; i++)
        moved[i] = (unsigned char)((sent + i) * 7 >> 3);
      eb_io_status status = eb_transport_write(t, moved, len, &n, &err);
      free(moved);
      if (status == EB_IO_FAILED || (status == EB_IO_OK) != (n > 0)) return -1;
      retry = status == EB_IO_AGAIN ? len : 0;
      sent += n;
      idle = n == 0;
    }
    size_t room = 1 + (size_t)(random >> 20) % sizeof bytes;
    eb_io_status status = eb_transport_read(t, bytes, room, &n, &err);
    if (status == EB_IO_FAILED || status == EB_IO_EOF) return -1;
    for (size_t i = 0; i < n; i++)
      wrong += bytes[i] != (unsigned char)((received + i) * 7 >> 3);
    received += n;
    if (idle && n == 0 && !eb_transport_pending(t) &&
        !await(t, sent < total, deadline))
      return -1;
  }
  return wrong;
}

static void shrink (eb_transport *t) {
  int small = TINY;
  setsockopt(eb_transport_fd(t), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
}

TEST(carries_megabytes_through_tiny_buffers) {
  peer *p = start(ECHO, NULL);
  CONNECT(p, NULL);
  shrink(t);
  CHECK_INT(exchange(t, 2 << 20), 0);
  eb_transport_free(t);
  stop(p);
}

static void carries_over_tls (int version) {
  SSL_CTX *ctx = server_context("good.pem", "good.key");
  SSL_CTX_set_max_proto_version(ctx, version);
  peer *p = start(ECHO, ctx);
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  shrink(t);
  CHECK_INT(exchange(t, 2 << 20), 0);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

TEST(carries_megabytes_over_tls_1_3) {
  carries_over_tls(TLS1_3_VERSION);
}

TEST(carries_megabytes_over_tls_1_2) {
  carries_over_tls(TLS1_2_VERSION);
}

TEST(tls_bytes_not_yet_read_are_pending) {
  peer *p = start(ECHO, server_context("good.pem", "good.key"));
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  char bytes[8];
  size_t n;
  CHECK(!eb_transport_pending(t));
  CHECK_INT(write_some(t, "1234567", 7, &n, &err), EB_IO_OK);
  CHECK_INT(read_some(t, bytes, 1, &n, &err), EB_IO_OK);
  CHECK(eb_transport_pending(t));
  CHECK_INT(read_some(t, bytes, 8, &n, &err), EB_IO_OK);
  CHECK_INT(n, 6);
  CHECK(!eb_transport_pending(t));
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

/* How the stream to a peer of that manner ends, after its 10 bytes. */
static eb_io_status end_of (manner as, bool secure, eb_error *err) {
  peer *p = start(as, secure ? server_context("good.pem", "good.key") : NULL);
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = secure ? eb_tls_new(&o, err) : NULL;
  eb_transport *t = eb_transport_open("127.0.0.1", p->port, tls, err);
  eb_io_status status = EB_IO_AGAIN;
  char bytes[16];
  size_t n;
  if (t != NULL && drive(t, err) == EB_IO_OK &&
      write_some(t, "0123456789", 10, &n, err) == EB_IO_OK)
    status = read_some(t, bytes, sizeof bytes, &n, err);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
  return status;
}

TEST(a_peer_that_closes_is_the_end) {
  eb_error err;
  CHECK_INT(end_of(CLOSE, false, &err), EB_IO_EOF);
  CHECK_INT(end_of(NOTIFY, true, &err), EB_IO_EOF);
  CHECK_INT(end_of(CLOSE, true, &err), EB_IO_EOF);
}

TEST(a_peer_that_resets_is_a_failure) {
  eb_error err;
  CHECK_INT(end_of(RESET, false, &err), EB_IO_FAILED);
  SAYS(err.message, "connection to 127.0.0.1:");
  SAYS(err.message, strerror(ECONNRESET));
  CHECK_INT(err.code, EB_ERR_CONNECTION);
  CHECK_INT(end_of(RESET, true, &err), EB_IO_FAILED);
  SAYS(err.message, strerror(ECONNRESET));
  CHECK_INT(err.code, EB_ERR_CONNECTION);
}

/* Plain TCP needs no blocked SIGPIPE: the default action would end us here. */
TEST(writing_to_a_gone_peer_fails_without_a_signal) {
  sigset_t pipe_only;
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  peer *p = start(HANG_UP, NULL);
  CONNECT(p, NULL);
  size_t n;
  char byte;
  eb_io_status status = EB_IO_OK;
  CHECK_INT(read_some(t, &byte, 1, &n, &err), EB_IO_EOF);
  pthread_sigmask(SIG_UNBLOCK, &pipe_only, NULL);
  eb_ms deadline = eb_clock_now() + PATIENCE_MS;
  while (status != EB_IO_FAILED && eb_clock_now() < deadline)
    status = eb_transport_write(t, "x", 1, &n, &err);
  pthread_sigmask(SIG_BLOCK, &pipe_only, NULL);
  CHECK_INT(status, EB_IO_FAILED);
  SAYS(err.message, "connection to 127.0.0.1:");
  eb_transport_free(t);
  stop(p);
}

TEST(a_tls_write_to_a_gone_peer_fails) {
  peer *p = start(CLOSE, server_context("good.pem", "good.key"));
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  size_t n;
  eb_io_status status = EB_IO_OK;
  eb_ms deadline = eb_clock_now() + PATIENCE_MS;
  while (status != EB_IO_FAILED && eb_clock_now() < deadline)
    status = eb_transport_write(t, "0123456789", 10, &n, &err);
  CHECK_INT(status, EB_IO_FAILED);
  SAYS(err.message, "connection to 127.0.0.1:");
  CHECK_INT(err.code, EB_ERR_CONNECTION);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

/* Certificates. */

TEST(a_good_certificate_is_accepted) {
  eb_tls_options o = trusting("ca.pem");
  CHECK_STR(meets_cert("127.0.0.1", "good.pem", "good.key", &o), "");
  CHECK_STR(meets_cert("localhost", "good.pem", "good.key", &o), "");
}

TEST(a_directory_of_authorities_is_accepted) {
  eb_tls_options o = trusting("cas");
  CHECK_STR(meets_cert("127.0.0.1", "good.pem", "good.key", &o), "");
}

TEST(a_certificate_for_another_name_is_refused) {
  eb_tls_options o = trusting("ca.pem");
  const char *said = meets_cert("localhost", "named.pem", "named.key", &o);
  SAYS(said, "is not for localhost but for broker.example: ");
  SAYS(said, "pass server_name_indication=");
  said = meets_cert("127.0.0.1", "named.pem", "named.key", &o);
  SAYS(said, "is not for 127.0.0.1 but for broker.example: ");
  o.server_name = "elsewhere.example";
  said = meets_cert("127.0.0.1", "good.pem", "good.key", &o);
  SAYS(said, "is not for elsewhere.example but for localhost, 127.0.0.1: ");
}

TEST(a_given_server_name_is_the_one_checked) {
  eb_tls_options o = trusting("ca.pem");
  o.server_name = "broker.example";
  CHECK_STR(meets_cert("127.0.0.1", "named.pem", "named.key", &o), "");
  o.server_name = "broker.example.";
  CHECK_STR(meets_cert("127.0.0.1", "named.pem", "named.key", &o), "");
}

TEST(an_expired_certificate_is_refused) {
  eb_tls_options o = trusting("ca.pem");
  const char *said = meets_cert("127.0.0.1", "expired.pem", "expired.key", &o);
  SAYS(said, "certificate of 127.0.0.1:");
  SAYS(said, "ended on 20");
  SAYS(said, "certificate has expired");
  said = meets_cert("127.0.0.1", "future.pem", "future.key", &o);
  SAYS(said, "certificate is not yet valid");
  SAYS(said, "check the clock");
}

TEST(a_self_signed_certificate_is_refused) {
  eb_tls_options o = trusting("ca.pem"), system_store = {.verify = true};
  const char *said = meets_cert("127.0.0.1", "self.pem", "self.key", &o);
  SAYS(said, "is not trusted: self");
  SAYS(said, "ca.pem has no CA that signed it");
  said = meets_cert("127.0.0.1", "self.pem", "self.key", &system_store);
  SAYS(said, "is not trusted: self");
  SAYS(said, "pass cacertfile=...");
}

TEST(an_unknown_authority_is_refused) {
  eb_tls_options o = trusting("stranger.pem");
  const char *said = meets_cert("127.0.0.1", "good.pem", "good.key", &o);
  SAYS(said, "is not trusted: unable to get");
  SAYS(said, "stranger.pem has no CA");
}

TEST(a_self_signed_certificate_given_as_authority_is_accepted) {
  eb_tls_options o = trusting("self.pem");
  CHECK_STR(meets_cert("127.0.0.1", "self.pem", "self.key", &o), "");
}

TEST(verify_none_accepts_anything) {
  eb_tls_options o = {.verify = false};
  CHECK_STR(meets_cert("127.0.0.1", "self.pem", "self.key", &o), "");
  CHECK_STR(meets_cert("localhost", "expired.pem", "expired.key", &o), "");
  CHECK_STR(meets_cert("localhost", "named.pem", "named.key", &o), "");
}

static void sni_is (const char *host, const char *server_name,
                    const char *expected) {
  peer *p = start(ECHO, server_context("good.pem", "good.key"));
  eb_tls_options o = {.verify = false, .server_name = server_name};
  char said[600], sni[64];
  snprintf(said, sizeof said, "%s", meets(host, p, &o));
  pthread_join(p->thread, NULL);
  snprintf(sni, sizeof sni, "%s", p->sni);
  close(p->listener);
  SSL_CTX_free(p->ctx);
  free(p);
  CHECK_STR(said, "");
  CHECK_STR(sni, expected);
}

TEST(sni_is_sent_for_names_only) {
  sni_is("localhost", NULL, "localhost");
  sni_is("127.0.0.1", NULL, "");
  sni_is("127.0.0.1", "broker.example.", "broker.example");
  sni_is("localhost", "10.0.0.1", "");
  sni_is("localhost", "", "");
}

TEST(without_sni_the_host_is_still_checked) {
  eb_tls_options o = trusting("ca.pem");
  o.server_name = "";
  CHECK_STR(meets_cert("localhost", "good.pem", "good.key", &o), "");
  SAYS(meets_cert("localhost", "named.pem", "named.key", &o), "is not for localhost");
}

static void client_certificates (int version) {
  eb_tls_options o = trusting("ca.pem");
  peer *p = start(ECHO, demanding_context(version));
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "client certificate: pass certfile=... and keyfile=...");
  o.certfile = in_dir("client.pem");
  o.keyfile = in_dir("client.key");
  p = start(ECHO, demanding_context(version));
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  CHECK_STR(said, "");
  o.certfile = in_dir("alien.pem");
  o.keyfile = in_dir("alien.key");
  p = start(ECHO, demanding_context(version));
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "does not accept the client certificate");
  SAYS(said, "alien.pem");
}

TEST(a_demanded_client_certificate_over_tls_1_3) {
  client_certificates(TLS1_3_VERSION);
}

TEST(a_demanded_client_certificate_over_tls_1_2) {
  client_certificates(TLS1_2_VERSION);
}

/* The handshake is over for the client when a TLS 1.3 server rejects it. */
TEST(a_late_rejection_is_clear_on_the_first_read) {
  peer *p = start(ECHO, demanding_context(TLS1_3_VERSION));
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  char byte;
  size_t n;
  CHECK_INT(read_some(t, &byte, 1, &n, &err), EB_IO_FAILED);
  SAYS(err.message, "asks for a client certificate");
  SAYS(err.message, "certificate required");
  CHECK_INT(err.code, EB_ERR_TLS);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

/* Peers that are not what they should be. */

TEST(a_plain_amqp_port_is_recognised) {
  peer *p = start(GREET, NULL);
  eb_tls_options o = trusting("ca.pem");
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "does not answer in TLS");
  SAYS(said, "plain AMQP is amqp://");
}

TEST(a_peer_that_hangs_up_in_the_handshake) {
  peer *p = start(HANG_UP, NULL);
  eb_tls_options o = trusting("ca.pem");
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "lost in the TLS handshake: ");
  SAYS(said, "is it a TLS port?");
}

TEST(a_peer_that_never_shakes_hands_stays_again) {
  peer *p = start(SILENT, NULL);
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  eb_error err;
  eb_transport *t = eb_transport_open("127.0.0.1", p->port, tls, &err);
  CHECK(t != NULL);
  eb_ms until = eb_clock_now() + 200;
  int rounds = 0;
  while (eb_clock_now() < until) {
    CHECK_INT(eb_transport_advance(t, &err), EB_IO_AGAIN);
    await(t, true, until);
    rounds++;
  }
  CHECK(rounds < 20);  /* it waits, it does not spin */
  CHECK_INT(eb_transport_events(t, true), POLLIN);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

TEST(tls_1_1_is_refused) {
  SSL_CTX *ctx = server_context("good.pem", "good.key");
  SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
  SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
  peer *p = start(ECHO, ctx);
  eb_tls_options o = trusting("ca.pem");
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "at least TLS 1.2 is needed");
}

/* Settings. */

static const char *setting_error (eb_tls_options o) {
  static eb_error err;
  eb_error_clear(&err);
  eb_tls_free(eb_tls_new(&o, &err));
  if (err.code != EB_OK && err.code != EB_ERR_TLS) return "not EB_ERR_TLS";
  return ERR_peek_error() == 0 ? err.message : "errors left in OpenSSL's queue";
}

TEST(a_wrong_file_is_named) {
  eb_tls_options o = {.cacertfile = in_dir("none.pem"), .verify = true};
  SAYS(setting_error(o), "cacertfile /tmp/");
  SAYS(setting_error(o), strerror(ENOENT));
  o.cacertfile = in_dir("garbage.pem");
  SAYS(setting_error(o), "garbage.pem holds no usable certificate in PEM");
  o.cacertfile = NULL;
  o.certfile = in_dir("none.pem");
  SAYS(setting_error(o), "certfile /tmp/");
  o.certfile = in_dir("garbage.pem");
  SAYS(setting_error(o), "holds no usable certificate");
  o.certfile = in_dir("client.pem");
  SAYS(setting_error(o), "client.pem holds no usable private key");
  o.keyfile = in_dir("none.key");
  SAYS(setting_error(o), "keyfile /tmp/");
  o.keyfile = in_dir("garbage.pem");
  SAYS(setting_error(o), "garbage.pem holds no usable private key");
  o.keyfile = in_dir("alien.key");
  SAYS(setting_error(o), "alien.key does not belong to the client certificate");
  o.keyfile = in_dir("client.key");
  CHECK_STR(setting_error(o), "");
  o.certfile = NULL;
  SAYS(setting_error(o), "without certfile");
}

TEST(a_key_with_a_password_is_refused_and_nobody_is_asked) {
  eb_tls_options o = {.certfile = in_dir("locked.pem"),
                      .keyfile = in_dir("locked.key"), .verify = true};
  SAYS(setting_error(o), "locked.key is protected by a password");
}

/* The host program's mistakes with OpenSSL are not ours. */
TEST(stale_openssl_errors_do_no_harm) {
  peer *p = start(ECHO, server_context("good.pem", "good.key"));
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  char byte;
  size_t n;
  BIO *bio = BIO_new_mem_buf("nonsense", -1);
  CHECK(PEM_read_bio_X509(bio, NULL, NULL, NULL) == NULL);
  BIO_free(bio);
  CHECK(ERR_peek_error() != 0);
  CHECK_INT(eb_transport_read(t, &byte, 1, &n, &err), EB_IO_AGAIN);
  eb_transport_free(t);
  eb_tls_free(tls);
  eb_tls_free(NULL);
  stop(p);
}

int main (void) {
  sigset_t all;  /* as in the I/O thread */
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  make_certificates();
  RUN(echoes_over_tcp);
  RUN(the_socket_is_set_up);
  RUN(a_refused_port_is_named);
  RUN(a_name_that_does_not_resolve_is_named);
  RUN(every_address_of_a_name_is_tried);
  RUN(a_name_connects_by_the_system_resolver);
  RUN(the_last_address_of_a_name_is_named);
  RUN(a_black_hole_stays_again_until_the_caller_has_enough);
  RUN(skipping_a_dead_address_reaches_the_next);
  RUN(an_ipv6_peer_is_shown_in_brackets);
  RUN(never_connects_to_itself);
  RUN(carries_megabytes_through_tiny_buffers);
  RUN(carries_megabytes_over_tls_1_3);
  RUN(carries_megabytes_over_tls_1_2);
  RUN(tls_bytes_not_yet_read_are_pending);
  RUN(a_peer_that_closes_is_the_end);
  RUN(a_peer_that_resets_is_a_failure);
  RUN(writing_to_a_gone_peer_fails_without_a_signal);
  RUN(a_tls_write_to_a_gone_peer_fails);
  RUN(a_good_certificate_is_accepted);
  RUN(a_directory_of_authorities_is_accepted);
  RUN(a_certificate_for_another_name_is_refused);
  RUN(a_given_server_name_is_the_one_checked);
  RUN(an_expired_certificate_is_refused);
  RUN(a_self_signed_certificate_is_refused);
  RUN(an_unknown_authority_is_refused);
  RUN(a_self_signed_certificate_given_as_authority_is_accepted);
  RUN(verify_none_accepts_anything);
  RUN(sni_is_sent_for_names_only);
  RUN(without_sni_the_host_is_still_checked);
  RUN(a_demanded_client_certificate_over_tls_1_3);
  RUN(a_demanded_client_certificate_over_tls_1_2);
  RUN(a_late_rejection_is_clear_on_the_first_read);
  RUN(a_plain_amqp_port_is_recognised);
  RUN(a_peer_that_hangs_up_in_the_handshake);
  RUN(a_peer_that_never_shakes_hands_stays_again);
  RUN(tls_1_1_is_refused);
  RUN(a_wrong_file_is_named);
  RUN(a_key_with_a_password_is_refused_and_nobody_is_asked);
  RUN(stale_openssl_errors_do_no_harm);
  remove_certificates();
  return check_done();
}
