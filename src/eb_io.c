/* eb_io: see eb_io.h. */
#include "eb_io.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "eb_poll.h"

enum {
  STACK_SIZE = 1024 * 1024,  /* nothing recurses deeper than 32 tables */
  DOZE_MS = 1,
  MOST_MS = 60000,           /* it sleeps no longer */
  EXIT_MS = 3000             /* for what is under way when the process exits */
};

struct eb_io {
  eb_outbox outbox;
  eb_inbox *inbox;
  pthread_t thread;
  bool started;               /* lua thread only */
  atomic_bool polled;         /* by the Lua thread: its descriptor stays open */
  atomic_bool refused;        /* a lead, for the thread was at work: it stays */
  eb_notice *last;            /* EB_EVENT_CLOSED: made first, so that it always comes */
  eb_io *next;                /* of the running; under all_lock */
  pthread_mutex_t stats_lock;
  eb_session_stats stats;     /* under stats_lock; written under drive */
  pthread_mutex_t drive;
  /* under drive, from here */
  eb_session *session;
  eb_link link;
  uint64_t id;
  bool busy;                  /* the thread's last turn took operations */
  bool closing;               /* the end was asked for: nobody else leads */
  bool opens;                 /* a lost stream, or a first one: not at the end, for nobody */
  eb_ms led_until;            /* the thread polls no socket before */
  eb_ms wakes_at;             /* it sleeps no longer */
  eb_ms due;                  /* before, only a byte or an operation is a reason to turn */
  bool polls_out;             /* until the socket can be written to, too */
  uint64_t turns;
  uint64_t led;               /* of them, on the Lua thread */
};

/* What was published and not confirmed when the process exits gets a moment, and
** every thread is joined before the process ends, also when it ends by exit():
** OpenSSL's exit handler frees what the threads use. Handlers run in reverse
** order of registration, so ours must come after OpenSSL's, which eb_tls_new
** has registered. Hence twice: for the first thread, for the first with TLS. */

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static eb_io *all;         /* under all_lock */
static pid_t all_owner;    /* under all_lock */

/* Whoever takes a thread out of the list joins it: the lock is held meanwhile, for
** another may be about to free what the thread uses. */
static void stop_all (void) {
  pthread_mutex_lock(&all_lock);
  if (all_owner != getpid()) all = NULL;  /* a fork: those are the parent's */
  eb_ms deadline = eb_ms_after(eb_clock_now(), EXIT_MS);
  for (eb_io *io = all; io != NULL; io = io->next)
    eb_outbox_stop(&io->outbox, deadline);
  for (; all != NULL; all = all->next) pthread_join(all->thread, NULL);
  pthread_mutex_unlock(&all_lock);
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

/* False: it was not in the list, for its thread was joined. */
static bool unlist_running (eb_io *io) {
  pthread_mutex_lock(&all_lock);
  eb_io **at = &all;
  while (*at != NULL && *at != io) at = &(*at)->next;
  bool listed = *at != NULL;
  if (listed) *at = io->next;
  pthread_mutex_unlock(&all_lock);
  return listed;
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
  pthread_mutex_init(&io->drive, NULL);
  atomic_init(&io->polled, false);
  atomic_init(&io->refused, false);
  io->inbox = inbox;
  io->id = config->id;
  io->last = eb_item_new(EB_ITEM_NOTICE, sizeof *io->last, 0);
  io->session = eb_session_new(&config->session);
  if (io->last == NULL || io->session == NULL) goto no_memory;
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
    if (unlist_running(io)) pthread_join(io->thread, NULL);
  }
  eb_link_fini(&io->link);
  eb_session_free(io->session);
  if (io->last != NULL) eb_item_free(&io->last->item);
  eb_outbox_fini(&io->outbox);
  pthread_mutex_destroy(&io->stats_lock);
  pthread_mutex_destroy(&io->drive);
  free(io);
}

bool eb_io_started (const eb_io *io) {
  return io->started;
}

