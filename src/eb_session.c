/* eb_session: life, timers, and the way of a frame. */
#include "eb_session_priv.h"

#include <stdlib.h>
#include <string.h>

enum { CHANNEL_MAX_DEFAULT = 2047 };

/* Life. */

static const char *keep (eb_session *s, const char *text) {
  return eb_arena_copy(s->strings, text == NULL ? "" : text,
                       text == NULL ? 0 : strlen(text));
}

static bool copy_config (eb_session *s, const eb_session_config *c) {
  s->config = *c;
  s->config.vhost = keep(s, c->vhost);
  s->config.user = keep(s, c->user);
  s->config.password = keep(s, c->password);
  s->config.connection_name = keep(s, c->connection_name);
  if (s->config.frame_max == 0) s->config.frame_max = EB_FRAME_MAX;
  if (s->config.channel_max == 0) s->config.channel_max = CHANNEL_MAX_DEFAULT;
  if (s->config.window_count == 0) s->config.window_count = 1;
  return s->config.vhost && s->config.user && s->config.password &&
         s->config.connection_name;
}

eb_session *eb_session_new (const eb_session_config *config) {
  eb_session *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  init_amqp_pool(&s->pool, 4096);
  eb_buffer_init(&s->in);
  eb_buffer_init(&s->out);
  eb_list_init(&s->events);
  publisher_init(&s->pub, ROLE_PUBLISH);
  publisher_init(&s->loose, ROLE_UNCONFIRMED);
  eb_list_init(&s->rpc.waiting);
  eb_list_init(&s->rpc.sent);
  eb_list_init(&s->get.waiting);
  eb_list_init(&s->get.sent);
  s->rpc.ch.role = ROLE_RPC;
  s->get.ch.role = ROLE_GET;
  s->rpc.expiry = s->get.expiry = EB_NEVER;
  s->close_deadline = s->consumers_due = s->restore_by = EB_NEVER;
  s->strings = eb_arena_new(256);
  if (s->strings == NULL || !copy_config(s, config)) {
    eb_session_free(s);
    return NULL;
  }
  eb_window_init(&s->pub.window, s->config.window_count);
  eb_window_init(&s->loose.window, 1);  /* stays empty */
  s->frame_max = EB_FRAME_MAX;
  return s;
}

void eb_session_free (eb_session *s) {
  if (s == NULL) return;
  eb_error why;
  eb_error_set(&why, EB_ERR_CLOSED, "the bus was closed");
  eb_session_detach(s, &why, s->now);
  eb_session_fail(s, &why, s->now);
  channel_fini(s, &s->pub.ch);
  channel_fini(s, &s->loose.ch);
  channel_fini(s, &s->rpc.ch);
  channel_fini(s, &s->get.ch);
  eb_list_free(&s->events);
  eb_spares_fini(&s->spares);
  eb_window_fini(&s->pub.window);
  eb_window_fini(&s->loose.window);
  records_free(s);
  free(s->channels);
  eb_buffer_fini(&s->in);
  eb_buffer_fini(&s->out);
  empty_amqp_pool(&s->pool);
  eb_arena_free(s->strings);
  free(s);
}

void eb_session_attach (eb_session *s, eb_ms now) {
  s->now = now;
  s->phase = EB_PHASE_GREETED;
  s->failed = s->broken = s->blocked = false;
  s->frame_max = EB_FRAME_MAX;
  s->channel_max = 0;
  s->heartbeat_ms = 0;
  s->last_read = s->last_write = now;
  eb_buffer_truncate(&s->in, 0);
  eb_buffer_truncate(&s->out, 0);
  if (!eb_codec_put_greeting(&s->out))
    session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
}

static void drop_deliveries (eb_session *s) {
  eb_list stale;
  eb_list_init(&stale);
  eb_list_split(&s->events, &stale, eb_item_is_delivery, NULL);
  eb_list_free(&stale);
}

