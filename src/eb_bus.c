/* eb_bus: see eb_bus.h. */
#include "eb_bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "eb_fork.h"
#include "eb_poll.h"

/* Of so many publishes it is kept where they lie. With more under way another one, made
** later, is fetched ahead: in vain, and without harm. */
enum { POSTED = 1024, AHEAD = 4 };

struct eb_bus {
  eb_url url;
  atomic_bool reached; /* by either side */
  eb_inbox inbox;
  bool has_inbox;
  eb_io *sides[2];
  bool ended[2];
  bool closing;
  unsigned generation; /* of the process that made it */
  long owner;          /* its id, for messages */
  uint64_t next_id;
  size_t count;        /* operations under way, answers not taken included */
  size_t bytes;
  size_t max_count;
  size_t max_bytes;
  size_t max_body;
  eb_quiet quiet;
  eb_spares spares;    /* of publishes */
  uintptr_t posted[POSTED]; /* where the newest quiet ones are, by their ids */
  bool passed;         /* a quiet one ended, and nobody was told */
  eb_list taken;       /* from the inbox, not given to the caller yet */
  bool readable[2];    /* the sides' sockets, when last polled here */
  uint64_t got;        /* the channel's epoch of what a get took last */
  uint64_t given_back; /* the broker has all again that gets took up to this one */
};

eb_bus *eb_bus_new (const eb_bus_config *config, eb_url *url, eb_error *err) {
  eb_bus *b = calloc(1, sizeof *b);
  if (b == NULL) {
    eb_url_fini(url);
    eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for a bus");
    return NULL;
  }
  b->url = *url;
  *url = (eb_url){0};
  atomic_init(&b->reached, false);
  b->generation = eb_fork_generation();
  b->owner = (long)getpid();
  b->max_count = config->outbox_count;
  b->max_bytes = config->outbox_bytes;
  b->max_body = config->io.session.max_body;
  eb_quiet_init(&b->quiet);
  b->has_inbox = eb_inbox_init(&b->inbox);
  if (!b->has_inbox) {
    eb_error_set(err, EB_ERR_NO_MEMORY, "no file descriptor for a wake-up");
    eb_bus_free(b);
    return NULL;
  }
  for (unsigned side = 0; side < 2; side++) {
    eb_io_config c = config->io;
    c.link.url = &b->url;
    c.link.reached = &b->reached;
    c.id = side;
    c.session.seed += side;
    b->sides[side] = eb_io_new(&c, &b->inbox, err);
    if (b->sides[side] == NULL) {
      eb_bus_free(b);
      return NULL;
    }
  }
  return b;
}

bool eb_bus_forked (const eb_bus *b) {
  return b->generation != eb_fork_generation();
}

void eb_bus_free (eb_bus *b) {
  if (b == NULL || eb_bus_forked(b)) return;
  for (int side = 0; side < 2; side++) eb_io_free(b->sides[side]);
  if (b->has_inbox) eb_inbox_fini(&b->inbox);
  eb_list_free(&b->taken);
  eb_quiet_fini(&b->quiet);
  eb_spares_fini(&b->spares);
  eb_url_fini(&b->url);
  free(b);
}

bool eb_bus_start (eb_bus *b, eb_side side, eb_error *err) {
  return eb_io_start(b->sides[side], err);
}

static bool usable (const eb_bus *b, eb_error *err) {
  if (eb_bus_forked(b))
    return eb_error_set(err, EB_ERR_FORKED,
                        "the bus belongs to process %ld; connect again after "
                        "a fork", b->owner);
  if (b->closing) return eb_error_set(err, EB_ERR_CLOSED, "the bus is closed");
  return true;
}

bool eb_bus_has_room (const eb_bus *b) {
  return !eb_bus_forked(b) && !b->closing && b->count < b->max_count;
}

bool eb_bus_may_post (eb_bus *b, size_t bytes, eb_error *err) {
  if (!usable(b, err)) return false;
  if (b->count >= b->max_count)
    return eb_error_set(err, EB_ERR_FULL, "%zu operations are under way",
                        b->count);
  /* One body larger than the whole bound still passes, alone. */
  if (b->bytes > 0 && b->bytes + bytes > b->max_bytes)
    return eb_error_set(err, EB_ERR_FULL, "%zu bytes are under way", b->bytes);
  return true;
}

eb_publish *eb_bus_new_publish (eb_bus *b, size_t extra) {
  return eb_item_make(&b->spares, EB_ITEM_PUBLISH, sizeof(eb_publish), extra);
}

