/* eb_session_channel: channels of a session, and content assembled on them.
**
** A channel lives in the table while its number may appear on the wire. Its
** epoch changes with every opening, so that a settlement of an earlier life is
** recognised and dropped, never sent.
*/
#include "eb_session_priv.h"

#include <stdlib.h>
#include <string.h>

channel *channel_find (eb_session *s, uint16_t number) {
  return number < s->channel_count ? s->channels[number] : NULL;
}

static bool grow_table (eb_session *s, size_t count) {
  if (count <= s->channel_count) return true;
  channel **t = realloc(s->channels, count * sizeof *t);
  if (t == NULL) return false;
  memset(t + s->channel_count, 0, (count - s->channel_count) * sizeof *t);
  s->channels = t;
  s->channel_count = count;
  return true;
}

static bool can_wait (channel_role role) {
  return role == ROLE_CONSUMER || role == ROLE_UNCONFIRMED;
}

/* The lowest free number, or 0. Consumers leave the first two alone: topology
** calls and gets always find a channel. Publishes without a confirm leave one to
** those with. */
static uint16_t free_number (const eb_session *s, channel_role role) {
  size_t limit = s->channel_max == 0 ? UINT16_MAX : s->channel_max;
  size_t lowest = role == ROLE_CONSUMER ? 3 : role == ROLE_UNCONFIRMED ? 2 : 1;
  for (size_t i = lowest; i <= limit; i++)
    if (i >= s->channel_count || s->channels[i] == NULL) return (uint16_t)i;
  return 0;
}

static void drop_acks (eb_session *s, channel *ch) {
  if (ch->role == ROLE_CONSUMER) s->unsettled -= eb_acks_unsettled(&ch->acks);
  eb_acks_reset(&ch->acks);
  ch->held = 0;
}

bool channel_open (eb_session *s, channel *ch) {
  uint16_t number = free_number(s, ch->role);
  if (number == 0)
    return can_wait(ch->role)
               ? false
               : session_breakf(s, EB_ERR_NOT_ALLOWED,
                                "the broker allows only %u channels",
                                s->channel_max);
  if (!grow_table(s, (size_t)number + 1))
    return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  s->channels[number] = ch;
  ch->number = number;
  ch->state = CHAN_OPENING;
  ch->epoch = ++s->next_epoch;
  drop_acks(s, ch);
  amqp_channel_open_t m;
  memset(&m, 0, sizeof m);
  return session_send(s, number, AMQP_CHANNEL_OPEN_METHOD, &m, 0);
}

bool channel_close (eb_session *s, channel *ch) {
  amqp_channel_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = 200;
  m.reply_text = eb_codec_cstring("done");
  ch->state = CHAN_CLOSING;
  return session_send(s, ch->number, AMQP_CHANNEL_CLOSE_METHOD, &m, 0);
}

static void drop_content (channel *ch) {
  if (ch->assembly != NULL) eb_item_free(&ch->assembly->item);
  ch->assembly = NULL;
  ch->content = CONTENT_NONE;
  ch->has_header = false;
  ch->expected = 0;
}

static void unlist_acks (eb_session *s, channel *ch) {
  if (!ch->ack_listed) return;
  channel **at = &s->ack_list;
  while (*at != ch) at = &(*at)->ack_next;
  *at = ch->ack_next;
  ch->ack_listed = false;
}

void channel_forget (eb_session *s, channel *ch) {
  if (ch->number != 0) s->channels[ch->number] = NULL;
  ch->number = 0;
  ch->state = CHAN_CLOSED;
  ch->epoch = 0;
  unlist_acks(s, ch);
  drop_acks(s, ch);
  drop_content(ch);
}

void channel_fini (eb_session *s, channel *ch) {
  channel_forget(s, ch);
  eb_acks_fini(&ch->acks);
}

/* The broker closed it: the connection lives on. */
static bool on_close (eb_session *s, channel *ch,
                      const amqp_channel_close_t *m) {
  eb_error err;
  session_reply_error(&err, eb_code_of_reply(m->reply_code), m->reply_code,
                      m->reply_text);
  amqp_channel_close_ok_t ok;
  memset(&ok, 0, sizeof ok);
  if (!session_send(s, ch->number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok, 0))
    return false;
  uint16_t number = ch->number;
  bool crossed = ch->state == CHAN_CLOSING;
  channel_forget(s, ch);
  /* Our close will be answered too: until then the number is not free, or that
  ** answer would be taken for one to a close of its next life. */
  if (crossed) s->channels[number] = &s->crossed;
  switch (ch->role) {
    case ROLE_PUBLISH: case ROLE_UNCONFIRMED:
      publisher_closed(s, publisher_of(s, ch), &err);
      break;
    case ROLE_RPC: case ROLE_GET: caller_closed(s, caller_of(s, ch), &err); break;
    case ROLE_CONSUMER: consumer_closed(s, ch->owner, &err); break;
  }
  return true;
}