void eb_session_detach (eb_session *s, const eb_error *why, eb_ms now) {
  s->now = now;
  s->trouble = *why;
  s->broken = false;  /* that ended the connection, not the session */
  if (s->phase == EB_PHASE_DOWN) return;
  bool was_up = s->phase >= EB_PHASE_UP;
  s->phase = EB_PHASE_DOWN;
  s->blocked = false;
  eb_buffer_truncate(&s->in, 0);
  eb_buffer_truncate(&s->out, 0);
  publisher_detach(s, &s->pub);
  publisher_detach(s, &s->loose);
  caller_detach(s, &s->rpc);
  caller_detach(s, &s->get);
  consumers_detach(s);
  drop_deliveries(s);
  if (s->channel_count > 0)  /* only crossed closes are left in it */
    memset(s->channels, 0, s->channel_count * sizeof *s->channels);
  records_await(s, 0);
  if (was_up && !s->closing) eb_session_notice(s, EB_EVENT_DOWN, 0, why);
}

void eb_session_fail (eb_session *s, const eb_error *why, eb_ms now) {
  s->now = now;
  s->failed = true;
  s->failure = *why;
  records_await(s, 0);
  publisher_fail(s, &s->pub, why);
  publisher_fail(s, &s->loose, why);
  caller_fail(s, &s->rpc, why);
  caller_fail(s, &s->get, why);
  consumers_fail(s, why);
}

void eb_session_close (eb_session *s, eb_ms deadline, eb_ms now) {
  s->now = now;
  s->closing = true;
  s->close_deadline = deadline;
}

/* Nothing that a user waits for is left. */
static bool quiet (const eb_session *s) {
  return publisher_idle(&s->pub) && publisher_idle(&s->loose) &&
         caller_idle(&s->rpc) && caller_idle(&s->get);
}

bool eb_session_done (const eb_session *s, eb_ms now) {
  if (!s->closing) return false;
  if (now >= s->close_deadline) return true;
  if (s->phase == EB_PHASE_UP || s->phase == EB_PHASE_CLOSING) return false;
  return quiet(s);
}

/* Answers and notices. */

void session_answer (eb_session *s, eb_item *item) {
  eb_list_push(&s->events, item);
}

void session_answer_all (eb_session *s, eb_list *items, const eb_error *why) {
  eb_item *item;
  while ((item = eb_list_pop(items)) != NULL) {
    eb_item_fail(item, why);
    session_answer(s, item);
  }
}

void eb_session_notice (eb_session *s, eb_event event, uint64_t consumer_id,
                        const eb_error *why) {
  eb_notice *n = eb_item_new(EB_ITEM_NOTICE, sizeof *n,
                             why == NULL ? 0 : sizeof *why);
  if (n == NULL) return;
  n->event = event;
  n->consumer = consumer_id;
  if (why != NULL) {
    eb_item_fail(&n->item, why);
  }
  session_answer(s, &n->item);
}

void eb_session_take (eb_session *s, eb_list *to) {
  eb_list_append(to, &s->events);
}

bool session_break (eb_session *s, const eb_error *why) {
  if (!s->broken) s->breakage = *why;
  s->broken = true;
  return false;
}

bool session_breakf (eb_session *s, eb_code code, const char *fmt, ...) {
  eb_error err;
  va_list ap;
  va_start(ap, fmt);
  eb_error_setv(&err, code, fmt, ap);
  va_end(ap);
  return session_break(s, &err);
}

void session_reply_error (eb_error *err, eb_code code, int reply_code,
                          amqp_bytes_t text) {
  eb_error_set(err, code, "%.*s", (int)text.len, (const char *)text.bytes);
  if (err->message[0] == '\0')
    eb_error_set(err, code, "the broker closed it with code %d and no text",
                 reply_code);
  err->reply_code = reply_code;
}

bool session_send (eb_session *s, uint16_t ch, amqp_method_number_t id,
                   void *decoded, size_t size_hint) {
  eb_error err;
  if (eb_codec_put_method(&s->out, ch, id, decoded, size_hint, &err))
    return true;
  return session_break(s, &err);
}