void eb_io_post (eb_io *io, eb_item *item, eb_haste haste) {
  eb_outbox_post(&io->outbox, item, haste);
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

/* Driving: under 'drive', by the thread or by who leads. */

static void bury (eb_io *io) {
  if (!atomic_load(&io->polled)) eb_link_bury(&io->link);
}

/* Notices say whose they are. */
static void sign (const eb_io *io, eb_list *events) {
  if (events->notices == 0) return;
  for (eb_item *item = events->first; item != NULL; item = item->next)
    if (item->kind == EB_ITEM_NOTICE) item->id = io->id;
}

/* Gives the session what came, and takes what it has to say. Whether there were
** operations. */
static bool turn (eb_io *io, bool readable, bool leading) {
  eb_list ops, events;
  eb_error err;
  eb_list_init(&ops);
  eb_list_init(&events);
  eb_ms now = eb_clock_now();
  io->turns++;
  if (readable) eb_link_read(&io->link, now);
  if (leading) {
    io->led++;
    eb_outbox_take_for(&io->outbox, &ops);
  } else {
    bury(io);
    if (io->opens && !eb_session_done(io->session, now))
      eb_link_open(&io->link, now);
    eb_outbox_take(&io->outbox, &ops);
  }
  bool busy = ops.count > 0;
  eb_item *item;
  while ((item = eb_list_pop(&ops)) != NULL)
    eb_session_submit(io->session, item, now);
  if (!eb_session_tick(io->session, now, &err))
    eb_link_session_failed(&io->link, &err, now);
  eb_link_write(&io->link, now);
  eb_link_check(&io->link, now);
  if (io->link.lost && io->stats.delivered > 0)
    eb_inbox_drop_deliveries(io->inbox);
  io->link.lost = false;
  eb_session_take(io->session, &events);
  sign(io, &events);
  if (events.count > 0 || busy) {
    pthread_mutex_lock(&io->stats_lock);
    eb_session_get_stats(io->session, &io->stats);
    io->stats.turns = io->turns;
    io->stats.led = io->led;
    io->stats.reads = io->link.reads;
    io->stats.writes = io->link.writes;
    pthread_mutex_unlock(&io->stats_lock);
  }
  if (leading)
    eb_inbox_add(io->inbox, &events);
  else
    eb_inbox_push(io->inbox, &events);
  return busy;
}

static eb_ms next_deadline (const eb_io *io) {
  return eb_ms_min(eb_session_deadline(io->session),
                   eb_link_deadline(&io->link));
}

/* Leading, on the Lua thread. */

/* Nobody leads while a stream waits to be buried: so whoever polls a descriptor
** of ours polls that of the stream dropped last, or of the present one. */
static bool may_lead (const eb_io *io) {
  return !io->closing && io->link.state == EB_LINK_STREAMING &&
         eb_session_phase(io->session) == EB_PHASE_UP && !io->link.tls &&
         io->link.retired == NULL;
}

/* The thread may have gone to sleep before this deadline was made, or before there
** was more to write than the socket took. */
static bool oversleeps (const eb_io *io, eb_ms until, eb_ms deadline,
                        short events) {
  return io->wakes_at > until &&
         (deadline < io->wakes_at || ((events & POLLOUT) && !io->polls_out));
}

bool eb_io_lead (eb_io *io, eb_ms now, eb_ms until, bool readable, int *fd,
                 short *events, eb_ms *deadline) {
  if (pthread_mutex_trylock(&io->drive) != 0) {
    /* It must not take an earlier lead for this one. */
    atomic_store(&io->refused, true);
    eb_outbox_rouse(&io->outbox);
    return false;
  }
  bool leads = may_lead(io);
  if (leads) {
    if (readable || now >= io->due || eb_outbox_has_some(&io->outbox)) {
      turn(io, readable, true);
      io->due = next_deadline(io);
    }
    leads = may_lead(io) && eb_link_poll(&io->link, fd, events);
    if (leads) {
      io->led_until = until;
      *deadline = io->due;
      if (oversleeps(io, until, *deadline, *events))
        eb_outbox_rouse(&io->outbox);
      atomic_store(&io->polled, true);
    } else {
      io->led_until = 0;
      eb_outbox_rouse(&io->outbox);
    }
  }
  pthread_mutex_unlock(&io->drive);
  return leads;
}

void eb_io_leave (eb_io *io) {
  atomic_store(&io->polled, false);
}

/* From here on: io thread, with 'drive' but for the poll. */

/* One turn of the loop. */
static void go_on (eb_io *io, bool readable) {
  io->busy = turn(io, readable, false);
  /* Whoever led has gone on to something else. */
  if (io->busy) io->led_until = 0;
  bury(io);
}

/* Sleeps until there is something to do. True: the socket may be readable. */
static bool rest (eb_io *io) {
  struct pollfd fds[2];
  nfds_t n = 1;
  if (eb_link_pending(&io->link)) return true;
  fds[0].fd = io->outbox.wake.read_fd;
  fds[0].events = POLLIN;
  fds[1].revents = 0;
  eb_us clock = eb_clock_us();
  eb_ms now = clock / EB_US_IN_MS, alarm = eb_outbox_alarm(&io->outbox, now);
  if (alarm <= now) {
    eb_inbox_ring(io->inbox);
    alarm = EB_NEVER;
  }
  io->due = next_deadline(io);
  eb_ms t = eb_ms_min(io->due, now + MOST_MS);
  eb_sleep depth = io->busy ? EB_DOZING : EB_ASLEEP;
  if (io->busy) t = now + DOZE_MS;
  if (io->link.retired != NULL) t = eb_ms_min(t, now + EB_IO_LEAD_MS);
  if (atomic_exchange(&io->refused, false)) io->led_until = 0;
  if (may_lead(io) && now < io->led_until) {
    depth = EB_LED;
    t = eb_ms_min(t, io->led_until);
  } else if (eb_link_poll(&io->link, &fds[1].fd, &fds[1].events)) {
    n = 2;
  }
  if (t <= now || !eb_outbox_sleep(&io->outbox, depth)) return true;
  /* Whole milliseconds from now, but for the alarm. */
  eb_us till = t * EB_US_IN_MS + clock % EB_US_IN_MS;
  if (alarm <= t) till = alarm * EB_US_IN_MS;
  io->wakes_at = till / EB_US_IN_MS;
  io->polls_out = n == 2 && (fds[1].events & POLLOUT) != 0;
  pthread_mutex_unlock(&io->drive);
  bool some = eb_poll(fds, n, clock, till) > 0;
  pthread_mutex_lock(&io->drive);
  return some && fds[1].revents != 0;
}

static void drive (eb_io *io) {
  eb_ms close_deadline;
  bool abandoned = false, readable = true;
  for (;;) {
    if (eb_outbox_stopping(&io->outbox, &close_deadline, &abandoned)) {
      /* All that was posted before the stop is taken first: then it is known whether
      ** a connection is wanted, for which a look-up may block. */
      io->opens = false;
      if (!io->closing) go_on(io, readable);
      io->closing = io->opens = true;
      eb_session_close(io->session, close_deadline, eb_clock_now());
    }
    if (abandoned) break;
    go_on(io, readable);
    if (io->closing && eb_session_done(io->session, eb_clock_now())) break;
    readable = rest(io);
  }
}

static void *run (void *arg) {
  eb_io *io = arg;
  pthread_mutex_lock(&io->drive);
  io->opens = true;
  drive(io);
  eb_list events;
  eb_error why;
  eb_list_init(&events);
  eb_error_set(&why, EB_ERR_CLOSED, "the bus was closed");
  io->closing = true;
  eb_link_end(&io->link);
  bury(io);
  eb_session_detach(io->session, &why, eb_clock_now());
  eb_session_fail(io->session, &why, eb_clock_now());
  eb_session_take(io->session, &events);
  io->last->event = EB_EVENT_CLOSED;
  eb_list_push(&events, &io->last->item);
  io->last = NULL;
  sign(io, &events);
  eb_inbox_push(io->inbox, &events);
  pthread_mutex_unlock(&io->drive);
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
