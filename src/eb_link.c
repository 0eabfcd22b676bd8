/* eb_link: see eb_link.h. */
#include "eb_link.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
  READ_BUDGET = 512 * 1024,  /* bytes that a turn reads at most */
  OUT_KEEP = 1024 * 1024     /* a larger idle buffer is given back */
};

bool eb_link_init (eb_link *l, const eb_link_config *config,
                   eb_session *session, uint64_t seed, eb_error *err) {
  memset(l, 0, offsetof(eb_link, read_buffer));
  l->session = session;
  l->url = config->url;
  l->reached = config->reached;
  l->connection_timeout_ms = config->connection_timeout_ms;
  l->retry_refused = config->retry_refused;
  eb_backoff_init(&l->backoff, config->reconnect_delay_ms,
                  config->reconnect_max_ms, seed);
  if (!l->url->tls) return true;
  const eb_tls_options options = {
      l->url->cacertfile, l->url->certfile, l->url->keyfile,
      l->url->server_name, l->url->verify != 0};
  l->tls = eb_tls_new(&options, err);
  return l->tls != NULL;
}

void eb_link_fini (eb_link *l) {
  eb_transport_free(l->transport);
  eb_transport_free(l->retired);
  eb_tls_free(l->tls);
  l->transport = l->retired = NULL;
  l->tls = NULL;
}

/* When one is retired already, nobody polls the second: see eb_io_lead. */
static void drop (eb_link *l) {
  if (l->retired == NULL)
    l->retired = l->transport;
  else
    eb_transport_free(l->transport);
  l->transport = NULL;
  l->state = EB_LINK_NONE;
}

void eb_link_bury (eb_link *l) {
  eb_transport_free(l->retired);
  l->retired = NULL;
}

/* The broker let one of us in: whatever refuses another is no lasting mistake in the URL. */
static bool was_reached (const eb_link *l) {
  return atomic_load_explicit(l->reached, memory_order_relaxed);
}

static void note_reached (eb_link *l) {
  if (eb_session_ever_up(l->session) && !was_reached(l))
    atomic_store_explicit(l->reached, true, memory_order_relaxed);
}

static bool is_final (const eb_link *l, const eb_error *why) {
  if (l->retry_refused || was_reached(l)) return false;
  switch (why->code) {
    case EB_ERR_REFUSED: case EB_ERR_NOT_FOUND:
    case EB_ERR_NOT_ALLOWED: case EB_ERR_TLS: return true;
    default: return false;
  }
}

static const eb_host *next_host (const eb_link *l) {
  return &l->url->hosts[l->host % l->url->host_count];
}

/* What each host of a round said, as far as there is room. */
static void add_to_round (eb_link *l, const eb_host *host, const eb_error *why) {
  const char *before = l->failed_hosts > 0 ? l->round.message : "";
  char text[EB_ERROR_TEXT];
  if (strstr(why->message, host->name) != NULL)
    snprintf(text, sizeof text, "%.240s%s%.240s", before, *before ? "; " : "",
             why->message);
  else
    snprintf(text, sizeof text, "%.200s%s%.60s:%u: %.200s", before,
             *before ? "; " : "", host->name, host->port, why->message);
  l->round = *why;
  memcpy(l->round.message, text, sizeof text);
}

/* An attempt failed, or a connection was lost. */
static void failed (eb_link *l, const eb_error *why, eb_ms now) {
  bool was_up = eb_session_phase(l->session) >= EB_PHASE_UP;
  eb_error said = *why;
  note_reached(l);
  const eb_host *host = next_host(l);
  bool deaf = l->transport != NULL && eb_transport_was_connected(l->transport);
  drop(l);
  if (was_up) {
    l->lost = true;
    eb_session_detach(l->session, &said, now);
    l->retry_at = eb_ms_after(now, eb_backoff_next(&l->backoff));
    return;
  }
  add_to_round(l, host, &said);
  eb_session_detach(l->session, &l->round, now);
  l->host++;
  l->failed_hosts++;
  l->deaf = l->deaf || deaf;
  if (is_final(l, &said)) {
    l->given_up = true;
    eb_session_notice(l->session, EB_EVENT_FAILED, 0, &said);
    eb_session_fail(l->session, &said, now);
    return;
  }
  l->retry_at = now;
  if (l->failed_hosts < l->url->host_count) return;
  l->failed_hosts = 0;
  if (l->deaf) l->address++;
  l->deaf = false;
  l->retry_at = eb_ms_after(now, eb_backoff_next(&l->backoff));
  eb_session_notice(l->session, EB_EVENT_ATTEMPT_FAILED, 0, &l->round);
}

/* A name may have several addresses, and the first may swallow packets: each
** gets its share of the time that is left. */
static void share_time (eb_link *l, eb_ms now) {
  int64_t left = l->attempt_deadline - now;
  int64_t tries = (int64_t)eb_transport_addresses_left(l->transport) + 1;
  l->address_deadline = eb_ms_after(now, left > 0 ? left / tries : 0);
}

static void begin (eb_link *l) {
  eb_error err;
  const eb_host *host = next_host(l);
  l->state = EB_LINK_CONNECTING;
  l->transport =
      eb_transport_open(host->name, host->port, l->address, l->tls, &err);
  eb_ms now = eb_clock_now();  /* whatever the look-up took is not the host's */
  l->attempt_deadline = eb_ms_after(now, l->connection_timeout_ms);
  if (l->transport == NULL)
    failed(l, &err, now);
  else
    share_time(l, now);
}

static void advance (eb_link *l, eb_ms now) {
  eb_error err;
  switch (eb_transport_advance(l->transport, &err)) {
    case EB_IO_OK:
      l->state = EB_LINK_STREAMING;
      eb_session_attach(l->session, now);
      break;
    case EB_IO_AGAIN: break;
    default: failed(l, &err, now); break;
  }
}

