/* eb_session_publish: the publishing channels.
**
** A publish waits in 'pending', is sent while the window has room, and is
** answered by its confirm. When the channel or the connection is lost, what was
** in flight goes back to the front of 'pending', in order, and is sent again.
** One that wants no confirm has another channel, which never selects them
** (confirms are a channel's mode, not a message's: https://www.rabbitmq.com/confirms).
** It is answered once it is encoded, and never sent twice.
**
** A channel error does not say which publish caused it. If only one was in
** flight it was that one; otherwise all are sent again one at a time ('solo'),
** until the guilty one is alone with the error.
**
** A channel that the broker refuses is renewed: see eb_renewal.h.
*/
#include "eb_session_priv.h"

#include <string.h>

enum { REOPEN_DELAY_MS = 1000 };

void publisher_init (publisher *p, channel_role role) {
  memset(p, 0, sizeof *p);
  eb_list_init(&p->pending);
  p->ch.role = role;
  p->confirms = role == ROLE_PUBLISH;
  p->expiry = EB_NEVER;
  eb_renewal_init(&p->renewal);
}

publisher *publisher_of (eb_session *s, const channel *ch) {
  return ch->role == ROLE_UNCONFIRMED ? &s->loose : &s->pub;
}

static bool refuse (eb_session *s, publisher *p) {
  eb_error why;
  eb_error_set(&why, EB_ERR_NOT_ALLOWED,
               "the broker allows only %u channels: none is left for publishes "
               "without a confirm", s->channel_max);
  session_answer_all(s, &p->pending, &why);
  return true;
}

static bool open_channel (eb_session *s, publisher *p) {
  amqp_confirm_select_t m;
  memset(&m, 0, sizeof m);
  if (!channel_open(s, &p->ch)) return s->broken ? false : refuse(s, p);
  return !p->confirms ||
         session_send(s, p->ch.number, AMQP_CONFIRM_SELECT_METHOD, &m, 0);
}

void publisher_submit (eb_session *s, eb_publish *op) {
  publisher *p = op->unconfirmed ? &s->loose : &s->pub;
  op->sent = op->returned = false;
  eb_list_push(&p->pending, &op->item);
  p->expiry = eb_ms_min(p->expiry, op->item.deadline);
}

static void answer_failed (eb_session *s, eb_publish *op, const eb_error *why) {
  eb_item_fail(&op->item, why);
  session_answer(s, &op->item);
}

/* Encodes the first pending publish. False: the session is broken. */
static bool send_first (eb_session *s, publisher *p) {
  enum { MESSAGE = 832 };  /* a publish with its texts, if they are short */
  eb_publish *op = (eb_publish *)p->pending.first;
  eb_error err;
  eb_prefetch(op->item.next, MESSAGE);
  if (p->confirms && !eb_window_reserve(&p->window))
    return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  bool ok = (s->frame_max >= EB_FRAME_MAX ||
             eb_codec_check_publish(op, s->frame_max, &err)) &&
            eb_codec_put_publish(&s->out, &s->pool, p->ch.number, op,
                                 s->frame_max, &err);
  recycle_amqp_pool(&s->pool);
  if (!ok && err.code == EB_ERR_NO_MEMORY) return session_break(s, &err);
  eb_list_pop(&p->pending);
  if (!ok) {
    answer_failed(s, op, &err);
    return true;
  }
  s->stats.published++;
  if (!p->confirms) {
    s->stats.sent++;
    session_answer(s, &op->item);
    return true;
  }
  op->sent = true;
  eb_window_push(&p->window, op);
  if (p->solo > 0) p->solo--;
  return true;
}

/* Renewal. A close sends what there is, and gives nobody up. */

static bool renews (const eb_session *s, const publisher *p) {
  if (p->renewal.due_by == EB_NEVER) return false;
  return p->ch.state == CHAN_CLOSING ||
         (p->ch.state == CHAN_OPEN && !s->closing);
}

