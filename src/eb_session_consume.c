/* eb_session_consume: consumers, each on a channel of its own.
**
** A consumer outlives its channel: after a reconnect, a channel error or the
** broker's basic.cancel it starts again by itself, on a new channel with a new
** epoch, later and later while that fails. Only its first start can fail to the
** user. https://www.rabbitmq.com/consumer-cancel
*/
#include "eb_session_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESTART_BASE_MS = 500, RESTART_CAP_MS = 30000, START_TRIES = 3 };

/* What a broker may have out beyond the prefetch: see consumer_holds. */
enum { LIVES = 8, BEYOND_BYTES = 64 * 1024 * 1024 };

/* It waits, or has changed: consumers_pump looks at it, and at no other, for there may
** be thousands. */
static void rouse (eb_session *s, consumer *c) {
  s->consumers_due = s->now;
  if (c->restless) return;
  c->restless = true;
  c->restless_next = s->restless;
  s->restless = c;
}

static void calm (consumer **at) {
  consumer *c = *at;
  *at = c->restless_next;
  c->restless = false;
}

static bool same_name (eb_arena *a, eb_bytes from, eb_bytes *to) {
  *to = from;
  if (from.p == NULL) return true;
  to->p = eb_arena_copy(a, from.p, from.n);
  return to->p != NULL;
}

static eb_subscribe *copy_spec (const eb_subscribe *from) {
  eb_subscribe *spec =
      eb_item_new(EB_ITEM_SUBSCRIBE, sizeof *spec, from->queue.n + 64);
  if (spec == NULL) return NULL;
  eb_arena *a = spec->item.arena;
  spec->item.id = from->item.id;
  spec->prefetch = from->prefetch;
  spec->exclusive = from->exclusive;
  if (same_name(a, from->queue, &spec->queue) &&
      same_name(a, from->tag, &spec->tag) &&
      (from->arguments == NULL ||
       (spec->arguments = eb_table_copy(a, from->arguments)) != NULL))
    return spec;
  eb_item_free(&spec->item);
  return NULL;
}

static void refuse (eb_session *s, eb_item *op, eb_code code,
                    const char *text) {
  eb_item_failf(op, code, "%s", text);
  session_answer(s, op);
}

void consumer_submit (eb_session *s, eb_subscribe *asked) {
  if (asked->queue.n > EB_SHORTSTR_MAX || asked->tag.n > EB_SHORTSTR_MAX) {
    refuse(s, &asked->item, EB_ERR_TOO_LARGE,
           "a queue's name or consumer tag over 255 bytes");
    return;
  }
  if (eb_codec_table_size(asked->arguments) + 1200 > s->frame_max) {
    refuse(s, &asked->item, EB_ERR_TOO_LARGE, "arguments too large");
    return;
  }
  consumer *c = calloc(1, sizeof *c);
  if (c != NULL) c->spec = copy_spec(asked);
  if (c == NULL || c->spec == NULL) {
    free(c);
    refuse(s, &asked->item, EB_ERR_NO_MEMORY, "no memory for a consumer");
    return;
  }
  c->asking = asked;
  c->id = asked->item.id;
  c->ch.role = ROLE_CONSUMER;
  c->ch.owner = c;
  if (asked->tag.n > 0) {
    memcpy(c->tag, asked->tag.p, asked->tag.n);
    c->tag_size = asked->tag.n;
  } else {
    int n = snprintf(c->tag, sizeof c->tag, "eventbus-%llu",
                     (unsigned long long)++s->next_tag);
    c->tag_size = (size_t)n;
  }
  eb_backoff_init(&c->backoff, RESTART_BASE_MS, RESTART_CAP_MS,
                  s->config.seed + c->id);
  c->next = s->consumers;
  s->consumers = c;
  s->consumer_count++;
  rouse(s, c);
}

static void consumer_remove (eb_session *s, consumer *c) {
  consumer **at = &s->consumers;
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  if (c->restless) {
    for (at = &s->restless; *at != c;) at = &(*at)->restless_next;
    calm(at);
  }
  s->consumer_count--;
  channel_fini(s, &c->ch);
  eb_item_free(&c->spec->item);
  free(c);
}

static void answer_cancel (eb_session *s, consumer *c) {
  if (c->cancelling == NULL) return;
  session_answer(s, &c->cancelling->item);
  c->cancelling = NULL;
}

static void answer_asking (eb_session *s, consumer *c, const eb_error *why) {
  if (c->asking == NULL) return;
  if (why != NULL) eb_item_fail(&c->asking->item, why);
  session_answer(s, &c->asking->item);
  c->asking = NULL;
}

