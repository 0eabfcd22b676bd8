/* io_peer: a broker of a few lines, a thread on 127.0.0.1 that answers what every broker answers, and a bus on it. */
#ifndef IO_PEER_H
#define IO_PEER_H

#include "../../src/eb_bus.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/eb_codec.h"
#include "check.h"

/* What a stalled machine may take for what is done at once elsewhere. */
enum { PATIENCE_MS = 30000 };

typedef enum manner {
  NORMAL, SILENT, FORCE_ONCE, REFUSE_LOGIN, REFUSE_ONCE, NEVER_CONFIRM, HANG_UP, QUEUE
} manner;

/* A broker that hangs up does so in the midst of every so many publishes. */
enum { HANG_UP_AFTER = 37 };

/* One that queues delivers what was published to whoever consumes, so many at a time. */
enum { QUEUE_PREFETCH = 10 };

/* The broker. One connection after the other. */

typedef struct broker {
  pthread_t thread;
  int listener;
  unsigned port;
  manner manner;
  atomic_bool stop;
  atomic_int connections;  /* that were opened: connection.open came */
  atomic_int accepted;
  atomic_int publishes;
  atomic_int consumes;
  atomic_bool cancel;      /* the consumer, once */
  atomic_int closed_in_order;
  atomic_int ready;        /* published, and out with nobody */
} broker;

typedef struct talk {
  broker *b;
  int fd;
  eb_buffer in, out;
  amqp_pool_t pool;
  uint64_t tag;
  uint64_t body;   /* still to come */
  uint16_t consumer;   /* its channel */
  uint64_t given;      /* the last delivery's tag */
  uint64_t acked;      /* up to here: a consumer of ours acknowledges in order */
  bool over;
} talk;

static inline void say (talk *t, uint16_t channel, amqp_method_number_t id, void *m) {
  eb_error err;
  if (!eb_codec_put_method(&t->out, channel, id, m, 1024, &err)) abort();
}

static inline void say_ok (talk *t, uint16_t channel, amqp_method_number_t id) {
  static const uint8_t nothing[256];
  uint8_t m[256];
  memcpy(m, nothing, sizeof m);
  say(t, channel, id, m);
}

static inline void say_close (talk *t, uint16_t code, const char *text) {
  amqp_connection_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = code;
  m.reply_text = eb_codec_cstring(text);
  say(t, 0, AMQP_CONNECTION_CLOSE_METHOD, &m);
}

static inline void say_cancel (talk *t) {
  amqp_basic_cancel_t m;
  memset(&m, 0, sizeof m);
  m.consumer_tag = eb_codec_cstring("eventbus-1");
  m.nowait = 1;
  say(t, t->consumer, AMQP_BASIC_CANCEL_METHOD, &m);
}

static inline void put_frame (talk *t, int type, uint16_t channel, const void *payload, size_t n) {
  const uint8_t head[7] = {(uint8_t)type,       (uint8_t)(channel >> 8), (uint8_t)channel, (uint8_t)(n >> 24),
                           (uint8_t)(n >> 16), (uint8_t)(n >> 8),       (uint8_t)n};
  eb_buffer_append(&t->out, head, sizeof head);
  eb_buffer_append(&t->out, payload, n);
  eb_buffer_putc(&t->out, 0xCE);
}