static bool renew (eb_session *s, publisher *p) {
  bool answered = p->window.live == 0, drains = p->ch.state == CHAN_OPEN;
  bool held_up = s->blocked || eb_buffer_size(&s->out) > 0;
  if (held_up && s->now >= p->renewal.due_by) {
    eb_renewal_put_off(&p->renewal, s->now);
    return true;
  }
  switch (eb_renewal_remedy(&p->renewal, answered, s->now)) {
    case EB_REMEDY_NONE: return true;
    case EB_REMEDY_CHANNEL: return channel_close(s, &p->ch);
    case EB_REMEDY_CONNECTION: break;
  }
  return drains ? session_breakf(s, EB_ERR_CONNECTION,
                                 "the broker goes on refusing events (nack), "
                                 "and leaves %zu without an answer",
                                 p->window.live)
                : session_breakf(s, EB_ERR_CONNECTION,
                                 "the broker goes on refusing events (nack), "
                                 "and does not close the channel");
}

static bool may_send (const eb_session *s, const publisher *p) {
  if (p->pending.count == 0 || s->blocked) return false;
  if (renews(s, p)) return false;
  if (p->solo > 0 && p->window.count > 0) return false;
  return !eb_window_full(&p->window) &&
         p->window.bytes < s->config.window_bytes &&
         eb_buffer_size(&s->out) < OUT_SOFT_LIMIT;
}

bool publisher_pump (eb_session *s, publisher *p) {
  if (publisher_idle(p)) return true;
  if (renews(s, p) && !renew(s, p)) return false;
  if (p->pending.count == 0) return true;
  if (p->ch.state == CHAN_CLOSED)
    return s->now < p->retry_at ? true : open_channel(s, p);
  if (p->ch.state != CHAN_OPEN) return true;
  while (may_send(s, p))
    if (!send_first(s, p)) return false;
  return true;
}

/* Confirms. */

static void answer_confirmed (eb_session *s, eb_publish *op, bool nacked) {
  if (op == NULL) return;
  if (nacked) {
    s->stats.nacked++;
    eb_item_failf(&op->item, EB_ERR_NACKED,
                  "the broker refused to take responsibility (nack)");
  } else if (op->returned) {
    s->stats.returned++;
    eb_item_failf(&op->item, EB_ERR_RETURNED,
                  "no queue of exchange '%.*s' is bound for '%.*s'",
                  (int)op->exchange.n, op->exchange.p,
                  (int)op->routing_key.n, op->routing_key.p);
    if (op->item.error != NULL) op->item.error->reply_code = op->reply_code;
  } else {
    s->stats.confirmed++;
  }
  session_answer(s, &op->item);
}

static bool on_confirm (eb_session *s, publisher *p, uint64_t tag,
                        bool multiple, bool nacked) {
  eb_window *w = &p->window;
  eb_publish *op;
  bool any = false;
  if (multiple && (tag == 0 || !eb_window_unknown(w, tag))) {
    if (tag == 0) tag = UINT64_MAX;
    for (; eb_window_take_upto(w, tag, &op); any = true)
      answer_confirmed(s, op, nacked);
  } else {
    eb_tag_status status = eb_window_take(w, tag, &op);
    if (status == EB_TAG_UNKNOWN)
      return session_breakf(s, EB_ERR_PROTOCOL,
                            "a confirm of %llu, which was never published",
                            (unsigned long long)tag);
    any = status == EB_TAG_TAKEN;
    answer_confirmed(s, op, nacked);
  }
  if (any) eb_renewal_answered(&p->renewal, nacked, s->now);
  return true;
}

static bool on_return (eb_session *s, publisher *p,
                       const amqp_basic_return_t *m) {
  eb_delivery *d = eb_item_new(EB_ITEM_DELIVERY, sizeof *d, 1024);
  if (d == NULL || !eb_codec_to_bytes(d->item.arena, m->exchange, &d->exchange) ||
      !eb_codec_to_bytes(d->item.arena, m->routing_key, &d->routing_key)) {
    eb_item_free(d == NULL ? NULL : &d->item);
    return session_breakf(s, EB_ERR_NO_MEMORY, "no memory for a return");
  }
  p->ch.return_code = m->reply_code;
  channel_expect(&p->ch, CONTENT_RETURN, d);
  return true;
}