bool eb_bus_check_publish (const eb_bus *b, const eb_publish *p,
                           eb_error *err) {
  if (p->body.n > b->max_body)
    return eb_error_set(err, EB_ERR_TOO_LARGE,
                        "a body of %zu bytes; max_body is %zu", p->body.n,
                        b->max_body);
  return eb_session_check_publish(p, 0, err);
}

static size_t body_of (const eb_item *item) {
  return item->kind == EB_ITEM_PUBLISH ? ((const eb_publish *)item)->body.n : 0;
}

static bool is_quiet (const eb_item *item) {
  return item->kind == EB_ITEM_PUBLISH && ((const eb_publish *)item)->quiet;
}

uint64_t eb_bus_post (eb_bus *b, eb_item *item, bool urgent, eb_error *err) {
  eb_side side = item->kind == EB_ITEM_PUBLISH ? EB_PUBLISH : EB_CONTROL;
  bool ok = eb_bus_start(b, side, err);
  if (ok && is_quiet(item) && !eb_quiet_reserve(&b->quiet, b->next_id + 1))
    ok = eb_error_set(err, EB_ERR_NO_MEMORY, "out of memory");
  if (!ok) {
    eb_item_free(item);
    return 0;
  }
  item->id = ++b->next_id;
  if (is_quiet(item)) {
    eb_quiet_add(&b->quiet, item->id);
    b->posted[item->id % POSTED] = (uintptr_t)item->arena;
  }
  b->count++;
  b->bytes += body_of(item);
  eb_io_post(b->sides[side], item,
             urgent ? EB_WAITING : is_quiet(item) ? EB_SOON : EB_LATER);
  return b->next_id;
}

static bool is_stale (const eb_bus *b, const eb_delivery *d) {
  return d->consumer == 0 && d->epoch <= b->given_back;
}

bool eb_bus_settle (eb_bus *b, eb_delivery *d, eb_settlement how,
                    eb_error *err) {
  if (!usable(b, err)) {
    if (!eb_bus_forked(b)) eb_item_free(&d->item);
    return false;
  }
  if (is_stale(b, d)) {
    eb_item_free(&d->item);
    return eb_error_set(err, EB_ERR_STALE,
                        "its channel is gone: the broker delivers it again");
  }
  d->settlement = how;
  eb_io_post(b->sides[EB_CONTROL], &d->item, EB_LATER);
  return true;
}

/* The item is no longer under way. */
static void count_out (eb_bus *b, const eb_item *item) {
  b->count--;
  b->bytes -= body_of(item);
}

/* No news: a quiet publish that succeeded and is not watched, or was forgotten. */
static bool is_news (const eb_bus *b, const eb_item *item) {
  if (!is_quiet(item)) return true;
  switch (eb_quiet_look(&b->quiet, item->id)) {
    case EB_QUIET_NONE: return false;
    case EB_QUIET_OPEN: return item->code != EB_OK;
    default: return true;
  }
}

/* The other core wrote into it last. Confirms mostly come in the order of ids, and the
** list tells only where the next one is when this one is here. */
static void fetch_ahead (const eb_bus *b, uint64_t id) {
  enum { HEAD = 192 };  /* of an arena with a publish: what is looked at here */
  eb_prefetch((const void *)b->posted[(id + AHEAD) % POSTED], HEAD);
}

/* Ends the quiet publishes in front of whatever is news. */
static void pass_over (eb_bus *b) {
  for (;;) {
    eb_item *item = b->taken.first;
    if (item == NULL || is_news(b, item)) return;
    fetch_ahead(b, item->id);
    eb_list_pop(&b->taken);
    eb_quiet_take(&b->quiet, item->id);
    count_out(b, item);
    eb_item_spare(&b->spares, item);
    b->passed = true;
  }
}

bool eb_bus_peek (eb_bus *b, eb_item_kind *kind) {
  if (eb_bus_forked(b)) return false;
  pass_over(b);
  while (b->taken.count == 0) {
    eb_inbox_take(&b->inbox, &b->taken);
    if (b->taken.count == 0) return false;
    pass_over(b);
  }
  *kind = b->taken.first->kind;
  return true;
}

bool eb_bus_next_succeeded (const eb_bus *b) {
  return b->taken.first->code == EB_OK;
}

/* All gets share a channel, which one that the broker refuses ends for all. */
static void note_get (eb_bus *b, const eb_rpc *call) {
  const eb_error *why = call->item.error;
  if (call->delivery != NULL)
    b->got = call->delivery->epoch;
  else if (why != NULL && why->reply_code != 0)
    b->given_back = b->got;
}