bool channel_method (eb_session *s, channel *ch, amqp_method_t *m) {
  if (ch->content != CONTENT_NONE)
    return session_breakf(s, EB_ERR_PROTOCOL,
                          "%s inside the content of a message",
                          amqp_method_name(m->id));
  if (m->id == AMQP_CHANNEL_CLOSE_METHOD) return on_close(s, ch, m->decoded);
  /* But for what content follows. */
  if (ch->state == CHAN_CLOSING && m->id != AMQP_CHANNEL_CLOSE_OK_METHOD &&
      m->id != AMQP_BASIC_DELIVER_METHOD && m->id != AMQP_BASIC_RETURN_METHOD)
    return true;
  switch (ch->role) {
    case ROLE_PUBLISH: case ROLE_UNCONFIRMED:
      return publisher_method(s, publisher_of(s, ch), m);
    case ROLE_RPC: case ROLE_GET: return caller_method(s, caller_of(s, ch), m);
    case ROLE_CONSUMER: return consumer_method(s, ch->owner, m);
  }
  return true;
}

/* Content: a method, a header, bodies (AMQP 0-9-1 section 4.2.6). */

void channel_expect (channel *ch, content_kind kind, eb_delivery *d) {
  ch->content = kind;
  ch->assembly = d;
  ch->has_header = false;
}

bool channel_delivers (eb_session *s, channel *ch, eb_delivery *d) {
  bool stale = d->tag <= ch->acks.last;
  if (!stale && eb_acks_deliver(&ch->acks, d->tag)) return true;
  eb_item_free(&d->item);
  return stale ? session_breakf(s, EB_ERR_PROTOCOL,
                                "a delivery tag out of order")
               : session_breakf(s, EB_ERR_NO_MEMORY, "no memory for a message");
}

static void finish (eb_session *s, channel *ch) {
  eb_delivery *d = ch->assembly;
  content_kind kind = ch->content;
  ch->assembly = NULL;
  drop_content(ch);
  switch (kind) {
    case CONTENT_RETURN:
      publisher_returned(publisher_of(s, ch), d, ch->return_code);
      eb_item_free(&d->item);
      break;
    case CONTENT_GET:
      s->stats.delivered++;
      caller_got(s, d);
      break;
    case CONTENT_DELIVER:
      if (ch->state == CHAN_CLOSING) {  /* it goes back to its queue */
        eb_item_free(&d->item);
        break;
      }
      s->stats.delivered++;
      session_answer(s, &d->item);
      break;
    case CONTENT_NONE: break;
  }
}

bool channel_header (eb_session *s, channel *ch, const eb_frame *frame) {
  eb_header h;
  eb_error err;
  if (ch->content == CONTENT_NONE || ch->has_header)
    return session_breakf(s, EB_ERR_PROTOCOL, "a content header out of place");
  if (!eb_codec_header(&s->pool, frame, &h, &err))
    return session_break(s, &err);
  eb_delivery *d = ch->assembly;
  d->bad_headers = h.bad_headers;
  if (!eb_codec_to_properties(d->item.arena, h.properties, &d->properties))
    return session_breakf(s, EB_ERR_NO_MEMORY, "no memory for a message");
  ch->has_header = true;
  ch->expected = h.body_size;
  d->body.n = (size_t)h.body_size;
  bool kept = ch->content != CONTENT_RETURN &&
              h.body_size <= s->config.max_body;
  if (ch->content == CONTENT_DELIVER && ch->state != CHAN_CLOSING) {
    d->weight = eb_arena_size(d->item.arena) + (kept ? d->body.n : 0);
    ch->held += d->weight;
    if (!consumer_holds(s, ch->owner, d)) return false;
  }
  if (kept) {
    char *body = eb_arena_alloc(d->item.arena, (size_t)h.body_size + 1);
    if (body == NULL)
      return session_breakf(s, EB_ERR_NO_MEMORY,
                            "no memory for a message of %llu bytes",
                            (unsigned long long)h.body_size);
    d->body.p = body;
  } else {
    d->oversized = true;
  }
  if (h.body_size == 0) finish(s, ch);
  return true;
}

