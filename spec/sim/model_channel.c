/* model_channel: a channel of the model: publishing, consuming, acknowledging. See model.h. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void clear (model_channel *ch) {
  ch->state = CH_CLOSED;
  ch->confirms = false;
  ch->published = ch->confirmed_upto = ch->tag = 0;
  ch->owed_count = ch->out_count = 0;
  ch->last_event = 0;
  ch->before = 0;
  ch->prefetch = 0;
  ch->consumer[0] = '\0';
  ch->part = PART_NONE;
  ch->stuck = ch->leaving = false;
  ch->refuses_at = 0;
  ch->refused = 0;
}

void channel_end (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  for (size_t i = 0; i < ch->out_count; i++) {
    handed *h = &w->ledger.handed[ch->out[i].handed];
    h->over = true;
    if (!ch->out[i].back) topology_put_back(w, h->copy);
  }
  clear(ch);
}

void channel_error (world *w, conn *l, unsigned number, unsigned code, const char *text) {
  amqp_channel_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = (uint16_t)code;
  m.reply_text = frame_text(text);
  frame_method(w, l, number, AMQP_CHANNEL_CLOSE_METHOD, &m);
  if (l->channels[number].leaving) frame_empty(w, l, number, AMQP_CHANNEL_CLOSE_OK_METHOD);
  channel_end(w, l, number);
  l->channels[number].state = CH_CLOSING;
  l->refused = true;
}

static void leave (world *w, conn *l, unsigned number) {
  channel_end(w, l, number);
  frame_empty(w, l, number, AMQP_CHANNEL_CLOSE_OK_METHOD);
}

void channel_cancel_consumer (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  amqp_basic_cancel_t m = {frame_text(ch->consumer), 1};
  frame_method(w, l, number, AMQP_BASIC_CANCEL_METHOD, &m);
  ch->consumer[0] = '\0';
}

/* Publishing. */

static void begin_publish (world *w, conn *l, model_channel *ch, const amqp_basic_publish_t *m) {
  char exchange[NAME];
  if (m->exchange.len >= NAME || m->routing_key.len >= NAME) {
    model_accuse(w, l, "it publishes to a name nobody gave it");
    return;
  }
  memcpy(exchange, m->exchange.len > 0 ? m->exchange.bytes : "", m->exchange.len);
  exchange[m->exchange.len] = '\0';
  memcpy(ch->key, m->routing_key.bytes, m->routing_key.len);
  ch->key[m->routing_key.len] = '\0';
  ch->exchange = names_exchange(exchange);
  ch->mandatory = m->mandatory != 0;
  ch->part = PART_HEADER;
  ch->part_at = l->to_broker.taken;
  if (ch->exchange < 0) model_accuse(w, l, "it publishes to an exchange nobody named");
}

static void send_return (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  amqp_basic_return_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = 312;
  m.reply_text = frame_text("NO_ROUTE");
  m.exchange = frame_text(names_of_exchange(ch->exchange));
  m.routing_key = frame_text(ch->key);
  frame_method(w, l, number, AMQP_BASIC_RETURN_METHOD, &m);
  frame_content(w, l, number, ch->event, 0);
  w->tally.returned++;
}

