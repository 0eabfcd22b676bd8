/* eb_io and eb_bus against a broker of a few lines: a thread on 127.0.0.1 that answers what every broker answers. */
#include "../../src/eb_bus.h"

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
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/eb_codec.h"
#include "check.h"

enum { PATIENCE_MS = 10000 };

typedef enum manner { NORMAL, SILENT, FORCE_ONCE, REFUSE_LOGIN, NEVER_CONFIRM } manner;

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
  atomic_int closed_in_order;
} broker;

typedef struct talk {
  broker *b;
  int fd;
  eb_buffer in, out;
  amqp_pool_t pool;
  uint64_t tag;
  uint64_t body;   /* still to come */
  bool over;
} talk;

static void say (talk *t, uint16_t channel, amqp_method_number_t id, void *m) {
  eb_error err;
  if (!eb_codec_put_method(&t->out, channel, id, m, 1024, &err)) abort();
}

static void say_ok (talk *t, uint16_t channel, amqp_method_number_t id) {
  static const uint8_t nothing[256];
  uint8_t m[256];
  memcpy(m, nothing, sizeof m);
  say(t, channel, id, m);
}

static void say_close (talk *t, uint16_t code, const char *text) {
  amqp_connection_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = code;
  m.reply_text = eb_codec_cstring(text);
  say(t, 0, AMQP_CONNECTION_CLOSE_METHOD, &m);
}

static void confirm (talk *t, uint16_t channel) {
  amqp_basic_ack_t m = {++t->tag, 0};
  atomic_fetch_add(&t->b->publishes, 1);
  if (t->b->manner != NEVER_CONFIRM) say(t, channel, AMQP_BASIC_ACK_METHOD, &m);
}

static void hear_method (talk *t, const eb_frame *f) {
  const uint8_t *p = f->payload;
  uint32_t id = ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
  switch (id) {
    case AMQP_CONNECTION_START_OK_METHOD: {
      amqp_connection_tune_t tune = {100, 131072, 60};
      if (t->b->manner == REFUSE_LOGIN)
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
    case AMQP_CHANNEL_OPEN_METHOD: {
      amqp_channel_open_ok_t m = {amqp_empty_bytes};
      say(t, f->channel, AMQP_CHANNEL_OPEN_OK_METHOD, &m);
      break;
    }
    default: say_ok(t, f->channel, id + 1); break;
  }
}

static void hear (talk *t) {
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

static bool transfer (talk *t) {
  uint8_t bytes[4096];
  while (eb_buffer_size(&t->out) > 0) {
    ssize_t n = send(t->fd, eb_buffer_bytes(&t->out), eb_buffer_size(&t->out), MSG_NOSIGNAL);
    if (n <= 0) return false;
    eb_buffer_consume(&t->out, (size_t)n);
  }
  struct pollfd p = {t->fd, POLLIN, 0};
  if (poll(&p, 1, 5) <= 0) return true;
  ssize_t n = recv(t->fd, bytes, sizeof bytes, 0);
  return n > 0 && eb_buffer_append(&t->in, bytes, (size_t)n);
}

static void serve (broker *b, int fd) {
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
  }
  eb_buffer_fini(&t.in);
  eb_buffer_fini(&t.out);
  empty_amqp_pool(&t.pool);
  close(fd);
}

static void *serve_all (void *arg) {
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

static int listen_somewhere (unsigned *port) {
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

static void broker_listen (broker *b, manner how) {
  memset(b, 0, sizeof *b);
  b->manner = how;
  b->listener = listen_somewhere(&b->port);
}

static void broker_run (broker *b) {
  if (pthread_create(&b->thread, NULL, serve_all, b) != 0) abort();
}

static void broker_start (broker *b, manner how) {
  broker_listen(b, how);
  broker_run(b);
}

static void broker_stop (broker *b) {
  atomic_store(&b->stop, true);
  pthread_join(b->thread, NULL);
  close(b->listener);
}

/* A port where nobody listens. */
static unsigned dead_port (void) {
  unsigned port;
  close(listen_somewhere(&port));
  return port;
}

/* The bus. */

static eb_bus *open_bus (const char *hosts, int64_t connection_timeout) {
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

static eb_bus *open_on (const broker *b) {
  char host[40];
  snprintf(host, sizeof host, "127.0.0.1:%u", b->port);
  return open_bus(host, 5000);
}

static uint64_t publish (eb_bus *b, int64_t timeout) {
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
static int answer_of (eb_bus *b, uint64_t id, char *text) {
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
    eb_bus_wait(b, 100);
  }
  return -1;
}

static bool ends (eb_bus *b, int64_t ms) {
  eb_ms until = eb_clock_now() + ms;
  while (!eb_bus_ended(b) && eb_clock_now() < until) {
    eb_item *item;
    while ((item = eb_bus_next(b)) != NULL) eb_item_free(item);
    if (!eb_bus_ended(b)) eb_bus_wait(b, 50);
  }
  return eb_bus_ended(b);
}

static int64_t cpu_ms (void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

TEST(a_publish_is_confirmed_and_the_end_is_in_order) {
  static broker b;
  broker_start(&b, NORMAL);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 5000), NULL), EB_OK);
  eb_bus_shutdown(bus, 5000);
  eb_error err;
  CHECK(!eb_bus_may_post(bus, 0, &err));
  CHECK_INT(err.code, EB_ERR_CLOSED);
  CHECK(ends(bus, 5000));
  eb_bus_free(bus);
  broker_stop(&b);
  CHECK_INT(b.closed_in_order, 1);
}

TEST(a_refused_connect_goes_to_the_next_host) {
  static broker b;
  char hosts[100];
  broker_start(&b, NORMAL);
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", dead_port(), b.port);
  eb_bus *bus = open_bus(hosts, 5000);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 5000), NULL), EB_OK);
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(a_host_that_does_not_shake_hands_is_left_for_the_next) {
  static broker silent, b;
  char hosts[100];
  broker_start(&silent, SILENT);
  broker_start(&b, NORMAL);
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", silent.port, b.port);
  eb_bus *bus = open_bus(hosts, 200);
  CHECK(bus != NULL);
  eb_ms began = eb_clock_now();
  CHECK_INT(answer_of(bus, publish(bus, 5000), NULL), EB_OK);
  CHECK(eb_clock_now() - began >= 200);
  eb_bus_free(bus);
  broker_stop(&silent);
  broker_stop(&b);
}

