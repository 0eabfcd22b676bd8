/* eb_transport: see eb_transport.h. */
#include "eb_transport.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "eb_tls.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0  /* macOS: SO_NOSIGPIPE instead */
#endif

typedef enum state {
  CONNECTING,  /* TCP, to the address 'at' */
  SHAKING,     /* TLS */
  STREAMING,
  FAILED
} state;

struct eb_transport {
  state state;
  int fd;
  struct addrinfo *addresses;
  const struct addrinfo *first;  /* tried, in 'addresses' */
  const struct addrinfo *at;     /* likewise */
  bool connected;
  eb_tls *tls;                /* not ours; NULL for plain TCP */
  eb_tls_stream *stream;      /* NULL for plain TCP */
  char *host;
  char peer[300];
};

static eb_io_status failed (eb_transport *t) {
  t->state = FAILED;
  return EB_IO_FAILED;
}

static eb_io_status over (eb_error *err) {
  eb_error_set(err, EB_ERR_CONNECTION, "the connection has failed already");
  return EB_IO_FAILED;
}

static bool would_block (int e) {
  return e == EAGAIN || e == EWOULDBLOCK;
}

static void close_socket (eb_transport *t) {
  if (t->fd >= 0) close(t->fd);
  t->fd = -1;
}

static int ask_resolver (const char *host, const char *port, int flags,
                         struct addrinfo **to) {
  struct addrinfo hints;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_protocol = IPPROTO_TCP;
  hints.ai_flags = flags | AI_NUMERICSERV;
  return getaddrinfo(host, port, &hints, to);
}

/* An address first: it must not wait for a name server. */
static bool resolve (eb_transport *t, unsigned port, eb_error *err) {
  char service[16];
  snprintf(service, sizeof service, "%u", port);
  int e = ask_resolver(t->host, service, AI_NUMERICHOST, &t->addresses);
  if (e != 0) e = ask_resolver(t->host, service, 0, &t->addresses);
  if (e == 0 && t->addresses != NULL) return true;
  if (e == EAI_MEMORY)
    return eb_error_set(err, EB_ERR_NO_MEMORY, "no memory to resolve %s",
                        t->peer);
  const char *why = e == EAI_SYSTEM ? strerror(errno)
                    : e != 0        ? gai_strerror(e)
                                    : "it has no address";
  return eb_error_set(err, EB_ERR_CONNECTION, "cannot resolve the host of %s: "
                      "%s", t->peer, why);
}

static bool set_flag (int fd, int level, int name) {
  int on = 1;
  return setsockopt(fd, level, name, &on, sizeof on) == 0;
}

/* A socket that neither blocks, nor outlives exec, nor raises SIGPIPE. */
static int new_socket (const struct addrinfo *a) {
#if defined(SOCK_CLOEXEC) && defined(SOCK_NONBLOCK)
  int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                  a->ai_protocol);
  if (fd < 0) return -1;
#else
  int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
  if (fd < 0) return -1;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
#endif
  /* These only improve things: a system that refuses them still connects. */
  (void)set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
  (void)set_flag(fd, SOL_SOCKET, SO_KEEPALIVE);
#if defined(SO_NOSIGPIPE)
  (void)set_flag(fd, SOL_SOCKET, SO_NOSIGPIPE);
#endif
  return fd;
}

/* Begins with the address 'at'. 0, or what went wrong. */
static int connect_socket (eb_transport *t) {
  t->fd = new_socket(t->at);
  if (t->fd < 0) return errno;
  if (connect(t->fd, t->at->ai_addr, t->at->ai_addrlen) == 0) return 0;
  if (errno == EINPROGRESS || errno == EINTR) return 0;
  int e = errno;
  close_socket(t);
  return e;
}

static bool address_error (eb_transport *t, int e, eb_error *err) {
  char address[NI_MAXHOST];
  int unnamed = getnameinfo(t->at->ai_addr, t->at->ai_addrlen, address,
                            sizeof address, NULL, 0, NI_NUMERICHOST);
  if (unnamed != 0 || strcmp(address, t->host) == 0)
    return eb_error_set(err, EB_ERR_CONNECTION, "cannot connect to %s: %s",
                        t->peer, strerror(e));
  bool one = t->addresses->ai_next == NULL;
  return eb_error_set(err, EB_ERR_CONNECTION, "cannot connect to %s (%s%s): %s",
                      t->peer, address, one ? "" : ", the last of its addresses",
                      strerror(e));
}