/* Starting. */

static bool send_consume (eb_session *s, consumer *c) {
  amqp_basic_consume_t m;
  memset(&m, 0, sizeof m);
  m.queue = eb_codec_bytes(records_name(s, c->spec->queue));
  m.consumer_tag = eb_codec_bytes(eb_bytes_of(c->tag, c->tag_size));
  m.exclusive = c->spec->exclusive;
  if (!eb_codec_from_table(&s->pool, c->spec->arguments, &m.arguments))
    return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  c->state = CONSUMER_STARTING;
  return session_send(s, c->ch.number, AMQP_BASIC_CONSUME_METHOD, &m,
                      eb_codec_table_size(c->spec->arguments));
}

static bool start (eb_session *s, consumer *c) {
  if (c->ch.state == CHAN_OPEN) return send_consume(s, c);
  if (!channel_open(s, &c->ch)) {
    if (s->broken) return false;
    eb_error why;
    eb_error_set(&why, EB_ERR_NOT_ALLOWED,
                 "all %u channels of the connection are in use", s->channel_max);
    consumer_closed(s, c, &why);
    return true;
  }
  c->before = 0;
  amqp_basic_qos_t qos;  /* for this consumer alone: global is deprecated */
  memset(&qos, 0, sizeof qos);
  qos.prefetch_count = c->spec->prefetch;
  return session_send(s, c->ch.number, AMQP_BASIC_QOS_METHOD, &qos, 0) &&
         send_consume(s, c);
}

static bool send_cancel (eb_session *s, consumer *c) {
  amqp_basic_cancel_t m;
  memset(&m, 0, sizeof m);
  m.consumer_tag = eb_codec_bytes(eb_bytes_of(c->tag, c->tag_size));
  c->state = CONSUMER_CANCELLING;
  return session_send(s, c->ch.number, AMQP_BASIC_CANCEL_METHOD, &m, 0);
}

/* Cancelled: the channel stays until what it delivered is settled. */
static bool drain (eb_session *s, consumer *c) {
  c->state = CONSUMER_DRAINING;
  answer_cancel(s, c);
  return consumer_settled(s, c);
}

bool consumer_settled (eb_session *s, consumer *c) {
  if (c->state != CONSUMER_DRAINING || eb_acks_unsettled(&c->ch.acks) > 0)
    return true;
  if (!channels_flush_acks(s, true)) return false;
  c->state = CONSUMER_CLOSING;
  return channel_close(s, &c->ch);
}

/* The first start must come about before its deadline. */
static bool start_expired (eb_session *s, consumer *c) {
  if (c->asking == NULL || s->now < c->asking->item.deadline) return false;
  eb_error why;
  eb_error_set(&why, EB_ERR_TIMEOUT, "no consumer on '%.*s' in time%s%s",
               (int)c->spec->queue.n, c->spec->queue.p,
               s->trouble.code != EB_OK ? ": " : "",
               s->trouble.code != EB_OK ? s->trouble.message : "");
  answer_asking(s, c, &why);
  return true;
}

/* What is restored must not overtake a deletion that is under way: the last
** answer to a call makes us due. */
static bool may_return (const eb_session *s, const consumer *c) {
  return c->state == CONSUMER_WAITING && s->phase == EB_PHASE_UP &&
         !s->closing && !(c->restore_first && caller_under_way(&s->rpc));
}

static bool pump_one (eb_session *s, consumer *c) {
  if (c->cancelling != NULL && s->now >= c->cancelling->item.deadline) {
    eb_item_failf(&c->cancelling->item, EB_ERR_TIMEOUT,
                  "the broker did not answer in time");
    answer_cancel(s, c);
  }
  if (start_expired(s, c)) {
    if (c->ch.number == 0) {
      consumer_remove(s, c);
      return true;
    }
    c->state = CONSUMER_CLOSING;
    return channel_close(s, &c->ch);
  }
  if (may_return(s, c) && s->now >= c->retry_at) {
    if (c->restore_first) {
      for (consumer *o = s->restless; o != NULL; o = o->restless_next)
        o->restore_first = false;  /* it serves all that wait for it */
      if (!records_restore(s) || !caller_pump(s, &s->rpc)) return false;
    }
    if (s->restoring == 0) return start(s, c);
  }
  return true;
}

/* For a time, or to be started. */
static bool waits (const consumer *c) {
  return c->asking != NULL || c->cancelling != NULL ||
         c->state == CONSUMER_WAITING;
}

