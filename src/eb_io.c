/* eb_io: see eb_io.h. */
#include "eb_io.h"

#include "eb_backoff.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  STACK_SIZE = 1024 * 1024,  /* nothing recurses deeper than 32 tables */
  READ_SIZE = 64 * 1024,
  READ_BUDGET = 512 * 1024,  /* bytes a turn of the loop reads at most */
  OUT_KEEP = 1024 * 1024,    /* a larger idle buffer is given back */
  DOZE_MS = 1,
  EXIT_MS = 3000             /* for what is under way when the process exits */
};

typedef enum link_state {
  LINK_NONE,        /* until retry_at */
  LINK_CONNECTING,  /* TCP, TLS */
  LINK_STREAMING    /* the session speaks */
} link_state;

struct eb_io {
  eb_outbox outbox;
  eb_inbox *inbox;
  pthread_t thread;
  bool started;               /* lua thread only, as is 'joined' */
  bool joined;
  eb_io *next;                /* of the running; under all_lock */
  pthread_mutex_t stats_lock;
  eb_session_stats stats;     /* under stats_lock */
  /* io thread only, from here */
  eb_session *session;
  const eb_url *url;
  eb_tls *tls;
  eb_transport *transport;
  link_state link;
  eb_backoff backoff;
  int64_t connection_timeout_ms;
  bool retry_refused;
  bool given_up;              /* refused: no more attempts */
  uint64_t id;
  bool delivers;              /* it put deliveries into the shared inbox */
  size_t host;                /* next to try */
  size_t failed_hosts;        /* in this round */
  eb_error round;             /* what they said */
  eb_ms retry_at;
  eb_ms attempt_deadline;     /* of this host */
  eb_ms address_deadline;     /* of its present address */
  bool busy;                  /* this turn took operations */
  uint64_t turns;             /* how many rounds, reads and writes there were */
  uint64_t reads;
  uint64_t writes;
  uint8_t read_buffer[READ_SIZE];
};

/* What was published and not confirmed when the process exits gets a moment, and
** every thread is joined before the process ends, also when it ends by exit():
** OpenSSL's exit handler frees what the threads use. Handlers run in reverse
** order of registration, so ours must come after OpenSSL's, which eb_tls_new
** has registered. Hence twice: for the first thread, for the first with TLS. */

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static eb_io *all;         /* under all_lock */
static pid_t all_owner;    /* under all_lock */

static void join (eb_io *io) {
  if (!io->started || io->joined) return;
  io->joined = true;
  pthread_join(io->thread, NULL);
}

static void stop_all (void) {
  pthread_mutex_lock(&all_lock);
  bool ours = all_owner == getpid();
  eb_io *first = ours ? all : NULL;
  pthread_mutex_unlock(&all_lock);
  eb_ms deadline = eb_ms_after(eb_clock_now(), EXIT_MS);
  for (eb_io *io = first; io != NULL; io = io->next)
    eb_outbox_stop(&io->outbox, deadline);
  for (eb_io *io = first; io != NULL; io = io->next) join(io);
}

static void register_exit (void) {
  atexit(stop_all);
}

static void list_running (eb_io *io) {
  static pthread_once_t plain = PTHREAD_ONCE_INIT, tls = PTHREAD_ONCE_INIT;
  pthread_once(io->tls != NULL ? &tls : &plain, register_exit);
  pthread_mutex_lock(&all_lock);
  if (all_owner != getpid()) all = NULL;  /* a fork: those are the parent's */
  all_owner = getpid();
  io->next = all;
  all = io;
  pthread_mutex_unlock(&all_lock);
}

static void unlist_running (eb_io *io) {
  pthread_mutex_lock(&all_lock);
  for (eb_io **at = &all; *at != NULL; at = &(*at)->next) {
    if (*at != io) continue;
    *at = io->next;
    break;
  }
  pthread_mutex_unlock(&all_lock);
}