TEST(a_connection_that_the_broker_closes_is_made_again) {
  static broker b;
  broker_start(&b, FORCE_ONCE);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 5000), NULL), EB_OK);
  CHECK_INT(b.connections, 2);
  CHECK(b.accepted <= 3);
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(refused_credentials_answer_at_once_and_end_the_attempts) {
  static broker b;
  char text[EB_ERROR_TEXT];
  broker_start(&b, REFUSE_LOGIN);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 60000), text), EB_ERR_REFUSED);
  CHECK(strstr(text, "Login was refused") != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 60000), NULL), EB_ERR_REFUSED);
  CHECK_INT(b.accepted, 1);
  eb_bus_shutdown(bus, 60000);
  CHECK(ends(bus, 5000));
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(an_unreachable_broker_costs_no_processor) {
  char hosts[60];
  char text[EB_ERROR_TEXT];
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u", dead_port());
  eb_bus *bus = open_bus(hosts, 5000);
  CHECK(bus != NULL);
  int64_t before = cpu_ms();
  CHECK_INT(answer_of(bus, publish(bus, 1000), text), EB_ERR_TIMEOUT);
  CHECK(strstr(text, "127.0.0.1") != NULL);
  CHECK(cpu_ms() - before < 500);
  eb_bus_free(bus);
}

TEST(a_connection_broken_by_the_broker_costs_no_processor_while_it_is_away) {
  static broker b;
  broker_start(&b, FORCE_ONCE);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  eb_error err;
  CHECK(eb_bus_start(bus, EB_PUBLISH, &err));
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(&b.connections) == 0 && eb_clock_now() < until) eb_bus_wait(bus, 10);
  broker_stop(&b);
  int64_t before = cpu_ms();
  CHECK_INT(answer_of(bus, publish(bus, 1000), NULL), EB_ERR_TIMEOUT);
  CHECK(cpu_ms() - before < 500);
  eb_bus_free(bus);
}

TEST(start_stop_and_free_at_any_moment) {
  static broker b;
  broker_start(&b, NORMAL);
  for (int round = 0; round < 150; round++) {
    eb_bus *bus = open_on(&b);
    eb_error err;
    CHECK(bus != NULL);
    if (round % 5 > 0) CHECK(eb_bus_start(bus, EB_PUBLISH, &err));
    if (round % 5 > 1) CHECK(publish(bus, 5000) != 0);
    for (volatile int spin = 0; spin < round * 2000; spin++) {}
    eb_ms began = eb_clock_now();
    if (round % 3 == 0) {
      eb_bus_shutdown(bus, 5000);
      CHECK(ends(bus, 6000));
    }
    eb_bus_free(bus);
    CHECK(eb_clock_now() - began < 4000);
  }
  broker_stop(&b);
}

TEST(abandoning_while_connecting_does_not_wait) {
  static broker b;
  broker_start(&b, SILENT);
  for (int round = 0; round < 20; round++) {
    eb_bus *bus = open_on(&b);
    eb_error err;
    CHECK(bus != NULL && eb_bus_start(bus, EB_CONTROL, &err));
    if (round % 2) usleep(2000);
    eb_ms began = eb_clock_now();
    eb_bus_free(bus);
    CHECK(eb_clock_now() - began < 2000);
  }
  broker_stop(&b);
}