static void end_publish (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  asked *a = &w->ledger.asked[ch->event - 1];
  ch->part = PART_NONE;
  ledger_published(w, l, ch->event, ch->part_at, ch->size, ch->exchange, ch->key, ch->mandatory,
                   w->ledger.asked[ch->event - 1].persistent);
  if (ch->event <= ch->last_event)
    model_accuse(w, l, "event %d is published after event %d on one channel", ch->event, ch->last_event);
  ch->last_event = ch->event;
  if (a->unconfirmed == ch->confirms)
    model_accuse(w, l, "event %d is published on a channel with%s confirms", ch->event, ch->confirms ? "" : "out");
  if (!w->broker.exchanges[ch->exchange].there) {
    a->refused = true;
    w->tally.refused++;
    channel_error(w, l, number, 404, "NOT_FOUND - no exchange");
    return;
  }
  uint32_t queues = topology_route(w, ch->exchange, ch->key, &ch->headers);
  ledger_routed(w, ch->event, queues);
  if (!ch->confirms) {
    topology_put(w, queues, ch->event);
    w->tally.unconfirmed++;
    return;
  }
  owed o = {(uint16_t)ch->event, ch->stuck || draw_chance(&w->draw, w->plan.nacks), false, ++ch->published};
  if (queues == 0 && ch->mandatory) {
    o.nack = false;
    o.returned = true;
    send_return(w, l, number);
  }
  if (!o.nack || draw_below(&w->draw, 2) == 0) topology_put(w, queues, ch->event);
  if (ch->owed_count >= w->plan.config.window_count || ch->owed_count == WINDOW) {
    model_accuse(w, l, "more than %zu publishes are unconfirmed", w->plan.config.window_count);
    return;
  }
  uint64_t bytes = 0;  /* what timed out weighs nothing any more */
  for (size_t i = 0; i < ch->owed_count; i++) {
    const asked *other = &w->ledger.asked[ch->owed[i].event - 1];
    if (!other->answered) bytes += other->size;
  }
  if (bytes >= w->plan.config.window_bytes)
    model_accuse(w, l, "%llu bytes were unconfirmed already", (unsigned long long)bytes);
  ch->owed[ch->owed_count++] = o;
}

static uint64_t body_size (const uint8_t *p) {
  uint64_t n = 0;
  for (int i = 0; i < 8; i++) n = n << 8 | p[4 + i];
  return n;
}

static void begin_content (world *w, conn *l, model_channel *ch, const uint8_t *p, size_t n) {
  void *decoded = NULL;
  amqp_bytes_t encoded = {n - 12, (void *)(uintptr_t)(p + 12)};
  if (n < 14 || amqp_decode_properties(AMQP_BASIC_CLASS, &w->broker.pool, encoded, &decoded) < 0) {
    model_accuse(w, l, "a content header that cannot be decoded");
    return;
  }
  const amqp_basic_properties_t *props = decoded;
  char id[16] = "", headers[FIELDS_TEXT];
  bool has_headers = (props->_flags & AMQP_BASIC_HEADERS_FLAG) != 0;
  ch->headers.count = 0;
  if (has_headers && !fields_from(&ch->headers, &props->headers))
    model_accuse(w, l, "an event with headers that nobody gave it");
  if (props->message_id.len < sizeof id) memcpy(id, props->message_id.bytes, props->message_id.len);
  ch->event = id[0] == 'm' ? atoi(id + 1) : 0;
  ch->size = body_size(p);
  ch->received = 0;
  if (ch->event < 1 || ch->event > w->ledger.asked_count ||
      w->ledger.asked[ch->event - 1].kind != EB_ITEM_PUBLISH) {
    violate(w, "it published '%s', which nobody asked for", id);
    ch->part = PART_NONE;
    return;
  }
  if (props->delivery_mode != (w->ledger.asked[ch->event - 1].persistent ? 2 : 1))
    violate(w, "event %d has another delivery mode", ch->event);
  fields_text(&ch->headers, headers);
  if (strcmp(headers, names_headers_text(w->ledger.asked[ch->event - 1].arguments)) != 0)
    violate(w, "event %d has other headers than it was given: %s", ch->event, headers);
  ch->part = PART_BODY;
}

void channel_content (world *w, conn *l, unsigned number, const uint8_t *p, size_t n, bool header) {
  if (number == 0 || number > l->channel_max || l->channels[number].state == CH_CLOSED) {
    model_accuse(w, l, "content on channel %u, which is not open", number);
    return;
  }
  model_channel *ch = &l->channels[number];
  if (ch->state == CH_CLOSING) return;
  if (ch->part != (header ? PART_HEADER : PART_BODY)) {
    model_accuse(w, l, "a %s out of place on channel %u", header ? "content header" : "body", number);
    return;
  }
  if (header) {
    begin_content(w, l, ch, p, n);
  } else if (n > ch->size - ch->received) {
    model_accuse(w, l, "more body than its header told");
  } else {
    for (size_t i = 0; i < n; i++)
      if (p[i] != ledger_byte(ch->event, ch->received + i)) {
        violate(w, "event %d arrived damaged", ch->event);
        break;
      }
    ch->received += n;
  }
  if (ch->part == PART_BODY && ch->received == ch->size) end_publish(w, l, number);
}

