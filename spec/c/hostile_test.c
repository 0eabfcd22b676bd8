/* A bus against servers that mean no good, over real sockets: no crash, an error that says what was wrong, an answer about
 * when its deadline asks for it, and no more memory, at its peak, than the test says. (What single frames may do is in
 * session_test_frames.c, and fuzzed.) */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

/* The deadline is asked for in ASK_MS; a machine that is busy with other things may be late, but not as long as if there
 * were none. */
enum { ATTEMPT_MS = 300, ASK_MS = 700, ANSWER_MOST_MS = 10 * ASK_MS, PATIENCE_MS = 60000 };

enum { PREFETCH = 10, MAX_BODY = 1 << 20, FEAST = 300 << 20 };

/* What a victim may take: next to nothing, or what the session grants a consumer: 64 MiB and a prefetch of the largest
 * bodies. A sanitizer keeps what was freed, though not all of a feast. */
#if defined(EB_ASAN) || defined(EB_TSAN)
enum { LITTLE_KB = 1024 * 1024, GRANTED_KB = 1024 * 1024 };
#else
enum { LITTLE_KB = 32 * 1024, GRANTED_KB = (64 << 10) + PREFETCH * (MAX_BODY >> 10) + LITTLE_KB };
#endif

typedef struct server {
  pthread_t thread;
  int listener;
  unsigned port;
  atomic_bool stop;
  atomic_bool sated;     /* a feast is over: all was sent, or the guest left */
  atomic_bool left;      /* the guest did */
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
  amqp_connection_tune_t tune = {100, 131072, 60};
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

/* A thousand content headers, on a channel that is not open. */
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

/* Once it was greeted: what is not read when a socket is closed makes a reset of it. */
static void hang_up (server *s, int fd) {
  uint8_t greeting[8];
  while (!atomic_load(&s->stop) && poll(&(struct pollfd){fd, POLLIN, 0}, 1, 10) <= 0) {}
  if (recv(fd, greeting, sizeof greeting, 0) < 0) return;
}

/* Feasts: for a consumer, on its channel, until it leaves or hundreds of megabytes were served. */

enum { CHANNEL = 3 };

static bool wait_for_consume (server *s, int fd) {
  static const uint8_t consume[4] = {0, 60, 0, 20};
  uint8_t byte;
  size_t seen = 0;
  while (seen < sizeof consume && !atomic_load(&s->stop)) {
    if (poll(&(struct pollfd){fd, POLLIN, 0}, 1, 10) <= 0) continue;
    if (recv(fd, &byte, 1, 0) <= 0) return false;
    seen = byte == consume[seen] ? seen + 1 : byte == 0;
  }
  return seen == sizeof consume;
}

static bool seat (server *s, int fd) {
  eb_buffer b;
  if (atomic_load(&s->sated)) return false;
  eb_buffer_init(&b);
  put_handshake(&b);
  send_buffer(s, fd, &b);
  if (!wait_for_consume(s, fd)) return false;
  amqp_channel_open_ok_t open = {amqp_empty_bytes};
  amqp_basic_qos_ok_t qos = {0};
  amqp_basic_consume_ok_t consume = {eb_codec_cstring("tag")};
  eb_buffer_init(&b);
  put_method(&b, CHANNEL, AMQP_CHANNEL_OPEN_OK_METHOD, &open);
  put_method(&b, CHANNEL, AMQP_BASIC_QOS_OK_METHOD, &qos);
  put_method(&b, CHANNEL, AMQP_BASIC_CONSUME_OK_METHOD, &consume);
  send_buffer(s, fd, &b);
  return true;
}

static void put_deliver (eb_buffer *b, uint64_t tag) {
  amqp_basic_deliver_t m;
  memset(&m, 0, sizeof m);
  m.consumer_tag = m.exchange = m.routing_key = eb_codec_cstring("x");
  m.delivery_tag = tag;
  put_method(b, CHANNEL, AMQP_BASIC_DELIVER_METHOD, &m);
}

/* With 'stream', as RabbitMQ marks what is of a stream. */
static void put_header (eb_buffer *b, uint64_t size, bool stream) {
  uint8_t header[14 + 29] = {0, 60};
  for (int i = 0; i < 8; i++) header[4 + i] = (uint8_t)(size >> (56 - 8 * i));
  header[12] = stream ? AMQP_BASIC_HEADERS_FLAG >> 8 : 0;
  memcpy(header + 14, "\0\0\0\x19\x0Fx-stream-offsetl\0\0\0\0\0\0\0\0", 29);
  put_frame(b, AMQP_FRAME_HEADER, CHANNEL, header, stream ? sizeof header : 14);
}

static const uint8_t dish[100000];

static void put_dish (eb_buffer *b) { put_frame(b, AMQP_FRAME_BODY, CHANNEL, dish, sizeof dish); }

/* Serves what is put, again and again. */
static void feast (server *s, int fd, void (*put)(eb_buffer *b, uint64_t course)) {
  if (!seat(s, fd)) return;
  size_t served = 0;
  bool there = true;
  for (uint64_t course = 1; there && served < FEAST; course++) {
    eb_buffer b;
    eb_buffer_init(&b);
    put(&b, course);
    served += eb_buffer_size(&b);
    there = send_all(s, fd, eb_buffer_bytes(&b), eb_buffer_size(&b));
    eb_buffer_fini(&b);
  }
  atomic_store(&s->left, !there);
  atomic_store(&s->sated, true);
  if (there) wait_for_end(s, fd);
}

static void put_header_again (eb_buffer *b, uint64_t course) {
  if (course == 1) put_deliver(b, 1);
  put_header(b, 1000, false);
}
static void put_endless_body (eb_buffer *b, uint64_t course) {
  if (course == 1) put_deliver(b, 1), put_header(b, UINT64_MAX / 2, false);
  put_dish(b);
}
static void put_message (eb_buffer *b, uint64_t course) {
  put_deliver(b, course);
  put_header(b, sizeof dish, false);
  put_dish(b);
}
static void put_empty_message (eb_buffer *b, uint64_t course) {
  put_deliver(b, course);
  put_header(b, 0, false);
}
static void put_stream (eb_buffer *b, uint64_t course) {
  put_deliver(b, course);
  put_header(b, sizeof dish, true);
  put_dish(b);
}
static void headers_without_end (server *s, int fd) { feast(s, fd, put_header_again); }
static void a_body_without_end (server *s, int fd) { feast(s, fd, put_endless_body); }
static void messages_without_end (server *s, int fd) { feast(s, fd, put_message); }
static void empty_messages_without_end (server *s, int fd) { feast(s, fd, put_empty_message); }
static void a_chunk_without_end (server *s, int fd) { feast(s, fd, put_stream); }

/* The peak of this process's memory since peak_reset, which gives what it is now. Without Linux's /proc: since the
 * process began. */

static long peak_kb (void) {
  char line[256];
  long kb = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL)
    if (sscanf(line, "VmHWM: %ld", &kb) == 1) break;
  if (f != NULL) fclose(f);
  if (kb > 0) return kb;
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_maxrss;
}