/* Life, on the Lua thread. */

eb_io *eb_io_new (const eb_io_config *config, eb_inbox *inbox, eb_error *err) {
  eb_io *io = calloc(1, sizeof *io);
  if (io == NULL) goto no_memory;
  if (!eb_outbox_init(&io->outbox)) {
    eb_error_set(err, EB_ERR_NO_MEMORY, "no file descriptor for a wake-up: %s",
                 strerror(errno));
    free(io);
    return NULL;
  }
  pthread_mutex_init(&io->stats_lock, NULL);
  io->inbox = inbox;
  io->url = config->url;
  io->connection_timeout_ms = config->connection_timeout_ms;
  io->retry_refused = config->retry_refused;
  io->id = config->id;
  eb_backoff_init(&io->backoff, config->reconnect_delay_ms,
                  config->reconnect_max_ms, config->session.seed);
  if (io->url->tls) {
    const eb_tls_options options = {
        io->url->cacertfile, io->url->certfile, io->url->keyfile,
        io->url->server_name, io->url->verify != 0};
    io->tls = eb_tls_new(&options, err);
    if (io->tls == NULL) {
      eb_io_free(io);
      return NULL;
    }
  }
  io->session = eb_session_new(&config->session);
  if (io->session != NULL) return io;
no_memory:
  eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for a connection");
  eb_io_free(io);
  return NULL;
}

void eb_io_free (eb_io *io) {
  if (io == NULL) return;
  if (io->started) {
    eb_outbox_abandon(&io->outbox);
    join(io);
    unlist_running(io);
  }
  eb_transport_free(io->transport);
  eb_session_free(io->session);
  eb_tls_free(io->tls);
  eb_outbox_fini(&io->outbox);
  pthread_mutex_destroy(&io->stats_lock);
  free(io);
}

bool eb_io_started (const eb_io *io) {
  return io->started;
}

void eb_io_post (eb_io *io, eb_item *item, bool urgent) {
  eb_outbox_post(&io->outbox, item, urgent);
}

void eb_io_kick (eb_io *io) {
  eb_outbox_kick(&io->outbox);
}

void eb_io_set_alarm (eb_io *io, eb_ms at) {
  eb_outbox_set_alarm(&io->outbox, at);
}

void eb_io_stop (eb_io *io, eb_ms deadline) {
  eb_outbox_stop(&io->outbox, deadline);
}

void eb_io_get_stats (eb_io *io, eb_session_stats *to) {
  pthread_mutex_lock(&io->stats_lock);
  *to = io->stats;
  pthread_mutex_unlock(&io->stats_lock);
}

/* The link. From here on: io thread. */

static void drop_link (eb_io *io) {
  eb_transport_free(io->transport);
  io->transport = NULL;
  io->link = LINK_NONE;
}

static bool is_final (const eb_io *io, const eb_error *why) {
  if (io->retry_refused || eb_session_ever_up(io->session)) return false;
  switch (why->code) {
    case EB_ERR_REFUSED: case EB_ERR_NOT_FOUND:
    case EB_ERR_NOT_ALLOWED: case EB_ERR_TLS: return true;
    default: return false;
  }
}

static const eb_host *next_host (const eb_io *io) {
  return &io->url->hosts[io->host % io->url->host_count];
}

/* What each host of a round said, as far as there is room. */
static void add_to_round (eb_io *io, const eb_host *host, const eb_error *why) {
  const char *before = io->failed_hosts > 0 ? io->round.message : "";
  char text[EB_ERROR_TEXT];
  if (strstr(why->message, host->name) != NULL)
    snprintf(text, sizeof text, "%.240s%s%.240s", before, *before ? "; " : "",
             why->message);
  else
    snprintf(text, sizeof text, "%.200s%s%.60s:%u: %.200s", before,
             *before ? "; " : "", host->name, host->port, why->message);
  io->round = *why;
  memcpy(io->round.message, text, sizeof text);
}