/* Confirms: single, multiple, out of order, late, and again. */

static void send_confirm (world *w, conn *l, unsigned number, uint64_t tag, bool multiple, bool nack) {
  amqp_basic_ack_t ack = {tag, multiple};
  amqp_basic_nack_t no = {tag, multiple, 0};
  if (nack)
    frame_method(w, l, number, AMQP_BASIC_NACK_METHOD, &no);
  else
    frame_method(w, l, number, AMQP_BASIC_ACK_METHOD, &ack);
  trace(w, "broker", "  tag %llu%s", (unsigned long long)tag, multiple ? " and all below" : "");
}

static void mark_copies (world *w, int event) {
  for (int i = 0; i < w->broker.copy_count; i++)
    if (w->broker.copies[i].event == event) w->broker.copies[i].confirmed = true;
}

static void paid (world *w, model_channel *ch, size_t i) {
  ledger_confirm_sent(w, &ch->owed[i]);
  if (!ch->owed[i].nack) mark_copies(w, ch->owed[i].event);
  memmove(&ch->owed[i], &ch->owed[i + 1], (ch->owed_count - i - 1) * sizeof ch->owed[0]);
  ch->owed_count--;
  ch->confirmed_upto = ch->owed_count > 0 ? ch->owed[0].tag - 1 : ch->published;
}

/* What was confirmed already, said again: nothing may come of it. */
static bool repeat (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  if (ch->confirmed_upto == 0 || !draw_chance(&w->draw, w->plan.rates[FAULT_REPEAT_CONFIRM])) return false;
  w->tally.faults[FAULT_REPEAT_CONFIRM]++;
  uint64_t tag = 1 + draw_below(&w->draw, (unsigned)ch->confirmed_upto);
  bool nack = draw_below(&w->draw, 4) == 0, multiple = draw_below(&w->draw, 2) == 0;
  send_confirm(w, l, number, tag, multiple, nack);
  return true;
}

/* The channel asks a node that stands still for each event, and gives it up after a while (seven seconds, of RabbitMQ's);
 * its close it looks at when it is done with them. Whoever has others to send is to do something about it; at the first
 * such channel nothing keeps it from that. */
static bool refuse_slowly (world *w, conn *l, unsigned number) {
  enum { SLOW_MS = 7000, MOST = 12 };
  model_channel *ch = &l->channels[number];
  if (ch->owed_count == 0) {
    ch->refuses_at = 0;
    return false;
  }
  if (ch->refuses_at == 0) ch->refuses_at = w->now + SLOW_MS;
  if (w->now < ch->refuses_at) return false;
  eb_session_stats stats;
  eb_session_get_stats(w->user.session, &stats);
  bool heard = w->user.conn == l && !l->to_client.swallows && !w->broker.blocked;
  if (heard && stats.pending > 0 && ch->owed[0].nack) ch->refused++;
  if (ch->refused > MOST && w->broker.stuck == 1 && !w->poisoned)
    violate(w, "a channel has refused %u events, one in seven seconds, and more are sent on it", MOST);
  owed o = ch->owed[0];
  send_confirm(w, l, number, o.tag, false, o.nack);
  paid(w, ch, 0);
  w->tally.slowly++;
  ch->refuses_at = w->now + SLOW_MS;
  if (ch->leaving && ch->owed_count == 0) leave(w, l, number);
  return true;
}

