/* client: the jobs of bench/peers/README.md with rabbitmq-c's own calls and nothing else: the floor.
 *
 *     client publish EVENTS URL QUEUE W  W come before the clock starts, else a tenth of EVENTS. consume likewise
 *     client fan EVENTS URL QUEUE N      as bench/peers/eventbus: a channel for each of N consumers, as the library has it
 *
 * It builds JSON with snprintf and looks for the one field it wants, as a C program may; so it has no JSON jobs. Nor does it
 * reconnect: rabbitmq-c does not.
 */
#if defined(__has_include)
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#define CLIENT_HEADERS
#endif
#endif
#ifndef CLIENT_HEADERS
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHANNEL = 1, WINDOW = 1000, PREFETCH = 200, RATE = 500, WAIT_SECONDS = 30 };

typedef struct message {
  char id[64];
  char body[512];
  int size;
  uint64_t seconds;
} message;

static uint64_t random64(void) {
  static uint64_t x = 88172645463325252u;
  x ^= x << 13;
  x ^= x >> 7;
  return x ^= x << 17;
}

static void build(message *m, uint64_t i) {
  struct timespec now;
  struct tm utc;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &utc);
  uint64_t a = random64(), b = random64();
  m->seconds = (uint64_t)now.tv_sec;
  snprintf(m->id, sizeof m->id, "evt_%08x-%04x-7%03x-%04x-%012llx", (unsigned)(a >> 32), (unsigned)(a >> 16) & 0xffff,
           (unsigned)a & 0xfff, (unsigned)(b >> 48), (unsigned long long)(b & 0xffffffffffff));
  m->size = snprintf(m->body, sizeof m->body,
                     "{\"id\":\"%s\",\"type\":\"order.created\",\"source\":\"oms-service\","
                     "\"timestamp\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\",\"tenant_id\":\"tenant_abc\","
                     "\"data\":{\"order_id\":\"order_xyz\",\"order_number\":\"ORD-2024-001\",\"customer_id\":\"cust_123\","
                     "\"items\":[{\"product_id\":\"prod_456\",\"sku\":\"SKU001\",\"quantity\":%llu,\"price\":%.1f}],"
                     "\"total\":%.1f,\"currency\":\"UAH\",\"status\":\"pending\"}}",
                     m->id, utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     now.tv_nsec / 1000000, (unsigned long long)(i % 5 + 1), 500.0, 1000.0);
}

static double total_of(amqp_bytes_t body) {
  static const char name[] = "\"total\":";
  const char *p = body.bytes, *end = p + body.len;
  for (; p + sizeof name < end; p++)
    if (memcmp(p, name, sizeof name - 1) == 0) return strtod(p + sizeof name - 1, NULL);
  return 0;
}

static void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("client: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(1);
}

static void check_status(int status, const char *what) {
  if (status != AMQP_STATUS_OK) fail("%s: %s", what, amqp_error_string2(status));
}

static void check_reply(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) fail("%s: %s", what, amqp_error_string2(reply.library_error));
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_channel_close_t *close = reply.reply.decoded;
    fail("%s: %u %.*s", what, close->reply_code, (int)close->reply_text.len, (char *)close->reply_text.bytes);
  }
  fail("%s: refused by the server", what);
}

static double wall_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct timespec timespec_of(double seconds) {
  struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  return t;
}