static void note_notice (eb_bus *b, const eb_notice *n) {
  if (n->event == EB_EVENT_CLOSED) b->ended[n->item.id] = true;
  if (n->event == EB_EVENT_DOWN && n->item.id == EB_CONTROL)
    b->given_back = b->got;
}

eb_item *eb_bus_next (eb_bus *b) {
  eb_item_kind kind;
  if (!eb_bus_peek(b, &kind)) return NULL;
  eb_item *item = eb_list_pop(&b->taken);
  if (item->kind == EB_ITEM_NOTICE) {
    note_notice(b, (eb_notice *)item);
  } else if (item->kind != EB_ITEM_DELIVERY) {
    if (is_quiet(item) &&
        eb_quiet_take(&b->quiet, item->id) == EB_QUIET_WATCHED)
      ((eb_publish *)item)->quiet = false;
    if (item->kind == EB_ITEM_RPC && ((eb_rpc *)item)->method == EB_GET)
      note_get(b, (eb_rpc *)item);
    count_out(b, item);
  }
  return item;
}

bool eb_bus_passed (eb_bus *b) {
  bool passed = b->passed;
  b->passed = false;
  return passed;
}

eb_quiet *eb_bus_quiet (eb_bus *b) {
  return &b->quiet;
}

int eb_bus_fd (const eb_bus *b) {
  return b->inbox.wake.read_fd;
}

const eb_wake *eb_bus_wake (const eb_bus *b) {
  return &b->inbox.wake;
}

void eb_bus_kick (eb_bus *b) {
  if (eb_bus_forked(b)) return;
  for (int side = 0; side < 2; side++)
    if (eb_io_started(b->sides[side])) eb_io_kick(b->sides[side]);
}

/* Leads the connections that let it, for EB_IO_LEAD_MS or until 'end'. 1 and 0 as
** eb_bus_wait; -1: nothing came. */
static int lead (eb_bus *b, eb_us now, eb_us end) {
  struct pollfd fds[3];
  bool polled = false;
  fds[2].fd = eb_bus_fd(b);
  fds[2].events = POLLIN;
  eb_us till = now + EB_IO_LEAD_MS * EB_US_IN_MS;
  eb_ms until = till / EB_US_IN_MS;
  till = eb_us_min(end, till);
  for (; now < till; now = eb_clock_us()) {
    eb_us t = till;
    for (int side = 0; side < 2; side++) {
      eb_ms due;
      fds[side] = (struct pollfd){.fd = -1};
      if (!eb_io_started(b->sides[side])) continue;
      if (!b->closing &&
          eb_io_lead(b->sides[side], now / EB_US_IN_MS, until, b->readable[side],
                     &fds[side].fd, &fds[side].events, &due)) {
        /* Whole milliseconds from now, for it was told the time in these. */
        if (due < until)
          t = eb_us_min(t, due * EB_US_IN_MS + now % EB_US_IN_MS);
      } else {
        eb_io_kick(b->sides[side]);
      }
    }
    int n = 0;
    bool some = eb_inbox_take(&b->inbox, &b->taken);
    bool leads = fds[0].fd >= 0 || fds[1].fd >= 0;
    now = eb_clock_us();
    /* Whoever leads polls at least once, though there is something already. */
    if (leads && !(some && polled)) n = eb_poll(fds, 3, now, some ? now : t);
    polled = true;
    for (int side = 0; side < 2; side++) {
      b->readable[side] = n > 0 && fds[side].fd >= 0 && fds[side].revents != 0;
      if (fds[side].fd >= 0) eb_io_leave(b->sides[side]);
    }
    if (some) return 1;
    if (!leads) return -1;
    if (n < 0) return 0;
    if (n > 0 && fds[2].revents != 0) {
      eb_inbox_woken(&b->inbox);
      return 1;
    }
  }
  return polled && now >= end ? 0 : -1;
}

/* Waits for what is not taken yet. */
static bool wait_until (eb_bus *b, eb_us now, eb_us end) {
  int led = lead(b, now, end);
  if (led >= 0) return led > 0;
  eb_bus_kick(b);
  struct pollfd p = {.fd = eb_bus_fd(b), .events = POLLIN};
  if (eb_poll(&p, 1, eb_clock_us(), end) <= 0) return false;
  eb_inbox_woken(&b->inbox);
  return true;
}