bool channel_confirm (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  if (ch->stuck) return refuse_slowly(w, l, number);
  bool did = !w->broker.prompt && repeat(w, l, number);
  if (ch->owed_count == 0 || (!w->broker.prompt && draw_below(&w->draw, 3) > 0)) return did;
  size_t i = draw_below(&w->draw, (unsigned)ch->owed_count);
  owed o = ch->owed[i];
  bool multiple = draw_below(&w->draw, 2) == 0;
  for (size_t j = 0; j < i && multiple; j++) multiple = ch->owed[j].nack == o.nack;
  if (!multiple) {
    send_confirm(w, l, number, o.tag, false, o.nack);
    paid(w, ch, i);
    return true;
  }
  send_confirm(w, l, number, o.tag, true, o.nack);
  for (size_t j = 0; j <= i; j++) paid(w, ch, 0);
  return true;
}

/* Consuming. */

static int give (world *w, conn *l, unsigned number, int q, int consumer, uint64_t *tag) {
  model_channel *ch = &l->channels[number];
  if (ch->out_count == UNACKED || w->ledger.handed_count == HANDED) return -1;
  int c = topology_take(w, q);
  if (c < 0) return -1;
  int h = ledger_hand(w, c, l, number, ++ch->tag, consumer);
  *tag = ch->tag;
  ch->out[ch->out_count++] = (out){ch->tag, h, false};
  if (w->broker.copies[c].redelivered) w->tally.redelivered++;
  return h;
}

static bool room (const model_channel *ch) {
  unsigned n = 0;
  for (size_t i = 0; i < ch->out_count; i++) n += ch->out[i].tag > ch->before;
  return n < ch->prefetch;
}

static void send_delivery (world *w, conn *l, unsigned number, int event, bool redelivered, uint64_t stamp) {
  model_channel *ch = &l->channels[number];
  amqp_basic_deliver_t m;
  memset(&m, 0, sizeof m);
  m.consumer_tag = frame_text(ch->consumer);
  m.delivery_tag = ch->tag;
  m.redelivered = redelivered;
  m.exchange = frame_text("");
  m.routing_key = frame_text("key");
  frame_method(w, l, number, AMQP_BASIC_DELIVER_METHOD, &m);
  trace(w, "broker", "  event %d, tag %llu, delivery %d", event, (unsigned long long)ch->tag, (int)stamp);
  frame_content(w, l, number, event, stamp);
}

bool channel_deliver (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  if (ch->consumer[0] == '\0' || !room(ch)) return false;
  if (!w->broker.prompt && draw_below(&w->draw, 3) == 0) return false;
  uint64_t tag;
  int h = give(w, l, number, ch->queue, atoi(ch->consumer + 1), &tag);
  if (h < 0) return false;
  const copy *c = &w->broker.copies[w->ledger.handed[h].copy];
  send_delivery(w, l, number, c->event, c->redelivered, (uint64_t)h);
  return true;
}

void channel_take_back (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  if (ch->out_count + ch->prefetch > (size_t)LIVES * ch->prefetch) return;
  trace(w, "broker", "%d.%u takes back what is out, and tells nobody", l->serial, number);
  for (size_t i = 0; i < ch->out_count; i++) {
    handed *h = &w->ledger.handed[ch->out[i].handed];
    if (!ch->out[i].back) topology_put_back(w, h->copy);
    ch->out[i].back = h->over = true;
  }
  ch->before = ch->tag;
}

void channel_flood (world *w, conn *l, unsigned number) {
  model_channel *ch = &l->channels[number];
  for (unsigned i = 0; i < (LIVES + 1) * ch->prefetch; i++) {
    ch->tag++;
    send_delivery(w, l, number, 1, false, UINT64_MAX);
  }
}

static void log_get (world *w, const char *queue, bool refused) {
  logged e;
  memset(&e, 0, sizeof e);
  e.method = EB_GET;
  e.refused = refused;
  snprintf(e.name, sizeof e.name, "%s", queue);
  ledger_log(w, &e);
}

