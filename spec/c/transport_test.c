/* eb_transport over TCP, and its streams over TCP and TLS, against real peers. */
#include "transport_peer.h"

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
  eb_transport *t = eb_transport_open("127.0.0.1", port, 0, NULL, &err);
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
  CHECK(eb_transport_open("no..name", 5672, 0, NULL, &err) == NULL);
  SAYS(err.message, "cannot resolve the host of no..name:5672: ");
  CHECK_INT(err.code, EB_ERR_CONNECTION);
}

/* The peer listens on the second only. */
TEST(every_address_of_a_name_is_tried) {
  peer *p = start(ECHO, NULL);
  eb_error err;
  char byte = 'x';
  size_t n;
  eb_transport *t = eb_transport_open("two.test", p->port, 0, NULL, &err);
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
  eb_transport *t = eb_transport_open("localhost", p->port, 0, NULL, &err);
  CHECK(t != NULL);
  CHECK_INT(drive(t, &err), EB_IO_OK);
  eb_transport_free(t);
  stop(p);
}

TEST(the_last_address_of_a_name_is_named) {
  eb_error err;
  unsigned port = free_port();
  char words[96];
  eb_transport *t = eb_transport_open("two.test", port, 0, NULL, &err);
  if (t != NULL) CHECK_INT(drive(t, &err), EB_IO_FAILED);
  snprintf(words, sizeof words, "cannot connect to two.test:%u (127.0.0.1, the "
           "last of its addresses): ", port);
  SAYS(err.message, words);
  SAYS(err.message, strerror(ECONNREFUSED));
  eb_transport_free(t);
}

TEST(a_black_hole_stays_again_until_the_caller_has_enough) {
  blackhole hole;
  unsigned port = 0;
  eb_error err;
  CHECK(swallow(&hole, "127.0.0.1", &port));
  eb_transport *t = eb_transport_open("127.0.0.1", port, 0, NULL, &err);
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
  eb_transport *t = eb_transport_open("two.test", port, 0, NULL, &err);
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
  eb_transport *t = eb_transport_open("::1", port, 0, NULL, &err);
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
    eb_transport *t = eb_transport_open("127.0.0.1", port, 0, NULL, &err);
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
  eb_transport *t = eb_transport_open("127.0.0.1", p->port, 0, tls, err);
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
  remove_certificates();
  return check_done();
}
