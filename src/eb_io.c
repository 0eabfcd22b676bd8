/* eb_io: see eb_io.h. */
#include "eb_io.h"

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
  DOZE_MS = 1,
  EXIT_MS = 3000             /* for what is under way when the process exits */
};

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
  eb_link link;
  uint64_t id;
  bool delivers;              /* it put deliveries into the shared inbox */
  bool busy;                  /* this turn took operations */
  uint64_t turns;
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
  pthread_once(io->link.tls != NULL ? &tls : &plain, register_exit);
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
  io->id = config->id;
  io->session = eb_session_new(&config->session);
  if (io->session == NULL) goto no_memory;
  if (eb_link_init(&io->link, &config->link, io->session, config->session.seed,
                   err))
    return io;
  eb_io_free(io);
  return NULL;
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
  eb_link_fini(&io->link);
  eb_session_free(io->session);
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

/* From here on: io thread. */

/* One turn of the loop. */
static void turn (eb_io *io) {
  eb_list ops, events;
  eb_error err;
  eb_list_init(&ops);
  eb_list_init(&events);
  eb_ms now = eb_clock_now();
  io->turns++;
  eb_link_read(&io->link, now);
  eb_link_open(&io->link, now);
  eb_outbox_take(&io->outbox, &ops);
  io->busy = ops.count > 0;
  eb_item *item;
  while ((item = eb_list_pop(&ops)) != NULL)
    eb_session_submit(io->session, item, now);
  if (!eb_session_tick(io->session, now, &err))
    eb_link_session_failed(&io->link, &err, now);
  eb_link_write(&io->link, now);
  eb_link_check(&io->link, now);
  if (io->link.lost && io->delivers) eb_inbox_drop_deliveries(io->inbox);
  io->link.lost = false;
  eb_session_take(io->session, &events);
  for (item = events.first; item != NULL; item = item->next) {
    if (item->kind == EB_ITEM_NOTICE) item->id = io->id;
    if (item->kind == EB_ITEM_DELIVERY) io->delivers = true;
  }
  if (events.count > 0 || io->busy) {
    pthread_mutex_lock(&io->stats_lock);
    eb_session_get_stats(io->session, &io->stats);
    io->stats.turns = io->turns;
    io->stats.reads = io->link.reads;
    io->stats.writes = io->link.writes;
    pthread_mutex_unlock(&io->stats_lock);
  }
  eb_inbox_push(io->inbox, &events);
}

/* Sleeps until there is something to do. */
static void rest (eb_io *io) {
  struct pollfd fds[2];
  nfds_t n = 1;
  if (eb_link_pending(&io->link)) return;
  fds[0].fd = io->outbox.wake.read_fd;
  fds[0].events = POLLIN;
  if (eb_link_poll(&io->link, &fds[1].fd, &fds[1].events)) n = 2;
  eb_ms now = eb_clock_now(), alarm = eb_outbox_alarm(&io->outbox, now);
  if (alarm <= now) {
    eb_inbox_ring(io->inbox);
    alarm = EB_NEVER;
  }
  eb_ms t = eb_ms_min(alarm, eb_ms_min(eb_session_deadline(io->session),
                                      eb_link_deadline(&io->link)));
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
  eb_link_end(&io->link);
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