void eb_session_submit (eb_session *s, eb_item *item, eb_ms now) {
  s->now = now;
  if (item->kind == EB_ITEM_DELIVERY) {
    eb_delivery *d = (eb_delivery *)item;
    channel *ch = channel_find(s, d->channel);
    if (ch == NULL || ch->epoch != d->epoch || ch->state == CHAN_CLOSING ||
        s->phase != EB_PHASE_UP)
      s->stats.stale++;
    else
      channel_settle(s, ch, d);
    eb_item_spare(&s->spares, item);
    return;
  }
  if (s->failed || s->closing) {
    if (s->failed)
      eb_item_fail(item, &s->failure);
    else
      eb_item_failf(item, EB_ERR_CLOSED, "the bus is closing");
    session_answer(s, item);
    return;
  }
  switch (item->kind) {
    case EB_ITEM_PUBLISH: publisher_submit(s, (eb_publish *)item); break;
    case EB_ITEM_RPC: caller_submit(s, (eb_rpc *)item); break;
    case EB_ITEM_SUBSCRIBE: consumer_submit(s, (eb_subscribe *)item); break;
    case EB_ITEM_CANCEL: consumer_cancel(s, (eb_cancel *)item); break;
    default: eb_item_free(item); break;
  }
}

/* The way of a frame. */

static bool on_frame (eb_session *s, const eb_frame *f) {
  eb_error err;
  if (f->type == AMQP_FRAME_HEARTBEAT) return true;
  if (f->channel == 0) {
    amqp_method_t m;
    if (f->type != AMQP_FRAME_METHOD)
      return session_breakf(s, EB_ERR_PROTOCOL, "content on channel 0");
    if (!eb_codec_method(&s->pool, f, &m, &err)) return session_break(s, &err);
    return session_connection_method(s, &m);
  }
  channel *ch = channel_find(s, f->channel);
  amqp_method_t m;
  m.id = 0;
  if (f->type == AMQP_FRAME_METHOD && !eb_codec_method(&s->pool, f, &m, &err))
    return session_break(s, &err);
  if (s->phase >= EB_PHASE_UP && m.id == AMQP_CHANNEL_CLOSE_OK_METHOD &&
      (ch == NULL || ch->state != CHAN_CLOSING)) {
    /* Both sides closed at once: it answers a close of ours. */
    if (ch == &s->crossed) s->channels[f->channel] = NULL;
    return true;
  }
  if (ch == &s->crossed) ch = NULL;
  if (ch == NULL || s->phase < EB_PHASE_UP)
    return session_breakf(s, EB_ERR_PROTOCOL,
                          "a frame on channel %u, which is not open",
                          f->channel);
  if (f->type == AMQP_FRAME_METHOD) return channel_method(s, ch, &m);
  return f->type == AMQP_FRAME_HEADER ? channel_header(s, ch, f)
                                      : channel_body(s, ch, f);
}

/* Frames of n bytes, as far as they are whole; *used tells how far. */
static bool read_frames (eb_session *s, const uint8_t *p, size_t n,
                         size_t *used) {
  eb_error err;
  *used = 0;
  while (*used < n) {
    eb_frame frame;
    size_t size;
    eb_cut cut = eb_codec_cut(p + *used, n - *used, s->frame_max, &frame, &size,
                              &err);
    if (cut == EB_CUT_MORE) return true;
    if (cut == EB_CUT_BAD) return session_break(s, &err);
    bool ok = on_frame(s, &frame);
    recycle_amqp_pool(&s->pool);
    if (!ok) return false;
    *used += size;
  }
  return true;
}

bool eb_session_feed (eb_session *s, const void *p, size_t n, eb_ms now,
                      eb_error *err) {
  size_t used = 0;
  s->now = now;
  s->last_read = now;
  bool ok = !s->broken && s->phase != EB_PHASE_DOWN;
  if (ok && eb_buffer_size(&s->in) == 0) {  /* the rule: no copy */
    ok = read_frames(s, p, n, &used);
    if (ok && !eb_buffer_append(&s->in, (const uint8_t *)p + used, n - used))
      ok = session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  } else if (ok) {
    if (!eb_buffer_append(&s->in, p, n))
      ok = session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
    if (ok) {
      ok = read_frames(s, eb_buffer_bytes(&s->in), eb_buffer_size(&s->in),
                       &used);
      eb_buffer_consume(&s->in, used);
    }
  }
  if (s->broken)
    *err = s->breakage;
  else if (!ok)
    eb_error_set(err, EB_ERR_CONNECTION, "there is no connection");
  return ok && !s->broken;
}

eb_buffer *eb_session_output (eb_session *s) {
  return &s->out;
}

void eb_session_wrote (eb_session *s, eb_ms now) {
  s->last_write = now;
}

/* Timers. */