TEST(closing_while_connecting_ends_when_nothing_waits_and_else_at_the_deadline) {
  static broker b;
  broker_start(&b, SILENT);
  eb_bus *bus = open_on(&b);
  eb_error err;
  CHECK(bus != NULL && eb_bus_start(bus, EB_PUBLISH, &err));
  usleep(20000);
  eb_ms began = eb_clock_now();
  eb_bus_shutdown(bus, 60000);
  CHECK(ends(bus, 5000));
  CHECK(eb_clock_now() - began < 2000);
  eb_bus_free(bus);
  bus = open_on(&b);
  CHECK(bus != NULL);
  uint64_t id = publish(bus, 60000);
  began = eb_clock_now();
  eb_bus_shutdown(bus, 300);
  CHECK_INT(answer_of(bus, id, NULL), EB_ERR_CLOSED);
  CHECK(eb_clock_now() - began >= 290);
  CHECK(ends(bus, 5000));
  CHECK_INT(eb_bus_under_way(bus), 0);
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(what_was_sent_and_not_confirmed_is_unknown_at_the_end) {
  static broker b;
  broker_start(&b, NEVER_CONFIRM);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  uint64_t id = publish(bus, 60000);
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(&b.publishes) == 0 && eb_clock_now() < until) usleep(1000);
  eb_bus_shutdown(bus, 100);
  int code = answer_of(bus, id, NULL);
  CHECK(code == EB_ERR_UNKNOWN || code == EB_ERR_CLOSED);
  CHECK_INT(code, EB_ERR_UNKNOWN);
  eb_bus_free(bus);
  broker_stop(&b);
}

#if !defined(EB_TSAN)  /* it does not follow into a child with threads left behind */

/* A child has no thread but its own: what the others held looks lost to a leak checker. This runs after the handlers of
 * the engine, and before the checker's. */
static int child_code = -1;

static void end_child (void) {
  if (child_code >= 0) _exit(child_code);
}

static void exit_child (int code) {
  child_code = code;
  exit(code);
}

static int child_status (pid_t pid) {
  int status = -1;
  for (int i = 0; i < PATIENCE_MS; i++) {
    pid_t r = waitpid(pid, &status, WNOHANG);
    if (r == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    usleep(1000);
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return 129;
}

TEST(exit_with_a_live_bus_joins_its_threads) {
  static broker b;
  broker_listen(&b, NORMAL);  /* its thread after the fork: a sanitizer's locks do not survive one */
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    static eb_bus *bus;  /* found by the leak checker */
    bus = open_on(&b);
    int code = bus == NULL ? 100 : answer_of(bus, publish(bus, 5000), NULL);
    if (code != EB_OK) _exit(10 + code);
    publish(bus, 5000);
    exit_child(0);
  }
  broker_run(&b);
  CHECK_INT(child_status(pid), 0);
  broker_stop(&b);
}

TEST(a_forked_child_answers_forked_and_leaves_the_connection_alone) {
  static broker b;
  broker_start(&b, NORMAL);
  static eb_bus *bus;
  bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 5000), NULL), EB_OK);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    eb_error err;
    int bad = 0;
    if (eb_bus_may_post(bus, 0, &err) || err.code != EB_ERR_FORKED) bad |= 1;
    if (eb_bus_next(bus) != NULL || eb_bus_wait(bus, 10)) bad |= 2;
    eb_bus_kick(bus);
    eb_bus_shutdown(bus, 10);
    eb_bus *own = open_on(&b);  /* its own: the broker serves one after the other, so it only starts */
    if (own == NULL || !eb_bus_start(own, EB_PUBLISH, &err)) bad |= 4;
    eb_bus_free(own);
    eb_bus_free(bus);
    exit_child(bad);
  }
  CHECK_INT(child_status(pid), 0);
  CHECK_INT(answer_of(bus, publish(bus, 5000), NULL), EB_OK);
  CHECK_INT(b.connections, 1);
  eb_bus_free(bus);
  broker_stop(&b);
}

#endif

int main (void) {
  signal(SIGPIPE, SIG_IGN);
#if !defined(EB_TSAN)
  atexit(end_child);
#endif
  RUN(a_publish_is_confirmed_and_the_end_is_in_order);
  RUN(a_refused_connect_goes_to_the_next_host);
  RUN(a_host_that_does_not_shake_hands_is_left_for_the_next);
  RUN(a_connection_that_the_broker_closes_is_made_again);
  RUN(refused_credentials_answer_at_once_and_end_the_attempts);
  RUN(an_unreachable_broker_costs_no_processor);
  RUN(a_connection_broken_by_the_broker_costs_no_processor_while_it_is_away);
  RUN(start_stop_and_free_at_any_moment);
  RUN(abandoning_while_connecting_does_not_wait);
  RUN(closing_while_connecting_ends_when_nothing_waits_and_else_at_the_deadline);
  RUN(what_was_sent_and_not_confirmed_is_unknown_at_the_end);
#if !defined(EB_TSAN)
  RUN(exit_with_a_live_bus_joins_its_threads);
  RUN(a_forked_child_answers_forked_and_leaves_the_connection_alone);
#endif
  return check_done();
}