static void get (world *w, conn *l, unsigned number, const amqp_basic_get_t *m) {
  char name[NAME] = "";
  if (m->queue.len < NAME) memcpy(name, m->queue.bytes, m->queue.len);
  int q = topology_queue(w, name);
  if (q < 0) {
    log_get(w, name, true);
    channel_error(w, l, number, 404, "NOT_FOUND - no queue");
    return;
  }
  uint64_t tag;
  int h = give(w, l, number, q, 0, &tag);
  log_get(w, name, false);
  if (h < 0) {
    frame_empty(w, l, number, AMQP_BASIC_GET_EMPTY_METHOD);
    return;
  }
  const copy *c = &w->broker.copies[w->ledger.handed[h].copy];
  amqp_basic_get_ok_t ok;
  memset(&ok, 0, sizeof ok);
  ok.delivery_tag = tag;
  ok.redelivered = c->redelivered;
  ok.exchange = frame_text("");
  ok.routing_key = frame_text("key");
  frame_method(w, l, number, AMQP_BASIC_GET_OK_METHOD, &ok);
  frame_content(w, l, number, c->event, (uint64_t)h);
}

static void consume (world *w, conn *l, unsigned number, const amqp_basic_consume_t *m) {
  model_channel *ch = &l->channels[number];
  char name[NAME] = "", tag[NAME] = "";
  if (m->queue.len < NAME) memcpy(name, m->queue.bytes, m->queue.len);
  if (m->consumer_tag.len < NAME) memcpy(tag, m->consumer_tag.bytes, m->consumer_tag.len);
  if (ch->prefetch == 0) model_accuse(w, l, "it consumes without a prefetch");
  if (ch->consumer[0] != '\0') model_accuse(w, l, "it consumes twice on channel %u", number);
  int id = tag[0] == 'c' ? atoi(tag + 1) : 0;
  const asked *a = id > 0 && id <= w->ledger.asked_count ? &w->ledger.asked[id - 1] : NULL;
  if (a == NULL || a->kind != EB_ITEM_SUBSCRIBE || a->prefetch != ch->prefetch)
    model_accuse(w, l, "it consumes as '%s', otherwise than asked", tag);
  int q = topology_queue(w, name);
  if (q < 0) {
    channel_error(w, l, number, 404, "NOT_FOUND - no queue");
    return;
  }
  if (w->broker.queues[q].exclusive != 0 && w->broker.queues[q].exclusive != l->serial) {
    channel_error(w, l, number, 405, "RESOURCE_LOCKED");
    return;
  }
  snprintf(ch->consumer, sizeof ch->consumer, "%s", tag);
  ch->queue = q;
  ch->before = ch->tag;
  amqp_basic_consume_ok_t ok = {frame_text(tag)};
  frame_method(w, l, number, AMQP_BASIC_CONSUME_OK_METHOD, &ok);
}

/* Settlement. */

static void settle (world *w, conn *l, unsigned number, uint64_t tag, bool multiple, eb_settlement how) {
  model_channel *ch = &l->channels[number];
  bool known = false;
  for (size_t i = 0; i < ch->out_count;) {
    out *o = &ch->out[i];
    if (o->tag != tag && !(multiple && o->tag < tag)) {
      i++;
      continue;
    }
    known |= o->tag == tag;
    ledger_settled_on_wire(w, l, o->handed, how);
    int c = w->ledger.handed[o->handed].copy;
    if (!o->back && (how == EB_REQUEUE || how == EB_RETURN))
      topology_put_back(w, c);
    else if (!o->back)
      w->broker.copies[c].state = COPY_GONE;
    memmove(o, o + 1, (ch->out_count - i - 1) * sizeof *o);
    ch->out_count--;
  }
  if (!known)
    model_accuse(w, l, "it settles tag %llu of channel %u, which is not out", (unsigned long long)tag, number);
}

/* What is asked on a channel. */

static void open (world *w, conn *l, unsigned number) {
  clear(&l->channels[number]);
  l->channels[number].state = CH_OPEN;
  if (draw_chance(&w->draw, w->plan.rates[FAULT_CHANNEL_CLOSE] / 4)) {
    w->tally.faults[FAULT_CHANNEL_CLOSE]++;
    channel_error(w, l, number, 504, "CHANNEL_ERROR - at once");
    return;
  }
  amqp_channel_open_ok_t ok = {amqp_empty_bytes};
  frame_method(w, l, number, AMQP_CHANNEL_OPEN_OK_METHOD, &ok);
}

