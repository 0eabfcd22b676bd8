/* eb_session_rpc: topology calls and gets, pipelined, answered in order.
**
** The broker answers the calls of a channel in order, and after an error it
** ignores all that follow: so the oldest call in flight is the one that failed,
** and the others are sent again on a new channel.
*/
#include "eb_session_priv.h"

#include <string.h>

caller *caller_of (eb_session *s, const channel *ch) {
  return ch->role == ROLE_GET ? &s->get : &s->rpc;
}

void caller_submit (eb_session *s, eb_rpc *call) {
  caller *c = call->method == EB_GET ? &s->get : &s->rpc;
  eb_list_push(&c->waiting, &call->item);
  c->expiry = eb_ms_min(c->expiry, call->item.deadline);
}

static bool has (const eb_rpc *call, unsigned flag) {
  return (call->flags & flag) != 0;
}

/* Encoding, one method each. */

static bool send_exchange_declare (eb_session *s, uint16_t ch, const eb_rpc *c,
                                   amqp_table_t args, size_t size) {
  amqp_exchange_declare_t m;
  memset(&m, 0, sizeof m);
  m.exchange = eb_codec_bytes(c->name);
  m.type = eb_codec_bytes(c->type);
  m.passive = has(c, EB_PASSIVE);
  m.durable = has(c, EB_DURABLE);
  m.auto_delete = has(c, EB_AUTO_DELETE);
  m.internal = has(c, EB_INTERNAL);
  m.arguments = args;
  return session_send(s, ch, AMQP_EXCHANGE_DECLARE_METHOD, &m, size);
}

static bool send_queue_declare (eb_session *s, uint16_t ch, const eb_rpc *c,
                                amqp_table_t args, size_t size) {
  amqp_queue_declare_t m;
  memset(&m, 0, sizeof m);
  m.queue = eb_codec_bytes(c->name);
  m.passive = has(c, EB_PASSIVE);
  m.durable = has(c, EB_DURABLE);
  m.exclusive = has(c, EB_EXCLUSIVE);
  m.auto_delete = has(c, EB_AUTO_DELETE);
  m.arguments = args;
  return session_send(s, ch, AMQP_QUEUE_DECLARE_METHOD, &m, size);
}

/* The four bindings differ in names only. */
#define FILL(m, to, from)                          \
  memset(&(m), 0, sizeof(m));                      \
  (m).to = eb_codec_bytes(records_name(s, c->name)); \
  (m).from = eb_codec_bytes(c->source);            \
  (m).routing_key = eb_codec_bytes(c->routing_key); \
  (m).arguments = args

static bool send_binding (eb_session *s, uint16_t ch, const eb_rpc *c,
                          amqp_table_t args, size_t size) {
  switch (c->method) {
    case EB_EXCHANGE_BIND: {
      amqp_exchange_bind_t m;
      FILL(m, destination, source);
      return session_send(s, ch, AMQP_EXCHANGE_BIND_METHOD, &m, size);
    }
    case EB_EXCHANGE_UNBIND: {
      amqp_exchange_unbind_t m;
      FILL(m, destination, source);
      return session_send(s, ch, AMQP_EXCHANGE_UNBIND_METHOD, &m, size);
    }
    case EB_QUEUE_BIND: {
      amqp_queue_bind_t m;
      FILL(m, queue, exchange);
      return session_send(s, ch, AMQP_QUEUE_BIND_METHOD, &m, size);
    }
    default: {
      amqp_queue_unbind_t m;
      FILL(m, queue, exchange);
      return session_send(s, ch, AMQP_QUEUE_UNBIND_METHOD, &m, size);
    }
  }
}

static bool send_removal (eb_session *s, uint16_t ch, const eb_rpc *c) {
  amqp_bytes_t name = eb_codec_bytes(records_name(s, c->name));
  if (c->method == EB_EXCHANGE_DELETE) {
    amqp_exchange_delete_t m;
    memset(&m, 0, sizeof m);
    m.exchange = name;
    m.if_unused = has(c, EB_IF_UNUSED);
    return session_send(s, ch, AMQP_EXCHANGE_DELETE_METHOD, &m, 0);
  }
  if (c->method == EB_QUEUE_DELETE) {
    amqp_queue_delete_t m;
    memset(&m, 0, sizeof m);
    m.queue = name;
    m.if_unused = has(c, EB_IF_UNUSED);
    m.if_empty = has(c, EB_IF_EMPTY);
    return session_send(s, ch, AMQP_QUEUE_DELETE_METHOD, &m, 0);
  }
  if (c->method == EB_QUEUE_PURGE) {
    amqp_queue_purge_t m;
    memset(&m, 0, sizeof m);
    m.queue = name;
    return session_send(s, ch, AMQP_QUEUE_PURGE_METHOD, &m, 0);
  }
  amqp_basic_get_t m;
  memset(&m, 0, sizeof m);
  m.queue = name;
  return session_send(s, ch, AMQP_BASIC_GET_METHOD, &m, 0);
}

