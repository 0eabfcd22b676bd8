/* floor: what publishing and consuming cost with rabbitmq-c's own calls and nothing else.
 *
 *   floor publish|consume URL N [QUEUE]
 *
 * publish: N persistent messages of one fixed order.created envelope, confirmed, at most 1000 outstanding.
 * consume: N deliveries, prefetch 200, each acked by itself.
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

static const char ENVELOPE[] =
    "{\"id\":\"evt_018e6f2a-7c1b-7d3e-9a4f-5b6c7d8e9f01\",\"type\":\"order.created\",\"source\":\"oms-service\","
    "\"timestamp\":\"2024-01-15T10:30:00.000Z\",\"tenant_id\":\"tenant_abc\",\"data\":{\"order_id\":\"order_xyz\","
    "\"order_number\":\"ORD-2024-001\",\"customer_id\":\"cust_123\",\"total\":1000.5,\"currency\":\"UAH\","
    "\"status\":\"pending\"}}";

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
  properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.content_type = amqp_cstring_bytes("application/json");
  properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
  amqp_bytes_t body = {sizeof ENVELOPE - 1, (void *)(uintptr_t)ENVELOPE};
  amqp_bytes_t key = amqp_cstring_bytes(queue);

  uint64_t sent = 0, confirmed = 0, contiguous = 0;
  while (confirmed < events) {
    while (sent < events && sent - confirmed < WINDOW) {
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
  for (uint64_t taken = 0; taken < events; taken++) {
    struct timeval deadline = {WAIT_SECONDS, 0};
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(connection);
    check_reply(amqp_consume_message(connection, &envelope, &deadline, 0), "waiting for a delivery");
    check_status(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, 0), "ack");
    amqp_destroy_envelope(&envelope);
  }
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
  printf("{\"job\":\"%s\",\"events\":%llu,\"bytes\":%zu,\"seconds\":%.3f,\"cpu_us_per_event\":%.3f,\"events_per_s\":%.0f}\n",
         argv[1], (unsigned long long)events, sizeof ENVELOPE - 1, wall, cpu * 1e6 / (double)events,
         (double)events / wall);

  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
  return 0;
}