static double seconds_of(int who) {
  struct rusage usage;
  getrusage(who, &usage);
  return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
         ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static double cpu_seconds(void) { return seconds_of(RUSAGE_SELF) + seconds_of(RUSAGE_CHILDREN); }

/* How often it has gone to sleep of its own, and so had to be woken. */
static long sleeps(void) {
  struct rusage own, children;
  getrusage(RUSAGE_SELF, &own);
  getrusage(RUSAGE_CHILDREN, &children);
  return own.ru_nvcsw + children.ru_nvcsw;
}

/* Events that come before the clock starts. */
static uint64_t warm;
static double began, began_cpu;
static long slept;

static void begin(void) {
  slept = sleeps();
  began = wall_seconds();
  began_cpu = cpu_seconds();
}

static void finish(uint64_t events, const char *more) {
  double wall = wall_seconds() - began, cpu = cpu_seconds() - began_cpu;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("events=%llu seconds=%.6f cpu=%.6f rss_kb=%ld began=%.6f wakeups=%ld%s\n", (unsigned long long)events, wall, cpu,
         usage.ru_maxrss, began, sleeps() - slept, more);
}

static void open_channel(amqp_connection_state_t connection, amqp_channel_t channel) {
  amqp_channel_open(connection, channel);
  check_reply(amqp_get_rpc_reply(connection), "channel.open");
}

static amqp_connection_state_t open_connection(char *url) {
  struct amqp_connection_info info;
  amqp_default_connection_info(&info);
  char *copy = strdup(url);
  if (copy == NULL || amqp_parse_url(copy, &info) != AMQP_STATUS_OK || info.ssl) fail("not a plain amqp:// URL");
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = connection ? amqp_tcp_socket_new(connection) : NULL;
  if (socket == NULL) fail("out of memory");
  check_status(amqp_socket_open(socket, info.host, info.port), "connect");
  check_reply(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
  open_channel(connection, CHANNEL);
  free(copy);
  return connection;
}

static void declare(amqp_connection_state_t connection, const char *queue) {
  amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table);
  check_reply(amqp_get_rpc_reply(connection), "queue.declare");
  amqp_maybe_release_buffers(connection);
}

static void confirm_select(amqp_connection_state_t connection) {
  amqp_confirm_select(connection, CHANNEL);
  check_reply(amqp_get_rpc_reply(connection), "confirm.select");
}

static void send_event(amqp_connection_state_t connection, const char *queue, uint64_t i) {
  message m;
  build(&m, i);
  amqp_table_entry_t tenant;
  tenant.key = amqp_cstring_bytes("tenant_id");
  tenant.value.kind = AMQP_FIELD_KIND_UTF8;
  tenant.value.value.bytes = amqp_cstring_bytes("tenant_abc");
  amqp_basic_properties_t properties;
  memset(&properties, 0, sizeof properties);
  properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                      AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_HEADERS_FLAG;
  properties.content_type = amqp_cstring_bytes("application/json");
  properties.type = amqp_cstring_bytes("order.created");
  properties.app_id = amqp_cstring_bytes("oms-service");
  properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
  properties.message_id = amqp_cstring_bytes(m.id);
  properties.timestamp = m.seconds;
  properties.headers.num_entries = 1;
  properties.headers.entries = &tenant;
  amqp_bytes_t body = {(size_t)m.size, m.body};
  check_status(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 0, &properties, body),
               "publish");
}

/* Acks come with `multiple` or one by one, and the single ones in any order: a mark for each tag counts them right. */
typedef struct confirms {
  unsigned char *settled;
  uint64_t sent, confirmed, contiguous;
} confirms;

/* 0 when none came within so many seconds. */
static int take_confirm(amqp_connection_state_t connection, confirms *c, int seconds) {
  struct timeval deadline = {seconds, 0};
  amqp_frame_t frame;
  int status = amqp_simple_wait_frame_noblock(connection, &frame, &deadline);
  if (status == AMQP_STATUS_TIMEOUT) return 0;
  check_status(status, "waiting for a confirm");
  if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
    fail("unexpected frame while publishing");
  const amqp_basic_ack_t *ack = frame.payload.method.decoded;
  if (ack->delivery_tag > c->sent) fail("a confirm for what was never sent");
  for (uint64_t tag = ack->multiple ? c->contiguous + 1 : ack->delivery_tag; tag <= ack->delivery_tag; tag++) {
    if (!c->settled[tag]) c->confirmed++;
    c->settled[tag] = 1;
  }
  while (c->contiguous < c->sent && c->settled[c->contiguous + 1]) c->contiguous++;
  amqp_maybe_release_buffers(connection);
  return 1;
}

/* `window` unconfirmed ones at most. */
static void publish(char *url, const char *queue, uint64_t events, uint64_t window) {
  uint64_t all = warm + events;
  amqp_connection_state_t connection = open_connection(url);
  declare(connection, queue);
  confirm_select(connection);
  confirms c = {calloc(all + 1, 1), 0, 0, 0};
  if (c.settled == NULL) fail("out of memory");
  uint64_t goal = warm;
  do {
    if (c.confirmed == warm && goal == warm) {
      begin();
      goal = all;
    }
    while (c.sent < goal && c.sent - c.confirmed < window) send_event(connection, queue, ++c.sent);
    if (!take_confirm(connection, &c, WAIT_SECONDS)) fail("no confirm within %d s", WAIT_SECONDS);
  } while (c.confirmed < all);
  finish(events, "");
  free(c.settled);
}

static void publish_unconfirmed(char *url, const char *queue, uint64_t events) {
  amqp_connection_state_t connection = open_connection(url);
  declare(connection, queue);
  for (uint64_t i = 1; i <= warm + events; i++) {
    if (i == warm + 1) begin();
    send_event(connection, queue, i);
  }
  declare(connection, queue);
  finish(events, "");
}