static bool send_call (eb_session *s, uint16_t ch, const eb_rpc *c) {
  amqp_table_t args;
  if (!eb_codec_from_table(&s->pool, c->arguments, &args))
    return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  size_t size = eb_codec_table_size(c->arguments);
  switch (c->method) {
    case EB_EXCHANGE_DECLARE:
      return send_exchange_declare(s, ch, c, args, size);
    case EB_QUEUE_DECLARE: return send_queue_declare(s, ch, c, args, size);
    case EB_EXCHANGE_BIND: case EB_EXCHANGE_UNBIND:
    case EB_QUEUE_BIND: case EB_QUEUE_UNBIND:
      return send_binding(s, ch, c, args, size);
    default: return send_removal(s, ch, c);
  }
}

/* A name or table that AMQP cannot carry: refused before it is encoded, so
** that encoding only fails for want of memory. */
static bool call_fits (const eb_session *s, const eb_rpc *c, eb_error *err) {
  const eb_bytes *names[] = {&c->name, &c->source, &c->routing_key, &c->type};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i]->n > EB_SHORTSTR_MAX)
      return eb_error_set(err, EB_ERR_TOO_LARGE,
                          "a name of %zu bytes; AMQP allows 255: %.40s...",
                          names[i]->n, names[i]->p);
  for (size_t i = 0; c->arguments != NULL && i < c->arguments->count; i++)
    if (c->arguments->pairs[i].key.n > EB_SHORTSTR_MAX)
      return eb_error_set(err, EB_ERR_TOO_LARGE,
                          "an argument's name of %zu bytes; AMQP allows 255",
                          c->arguments->pairs[i].key.n);
  size_t size = eb_codec_table_size(c->arguments) + 1200;
  if (size > s->frame_max)
    return eb_error_set(err, EB_ERR_TOO_LARGE,
                        "arguments of %zu bytes; a frame holds %zu", size,
                        s->frame_max);
  return true;
}

/* Answers a call: upwards, or for a restoration here. */
static void answer (eb_session *s, eb_rpc *call, const eb_error *why) {
  if (why != NULL) eb_item_fail(&call->item, why);
  if (!call->internal) {
    session_answer(s, &call->item);
    return;
  }
  if (call->record) {  /* a restoration, not the stub of a late call */
    if (s->restoring > 0) records_await(s, s->restoring - 1);
    if (s->restoring == 0) s->consumers_due = s->now;
    if (why != NULL) eb_session_notice(s, EB_EVENT_TOPOLOGY_FAILED, 0, why);
  }
  eb_item_free(&call->item);
}

/* A queue is about to get a new name, which the calls behind may need. */
static bool is_renaming (const eb_item *item) {
  const eb_rpc *call = (const eb_rpc *)item;
  return call != NULL && call->internal && call->record &&
         call->method == EB_QUEUE_DECLARE && call->name.n == 0;
}

static bool may_send (const eb_session *s, const caller *c) {
  return c->waiting.count > 0 && !is_renaming(c->sent.last) &&
         eb_buffer_size(&s->out) < OUT_SOFT_LIMIT;
}

bool caller_pump (eb_session *s, caller *c) {
  if (c->waiting.count == 0) return true;
  if (c->ch.state == CHAN_CLOSED) return channel_open(s, &c->ch);
  if (c->ch.state != CHAN_OPEN) return true;
  while (may_send(s, c)) {
    eb_rpc *call = (eb_rpc *)eb_list_pop(&c->waiting);
    eb_error err;
    if (!call_fits(s, call, &err)) {
      answer(s, call, &err);
      continue;
    }
    eb_list_push(&c->sent, &call->item);
    if (!send_call(s, c->ch.number, call)) return false;
    recycle_amqp_pool(&s->pool);
  }
  return true;
}

/* Replies. */