void publisher_returned (publisher *p, const eb_delivery *d, int code) {
  eb_publish *op = eb_window_find(&p->window, d);
  if (op == NULL) return;  /* it timed out meanwhile */
  op->returned = true;
  op->reply_code = code;
}

/* Nobody waits for what was sent on it: tags begin anew. */
static bool on_close_ok (eb_session *s, publisher *p) {
  eb_list none;
  eb_list_init(&none);
  eb_window_reset(&p->window, &none);
  eb_renewal_channel_gone(&p->renewal);
  channel_forget(s, &p->ch);
  return true;
}

bool publisher_method (eb_session *s, publisher *p, amqp_method_t *m) {
  switch (m->id) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
      if (!p->confirms) p->ch.state = CHAN_OPEN;
      return true;
    case AMQP_CHANNEL_CLOSE_OK_METHOD: return on_close_ok(s, p);
    case AMQP_CONFIRM_SELECT_OK_METHOD:
      p->ch.state = CHAN_OPEN;
      return true;
    case AMQP_BASIC_ACK_METHOD: {
      const amqp_basic_ack_t *ack = m->decoded;
      return on_confirm(s, p, ack->delivery_tag, ack->multiple != 0, false);
    }
    case AMQP_BASIC_NACK_METHOD: {
      const amqp_basic_nack_t *nack = m->decoded;
      return on_confirm(s, p, nack->delivery_tag, nack->multiple != 0, true);
    }
    case AMQP_BASIC_RETURN_METHOD: return on_return(s, p, m->decoded);
    case AMQP_CHANNEL_FLOW_METHOD: {  /* RabbitMQ never sends it */
      const amqp_channel_flow_t *flow = m->decoded;
      amqp_channel_flow_ok_t ok;
      ok.active = flow->active;
      return session_send(s, p->ch.number, AMQP_CHANNEL_FLOW_OK_METHOD, &ok, 0);
    }
    default:
      return session_breakf(s, EB_ERR_PROTOCOL,
                            "%s on the publishing channel",
                            amqp_method_name(m->id));
  }
}

/* Losses. */

static void send_again (eb_session *s, publisher *p, eb_list *flight) {
  for (eb_item *i = flight->first; i != NULL; i = i->next)
    ((eb_publish *)i)->returned = false;
  s->stats.resent += flight->count;
  eb_list_prepend(&p->pending, flight);
}

static void lose (eb_session *s, eb_list *flight, const eb_error *why) {
  eb_item *item;
  while ((item = eb_list_pop(flight)) != NULL) {
    eb_item_failf(item, EB_ERR_UNKNOWN,
                  "sent, not confirmed, and not sent again: %s", why->message);
    session_answer(s, item);
  }
}

void publisher_closed (eb_session *s, publisher *p, const eb_error *why) {
  eb_list flight;
  /* One that timed out may be the guilty one as well. */
  bool alone = p->window.count == 1;
  eb_list_init(&flight);
  eb_renewal_channel_gone(&p->renewal);
  eb_window_reset(&p->window, &flight);
  if (flight.count == 1 && alone) {
    answer_failed(s, (eb_publish *)eb_list_pop(&flight), why);
  } else if (flight.count == 0) {
    p->retry_at = eb_ms_after(s->now, REOPEN_DELAY_MS);
    /* Nobody waits for those that were sent: the notice is all there is. */
    if (!p->confirms) eb_session_notice(s, EB_EVENT_UNCONFIRMED_LOST, 0, why);
  } else if (s->config.resend) {
    if (p->solo < flight.count) p->solo = flight.count;
    send_again(s, p, &flight);
  } else {
    lose(s, &flight, why);
  }
}