/* The last one is followed by the first of the list, until all were tried. */
static const struct addrinfo *after (const eb_transport *t,
                                     const struct addrinfo *a) {
  const struct addrinfo *next = a->ai_next != NULL ? a->ai_next : t->addresses;
  return next != t->first ? next : NULL;
}

/* Leaves the address 'at', which failed with 'e', for the next that does not
** fail at once. False: there is none, and err tells of the last. */
static bool next_address (eb_transport *t, int e, eb_error *err) {
  while (e != 0) {
    close_socket(t);
    const struct addrinfo *next = after(t, t->at);
    if (next == NULL) return address_error(t, e, err);
    t->at = next;
    e = connect_socket(t);
  }
  return true;
}

static const struct addrinfo *address (const struct addrinfo *list,
                                       size_t number) {
  size_t count = 0;
  for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) count++;
  for (number %= count; number > 0; number--) list = list->ai_next;
  return list;
}

eb_transport *eb_transport_open (const char *host, unsigned port, size_t first,
                                 eb_tls *tls, eb_error *err) {
  eb_transport *t = calloc(1, sizeof *t);
  if (t != NULL) {
    t->fd = -1;
    t->tls = tls;
    t->state = CONNECTING;
    t->host = strdup(host);
  }
  if (t == NULL || t->host == NULL) {
    eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for a connection");
    goto fail;
  }
  bool v6 = strchr(host, ':') != NULL;
  snprintf(t->peer, sizeof t->peer, v6 ? "[%s]:%u" : "%s:%u", host, port);
  if (!resolve(t, port, err)) goto fail;
  t->at = t->first = address(t->addresses, first);
  int e = connect_socket(t);
  if (e != 0 && !next_address(t, e, err)) goto fail;
  return t;
fail:
  eb_transport_free(t);
  return NULL;
}

void eb_transport_free (eb_transport *t) {
  if (t == NULL) return;
  eb_tls_stream_free(t->stream);
  close_socket(t);
  if (t->addresses != NULL) freeaddrinfo(t->addresses);
  free(t->host);
  free(t);
}

/* The outcome of the connect to 'at': 0, an errno, or -1 for none yet. */
static int connect_outcome (int fd) {
  struct pollfd p = {fd, POLLOUT, 0};
  struct sockaddr_storage ours, theirs;
  socklen_t n = sizeof ours, m = sizeof theirs;
  int e = 0;
  socklen_t size = sizeof e;
  if (poll(&p, 1, 0) <= 0) return -1;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size) != 0) return errno;
  if (e != 0) return e;
  memset(&ours, 0, sizeof ours);
  memset(&theirs, 0, sizeof theirs);
  if (getsockname(fd, (struct sockaddr *)&ours, &n) != 0 ||
      getpeername(fd, (struct sockaddr *)&theirs, &m) != 0)
    return errno;
  if (n != m || memcmp(&ours, &theirs, n) != 0) return 0;
  /* A connect to a free port of one's own host can be given that very port as
  ** its source: TCP then connects it to itself. To us that is a dead broker.
  ** The live one will need the port, so it must not stay in TIME_WAIT. */
  struct linger at_once = {1, 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  return ECONNREFUSED;
}

static eb_io_status advance_connect (eb_transport *t, eb_error *err) {
  for (;;) {
    int e = connect_outcome(t->fd);
    if (e < 0) return EB_IO_AGAIN;
    if (e == 0) break;
    if (!next_address(t, e, err)) return failed(t);
  }
  t->connected = true;
  if (t->tls == NULL) {
    t->state = STREAMING;
    return EB_IO_OK;
  }
  t->stream = eb_tls_stream_new(t->tls, t->fd, t->host, t->peer, err);
  if (t->stream == NULL) return failed(t);
  t->state = SHAKING;
  return EB_IO_OK;
}