static void subscribe(amqp_connection_state_t connection, amqp_channel_t channel, const char *queue) {
  amqp_basic_qos(connection, channel, 0, PREFETCH, 0);
  check_reply(amqp_get_rpc_reply(connection), "basic.qos");
  amqp_basic_consume(connection, channel, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  check_reply(amqp_get_rpc_reply(connection), "basic.consume");
}

/* `decoded`, unless NULL: when it was decoded, before its ack. */
static double take(amqp_connection_state_t connection, double *decoded) {
  struct timeval deadline = {WAIT_SECONDS, 0};
  amqp_envelope_t envelope;
  check_reply(amqp_consume_message(connection, &envelope, &deadline, 0), "waiting for a delivery");
  double total = total_of(envelope.message.body);
  if (decoded) *decoded = wall_seconds();
  check_status(amqp_basic_ack(connection, envelope.channel, envelope.delivery_tag, 0), "ack");
  amqp_destroy_envelope(&envelope);
  /* Of this channel: the call for all of them looks through all. */
  amqp_maybe_release_buffers_on_channel(connection, envelope.channel);
  return total;
}

static void consume_from(amqp_connection_state_t connection, uint64_t events) {
  uint64_t all = warm + events;
  double total = 0;
  for (uint64_t taken = 0; taken < all; taken++) {
    if (taken == warm) begin();
    total += take(connection, NULL);
  }
  finish(events, "");
  /* Else the last ack may be lost with the connection. */
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  if (total != 1000.0 * (double)all) fail("the totals do not add up");
}

static void consume(char *url, const char *queue, uint64_t events) {
  amqp_connection_state_t connection = open_connection(url);
  declare(connection, queue);
  subscribe(connection, CHANNEL, queue);
  consume_from(connection, events);
}

/* rabbitmq-c loses frames where those of two messages mix; RabbitMQ writes a message of one body frame in one piece. */
static void fan(char *url, const char *queue, uint64_t events, uint64_t queues) {
  amqp_connection_state_t connection = open_connection(url);
  for (uint64_t i = 1; i <= queues; i++) {
    char name[256];
    snprintf(name, sizeof name, "%s.%llu", queue, (unsigned long long)i);
    amqp_channel_t channel = (amqp_channel_t)(CHANNEL + i);
    declare(connection, name);
    open_channel(connection, channel);
    subscribe(connection, channel, name);
    amqp_maybe_release_buffers(connection);
  }
  printf("ready pid=%ld\n", (long)getpid());
  fflush(stdout);
  consume_from(connection, events);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double percentile(const double *sorted, uint64_t n, uint64_t permille) {
  uint64_t at = (n * permille + 999) / 1000;
  return sorted[at > 0 ? at - 1 : 0] * 1e6;
}

/* The child of latency: publishes at the rate, then tells when it sent each. */
static void send_at_rate(amqp_connection_state_t connection, const char *queue, uint64_t events, int out) {
  double *sent = calloc(events, sizeof *sent), start = wall_seconds();
  confirms c = {calloc(events + 1, 1), 0, 0, 0};
  if (sent == NULL || c.settled == NULL) fail("out of memory");
  while (c.sent < events) {
    double pause = start + (double)c.sent / RATE - wall_seconds();
    if (pause > 0) {
      struct timespec t = timespec_of(pause);
      nanosleep(&t, NULL);
    }
    sent[c.sent] = wall_seconds();
    send_event(connection, queue, ++c.sent);
    while (c.confirmed < c.sent && take_confirm(connection, &c, 0)) {}
  }
  while (c.confirmed < events && take_confirm(connection, &c, WAIT_SECONDS)) {}
  for (size_t done = 0, size = events * sizeof *sent; done < size;) {
    ssize_t n = write(out, (char *)sent + done, size - done);
    if (n <= 0) fail("cannot tell the times");
    done += (size_t)n;
  }
}

static void finish_latency(const double *sent, double *taken, uint64_t events) {
  for (uint64_t i = 0; i < warm + events; i++) taken[i] -= sent[i];
  qsort(taken + warm, events, sizeof *taken, by_value);
  char more[128];
  snprintf(more, sizeof more, " p50_us=%.0f p99_us=%.0f p999_us=%.0f", percentile(taken + warm, events, 500),
           percentile(taken + warm, events, 990), percentile(taken + warm, events, 999));
  finish(warm + events, more);
}

static void latency(char *url, const char *queue, uint64_t events) {
  uint64_t all = warm + events;
  amqp_connection_state_t connection = open_connection(url);
  declare(connection, queue);
  subscribe(connection, CHANNEL, queue);
  amqp_connection_state_t sender = open_connection(url);
  confirm_select(sender);
  double *sent = calloc(all, sizeof *sent), *taken = calloc(all, sizeof *taken);
  int ends[2];
  if (sent == NULL || taken == NULL || pipe(ends) != 0) fail("out of memory");
  begin();
  pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    send_at_rate(sender, queue, all, ends[1]);
    _exit(0);
  }
  close(ends[1]);
  for (uint64_t i = 0; i < all; i++) take(connection, &taken[i]);
  for (size_t done = 0, size = all * sizeof *sent; done < size;) {
    ssize_t n = read(ends[0], (char *)sent + done, size - done);
    if (n <= 0) fail("the publisher has failed");
    done += (size_t)n;
  }
  waitpid(child, NULL, 0);
  finish_latency(sent, taken, events);
}

/* Publisher and consumer by turns in one thread, as the library has them. */
static void latency_together(char *url, const char *queue, uint64_t events) {
  uint64_t all = warm + events, got = 0;
  amqp_connection_state_t connection = open_connection(url), sender = open_connection(url);
  declare(connection, queue);
  subscribe(connection, CHANNEL, queue);
  confirm_select(sender);
  double *sent = calloc(all, sizeof *sent), *taken = calloc(all, sizeof *taken);
  confirms c = {calloc(all + 1, 1), 0, 0, 0};
  if (sent == NULL || taken == NULL || c.settled == NULL) fail("out of memory");
  struct pollfd either[2] = {{amqp_get_sockfd(connection), POLLIN, 0}, {amqp_get_sockfd(sender), POLLIN, 0}};
  begin();
  double start = wall_seconds();
  while (got < all) {
    double now = wall_seconds(), due = c.sent < all ? start + (double)c.sent / RATE : now + WAIT_SECONDS;
    if (due <= now) {
      sent[c.sent] = now;
      send_event(sender, queue, ++c.sent);
      continue;
    }
    struct timespec t = timespec_of(due - now);
    int ready = ppoll(either, 2, &t, NULL);
    if (ready < 0 || (ready == 0 && c.sent == all)) fail("events are missing");
    if (either[1].revents)
      while (c.confirmed < c.sent && take_confirm(sender, &c, 0)) {}
    if (either[0].revents) {
      do take(connection, &taken[got++]);
      while (got < all && (amqp_data_in_buffer(connection) || amqp_frames_enqueued(connection)));
    }
  }
  finish_latency(sent, taken, events);
}

static void topology(char *url, const char *queue, uint64_t count) {
  amqp_connection_state_t connection = open_connection(url);
  begin();
  for (uint64_t i = 1; i <= count; i++) {
    char name[256];
    snprintf(name, sizeof name, "%s.%llu", queue, (unsigned long long)i);
    declare(connection, name);
  }
  finish(count, "");
}

int main(int argc, char **argv) {
  uint64_t events = argc >= 5 ? strtoull(argv[2], NULL, 10) : 0;
  uint64_t more = argc > 5 ? strtoull(argv[5], NULL, 10) : 0;
  if (events == 0) {
    fprintf(stderr, "usage: client JOB EVENTS URL QUEUE\n");
    return 2;
  }
  const char *job = argv[1], *queue = argv[4];
  char *url = argv[3];
  bool takes_warm = argc > 5 && (strcmp(job, "publish") == 0 || strcmp(job, "consume") == 0);
  warm = takes_warm ? more : events / 10;
  if (strcmp(job, "publish") == 0) publish(url, queue, events, WINDOW);
  else if (strcmp(job, "publish-one") == 0) publish(url, queue, events, 1);
  else if (strcmp(job, "publish-none") == 0) publish_unconfirmed(url, queue, events);
  else if (strcmp(job, "consume") == 0) consume(url, queue, events);
  else if (strcmp(job, "latency") == 0) latency(url, queue, events);
  else if (strcmp(job, "latency-together") == 0) latency_together(url, queue, events);
  else if (strcmp(job, "topology") == 0) topology(url, queue, events);
  else if (strcmp(job, "fan") == 0 && more > 0 && more < 2047) fan(url, queue, events, more);
  else {
    fprintf(stderr, "no such job: %s\n", job);
    return 3;
  }
  return 0;
}