static long peak_reset (void) {
  int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (write(fd, "5", 1) != 1) printf("the peak of memory cannot be reset\n");
    close(fd);
  }
  return peak_kb();
}

/* The victim: one bus, which publishes once, or consumes. All that it is told, in 'said'. */

static void note (char *said, size_t size, const eb_item *item) {
  size_t n = strlen(said);
  if (item->error != NULL && n + 1 < size) snprintf(said + n, size - n, "%s\n", item->error->message);
}

static eb_bus *victim (const server *s, const char *scheme, eb_side side) {
  char text[100];
  eb_url url;
  eb_error err;
  eb_bus_config c;
  snprintf(text, sizeof text, "%s://127.0.0.1:%u/%%2F%s", scheme, s->port,
           strcmp(scheme, "amqps") == 0 ? "?verify=verify_none" : "");
  memset(&c, 0, sizeof c);
  c.io.session.vhost = "/";
  c.io.session.user = c.io.session.password = c.io.session.connection_name = "guest";
  c.io.session.window_count = 10;
  c.io.session.window_bytes = c.outbox_bytes = 1 << 20;
  c.io.session.max_body = MAX_BODY;
  c.io.session.heartbeat_s = 60;  /* silence is of a machine that stands still */
  c.io.session.resend = true;
  c.io.link.connection_timeout_ms = ATTEMPT_MS;
  c.io.link.reconnect_delay_ms = c.io.link.reconnect_max_ms = 20;
  c.outbox_count = 10;
  eb_bus *b = eb_url_parse(text, &url, &err) ? eb_bus_new(&c, &url, &err) : NULL;
  if (b == NULL || !eb_bus_start(b, side, &err)) abort();
  return b;
}

static void post (eb_bus *b, eb_item *item, int64_t timeout) {
  eb_error err;
  item->deadline = eb_clock_now() + timeout;
  if (eb_bus_post(b, item, true, &err) == 0) abort();
}

