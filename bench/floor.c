/* floor: what publishing and consuming cost with rabbitmq-c's own calls and nothing else.
 *
 *   floor publish|consume URL N [QUEUE]
 *
 * publish: N persistent order.created envelopes, each built, confirmed, at most 1000 outstanding.
 * consume: N deliveries, prefetch 200, one field summed, each acked by itself.
 * The durable queue (default bench.floor) is declared here; publish empties it first.
 * Prints one JSON line; the CPU is this process's alone (getrusage), so it compares clients and not brokers.
 */
#if defined(__has_include)
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#define FLOOR_HEADERS
#endif
#endif
#ifndef FLOOR_HEADERS
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

enum { CHANNEL = 1, WINDOW = 1000, PREFETCH = 200, WAIT_SECONDS = 30 };

/* The message of bench/client.lua: order.created of the platform, a new id and time each, built as C programs build it. */
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

/* The field that is summed; a C program that wants one field looks for it. */
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
  fputs("floor: ", stderr);
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

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
         ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static amqp_connection_state_t open_connection(char *url) {
  struct amqp_connection_info info;
  amqp_default_connection_info(&info);
  if (amqp_parse_url(url, &info) != AMQP_STATUS_OK || info.ssl) fail("not a plain amqp:// URL");
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = connection ? amqp_tcp_socket_new(connection) : NULL;
  if (socket == NULL) fail("out of memory");
  check_status(amqp_socket_open(socket, info.host, info.port), "connect");
  check_reply(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
  amqp_channel_open(connection, CHANNEL);
  check_reply(amqp_get_rpc_reply(connection), "channel.open");
  return connection;
}

/* Acks come with `multiple` or one by one, and the single ones in any order: a mark for each tag counts them right. */
static void publish(amqp_connection_state_t connection, const char *queue, uint64_t events) {
  amqp_confirm_select(connection, CHANNEL);
  check_reply(amqp_get_rpc_reply(connection), "confirm.select");

  unsigned char *settled = calloc(events + 1, 1);
  if (settled == NULL) fail("out of memory");
  amqp_basic_properties_t properties;
  memset(&properties, 0, sizeof properties);
  properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                      AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_HEADERS_FLAG;
  properties.content_type = amqp_cstring_bytes("application/json");
  properties.type = amqp_cstring_bytes("order.created");
  properties.app_id = amqp_cstring_bytes("oms-service");
  properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
  amqp_table_entry_t tenant;
  tenant.key = amqp_cstring_bytes("tenant_id");
  tenant.value.kind = AMQP_FIELD_KIND_UTF8;
  tenant.value.value.bytes = amqp_cstring_bytes("tenant_abc");
  properties.headers.num_entries = 1;
  properties.headers.entries = &tenant;
  message m;
  amqp_bytes_t key = amqp_cstring_bytes(queue);

  uint64_t sent = 0, confirmed = 0, contiguous = 0;
  while (confirmed < events) {
    while (sent < events && sent - confirmed < WINDOW) {
      build(&m, sent);
      properties.message_id = amqp_cstring_bytes(m.id);
      properties.timestamp = m.seconds;
      amqp_bytes_t body = {(size_t)m.size, m.body};
      check_status(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, key, 0, 0, &properties, body), "publish");
      sent++;
    }
    struct timeval deadline = {WAIT_SECONDS, 0};
    amqp_frame_t frame;
    check_status(amqp_simple_wait_frame_noblock(connection, &frame, &deadline), "waiting for a confirm");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
      fail("unexpected frame while publishing");
    const amqp_basic_ack_t *ack = frame.payload.method.decoded;
    if (ack->delivery_tag > sent) fail("a confirm for what was never sent");
    for (uint64_t tag = ack->multiple ? contiguous + 1 : ack->delivery_tag; tag <= ack->delivery_tag; tag++) {
      if (!settled[tag]) confirmed++;
      settled[tag] = 1;
    }
    while (contiguous < events && settled[contiguous + 1]) contiguous++;
    amqp_maybe_release_buffers(connection);
  }
  free(settled);
}

static void consume(amqp_connection_state_t connection, const char *queue, uint64_t events) {
  amqp_basic_qos(connection, CHANNEL, 0, PREFETCH, 0);
  check_reply(amqp_get_rpc_reply(connection), "basic.qos");
  amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  check_reply(amqp_get_rpc_reply(connection), "basic.consume");
  double total = 0;
  for (uint64_t taken = 0; taken < events; taken++) {
    struct timeval deadline = {WAIT_SECONDS, 0};
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(connection);
    check_reply(amqp_consume_message(connection, &envelope, &deadline, 0), "waiting for a delivery");
    total += total_of(envelope.message.body);
    check_status(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, 0), "ack");
    amqp_destroy_envelope(&envelope);
  }
  if (total != 1000.0 * (double)events) fail("the totals do not add up");
}

int main(int argc, char **argv) {
  if (argc < 4 || argc > 5 || (strcmp(argv[1], "publish") != 0 && strcmp(argv[1], "consume") != 0)) {
    fprintf(stderr, "usage: floor publish|consume URL N [QUEUE]\n");
    return 2;
  }
  int publishing = strcmp(argv[1], "publish") == 0;
  uint64_t events = strtoull(argv[3], NULL, 10);
  const char *queue = argc == 5 ? argv[4] : "bench.floor";
  if (events == 0) fail("N must be at least 1");

  amqp_connection_state_t connection = open_connection(argv[2]);
  amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table);
  check_reply(amqp_get_rpc_reply(connection), "queue.declare");
  if (publishing) {
    amqp_queue_purge(connection, CHANNEL, amqp_cstring_bytes(queue));
    check_reply(amqp_get_rpc_reply(connection), "queue.purge");
  }

  double wall = wall_seconds(), cpu = cpu_seconds();
  if (publishing) {
    publish(connection, queue, events);
  } else {
    consume(connection, queue, events);
  }
  wall = wall_seconds() - wall;
  cpu = cpu_seconds() - cpu;
  printf("{\"job\":\"%s\",\"events\":%llu,\"seconds\":%.3f,\"cpu_us_per_event\":%.3f,\"events_per_s\":%.0f}\n",
         argv[1], (unsigned long long)events, wall, cpu * 1e6 / (double)events,
         (double)events / wall);

  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
  return 0;
}