/* An event of four bytes with a table of headers. */
static inline void say_delivery (talk *t) {
  uint8_t header[600] = {0, AMQP_BASIC_CLASS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4};
  amqp_basic_deliver_t m;
  amqp_basic_properties_t props;
  amqp_table_entry_t said;
  memset(&m, 0, sizeof m);
  memset(&props, 0, sizeof props);
  memset(&said, 0, sizeof said);
  m.consumer_tag = eb_codec_cstring("eventbus-1");
  m.delivery_tag = ++t->given;
  m.exchange = eb_codec_cstring("orders");
  m.routing_key = eb_codec_cstring("k");
  said.key = eb_codec_cstring("tenant_id");
  said.value.kind = AMQP_FIELD_KIND_UTF8;
  said.value.value.bytes = eb_codec_cstring("one");
  props._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
  props.message_id = eb_codec_cstring("id");
  props.headers.num_entries = 1;
  props.headers.entries = &said;
  int n = amqp_encode_properties(AMQP_BASIC_CLASS, &props, (amqp_bytes_t){sizeof header - 12, header + 12});
  if (n < 0) abort();
  say(t, t->consumer, AMQP_BASIC_DELIVER_METHOD, &m);
  put_frame(t, AMQP_FRAME_HEADER, t->consumer, header, 12 + (size_t)n);
  put_frame(t, AMQP_FRAME_BODY, t->consumer, "body", 4);
}

static inline void deliver (talk *t) {
  broker *b = t->b;
  while (t->consumer != 0 && t->given - t->acked < QUEUE_PREFETCH && atomic_load(&b->ready) > 0) {
    atomic_fetch_sub(&b->ready, 1);
    say_delivery(t);
  }
}

static inline void confirm (talk *t, uint16_t channel) {
  amqp_basic_ack_t m = {++t->tag, 0};
  int published = atomic_fetch_add(&t->b->publishes, 1) + 1;
  if (t->b->manner == HANG_UP && published % HANG_UP_AFTER == 0) {
    t->over = true;
    return;
  }
  if (t->b->manner == QUEUE) atomic_fetch_add(&t->b->ready, 1);
  if (t->b->manner != NEVER_CONFIRM) say(t, channel, AMQP_BASIC_ACK_METHOD, &m);
}

