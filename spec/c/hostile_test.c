/* A bus against servers that mean no good, over real sockets: no crash, bounded memory and time, an error that says what
 * was wrong. (What single frames may do is in session_test_frames.c, and fuzzed.) */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/eb_bus.h"
#include "../../src/eb_codec.h"

enum { ATTEMPT_MS = 300, ASK_MS = 700, PATIENCE_MS = 20000 };

/* A sanitizer keeps what was freed. */
#if defined(EB_ASAN) || defined(EB_TSAN)
enum { MEMORY_MOST_KB = 1024 * 1024 };
#else
enum { MEMORY_MOST_KB = 64 * 1024 };
#endif

typedef struct server {
  pthread_t thread;
  int listener;
  unsigned port;
  atomic_bool stop;
  void (*misbehave)(struct server *s, int fd);
} server;

/* Sends what it can until the peer has had enough. */
static bool send_all (server *s, int fd, const void *bytes, size_t n) {
  const uint8_t *p = bytes;
  while (n > 0 && !atomic_load(&s->stop)) {
    ssize_t done = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (done < 0) poll(&(struct pollfd){fd, POLLOUT, 0}, 1, 10);
    if (done > 0) p += done, n -= (size_t)done;
  }
  return n == 0;
}

static void wait_for_end (server *s, int fd) {
  uint8_t bytes[4096];
  while (!atomic_load(&s->stop)) {
    if (poll(&(struct pollfd){fd, POLLIN, 0}, 1, 10) > 0 && recv(fd, bytes, sizeof bytes, 0) <= 0) return;
  }
}

static void *serve (void *arg) {
  server *s = arg;
  while (!atomic_load(&s->stop)) {
    if (poll(&(struct pollfd){s->listener, POLLIN, 0}, 1, 10) <= 0) continue;
    int fd = accept(s->listener, NULL, NULL);
    if (fd < 0) continue;
    s->misbehave(s, fd);
    close(fd);
  }
  return NULL;
}

static void server_start (server *s, void (*misbehave)(server *, int)) {
  struct sockaddr_in a;
  socklen_t size = sizeof a;
  memset(s, 0, sizeof *s);
  memset(&a, 0, sizeof a);
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  s->misbehave = misbehave;
  s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(s->listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(s->listener, 16) != 0) abort();
  getsockname(s->listener, (struct sockaddr *)&a, &size);
  s->port = ntohs(a.sin_port);
  if (pthread_create(&s->thread, NULL, serve, s) != 0) abort();
}

static void server_stop (server *s) {
  atomic_store(&s->stop, true);
  pthread_join(s->thread, NULL);
  close(s->listener);
}

/* Frames. */

static void put_frame (eb_buffer *b, int type, unsigned channel, const void *payload, size_t n) {
  const uint8_t head[7] = {(uint8_t)type,       (uint8_t)(channel >> 8), (uint8_t)channel, (uint8_t)(n >> 24),
                           (uint8_t)(n >> 16), (uint8_t)(n >> 8),       (uint8_t)n};
  eb_buffer_append(b, head, sizeof head);
  eb_buffer_append(b, payload, n);
  eb_buffer_putc(b, 0xCE);
}

static void put_method (eb_buffer *b, unsigned channel, amqp_method_number_t id, void *m) {
  eb_error err;
  if (!eb_codec_put_method(b, (uint16_t)channel, id, m, 1024, &err)) abort();
}