/* The code of the answer to an operation of this kind; -1: there is none. */
static int take (eb_bus *b, eb_item_kind kind, char *said, size_t size) {
  int code = -1;
  eb_item *item;
  eb_bus_wait(b, 100 * EB_US_IN_MS);
  while ((item = eb_bus_next(b)) != NULL) {
    note(said, size, item);
    if (item->kind == kind) code = (int)item->code;
    eb_item_free(item);
  }
  return code;
}

/* The publish's answer; -1: it had none. And when it came. */
static int suffer (void (*misbehave)(server *, int), const char *scheme, char *said, size_t size, eb_ms *after) {
  server s;
  int code = -1;
  server_start(&s, misbehave);
  said[0] = '\0';
  eb_bus *b = victim(&s, scheme, EB_PUBLISH);
  eb_publish *p = eb_item_new(EB_ITEM_PUBLISH, sizeof *p, 16);
  if (p == NULL) abort();
  p->exchange = p->routing_key = p->body = eb_bytes_of("x", 1);
  eb_ms began = eb_clock_now();
  post(b, &p->item, ASK_MS);
  while (code < 0 && eb_clock_now() < began + PATIENCE_MS) code = take(b, EB_ITEM_PUBLISH, said, size);
  *after = eb_clock_now() - began;
  eb_bus_free(b);
  server_stop(&s);
  return code;
}

/* Consumes, and looks at nothing until the feast is over, as a program that is busy. True: it left. */
static bool dine (void (*misbehave)(server *, int), char *said, size_t size, const char *words) {
  server s;
  server_start(&s, misbehave);
  said[0] = '\0';
  eb_bus *b = victim(&s, "amqp", EB_CONTROL);
  eb_subscribe *c = eb_item_new(EB_ITEM_SUBSCRIBE, sizeof *c, 16);
  if (c == NULL) abort();
  c->queue = eb_bytes_of("q", 1);
  c->prefetch = PREFETCH;
  eb_ms end = eb_clock_now() + PATIENCE_MS;
  post(b, &c->item, PATIENCE_MS);
  while (!atomic_load(&s.sated) && eb_clock_now() < end) poll(NULL, 0, 10);
  bool left = atomic_load(&s.left);
  if (!atomic_load(&s.sated)) snprintf(said, size, "the feast is not over\n");
  while (left && strstr(said, words) == NULL && eb_clock_now() < end) take(b, EB_ITEM_SUBSCRIBE, said, size);
  eb_bus_free(b);
  server_stop(&s);
  return left;
}

#define SAYS_AND_TAKES(words, most_kb) \
  do { \
    if (strstr(said, words) == NULL) CHECK_FAIL("it did not say '%s' but: %s", words, said); \
    if (peak_kb() - before > (most_kb)) CHECK_FAIL("it took %ld kB, not %d", peak_kb() - before, (int)(most_kb)); \
  } while (0)

#define SUFFERS(name, manner, scheme, code, words) \
  TEST(name) { \
    char said[8192]; \
    eb_ms after; \
    int got, tries = 0; \
    long before = peak_reset(); \
    do got = suffer(manner, scheme, said, sizeof said, &after); while (got >= 0 && after > 2 * ASK_MS && ++tries < 5); \
    CHECK_INT(got, code); \
    if (after > ANSWER_MOST_MS) CHECK_FAIL("the answer came after %lld ms", (long long)after); \
    SAYS_AND_TAKES(words, LITTLE_KB); \
  }

#define DINES(name, manner, leaves, words, most_kb) \
  TEST(name) { \
    char said[8192]; \
    long before = peak_reset(); \
    CHECK_INT(dine(manner, said, sizeof said, words), leaves); \
    SAYS_AND_TAKES(words, most_kb); \
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

DINES(headers_of_one_message_without_end, headers_without_end, true, "a content header out of place", LITTLE_KB)
DINES(a_body_that_never_ends, a_body_without_end, false, "", LITTLE_KB)
DINES(messages_beyond_the_prefetch, messages_without_end, true, "more deliveries than the prefetch of 10", LITTLE_KB)
DINES(empty_messages_beyond_the_prefetch, empty_messages_without_end, true, "more deliveries than the prefetch of 10",
      LITTLE_KB)
DINES(what_claims_to_be_of_a_stream, a_chunk_without_end, true, "more deliveries than the prefetch of 10", GRANTED_KB)

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
  RUN(what_claims_to_be_of_a_stream);
  RUN(headers_of_one_message_without_end);
  RUN(a_body_that_never_ends);
  RUN(messages_beyond_the_prefetch);
  RUN(empty_messages_beyond_the_prefetch);
  return check_done();
}