static eb_io_status advance_handshake (eb_transport *t, eb_error *err) {
  eb_io_status status = eb_tls_stream_handshake(t->stream, err);
  if (status == EB_IO_OK) t->state = STREAMING;
  if (status == EB_IO_FAILED) return failed(t);
  return status;
}

eb_io_status eb_transport_advance (eb_transport *t, eb_error *err) {
  if (t->state == CONNECTING) {
    eb_io_status status = advance_connect(t, err);
    if (status != EB_IO_OK) return status;
  }
  if (t->state == SHAKING) return advance_handshake(t, err);
  return t->state == STREAMING ? EB_IO_OK : over(err);
}

bool eb_transport_was_connected (const eb_transport *t) {
  return t->connected;
}

size_t eb_transport_addresses_left (const eb_transport *t) {
  size_t n = 0;
  if (t->state != CONNECTING) return 0;
  for (const struct addrinfo *a = t->at; (a = after(t, a)) != NULL;) n++;
  return n;
}

eb_io_status eb_transport_skip_address (eb_transport *t, eb_error *err) {
  if (t->state == FAILED) return over(err);
  if (t->state == CONNECTING)
    return next_address(t, ETIMEDOUT, err) ? EB_IO_AGAIN : failed(t);
  eb_error_set(err, EB_ERR_CONNECTION, "%s did not answer in time", t->peer);
  return failed(t);
}

static eb_io_status lost (eb_transport *t, int e, eb_error *err) {
  eb_error_set(err, EB_ERR_CONNECTION, "connection to %s lost: %s", t->peer,
               strerror(e));
  return failed(t);
}

static eb_io_status read_socket (eb_transport *t, void *to, size_t n,
                                 size_t *done, eb_error *err) {
  ssize_t got;
  do {
    got = recv(t->fd, to, n, 0);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return EB_IO_EOF;
  if (got < 0) return would_block(errno) ? EB_IO_AGAIN : lost(t, errno, err);
  *done = (size_t)got;
  return EB_IO_OK;
}

static eb_io_status write_socket (eb_transport *t, const void *from, size_t n,
                                  size_t *done, eb_error *err) {
  ssize_t put;
  do {
    put = send(t->fd, from, n, MSG_NOSIGNAL);
  } while (put < 0 && errno == EINTR);
  if (put < 0) return would_block(errno) ? EB_IO_AGAIN : lost(t, errno, err);
  *done = (size_t)put;
  return EB_IO_OK;
}

eb_io_status eb_transport_read (eb_transport *t, void *to, size_t n,
                                size_t *done, eb_error *err) {
  *done = 0;
  if (t->state != STREAMING) return over(err);
  if (n == 0) return EB_IO_AGAIN;  /* recv's 0 would look like the end */
  if (t->stream == NULL) return read_socket(t, to, n, done, err);
  eb_io_status status = eb_tls_stream_read(t->stream, to, n, done, err);
  return status == EB_IO_FAILED ? failed(t) : status;
}

eb_io_status eb_transport_write (eb_transport *t, const void *from, size_t n,
                                 size_t *done, eb_error *err) {
  *done = 0;
  if (t->state != STREAMING) return over(err);
  if (n == 0) return EB_IO_AGAIN;  /* undefined for SSL_write */
  if (t->stream == NULL) return write_socket(t, from, n, done, err);
  eb_io_status status = eb_tls_stream_write(t->stream, from, n, done, err);
  return status == EB_IO_FAILED ? failed(t) : status;
}

int eb_transport_fd (const eb_transport *t) {
  return t->fd;
}

short eb_transport_events (const eb_transport *t, bool want_write) {
  if (t->state == CONNECTING) return POLLOUT;
  if (t->stream != NULL) return eb_tls_stream_events(t->stream, want_write);
  return (short)(want_write ? POLLIN | POLLOUT : POLLIN);
}

bool eb_transport_pending (const eb_transport *t) {
  return t->state == STREAMING && t->stream != NULL &&
         eb_tls_stream_pending(t->stream);
}

const char *eb_transport_peer (const eb_transport *t) {
  return t->peer;
}