static eb_ms due_of (const eb_session *s, const consumer *c) {
  eb_ms t = EB_NEVER;
  if (c->asking != NULL) t = c->asking->item.deadline;
  if (c->cancelling != NULL) t = eb_ms_min(t, c->cancelling->item.deadline);
  /* While things are restored, the last answer makes us due. */
  if (may_return(s, c) && s->restoring == 0)
    t = eb_ms_min(t, c->retry_at);
  return t;
}

bool consumers_pump (eb_session *s) {
  if (s->now < s->consumers_due) return true;
  s->consumers_due = EB_NEVER;
  for (consumer **at = &s->restless; *at != NULL;) {
    consumer *c = *at;
    if (!pump_one(s, c)) return false;
    if (*at != c) continue;  /* it is gone */
    if (waits(c))
      at = &c->restless_next;
    else
      calm(at);
  }
  eb_ms t = EB_NEVER;
  for (const consumer *c = s->restless; c != NULL; c = c->restless_next)
    t = eb_ms_min(t, due_of(s, c));
  s->consumers_due = t;
  return true;
}

/* Cancelling. */

void consumer_cancel (eb_session *s, eb_cancel *op) {
  consumer *c = s->consumers;
  while (c != NULL && c->id != op->consumer) c = c->next;
  if (c == NULL || c->unwanted || c->state > CONSUMER_ACTIVE) {
    session_answer(s, &op->item);  /* it is cancelled, or will be */
    return;
  }
  eb_error why;
  eb_error_set(&why, EB_ERR_CANCELLED, "cancelled before it started");
  c->cancelling = op;
  c->unwanted = true;
  rouse(s, c);
  if (c->state == CONSUMER_ACTIVE) {
    send_cancel(s, c);
  } else if (c->state == CONSUMER_WAITING) {
    answer_asking(s, c, &why);
    if (c->ch.state == CHAN_OPEN) {
      drain(s, c);
    } else {
      answer_cancel(s, c);
      consumer_remove(s, c);
    }
  }
}

/* What the broker says. */

static bool on_deliver (eb_session *s, consumer *c,
                        const amqp_basic_deliver_t *m) {
  eb_delivery *d = eb_item_make(&s->spares, EB_ITEM_DELIVERY, sizeof *d,
                                m->exchange.len + m->routing_key.len + 1024);
  if (d == NULL || !eb_codec_to_bytes(d->item.arena, m->exchange, &d->exchange) ||
      !eb_codec_to_bytes(d->item.arena, m->routing_key, &d->routing_key)) {
    eb_item_free(d == NULL ? NULL : &d->item);
    return session_breakf(s, EB_ERR_NO_MEMORY, "no memory for a message");
  }
  d->consumer = c->id;
  d->channel = c->ch.number;
  d->epoch = c->ch.epoch;
  d->tag = m->delivery_tag;
  d->redelivered = m->redelivered != 0;
  /* On a channel being closed it goes back by itself: there is no settling. */
  if (c->ch.state != CHAN_CLOSING) {
    if (!channel_delivers(s, &c->ch, d)) return false;
    s->unsettled++;
  }
  channel_expect(&c->ch, CONTENT_DELIVER, d);
  return true;
}

/* An honest broker has no more out than the prefetch, as far as it knows. What was
** out when it cancelled the consumer it does not count. And there is what it says
** nothing of: a queue whose leader failed over, or that was deleted and declared
** again at once, or that lost sight of our node for a while, has taken back what was
** out, and RabbitMQ delivers a prefetch anew; so that is granted LIVES times. A
** stream, as its header shows, comes in whole chunks, whatever was asked for.
** Whatever the reason: beyond the prefetch, all of it together may not weigh more
** than a prefetch of the largest bodies, and BEYOND_BYTES for chunks of small ones. */
bool consumer_holds (eb_session *s, const consumer *c, const eb_delivery *d) {
  const channel *ch = &c->ch;
  size_t prefetch = c->spec->prefetch;
  if (eb_acks_unsettled(&ch->acks) <= prefetch) return true;
  bool stream =
      eb_table_find(d->properties.headers, "x-stream-offset") != NULL;
  size_t out = eb_acks_out_above(&ch->acks, c->before);
  size_t least = (size_t)BEYOND_BYTES;
  bool light = ch->held <= least ||
               (ch->held - least) / prefetch <= s->config.max_body;
  if (light && (stream || out <= LIVES * prefetch)) return true;
  return session_breakf(s, EB_ERR_PROTOCOL,
                        "more deliveries than the prefetch of %zu: %zu, of %zu "
                        "bytes", prefetch, out, ch->held);
}