static amqp_method_number_t reply_of (eb_rpc_method method) {
  switch (method) {
    case EB_EXCHANGE_DECLARE: return AMQP_EXCHANGE_DECLARE_OK_METHOD;
    case EB_EXCHANGE_DELETE: return AMQP_EXCHANGE_DELETE_OK_METHOD;
    case EB_EXCHANGE_BIND: return AMQP_EXCHANGE_BIND_OK_METHOD;
    case EB_EXCHANGE_UNBIND: return AMQP_EXCHANGE_UNBIND_OK_METHOD;
    case EB_QUEUE_DECLARE: return AMQP_QUEUE_DECLARE_OK_METHOD;
    case EB_QUEUE_DELETE: return AMQP_QUEUE_DELETE_OK_METHOD;
    case EB_QUEUE_BIND: return AMQP_QUEUE_BIND_OK_METHOD;
    case EB_QUEUE_UNBIND: return AMQP_QUEUE_UNBIND_OK_METHOD;
    case EB_QUEUE_PURGE: return AMQP_QUEUE_PURGE_OK_METHOD;
    case EB_GET: return AMQP_BASIC_GET_EMPTY_METHOD;
  }
  return 0;
}

static bool fill_answer (eb_session *s, eb_rpc *call, const amqp_method_t *m) {
  switch (call->method) {
    case EB_QUEUE_DECLARE: {
      const amqp_queue_declare_ok_t *ok = m->decoded;
      call->messages = ok->message_count;
      call->consumers = ok->consumer_count;
      if (!eb_codec_to_bytes(call->item.arena, ok->queue, &call->answer_name))
        return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
      break;
    }
    case EB_QUEUE_DELETE:
      call->messages = ((amqp_queue_delete_ok_t *)m->decoded)->message_count;
      break;
    case EB_QUEUE_PURGE:
      call->messages = ((amqp_queue_purge_ok_t *)m->decoded)->message_count;
      break;
    default: break;
  }
  return true;
}

static bool on_get_ok (eb_session *s, caller *c,
                       const amqp_basic_get_ok_t *m) {
  eb_rpc *call = (eb_rpc *)c->sent.first;
  if (call == NULL || call->method != EB_GET)
    return session_breakf(s, EB_ERR_PROTOCOL, "a message nobody asked for");
  eb_delivery *d = eb_item_new(EB_ITEM_DELIVERY, sizeof *d,
                               m->exchange.len + m->routing_key.len + 512);
  if (d == NULL || !eb_codec_to_bytes(d->item.arena, m->exchange, &d->exchange) ||
      !eb_codec_to_bytes(d->item.arena, m->routing_key, &d->routing_key)) {
    eb_item_free(d == NULL ? NULL : &d->item);
    return session_breakf(s, EB_ERR_NO_MEMORY, "no memory for a message");
  }
  d->channel = c->ch.number;
  d->epoch = c->ch.epoch;
  d->tag = m->delivery_tag;
  d->redelivered = m->redelivered != 0;
  call->messages = m->message_count;
  if (!channel_delivers(s, &c->ch, d)) return false;
  channel_expect(&c->ch, CONTENT_GET, d);
  return true;
}

void caller_got (eb_session *s, eb_delivery *d) {
  eb_rpc *call = (eb_rpc *)eb_list_pop(&s->get.sent);
  if (call == NULL) {  /* answered by eb_session_fail */
    eb_item_free(&d->item);
    return;
  }
  if (call->internal) {  /* its caller's time was over: give it back */
    d->settlement = EB_REQUEUE;
    channel_settle(s, &s->get.ch, d);
    eb_item_free(&d->item);
  } else {
    call->delivery = d;
  }
  answer(s, call, NULL);
}

/* Restorations and stubs belong to one connection. */
static bool is_internal (const eb_item *item, void *unused) {
  (void)unused;
  return ((const eb_rpc *)item)->internal;
}

static bool is_restoration (const eb_item *item) {
  return is_internal(item, NULL) && ((const eb_rpc *)item)->record;
}

/* Nobody waits for it; it only keeps the place of a reply. */
static bool is_stub (const eb_item *item, void *unused) {
  return is_internal(item, unused) && !((const eb_rpc *)item)->record;
}

bool caller_under_way (const caller *c) {
  const eb_item *item = c->sent.first;
  while (item != NULL && is_stub(item, NULL)) item = item->next;
  return item != NULL;
}

/* Consumers whose topology must be restored first wait for that. */
static void none_under_way (eb_session *s, const caller *c) {
  if (c == &s->rpc && !caller_under_way(c)) s->consumers_due = s->now;
}

bool caller_method (eb_session *s, caller *c, amqp_method_t *m) {
  if (m->id == AMQP_CHANNEL_OPEN_OK_METHOD) {
    c->ch.state = CHAN_OPEN;
    return true;
  }
  if (m->id == AMQP_BASIC_GET_OK_METHOD) return on_get_ok(s, c, m->decoded);
  eb_rpc *call = (eb_rpc *)c->sent.first;
  if (call == NULL || m->id != reply_of(call->method))
    return session_breakf(s, EB_ERR_PROTOCOL, "%s without its question",
                          amqp_method_name(m->id));
  eb_list_pop(&c->sent);
  /* Asked once more on the next connection: what is not kept is not restored. */
  if (!fill_answer(s, call, m) || (call->record && !record_answered(s, call))) {
    eb_list_push_front(&c->sent, &call->item);
    return false;
  }
  answer(s, call, NULL);
  none_under_way(s, c);
  return true;
}