static bool heartbeats (eb_session *s) {
  if (s->heartbeat_ms == 0 || s->phase == EB_PHASE_DOWN) return true;
  if (s->now - s->last_read >= 2 * s->heartbeat_ms)
    return session_breakf(s, EB_ERR_CONNECTION,
                          "the broker was silent for %lld s (heartbeat %lld s)",
                          (long long)((s->now - s->last_read) / 1000),
                          (long long)(s->heartbeat_ms / 1000));
  if (s->now - s->last_write >= s->heartbeat_ms / 2 &&
      eb_buffer_size(&s->out) == 0 && !eb_codec_put_heartbeat(&s->out))
    return session_breakf(s, EB_ERR_NO_MEMORY, "out of memory");
  return true;
}

static bool say_goodbye (eb_session *s) {
  amqp_connection_close_t m;
  memset(&m, 0, sizeof m);
  m.reply_code = 200;
  m.reply_text = eb_codec_cstring("bye");
  s->phase = EB_PHASE_CLOSING;
  return session_send(s, 0, AMQP_CONNECTION_CLOSE_METHOD, &m, 0);
}

static bool finish (eb_session *s) {
  bool finished;
  return publisher_finish(s, &s->loose, &finished) &&
         (!finished || say_goodbye(s));
}

static bool pump (eb_session *s) {
  publisher *first = s->loose_first ? &s->loose : &s->pub;
  publisher *second = s->loose_first ? &s->pub : &s->loose;
  s->loose_first = !s->loose_first;
  bool ok = publisher_pump(s, first) && publisher_pump(s, second) &&
            caller_pump(s, &s->rpc) && caller_pump(s, &s->get) &&
            consumers_pump(s) && channels_flush_acks(s, s->closing);
  if (ok && s->closing && quiet(s)) ok = finish(s);
  return ok;
}

bool eb_session_tick (eb_session *s, eb_ms now, eb_error *err) {
  s->now = now;
  publisher_expire(s, &s->pub);
  publisher_expire(s, &s->loose);
  caller_expire(s, &s->rpc);
  caller_expire(s, &s->get);
  bool ok = !s->broken;
  if (ok && s->phase == EB_PHASE_UP)
    ok = pump(s);
  else if (ok)
    consumers_pump(s);
  if (ok) ok = heartbeats(s);
  recycle_amqp_pool(&s->pool);
  if (s->broken) *err = s->breakage;
  return ok && !s->broken;
}

eb_ms eb_session_deadline (const eb_session *s) {
  eb_ms t = eb_ms_min(publisher_deadline(s, &s->pub),
                      publisher_deadline(s, &s->loose));
  t = eb_ms_min(t, caller_deadline(s, &s->rpc));
  t = eb_ms_min(t, caller_deadline(s, &s->get));
  t = eb_ms_min(t, s->consumers_due);
  if (s->closing) t = eb_ms_min(t, s->close_deadline);
  if (s->phase == EB_PHASE_DOWN) return t;
  t = eb_ms_min(t, channels_ack_deadline(s));
  if (s->heartbeat_ms > 0) {
    t = eb_ms_min(t, eb_ms_after(s->last_read, 2 * s->heartbeat_ms));
    if (eb_buffer_size(&s->out) == 0)
      t = eb_ms_min(t, eb_ms_after(s->last_write, s->heartbeat_ms / 2));
  }
  return t;
}

bool eb_session_check_publish (const eb_publish *op, size_t frame_max,
                               eb_error *err) {
  return eb_codec_check_publish(op, frame_max == 0 ? EB_FRAME_MAX : frame_max,
                                err);
}

eb_phase eb_session_phase (const eb_session *s) {
  return s->phase;
}

bool eb_session_ever_up (const eb_session *s) {
  return s->ever_up;
}

void eb_session_get_stats (const eb_session *s, eb_session_stats *to) {
  *to = s->stats;
  to->pending = s->pub.pending.count + s->loose.pending.count;
  to->unconfirmed = s->pub.window.live;
  to->blocked = s->blocked;
  to->phase = s->phase;
  to->frame_max = s->frame_max;
  to->heartbeat_ms = s->heartbeat_ms;
  to->consumers = s->consumer_count;
  to->unsettled = s->unsettled;
  to->input = eb_buffer_size(&s->in);
}