static bool on_consume_ok (eb_session *s, consumer *c) {
  if (c->state != CONSUMER_STARTING) return true;
  c->state = CONSUMER_ACTIVE;
  c->tries = 0;
  eb_backoff_reset(&c->backoff);
  if (c->asking == NULL)
    eb_session_notice(s, EB_EVENT_RESUBSCRIBED, c->id, NULL);
  answer_asking(s, c, NULL);
  return !c->unwanted || send_cancel(s, c);
}

/* The queue was deleted, moved, or its leader failed. */
static bool on_cancel (eb_session *s, consumer *c,
                       const amqp_basic_cancel_t *m) {
  if (!m->nowait) {
    amqp_basic_cancel_ok_t ok;
    ok.consumer_tag = m->consumer_tag;
    if (!session_send(s, c->ch.number, AMQP_BASIC_CANCEL_OK_METHOD, &ok, 0))
      return false;
  }
  if (c->state == CONSUMER_CANCELLING) return drain(s, c);
  if (c->state != CONSUMER_ACTIVE) return true;
  eb_error why;
  eb_error_set(&why, EB_ERR_CANCELLED, "the broker cancelled the consumer of "
               "'%.*s'; it will subscribe again",
               (int)c->spec->queue.n, c->spec->queue.p);
  eb_session_notice(s, EB_EVENT_CANCELLED, c->id, &why);
  c->state = CONSUMER_WAITING;
  c->before = c->ch.acks.last;
  c->restore_first = true;
  c->retry_at = eb_ms_after(s->now, eb_backoff_next(&c->backoff));
  rouse(s, c);
  return true;
}

bool consumer_method (eb_session *s, consumer *c, amqp_method_t *m) {
  switch (m->id) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
      if (c->ch.state == CHAN_OPENING) c->ch.state = CHAN_OPEN;
      return true;
    case AMQP_BASIC_QOS_OK_METHOD: return true;
    case AMQP_BASIC_CONSUME_OK_METHOD: return on_consume_ok(s, c);
    case AMQP_BASIC_DELIVER_METHOD: return on_deliver(s, c, m->decoded);
    case AMQP_BASIC_CANCEL_METHOD: return on_cancel(s, c, m->decoded);
    case AMQP_BASIC_CANCEL_OK_METHOD:
      return c->state == CONSUMER_CANCELLING ? drain(s, c) : true;
    case AMQP_CHANNEL_CLOSE_OK_METHOD:
      if (c->state == CONSUMER_CLOSING) {
        answer_cancel(s, c);
        consumer_remove(s, c);
      }
      return true;
    default:
      return session_breakf(s, EB_ERR_PROTOCOL, "%s on a consumer's channel",
                            amqp_method_name(m->id));
  }
}

void consumer_closed (eb_session *s, consumer *c, const eb_error *why) {
  if (c->asking != NULL || c->state > CONSUMER_ACTIVE || c->unwanted) {
    answer_asking(s, c, why);
    answer_cancel(s, c);
    consumer_remove(s, c);
    return;
  }
  eb_session_notice(s, EB_EVENT_CONSUMER_FAILED, c->id, why);
  c->state = CONSUMER_WAITING;
  c->restore_first = why->code == EB_ERR_NOT_FOUND;
  c->retry_at = eb_ms_after(s->now, eb_backoff_next(&c->backoff));
  rouse(s, c);
}

void consumers_detach (eb_session *s) {
  for (consumer *c = s->consumers, *next; c != NULL; c = next) {
    next = c->next;
    bool starting = c->state == CONSUMER_STARTING;
    channel_forget(s, &c->ch);
    if (c->state > CONSUMER_ACTIVE || c->unwanted) {
      answer_cancel(s, c);
      answer_asking(s, c, &s->trouble);
      consumer_remove(s, c);
      continue;
    }
    if (starting && c->asking != NULL && ++c->tries >= START_TRIES) {
      answer_asking(s, c, &s->trouble);
      consumer_remove(s, c);
      continue;
    }
    c->state = CONSUMER_WAITING;
    c->restore_first = false;  /* the whole topology is restored anyway */
    c->retry_at = s->now;
    rouse(s, c);
  }
}

void consumers_fail (eb_session *s, const eb_error *why) {
  while (s->consumers != NULL) {
    consumer *c = s->consumers;
    answer_cancel(s, c);
    answer_asking(s, c, why);
    consumer_remove(s, c);
  }
  s->consumers_due = EB_NEVER;
}