/* Losses. */

void caller_closed (eb_session *s, caller *c, const eb_error *why) {
  eb_list stubs;
  eb_list_init(&stubs);
  eb_rpc *guilty = (eb_rpc *)eb_list_pop(&c->sent);
  eb_list_split(&c->sent, &stubs, is_stub, NULL);
  eb_list_free(&stubs);
  eb_list_prepend(&c->waiting, &c->sent);
  if (guilty != NULL) answer(s, guilty, why);
  none_under_way(s, c);
}

static bool gives_up (const eb_item *item, void *unused) {
  (void)unused;
  return ((const eb_rpc *)item)->tries >= RPC_TRIES;
}

void caller_detach (eb_session *s, caller *c) {
  eb_list gone;
  eb_list_init(&gone);
  channel_forget(s, &c->ch);
  for (eb_item *i = c->sent.first; i != NULL; i = i->next)
    ((eb_rpc *)i)->tries++;
  eb_list_prepend(&c->waiting, &c->sent);
  eb_list_split(&c->waiting, &gone, is_internal, NULL);
  eb_list_free(&gone);
  eb_list_split(&c->waiting, &gone, gives_up, NULL);
  session_answer_all(s, &gone, &s->trouble);
}

void caller_fail (eb_session *s, caller *c, const eb_error *why) {
  eb_list_append(&c->sent, &c->waiting);
  eb_item *item;
  while ((item = eb_list_pop(&c->sent)) != NULL) {
    if (((eb_rpc *)item)->internal) {
      eb_item_free(item);
      continue;
    }
    eb_item_fail(item, why);
    session_answer(s, item);
  }
  c->expiry = EB_NEVER;
}

/* Deadlines. */

static bool is_late (const eb_item *item, void *session) {
  const eb_session *s = session;
  return item->deadline <= s->now ||
         (is_restoration(item) && s->restore_by <= s->now);
}

/* Its reply will still come, and must find its place in the order. */
static bool leave_stub (eb_session *s, caller *c, const eb_rpc *call) {
  eb_rpc *stub = eb_item_new(EB_ITEM_RPC, sizeof *stub, 0);
  if (stub == NULL) return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  stub->method = call->method;
  stub->internal = true;
  eb_list_push(&c->sent, &stub->item);
  return true;
}

void caller_expire (eb_session *s, caller *c) {
  if (s->now < eb_ms_min(c->expiry, s->restore_by)) return;
  eb_error why;
  bool down = s->phase == EB_PHASE_DOWN && s->trouble.code != EB_OK;
  eb_error_set(&why, EB_ERR_TIMEOUT, down ? "no connection in time: %s"
                                          : "the broker did not answer in time%s",
               down ? s->trouble.message : "");
  eb_list late, sent = c->sent;
  eb_list_init(&late);
  eb_list_init(&c->sent);
  eb_item *item;
  while ((item = eb_list_pop(&sent)) != NULL) {
    if (is_late(item, s)) {
      leave_stub(s, c, (eb_rpc *)item);
      eb_list_push(&late, item);
    } else {
      eb_list_push(&c->sent, item);
    }
  }
  eb_list_split(&c->waiting, &late, is_late, s);
  while ((item = eb_list_pop(&late)) != NULL) answer(s, (eb_rpc *)item, &why);
  none_under_way(s, c);
  c->expiry = EB_NEVER;
  for (item = c->sent.first; item != NULL; item = item->next)
    c->expiry = eb_ms_min(c->expiry, item->deadline);
  for (item = c->waiting.first; item != NULL; item = item->next)
    c->expiry = eb_ms_min(c->expiry, item->deadline);
}

eb_ms caller_deadline (const eb_session *s, const caller *c) {
  /* The output was full, and has been written. */
  if (s->phase == EB_PHASE_UP && c->ch.state == CHAN_OPEN && may_send(s, c))
    return s->now;
  return eb_ms_min(c->expiry, s->restore_by);
}

static bool all_internal (const eb_list *l) {
  const eb_item *item = l->first;
  while (item != NULL && is_internal(item, NULL)) item = item->next;
  return item == NULL;
}

bool caller_idle (const caller *c) {
  return all_internal(&c->sent) && all_internal(&c->waiting);
}