void publisher_detach (eb_session *s, publisher *p) {
  eb_list flight;
  eb_list_init(&flight);
  channel_forget(s, &p->ch);
  eb_renewal_connection_gone(&p->renewal);
  p->retry_at = 0;
  eb_window_reset(&p->window, &flight);
  if (s->config.resend)
    send_again(s, p, &flight);
  else
    lose(s, &flight, &s->trouble);
}

static bool was_sent (const eb_item *item, void *unused) {
  (void)unused;
  return ((const eb_publish *)item)->sent;
}

void publisher_fail (eb_session *s, publisher *p, const eb_error *why) {
  eb_list flight;
  eb_list_init(&flight);
  eb_window_reset(&p->window, &flight);
  eb_list_split(&p->pending, &flight, was_sent, NULL);
  eb_error unknown;
  eb_error_set(&unknown, EB_ERR_UNKNOWN,
               "sent and not confirmed when the bus ended: %s", why->message);
  session_answer_all(s, &flight, &unknown);
  session_answer_all(s, &p->pending, why);
  p->expiry = EB_NEVER;
}

/* Deadlines. */

static bool expired (const eb_item *item, void *now) {
  return item->deadline <= *(const eb_ms *)now;
}

static bool publish_expired (const eb_publish *op, void *now) {
  return expired(&op->item, now);
}

static eb_ms earliest (const eb_item *item, eb_ms t) {
  for (; item != NULL; item = item->next) t = eb_ms_min(t, item->deadline);
  return t;
}

/* Why a publish was not confirmed in time, in the words that help most. */
static void explain (const eb_session *s, bool sent, eb_error *why) {
  if (s->blocked)
    eb_error_set(why, EB_ERR_BLOCKED,
                 "the broker has blocked publishing (memory or disk alarm)");
  else if (s->phase == EB_PHASE_DOWN && s->trouble.code != EB_OK)
    eb_error_set(why, EB_ERR_TIMEOUT, "no connection in time: %s",
                 s->trouble.message);
  else
    eb_error_set(why, EB_ERR_TIMEOUT, sent ? "not confirmed in time"
                                           : "not sent in time");
}

static void expire (eb_session *s, eb_list *late, bool sent) {
  eb_error why;
  explain(s, sent, &why);
  session_answer_all(s, late, &why);
}

void publisher_expire (eb_session *s, publisher *p) {
  if (s->now < p->expiry) return;
  eb_list late;
  eb_list_init(&late);
  eb_list_split(&p->pending, &late, expired, &s->now);
  expire(s, &late, false);
  eb_window_abandon(&p->window, publish_expired, &s->now, &late);
  expire(s, &late, true);
  p->expiry = earliest(p->pending.first, eb_window_deadline(&p->window));
}

eb_ms publisher_deadline (const eb_session *s, const publisher *p) {
  if (publisher_idle(p) || s->phase != EB_PHASE_UP) return p->expiry;
  if (renews(s, p)) {
    bool drained = p->ch.state == CHAN_OPEN && p->window.live == 0;
    return eb_ms_min(p->expiry, drained ? s->now : p->renewal.due_by);
  }
  if (p->pending.count == 0) return p->expiry;
  if (p->ch.state == CHAN_CLOSED) return eb_ms_min(p->expiry, p->retry_at);
  /* The output was full, and has been written. */
  if (p->ch.state == CHAN_OPEN && may_send(s, p)) return s->now;
  return p->expiry;
}

bool publisher_idle (const publisher *p) {
  return p->pending.count == 0 && p->window.live == 0;
}

/* A broker deals with a channel's publishes before it answers its close, and if
** it refuses one says so instead. */
bool publisher_finish (eb_session *s, publisher *p, bool *finished) {
  bool ok = p->ch.state != CHAN_OPEN || channel_close(s, &p->ch);
  *finished = p->ch.state != CHAN_CLOSING;
  return ok;
}