void eb_link_open (eb_link *l, eb_ms now) {
  if (l->state == EB_LINK_CONNECTING) advance(l, now);
  if (l->given_up && was_reached(l)) l->given_up = false;
  if (l->state == EB_LINK_NONE && !l->given_up && now >= l->retry_at &&
      l->retired == NULL)
    begin(l);
}

/* Whatever the session still has to say, for instance a close-ok. */
static void say_last_words (eb_link *l) {
  eb_buffer *out = eb_session_output(l->session);
  size_t done;
  eb_error ignored;
  if (l->transport == NULL || eb_buffer_size(out) == 0) return;
  if (eb_transport_write(l->transport, eb_buffer_bytes(out),
                         eb_buffer_size(out), &done, &ignored) == EB_IO_OK)
    eb_buffer_consume(out, done);
}

void eb_link_session_failed (eb_link *l, const eb_error *why, eb_ms now) {
  if (l->state == EB_LINK_NONE) return;
  say_last_words(l);
  failed(l, why, now);
}

/* The broker hung up. Brokers that do not say why hang up on wrong credentials
** in the very phase in which a dying one may, too: so it is tried again. */
static void hung_up (eb_link *l, eb_ms now) {
  bool login = eb_session_phase(l->session) == EB_PHASE_TUNING;
  eb_error why;
  eb_error_set(&why, EB_ERR_CONNECTION, "%s closed the connection%s",
               eb_transport_peer(l->transport),
               login ? " during authentication: wrong credentials?" : "");
  failed(l, &why, now);
}

void eb_link_read (eb_link *l, eb_ms now) {
  size_t total = 0;
  while (l->state == EB_LINK_STREAMING && total < READ_BUDGET) {
    size_t n;
    eb_error err;
    l->reads++;
    eb_io_status r = eb_transport_read(l->transport, l->read_buffer,
                                       EB_LINK_READ_SIZE, &n, &err);
    if (r == EB_IO_AGAIN) return;
    if (r == EB_IO_EOF) {
      hung_up(l, now);
      return;
    }
    if (r == EB_IO_FAILED) {
      failed(l, &err, now);
      return;
    }
    if (!eb_session_feed(l->session, l->read_buffer, n, now, &err)) {
      eb_link_session_failed(l, &err, now);
      return;
    }
    total += n;
    /* Less than asked for: TCP has no more. TLS gives a record at a time. */
    if (n < EB_LINK_READ_SIZE && l->tls == NULL) return;
  }
}

void eb_link_write (eb_link *l, eb_ms now) {
  eb_buffer *out = eb_session_output(l->session);
  while (l->state == EB_LINK_STREAMING && eb_buffer_size(out) > 0) {
    size_t n;
    eb_error err;
    l->writes++;
    eb_io_status r = eb_transport_write(l->transport, eb_buffer_bytes(out),
                                        eb_buffer_size(out), &n, &err);
    if (r == EB_IO_AGAIN) return;
    if (r != EB_IO_OK) {
      failed(l, &err, now);
      return;
    }
    eb_buffer_consume(out, n);
    eb_session_wrote(l->session, now);
  }
  eb_buffer_shrink(out, OUT_KEEP);
}

/* Handshakes have a deadline too. */
static void check_attempt (eb_link *l, eb_ms now) {
  eb_error why;
  if (l->state == EB_LINK_CONNECTING && now >= l->address_deadline &&
      now < l->attempt_deadline) {
    /* None is left, or TCP is connected: then the attempt's deadline counts. */
    if (eb_transport_addresses_left(l->transport) > 0 &&
        eb_transport_skip_address(l->transport, &why) == EB_IO_FAILED) {
      failed(l, &why, now);
      return;
    }
    share_time(l, now);
  }
  if (l->state == EB_LINK_NONE || now < l->attempt_deadline ||
      eb_session_phase(l->session) >= EB_PHASE_UP)
    return;
  eb_error_set(&why, EB_ERR_CONNECTION, "%s did not complete the %s in %lld ms",
               eb_transport_peer(l->transport),
               l->state == EB_LINK_CONNECTING ? "connection" : "AMQP handshake",
               (long long)l->connection_timeout_ms);
  failed(l, &why, now);
}

void eb_link_check (eb_link *l, eb_ms now) {
  check_attempt(l, now);
  note_reached(l);
  if (l->failed_hosts == 0 && l->backoff.tries == 0) return;
  if (eb_session_phase(l->session) < EB_PHASE_UP) return;
  l->failed_hosts = 0;
  l->deaf = false;
  eb_backoff_reset(&l->backoff);
}

void eb_link_end (eb_link *l) {
  say_last_words(l);
  drop(l);
}

eb_ms eb_link_deadline (const eb_link *l) {
  if (l->state == EB_LINK_NONE)
    return l->given_up || l->retired != NULL ? EB_NEVER : l->retry_at;
  if (eb_session_phase(l->session) >= EB_PHASE_UP) return EB_NEVER;
  return l->state == EB_LINK_CONNECTING ? l->address_deadline
                                        : l->attempt_deadline;
}

bool eb_link_poll (const eb_link *l, int *fd, short *events) {
  if (l->transport == NULL) return false;
  bool out = l->state == EB_LINK_STREAMING &&
             eb_buffer_size(eb_session_output(l->session)) > 0;
  *fd = eb_transport_fd(l->transport);
  *events = eb_transport_events(l->transport, out);
  return true;
}

bool eb_link_pending (const eb_link *l) {
  return l->state == EB_LINK_STREAMING && eb_transport_pending(l->transport);
}