bool channel_body (eb_session *s, channel *ch, const eb_frame *frame) {
  if (ch->content == CONTENT_NONE || !ch->has_header ||
      frame->size > ch->expected)
    return session_breakf(s, EB_ERR_PROTOCOL, "a body frame out of place");
  eb_delivery *d = ch->assembly;
  if (!d->oversized && frame->size > 0) {
    size_t at = d->body.n - (size_t)ch->expected;
    memcpy((char *)(uintptr_t)d->body.p + at, frame->payload, frame->size);
  }
  ch->expected -= frame->size;
  if (ch->expected == 0) finish(s, ch);
  return true;
}

/* Settlement. */

static void let_go (eb_session *s, channel *ch, const eb_delivery *d) {
  if (ch->role != ROLE_CONSUMER) return;
  s->unsettled--;
  ch->held -= d->weight;
}

static bool reject (eb_session *s, channel *ch, const eb_delivery *d) {
  if (!eb_acks_reject(&ch->acks, d->tag)) {
    s->stats.stale++;
    return true;
  }
  let_go(s, ch, d);
  s->stats.rejected++;
  amqp_basic_reject_t m;
  m.delivery_tag = d->tag;
  m.requeue = d->settlement != EB_REJECT;
  return session_send(s, ch->number, AMQP_BASIC_REJECT_METHOD, &m, 0);
}

/* Acks and returns wait for company: see channels_flush_acks. */
static bool remember (eb_session *s, channel *ch, const eb_delivery *d) {
  bool unknown, ack = d->settlement == EB_ACK;
  if (!(ack ? eb_acks_ack(&ch->acks, d->tag, &unknown)
            : eb_acks_return(&ch->acks, d->tag, &unknown))) {
    if (!unknown) return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
    s->stats.stale++;
    return true;
  }
  let_go(s, ch, d);
  if (ack)
    s->stats.acked++;
  else
    s->stats.rejected++;
  if (!ch->ack_listed) {
    ch->ack_listed = true;
    ch->ack_since = s->now;
    ch->ack_next = s->ack_list;
    s->ack_list = ch;
  }
  return true;
}

bool channel_settle (eb_session *s, channel *ch, const eb_delivery *d) {
  bool waits = d->settlement == EB_ACK || d->settlement == EB_RETURN;
  if (!(waits ? remember(s, ch, d) : reject(s, ch, d))) return false;
  return ch->owner == NULL || consumer_settled(s, ch->owner);
}

/* Waiting for company is worth it only while the consumer still has enough
** unsettled deliveries to be busy with. */
static bool acks_due (const eb_session *s, const channel *ch) {
  size_t acked = eb_acks_pending(&ch->acks);
  return s->now >= eb_ms_after(ch->ack_since, s->config.ack_delay_ms) ||
         acked >= eb_acks_unsettled(&ch->acks);
}

bool channels_flush_acks (eb_session *s, bool all) {
  channel **at = &s->ack_list;
  while (*at != NULL) {
    channel *ch = *at;
    if (!all && !acks_due(s, ch)) {
      at = &ch->ack_next;
      continue;
    }
    uint64_t tag;
    bool multiple;
    while (eb_acks_next(&ch->acks, &tag, &multiple)) {
      amqp_basic_ack_t m;
      m.delivery_tag = tag;
      m.multiple = multiple;
      s->stats.ack_frames++;
      if (!session_send(s, ch->number, AMQP_BASIC_ACK_METHOD, &m, 0))
        return false;
    }
    while (eb_acks_next_return(&ch->acks, &tag, &multiple)) {
      amqp_basic_nack_t m;
      m.delivery_tag = tag;
      m.multiple = multiple;
      m.requeue = 1;
      s->stats.ack_frames++;
      if (!session_send(s, ch->number, AMQP_BASIC_NACK_METHOD, &m, 0))
        return false;
    }
    *at = ch->ack_next;
    ch->ack_listed = false;
  }
  return true;
}

eb_ms channels_ack_deadline (const eb_session *s) {
  eb_ms t = EB_NEVER;
  for (const channel *ch = s->ack_list; ch != NULL; ch = ch->ack_next)
    t = eb_ms_min(t, eb_ms_after(ch->ack_since, s->config.ack_delay_ms));
  return t;
}