static void asked_of_open (world *w, conn *l, unsigned number, amqp_method_t *m) {
  model_channel *ch = &l->channels[number];
  switch (m->id) {
    case AMQP_CHANNEL_CLOSE_METHOD:
      ch->leaving = true;
      if (!ch->stuck || ch->owed_count == 0) leave(w, l, number);
      break;
    case AMQP_CONFIRM_SELECT_METHOD:
      ch->confirms = true;
      ch->stuck = w->plan.stuck > 0 && !w->broker.prompt && draw_chance(&w->draw, w->plan.stuck);
      if (ch->stuck) w->broker.stuck++;
      frame_empty(w, l, number, AMQP_CONFIRM_SELECT_OK_METHOD);
      break;
    case AMQP_BASIC_QOS_METHOD: {
      const amqp_basic_qos_t *qos = m->decoded;
      if (qos->global || qos->prefetch_count == 0) model_accuse(w, l, "a prefetch without limit, or a global one");
      ch->prefetch = qos->prefetch_count;
      frame_empty(w, l, number, AMQP_BASIC_QOS_OK_METHOD);
      break;
    }
    case AMQP_BASIC_PUBLISH_METHOD: begin_publish(w, l, ch, m->decoded); break;
    case AMQP_BASIC_CONSUME_METHOD: consume(w, l, number, m->decoded); break;
    case AMQP_BASIC_CANCEL_METHOD: {
      amqp_basic_cancel_ok_t ok = {((amqp_basic_cancel_t *)m->decoded)->consumer_tag};
      ch->consumer[0] = '\0';
      frame_method(w, l, number, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
      break;
    }
    case AMQP_BASIC_CANCEL_OK_METHOD: break;
    case AMQP_BASIC_GET_METHOD: get(w, l, number, m->decoded); break;
    case AMQP_BASIC_ACK_METHOD: {
      const amqp_basic_ack_t *ack = m->decoded;
      settle(w, l, number, ack->delivery_tag, ack->multiple != 0, EB_ACK);
      break;
    }
    case AMQP_BASIC_NACK_METHOD: {
      const amqp_basic_nack_t *no = m->decoded;
      if (!no->requeue) model_accuse(w, l, "it rejects many at once");
      settle(w, l, number, no->delivery_tag, no->multiple != 0, EB_RETURN);
      break;
    }
    case AMQP_BASIC_REJECT_METHOD: {
      const amqp_basic_reject_t *no = m->decoded;
      settle(w, l, number, no->delivery_tag, false, no->requeue ? EB_REQUEUE : EB_REJECT);
      break;
    }
    case AMQP_CHANNEL_CLOSE_OK_METHOD: break;
    default:
      if (!topology_asked(w, l, number, m)) model_accuse(w, l, "%s on channel %u", amqp_method_name(m->id), number);
      break;
  }
}

void channel_asked (world *w, conn *l, unsigned number, amqp_method_t *m) {
  if (number > l->channel_max) {
    model_accuse(w, l, "it uses channel %u of %u", number, l->channel_max);
    return;
  }
  model_channel *ch = &l->channels[number];
  if (ch->state == CH_CLOSING) {
    if (m->id == AMQP_CHANNEL_CLOSE_OK_METHOD) ch->state = CH_CLOSED;
    if (m->id == AMQP_CHANNEL_CLOSE_METHOD) frame_empty(w, l, number, AMQP_CHANNEL_CLOSE_OK_METHOD);
    return;
  }
  if (ch->part != PART_NONE) {
    model_accuse(w, l, "%s inside the content of an event", amqp_method_name(m->id));
    return;
  }
  if (m->id == AMQP_CHANNEL_OPEN_METHOD) {
    if (ch->state != CH_CLOSED) model_accuse(w, l, "it opens channel %u twice", number);
    else open(w, l, number);
  } else if (ch->state == CH_CLOSED || ch->leaving) {
    model_accuse(w, l, "%s on channel %u, which is not open", amqp_method_name(m->id), number);
  } else {
    asked_of_open(w, l, number, m);
  }
}