static inline void hear_method (talk *t, const eb_frame *f) {
  const uint8_t *p = f->payload;
  uint32_t id = ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
  switch (id) {
    case AMQP_CONNECTION_START_OK_METHOD: {
      amqp_connection_tune_t tune = {100, 131072, 60};
      if (t->b->manner == REFUSE_LOGIN || (t->b->manner == REFUSE_ONCE && atomic_load(&t->b->accepted) == 1))
        say_close(t, 403, "ACCESS_REFUSED - Login was refused");
      else
        say(t, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
      break;
    }
    case AMQP_CONNECTION_TUNE_OK_METHOD: break;
    case AMQP_CONNECTION_OPEN_METHOD:
      say_ok(t, 0, AMQP_CONNECTION_OPEN_OK_METHOD);
      if (atomic_fetch_add(&t->b->connections, 1) == 0 && t->b->manner == FORCE_ONCE)
        say_close(t, 320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'");
      break;
    case AMQP_CONNECTION_CLOSE_METHOD:
      say_ok(t, 0, AMQP_CONNECTION_CLOSE_OK_METHOD);
      atomic_fetch_add(&t->b->closed_in_order, 1);
      break;
    case AMQP_CONNECTION_CLOSE_OK_METHOD: t->over = true; break;
    case AMQP_BASIC_PUBLISH_METHOD: break;
    case AMQP_BASIC_ACK_METHOD:
      t->acked = 0;
      for (int i = 0; i < 8; i++) t->acked = t->acked << 8 | p[4 + i];
      break;
    case AMQP_BASIC_CONSUME_METHOD:
      t->consumer = f->channel;
      say_ok(t, f->channel, AMQP_BASIC_CONSUME_OK_METHOD);
      atomic_fetch_add(&t->b->consumes, 1);
      break;
    case AMQP_CHANNEL_OPEN_METHOD: {
      amqp_channel_open_ok_t m = {amqp_empty_bytes};
      say(t, f->channel, AMQP_CHANNEL_OPEN_OK_METHOD, &m);
      break;
    }
    default: say_ok(t, f->channel, id + 1); break;
  }
}

static inline void hear (talk *t) {
  eb_frame f;
  size_t used;
  eb_error err;
  while (eb_codec_cut(eb_buffer_bytes(&t->in), eb_buffer_size(&t->in), 200000, &f, &used, &err) == EB_CUT_FRAME) {
    if (f.type == AMQP_FRAME_METHOD) hear_method(t, &f);
    if (f.type == AMQP_FRAME_HEADER) {
      t->body = 0;
      for (int i = 4; i < 12; i++) t->body = t->body << 8 | f.payload[i];
      if (t->body == 0) confirm(t, f.channel);
    }
    if (f.type == AMQP_FRAME_BODY && (t->body -= f.size) == 0) confirm(t, f.channel);
    eb_buffer_consume(&t->in, used);
  }
}

static inline bool transfer (talk *t) {
  uint8_t bytes[4096];
  while (eb_buffer_size(&t->out) > 0) {
    ssize_t n = send(t->fd, eb_buffer_bytes(&t->out), eb_buffer_size(&t->out), MSG_NOSIGNAL);
    if (n <= 0) return false;
    eb_buffer_consume(&t->out, (size_t)n);
  }
  struct pollfd p = {t->fd, POLLIN, 0};
  if (poll(&p, 1, t->b->manner == QUEUE ? 1 : 5) <= 0) return true;
  ssize_t n = recv(t->fd, bytes, sizeof bytes, 0);
  return n > 0 && eb_buffer_append(&t->in, bytes, (size_t)n);
}

static inline void serve (broker *b, int fd) {
  talk t;
  bool greeted = false;
  memset(&t, 0, sizeof t);
  t.b = b;
  t.fd = fd;
  init_amqp_pool(&t.pool, 4096);
  while (!atomic_load(&b->stop) && !t.over && transfer(&t)) {
    if (b->manner == SILENT) continue;
    if (!greeted && eb_buffer_size(&t.in) >= 8) {
      amqp_connection_start_t m;
      memset(&m, 0, sizeof m);
      m.version_minor = 9;
      m.mechanisms = eb_codec_cstring("PLAIN");
      m.locales = eb_codec_cstring("en_US");
      eb_buffer_consume(&t.in, 8);
      say(&t, 0, AMQP_CONNECTION_START_METHOD, &m);
      greeted = true;
    }
    if (greeted) hear(&t);
    if (atomic_exchange(&b->cancel, false)) say_cancel(&t);
    if (b->manner == QUEUE) deliver(&t);
  }
  atomic_fetch_add(&b->ready, (int)(t.given - t.acked));
  eb_buffer_fini(&t.in);
  eb_buffer_fini(&t.out);
  empty_amqp_pool(&t.pool);
  close(fd);
}

static inline void *serve_all (void *arg) {
  broker *b = arg;
  while (!atomic_load(&b->stop)) {
    struct pollfd p = {b->listener, POLLIN, 0};
    if (poll(&p, 1, 5) <= 0) continue;
    int fd = accept(b->listener, NULL, NULL);
    if (fd < 0) continue;
    atomic_fetch_add(&b->accepted, 1);
    serve(b, fd);
  }
  return NULL;
}

static inline int listen_somewhere (unsigned *port) {
  struct sockaddr_in a;
  socklen_t n = sizeof a;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  memset(&a, 0, sizeof a);
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 16) != 0 ||
      getsockname(fd, (struct sockaddr *)&a, &n) != 0)
    abort();
  *port = ntohs(a.sin_port);
  return fd;
}

static inline void broker_listen (broker *b, manner how) {
  memset(b, 0, sizeof *b);
  b->manner = how;
  b->listener = listen_somewhere(&b->port);
}

static inline void broker_run (broker *b) {
  if (pthread_create(&b->thread, NULL, serve_all, b) != 0) abort();
}

static inline void broker_start (broker *b, manner how) {
  broker_listen(b, how);
  broker_run(b);
}

static inline void broker_stop (broker *b) {
  atomic_store(&b->stop, true);
  pthread_join(b->thread, NULL);
  close(b->listener);
}