static void put_handshake (eb_buffer *b) {
  amqp_connection_start_t start;
  memset(&start, 0, sizeof start);
  start.version_minor = 9;
  start.mechanisms = eb_codec_cstring("PLAIN");
  put_method(b, 0, AMQP_CONNECTION_START_METHOD, &start);
  amqp_connection_tune_t tune = {100, 131072, 1};
  put_method(b, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
  amqp_connection_open_ok_t ok = {amqp_empty_bytes};
  put_method(b, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
}

static void send_buffer (server *s, int fd, eb_buffer *b) {
  send_all(s, fd, eb_buffer_bytes(b), eb_buffer_size(b));
  eb_buffer_fini(b);
}

/* Manners. */

static void nothing (server *s, int fd) { wait_for_end(s, fd); }

static void garbage (server *s, int fd) {
  uint8_t bytes[4096];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 167 + 13);
  while (send_all(s, fd, bytes, sizeof bytes) && !atomic_load(&s->stop)) {}
}

static void trickle (server *s, int fd, const uint8_t *bytes, size_t n) {
  for (size_t i = 0; !atomic_load(&s->stop) && send_all(s, fd, &bytes[i < n ? i : n - 1], 1); i++)
    poll(NULL, 0, 10);
}

/* A frame of 100 kB that comes a byte at a time. */
static void slow_frame (server *s, int fd) { trickle(s, fd, (const uint8_t[]){1, 0, 0, 0, 1, 0x86, 0xA0, 0}, 8); }

/* A TLS record likewise. */
static void slow_tls (server *s, int fd) { trickle(s, fd, (const uint8_t[]){0x16, 3, 3, 0x3F, 0xFF, 2, 0}, 7); }

static void huge_frame (server *s, int fd) {
  send_all(s, fd, (const uint8_t[]){1, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF}, 7);
  garbage(s, fd);
}

static void nested (server *s, int fd) {
  uint8_t start[60000] = {0, 10, 0, 10, 0, 9};
  eb_buffer b;
  eb_buffer_init(&b);
  for (size_t at = 6; at + 6 <= sizeof start; at += 6) {
    size_t size = sizeof start - at - 4;
    start[at + 2] = (uint8_t)(size >> 8);
    start[at + 3] = (uint8_t)size;
    start[at + 5] = 'F';
  }
  put_frame(&b, AMQP_FRAME_METHOD, 0, start, sizeof start);
  send_buffer(s, fd, &b);
  wait_for_end(s, fd);
}

static void flood (server *s, int fd) {
  uint8_t beats[8 * 1024];
  for (size_t i = 0; i < sizeof beats; i += 8) memcpy(beats + i, "\x08\0\0\0\0\0\0\xCE", 8);
  while (send_all(s, fd, beats, sizeof beats) && !atomic_load(&s->stop)) {}
}

static void flood_after_handshake (server *s, int fd) {
  eb_buffer b;
  eb_buffer_init(&b);
  put_handshake(&b);
  send_buffer(s, fd, &b);
  flood(s, fd);
}

static void wrong_channel (server *s, int fd) {
  eb_buffer b;
  eb_buffer_init(&b);
  put_handshake(&b);
  put_frame(&b, AMQP_FRAME_METHOD, 4711, "\0\x14\0\x0b\0\0\0", 8);
  send_buffer(s, fd, &b);
  wait_for_end(s, fd);
}

static void unknown_method (server *s, int fd) {
  eb_buffer b;
  eb_buffer_init(&b);
  put_handshake(&b);
  put_frame(&b, AMQP_FRAME_METHOD, 0, "\x12\x34\x56\x78", 4);
  send_buffer(s, fd, &b);
  wait_for_end(s, fd);
}

/* Bodies and headers for nobody, without end. */
static void content_for_nobody (server *s, int fd) {
  eb_buffer b;
  uint8_t header[14] = {0, 60, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF};
  eb_buffer_init(&b);
  put_handshake(&b);
  for (int i = 0; i < 1000; i++) put_frame(&b, AMQP_FRAME_HEADER, 1, header, sizeof header);
  send_buffer(s, fd, &b);
  wait_for_end(s, fd);
}

/* Escapes for the terminal on which its words are read. */
static void escapes (server *s, int fd) {
  eb_buffer b;
  amqp_connection_start_t start;
  eb_buffer_init(&b);
  memset(&start, 0, sizeof start);
  start.version_minor = 9;
  start.mechanisms = eb_codec_cstring("\033]0;owned\007\nerror: forged");
  put_method(&b, 0, AMQP_CONNECTION_START_METHOD, &start);
  send_buffer(s, fd, &b);
  wait_for_end(s, fd);
}

static void hang_up (server *s, int fd) { (void)s, (void)fd; }

/* The victim: one bus, one publish. All that it is told, in 'said'. */

static long peak_kb (void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_maxrss;
}

static void note (char *said, size_t size, const eb_item *item) {
  size_t n = strlen(said);
  if (item->error != NULL && n + 1 < size) snprintf(said + n, size - n, "%s\n", item->error->message);
}

/* The publish's answer; -1: it had none. */
static int suffer (void (*misbehave)(server *, int), const char *scheme, char *said, size_t size) {
  server s;
  char text[100];
  eb_url url;
  eb_error err;
  eb_bus_config c;
  int code = -1;
  server_start(&s, misbehave);
  snprintf(text, sizeof text, "%s://127.0.0.1:%u/%%2F%s", scheme, s.port,
           strcmp(scheme, "amqps") == 0 ? "?verify=verify_none" : "");
  memset(&c, 0, sizeof c);
  c.io.session.vhost = "/";
  c.io.session.user = c.io.session.password = c.io.session.connection_name = "guest";
  c.io.session.window_count = 10;
  c.io.session.window_bytes = c.outbox_bytes = 1 << 20;
  c.io.session.max_body = 1 << 20;
  c.io.session.heartbeat_s = 1;
  c.io.session.resend = true;
  c.io.link.connection_timeout_ms = ATTEMPT_MS;
  c.io.link.reconnect_delay_ms = c.io.link.reconnect_max_ms = 20;
  c.outbox_count = 10;
  said[0] = '\0';
  eb_bus *b = eb_url_parse(text, &url, &err) ? eb_bus_new(&c, &url, &err) : NULL;
  if (b == NULL || !eb_bus_start(b, EB_PUBLISH, &err)) abort();
  eb_publish *p = eb_item_new(EB_ITEM_PUBLISH, sizeof *p, 16);
  if (p == NULL) abort();
  p->exchange = p->routing_key = p->body = eb_bytes_of("x", 1);
  p->item.deadline = eb_clock_now() + ASK_MS;
  if (eb_bus_post(b, &p->item, true, &err) == 0) abort();
  eb_ms end = eb_clock_now() + PATIENCE_MS;
  while (code < 0 && eb_clock_now() < end) {
    eb_item *item;
    eb_bus_wait(b, 100);
    while ((item = eb_bus_next(b)) != NULL) {
      note(said, size, item);
      if (item->kind == EB_ITEM_PUBLISH) code = (int)item->code;
      eb_item_free(item);
    }
  }
  eb_bus_free(b);
  server_stop(&s);
  return code;
}

#define SUFFERS(name, manner, scheme, code, words) \
  TEST(name) { \
    char said[8192]; \
    long before = peak_kb(); \
    CHECK_INT(suffer(manner, scheme, said, sizeof said), code); \
    if (strstr(said, words) == NULL) CHECK_FAIL("it did not say '%s' but: %s", words, said); \
    CHECK(peak_kb() - before < MEMORY_MOST_KB); \
  }

SUFFERS(a_server_that_says_nothing, nothing, "amqp", EB_ERR_TIMEOUT, "did not complete the AMQP handshake in 300 ms")
SUFFERS(a_server_that_hangs_up, hang_up, "amqp", EB_ERR_TIMEOUT, "closed the connection")
SUFFERS(a_server_of_garbage, garbage, "amqp", EB_ERR_TIMEOUT, "this is not AMQP")
SUFFERS(a_frame_that_comes_by_the_byte, slow_frame, "amqp", EB_ERR_TIMEOUT,
        "did not complete the AMQP handshake in 300 ms")
SUFFERS(a_frame_over_the_limit, huge_frame, "amqp", EB_ERR_TIMEOUT,
        "a frame of 2147483647 bytes, over the agreed frame_max")
SUFFERS(server_properties_without_ground, nested, "amqp", EB_ERR_TIMEOUT, "server properties nested too deep")
SUFFERS(a_flood_of_heartbeats_instead_of_a_handshake, flood, "amqp", EB_ERR_TIMEOUT,
        "did not complete the AMQP handshake in 300 ms")
SUFFERS(a_flood_of_heartbeats_after_the_handshake, flood_after_handshake, "amqp", EB_ERR_TIMEOUT, "in time")
SUFFERS(a_channel_that_was_never_opened, wrong_channel, "amqp", EB_ERR_TIMEOUT,
        "a frame on channel 4711, which is not open")
SUFFERS(a_method_nobody_knows, unknown_method, "amqp", EB_ERR_TIMEOUT, "an unknown method (0x12345678)")
SUFFERS(content_that_nobody_asked_for, content_for_nobody, "amqp", EB_ERR_TIMEOUT, "which is not open")
SUFFERS(a_server_that_writes_to_the_terminal, escapes, "amqp", EB_ERR_REFUSED, "only: ?]0;owned??error: forged")
SUFFERS(a_tls_server_that_says_nothing, nothing, "amqps", EB_ERR_TIMEOUT, "did not complete the connection in 300 ms")
SUFFERS(a_tls_handshake_that_comes_by_the_byte, slow_tls, "amqps", EB_ERR_TIMEOUT,
        "did not complete the connection in 300 ms")
SUFFERS(a_tls_server_of_garbage, garbage, "amqps", EB_ERR_TLS, "127.0.0.1")

int main (void) {
  signal(SIGPIPE, SIG_IGN);
  RUN(a_server_that_says_nothing);
  RUN(a_server_that_hangs_up);
  RUN(a_server_of_garbage);
  RUN(a_frame_that_comes_by_the_byte);
  RUN(a_frame_over_the_limit);
  RUN(server_properties_without_ground);
  RUN(a_flood_of_heartbeats_instead_of_a_handshake);
  RUN(a_flood_of_heartbeats_after_the_handshake);
  RUN(a_channel_that_was_never_opened);
  RUN(a_method_nobody_knows);
  RUN(content_that_nobody_asked_for);
  RUN(a_server_that_writes_to_the_terminal);
  RUN(a_tls_server_that_says_nothing);
  RUN(a_tls_handshake_that_comes_by_the_byte);
  RUN(a_tls_server_of_garbage);
  return check_done();
}