static eb_us end_of (eb_us now, eb_us us) {
  static const eb_us LONGEST_US = (eb_us)3600 * 1000000;
  return now + (us < 0 ? 0 : eb_us_min(us, LONGEST_US));
}

bool eb_bus_wait (eb_bus *b, eb_us us) {
  if (eb_bus_forked(b)) return false;
  if (b->taken.count > 0) return true;
  if (eb_inbox_take(&b->inbox, &b->taken)) return true;
  eb_us now = eb_clock_us();
  return wait_until(b, now, end_of(now, us));
}

bool eb_bus_idle (eb_bus *b, eb_us end) {
  if (eb_bus_forked(b)) return false;
  eb_us now = eb_clock_us();
  end = eb_us_min(end, end_of(now, EB_NEVER));
  b->inbox.heard = false;
  for (;; now = eb_clock_us()) {
    eb_inbox_take(&b->inbox, &b->taken);
    pass_over(b);
    if (b->taken.count > 0 || b->inbox.heard) return true;
    if (now >= end || !wait_until(b, now, end)) return false;
  }
}

/* Takes the success of that publish if nothing but deliveries is before it. False,
** and *other: something else is. */
static bool take_success (eb_bus *b, uint64_t id, bool *other) {
  eb_item *before = NULL;
  pass_over(b);
  eb_item *item = b->taken.first;
  for (; item != NULL && item->kind == EB_ITEM_DELIVERY; item = item->next)
    before = item;
  *other = item != NULL;
  if (item == NULL || item->kind != EB_ITEM_PUBLISH || item->id != id ||
      item->code != EB_OK)
    return false;
  count_out(b, eb_list_pop_after(&b->taken, before));
  eb_item_spare(&b->spares, item);
  return true;
}

bool eb_bus_confirmed (eb_bus *b, uint64_t id, eb_us us) {
  enum { MANY = 64 };  /* deliveries that are looked through each time */
  if (eb_bus_forked(b)) return false;
  eb_us now = eb_clock_us(), end = end_of(now, us);
  eb_us soon = eb_us_min(end, now + EB_IO_LEAD_MS * EB_US_IN_MS);
  size_t had = b->taken.count;
  bool woken = false;
  for (;;) {
    bool other, rung = eb_inbox_take(&b->inbox, &b->taken);
    size_t have = b->taken.count;
    if (take_success(b, id, &other)) return true;
    /* Woken for nothing: by a signal's handler, and the caller is to look. */
    if (other || have > MANY || ((rung || woken) && have == had)) return false;
    had = b->taken.count;
    if (had > 0) end = soon;
    if (now >= end) return false;
    woken = wait_until(b, now, end);
    if (!woken) return false;
    now = eb_clock_us();
  }
}

void eb_bus_poke (eb_bus *b) {
  if (!eb_bus_forked(b)) eb_inbox_ring(&b->inbox);
}

bool eb_bus_alarm (eb_bus *b, eb_us us) {
  if (eb_bus_forked(b)) return false;
  eb_ms at = (end_of(eb_clock_us(), us) + EB_US_IN_MS - 1) / EB_US_IN_MS;
  for (int side = 0; side < 2; side++)
    if (eb_io_started(b->sides[side]) && !b->ended[side]) {
      eb_io_set_alarm(b->sides[side], at);
      return true;
    }
  return false;
}

const char *eb_bus_listen (eb_bus *b, eb_error *err) {
  if (!usable(b, err) || !eb_bell_listen(&b->inbox.bell, err)) return NULL;
  return b->inbox.bell.path;
}

bool eb_bus_take_bell (eb_bus *b, eb_error *err) {
  return usable(b, err) && eb_bell_take(&b->inbox.bell, err);
}

void eb_bus_shutdown (eb_bus *b, int64_t ms) {
  if (eb_bus_forked(b)) return;
  b->closing = true;
  eb_ms deadline = eb_ms_after(eb_clock_now(), ms);
  for (int side = 0; side < 2; side++) {
    if (eb_io_started(b->sides[side]))
      eb_io_stop(b->sides[side], deadline);
    else
      b->ended[side] = true;
  }
}

bool eb_bus_ended (const eb_bus *b) {
  return b->ended[EB_CONTROL] && b->ended[EB_PUBLISH];
}

size_t eb_bus_under_way (const eb_bus *b) {
  return b->count;
}

void eb_bus_get_stats (eb_bus *b, eb_side side, eb_session_stats *to) {
  eb_io_get_stats(b->sides[side], to);
}