/* The same in processes of its own, one for each connection: a test that makes memory fail has none of it for itself.
 * 'b' is shared with them. */

static inline void die_with_parent (void) {
#if defined(__linux__)
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

static inline pid_t broker_fork (broker **shared, manner how) {
  broker *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (b == MAP_FAILED) abort();
  broker_listen(b, how);
  *shared = b;
  pid_t pid = fork();
  if (pid != 0) {
    close(b->listener);
    return pid;
  }
  die_with_parent();
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int fd = accept(b->listener, NULL, NULL);
    if (fd < 0) continue;
    if (fork() == 0) {
      die_with_parent();
      serve(b, fd);
      _exit(0);
    }
    close(fd);
  }
}

static inline void broker_kill (pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

/* A port where nobody listens. */
static inline unsigned dead_port (void) {
  unsigned port;
  close(listen_somewhere(&port));
  return port;
}

/* The bus. */

static inline eb_bus *open_bus (const char *hosts, int64_t connection_timeout) {
  char text[300];
  eb_url url;
  eb_error err;
  eb_bus_config c;
  memset(&c, 0, sizeof c);
  snprintf(text, sizeof text, "amqp://guest:guest@%s/%%2f", hosts);
  if (!eb_url_parse(text, &url, &err)) return NULL;
  eb_session_config *s = &c.io.session;
  s->vhost = url.vhost;
  s->user = url.user;
  s->password = url.password;
  s->connection_name = "io_test";
  s->heartbeat_s = 60;
  s->window_count = 100;
  s->window_bytes = 1 << 20;
  s->max_body = 1 << 20;
  s->resend = true;
  s->ack_delay_ms = 1;
  c.io.link.connection_timeout_ms = connection_timeout;
  c.io.link.reconnect_delay_ms = 20;
  c.io.link.reconnect_max_ms = 50;
  c.outbox_count = 1000;
  c.outbox_bytes = 1 << 24;
  return eb_bus_new(&c, &url, &err);
}

static inline eb_bus *open_on (const broker *b) {
  char host[40];
  snprintf(host, sizeof host, "127.0.0.1:%u", b->port);
  return open_bus(host, 5000);
}

static inline uint64_t publish (eb_bus *b, int64_t timeout) {
  eb_error err;
  eb_publish *p = eb_item_new(EB_ITEM_PUBLISH, sizeof *p, 64);
  if (p == NULL) abort();
  p->item.deadline = eb_ms_after(eb_clock_now(), timeout);
  p->exchange = eb_bytes_of("orders", 6);
  p->routing_key = eb_bytes_of("k", 1);
  p->body = eb_bytes_of("body", 4);
  return eb_bus_post(b, &p->item, true, &err);
}

/* The answer's code, or -1 when none came in time. */
static inline int answer_of (eb_bus *b, uint64_t id, char *text) {
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (eb_clock_now() < until) {
    eb_item *item;
    while ((item = eb_bus_next(b)) != NULL) {
      int code = item->kind != EB_ITEM_NOTICE && item->id == id ? (int)item->code : -1;
      if (code >= 0 && text != NULL)
        snprintf(text, EB_ERROR_TEXT, "%s", item->error == NULL ? "" : item->error->message);
      eb_item_free(item);
      if (code >= 0) return code;
    }
    eb_bus_wait(b, 100 * EB_US_IN_MS);
  }
  return -1;
}

static inline bool ends (eb_bus *b, int64_t ms) {
  eb_ms until = eb_clock_now() + ms;
  while (!eb_bus_ended(b) && eb_clock_now() < until) {
    eb_item *item;
    while ((item = eb_bus_next(b)) != NULL) eb_item_free(item);
    if (!eb_bus_ended(b)) eb_bus_wait(b, 50 * EB_US_IN_MS);
  }
  return eb_bus_ended(b);
}

static inline int64_t cpu_ms (void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

#endif