/* An attempt failed, or a connection was lost. */
static void link_failed (eb_io *io, const eb_error *why, eb_ms now) {
  bool was_up = eb_session_phase(io->session) >= EB_PHASE_UP;
  eb_error said = *why;
  const eb_host *host = next_host(io);
  drop_link(io);
  if (was_up) {
    if (io->delivers) eb_inbox_drop_deliveries(io->inbox);
    eb_session_detach(io->session, &said, now);
    io->retry_at = eb_ms_after(now, eb_backoff_next(&io->backoff));
    return;
  }
  add_to_round(io, host, &said);
  eb_session_detach(io->session, &io->round, now);
  io->host++;
  io->failed_hosts++;
  if (is_final(io, &said)) {
    io->given_up = true;
    eb_session_notice(io->session, EB_EVENT_FAILED, 0, &said);
    eb_session_fail(io->session, &said, now);
    return;
  }
  io->retry_at = now;
  if (io->failed_hosts < io->url->host_count) return;
  io->failed_hosts = 0;
  io->retry_at = eb_ms_after(now, eb_backoff_next(&io->backoff));
  eb_session_notice(io->session, EB_EVENT_ATTEMPT_FAILED, 0, &io->round);
}

/* A name may have several addresses, and the first may swallow packets: each
** gets its share of the time that is left. */
static void share_time (eb_io *io, eb_ms now) {
  int64_t left = io->attempt_deadline - now;
  int64_t tries = (int64_t)eb_transport_addresses_left(io->transport) + 1;
  io->address_deadline = eb_ms_after(now, left > 0 ? left / tries : 0);
}

static void link_open (eb_io *io, eb_ms now) {
  eb_error err;
  const eb_host *host = next_host(io);
  io->attempt_deadline = eb_ms_after(now, io->connection_timeout_ms);
  io->link = LINK_CONNECTING;
  io->transport = eb_transport_open(host->name, host->port, io->tls, &err);
  if (io->transport == NULL)
    link_failed(io, &err, now);
  else
    share_time(io, now);
}

static void link_advance (eb_io *io, eb_ms now) {
  eb_error err;
  switch (eb_transport_advance(io->transport, &err)) {
    case EB_IO_OK:
      io->link = LINK_STREAMING;
      eb_session_attach(io->session, now);
      break;
    case EB_IO_AGAIN: break;
    default: link_failed(io, &err, now); break;
  }
}

/* Whatever the session still has to say, for instance a close-ok. */
static void say_last_words (eb_io *io) {
  eb_buffer *out = eb_session_output(io->session);
  size_t done;
  eb_error ignored;
  if (io->transport == NULL || eb_buffer_size(out) == 0) return;
  if (eb_transport_write(io->transport, eb_buffer_bytes(out),
                         eb_buffer_size(out), &done, &ignored) == EB_IO_OK)
    eb_buffer_consume(out, done);
}

static void session_failed (eb_io *io, const eb_error *why, eb_ms now) {
  say_last_words(io);
  link_failed(io, why, now);
}

/* The broker hung up. Brokers that do not say why hang up on wrong credentials
** in the very phase in which a dying one may, too: so it is tried again. */
static void hung_up (eb_io *io, eb_ms now) {
  bool login = eb_session_phase(io->session) == EB_PHASE_TUNING;
  eb_error why;
  eb_error_set(&why, EB_ERR_CONNECTION, "%s closed the connection%s",
               eb_transport_peer(io->transport),
               login ? " during authentication: wrong credentials?" : "");
  link_failed(io, &why, now);
}

static void link_read (eb_io *io, eb_ms now) {
  size_t total = 0;
  while (io->link == LINK_STREAMING && total < READ_BUDGET) {
    size_t n;
    eb_error err;
    io->reads++;
    eb_io_status r = eb_transport_read(io->transport, io->read_buffer,
                                       READ_SIZE, &n, &err);
    if (r == EB_IO_AGAIN) return;
    if (r == EB_IO_EOF) {
      hung_up(io, now);
      return;
    }
    if (r == EB_IO_FAILED) {
      link_failed(io, &err, now);
      return;
    }
    if (!eb_session_feed(io->session, io->read_buffer, n, now, &err)) {
      session_failed(io, &err, now);
      return;
    }
    total += n;
    /* Less than asked for: TCP has no more. TLS gives a record at a time. */
    if (n < READ_SIZE && io->tls == NULL) return;
  }
}

static void link_write (eb_io *io, eb_ms now) {
  eb_buffer *out = eb_session_output(io->session);
  while (io->link == LINK_STREAMING && eb_buffer_size(out) > 0) {
    size_t n;
    eb_error err;
    io->writes++;
    eb_io_status r = eb_transport_write(io->transport, eb_buffer_bytes(out),
                                        eb_buffer_size(out), &n, &err);
    if (r == EB_IO_AGAIN) return;
    if (r != EB_IO_OK) {
      link_failed(io, &err, now);
      return;
    }
    eb_buffer_consume(out, n);
    eb_session_wrote(io->session, now);
  }
  eb_buffer_shrink(out, OUT_KEEP);
}

/* Handshakes have a deadline too. */
static void check_attempt (eb_io *io, eb_ms now) {
  eb_error ignored;
  if (io->link == LINK_CONNECTING && now >= io->address_deadline &&
      now < io->attempt_deadline) {
    /* None is left, or TCP is connected: then the attempt's deadline counts. */
    if (eb_transport_addresses_left(io->transport) > 0)
      eb_transport_skip_address(io->transport, &ignored);
    share_time(io, now);
  }
  if (io->link == LINK_NONE || now < io->attempt_deadline ||
      eb_session_phase(io->session) >= EB_PHASE_UP)
    return;
  eb_error why;
  eb_error_set(&why, EB_ERR_CONNECTION, "%s did not complete the %s in %lld ms",
               eb_transport_peer(io->transport),
               io->link == LINK_CONNECTING ? "connection" : "AMQP handshake",
               (long long)io->connection_timeout_ms);
  link_failed(io, &why, now);
}

static void on_up (eb_io *io) {
  if (io->failed_hosts == 0 && io->backoff.tries == 0) return;
  if (eb_session_phase(io->session) < EB_PHASE_UP) return;
  io->failed_hosts = 0;
  eb_backoff_reset(&io->backoff);
}

/* One turn of the loop. */
static void turn (eb_io *io) {
  eb_list ops, events;
  eb_error err;
  eb_list_init(&ops);
  eb_list_init(&events);
  eb_ms now = eb_clock_now();
  io->turns++;
  if (io->link == LINK_STREAMING) link_read(io, now);
  if (io->link == LINK_CONNECTING) link_advance(io, now);
  if (io->link == LINK_NONE && !io->given_up && now >= io->retry_at)
    link_open(io, now);
  eb_outbox_take(&io->outbox, &ops);
  io->busy = ops.count > 0;
  eb_item *item;
  while ((item = eb_list_pop(&ops)) != NULL)
    eb_session_submit(io->session, item, now);
  if (!eb_session_tick(io->session, now, &err) && io->link != LINK_NONE)
    session_failed(io, &err, now);
  if (io->link == LINK_STREAMING) link_write(io, now);
  check_attempt(io, now);
  on_up(io);
  eb_session_take(io->session, &events);
  for (item = events.first; item != NULL; item = item->next) {
    if (item->kind == EB_ITEM_NOTICE) item->id = io->id;
    if (item->kind == EB_ITEM_DELIVERY) io->delivers = true;
  }
  if (events.count > 0 || io->busy) {
    pthread_mutex_lock(&io->stats_lock);
    eb_session_get_stats(io->session, &io->stats);
    io->stats.turns = io->turns;
    io->stats.reads = io->reads;
    io->stats.writes = io->writes;
    pthread_mutex_unlock(&io->stats_lock);
  }
  eb_inbox_push(io->inbox, &events);
}

static eb_ms next_deadline (const eb_io *io) {
  eb_ms t = eb_session_deadline(io->session);
  if (io->link == LINK_NONE)
    return io->given_up ? t : eb_ms_min(t, io->retry_at);
  if (eb_session_phase(io->session) < EB_PHASE_UP)
    t = eb_ms_min(t, io->link == LINK_CONNECTING ? io->address_deadline
                                                 : io->attempt_deadline);
  return t;
}

/* Sleeps until there is something to do. */
static void rest (eb_io *io) {
  struct pollfd fds[2];
  nfds_t n = 1;
  fds[0].fd = io->outbox.wake.read_fd;
  fds[0].events = POLLIN;
  if (io->transport != NULL) {
    bool out = io->link == LINK_STREAMING &&
               eb_buffer_size(eb_session_output(io->session)) > 0;
    if (io->link == LINK_STREAMING && eb_transport_pending(io->transport))
      return;
    fds[1].fd = eb_transport_fd(io->transport);
    fds[1].events = eb_transport_events(io->transport, out);
    n = 2;
  }
  eb_ms now = eb_clock_now(), alarm = eb_outbox_alarm(&io->outbox, now);
  if (alarm <= now) {
    eb_inbox_ring(io->inbox);
    alarm = EB_NEVER;
  }
  eb_ms t = eb_ms_min(next_deadline(io), alarm);
  int64_t wait = t == EB_NEVER ? 60000 : t - now;
  if (wait <= 0) return;
  if (wait > 60000) wait = 60000;
  eb_sleep depth = EB_ASLEEP;
  if (io->busy) {
    depth = EB_DOZING;
    wait = DOZE_MS;
  }
  if (eb_outbox_sleep(&io->outbox, depth)) poll(fds, n, (int)wait);
}

static void *run (void *arg) {
  eb_io *io = arg;
  eb_ms close_deadline;
  bool abandoned = false, closing = false;
  while (!abandoned) {
    if (eb_outbox_stopping(&io->outbox, &close_deadline, &abandoned)) {
      /* All that was posted before the stop is taken first. */
      if (!closing) turn(io);
      closing = true;
      eb_session_close(io->session, close_deadline, eb_clock_now());
    }
    if (abandoned) break;
    turn(io);
    if (closing && eb_session_done(io->session, eb_clock_now())) break;
    rest(io);
  }
  eb_list events;
  eb_error why;
  eb_list_init(&events);
  eb_error_set(&why, EB_ERR_CLOSED, "the bus was closed");
  say_last_words(io);
  drop_link(io);
  eb_session_detach(io->session, &why, eb_clock_now());
  eb_session_fail(io->session, &why, eb_clock_now());
  eb_session_notice(io->session, EB_EVENT_CLOSED, 0, NULL);
  eb_session_take(io->session, &events);
  for (eb_item *item = events.first; item != NULL; item = item->next)
    if (item->kind == EB_ITEM_NOTICE) item->id = io->id;
  eb_inbox_push(io->inbox, &events);
  return NULL;
}

bool eb_io_start (eb_io *io, eb_error *err) {
  if (io->started) return true;
  sigset_t every, before;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_SIZE);
  sigfillset(&every);
  pthread_sigmask(SIG_SETMASK, &every, &before);
  int r = pthread_create(&io->thread, &attr, run, io);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  if (r != 0)
    return eb_error_set(err, EB_ERR_NO_MEMORY, "cannot start a thread: %s%s",
                        strerror(r), r != EAGAIN ? "" :
                        " (a limit on threads; HAProxy sets one, unless it has"
                        " insecure-fork-wanted)");
  io->started = true;
  list_running(io);
  return true;
}
