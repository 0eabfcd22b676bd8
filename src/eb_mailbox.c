/* eb_mailbox: see eb_mailbox.h. */
#include "eb_mailbox.h"

#include <string.h>

enum {
  MAX_NOTICES = 1000,
  LED_ITEMS = 32  /* so many may wait for whoever leads */
};

bool eb_outbox_init (eb_outbox *o) {
  memset(o, 0, sizeof *o);
  o->alarm = EB_NEVER;
  if (!eb_wake_init(&o->wake)) return false;
  if (pthread_mutex_init(&o->lock, NULL) != 0) {
    eb_wake_fini(&o->wake);
    return false;
  }
  return true;
}

void eb_outbox_fini (eb_outbox *o) {
  eb_list_free(&o->list);
  pthread_mutex_destroy(&o->lock);
  eb_wake_fini(&o->wake);
}

/* Under lock. */
static void ring (eb_outbox *o) {
  if (o->rung || o->sleep == EB_AWAKE) return;
  o->rung = true;
  eb_wake_ring(&o->wake);
}

/* Under lock. */
static bool rings (const eb_outbox *o, eb_haste haste) {
  switch (o->sleep) {
    case EB_DOZING: return haste == EB_WAITING;
    case EB_LED: return haste == EB_SOON && o->list.count >= LED_ITEMS;
    default: return true;
  }
}

void eb_outbox_post (eb_outbox *o, eb_item *item, eb_haste haste) {
  pthread_mutex_lock(&o->lock);
  eb_list_push(&o->list, item);
  if (rings(o, haste)) ring(o);
  pthread_mutex_unlock(&o->lock);
}

void eb_outbox_kick (eb_outbox *o) {
  pthread_mutex_lock(&o->lock);
  if (o->list.count > 0) ring(o);
  pthread_mutex_unlock(&o->lock);
}

void eb_outbox_rouse (eb_outbox *o) {
  pthread_mutex_lock(&o->lock);
  o->unseen = true;
  ring(o);
  pthread_mutex_unlock(&o->lock);
}

static void stop (eb_outbox *o, eb_ms deadline, bool at_once) {
  pthread_mutex_lock(&o->lock);
  if (!o->stopping || deadline < o->close_deadline)
    o->close_deadline = deadline;
  o->stopping = true;
  o->unseen = true;
  if (at_once) o->abandoned = true;
  ring(o);
  pthread_mutex_unlock(&o->lock);
}

void eb_outbox_stop (eb_outbox *o, eb_ms deadline) {
  stop(o, deadline, false);
}

void eb_outbox_abandon (eb_outbox *o) {
  stop(o, 0, true);
}

void eb_outbox_set_alarm (eb_outbox *o, eb_ms at) {
  pthread_mutex_lock(&o->lock);
  bool sooner = at < o->alarm;
  o->alarm = at;
  if (sooner) {
    o->unseen = true;
    ring(o);
  }
  pthread_mutex_unlock(&o->lock);
}

eb_ms eb_outbox_alarm (eb_outbox *o, eb_ms now) {
  pthread_mutex_lock(&o->lock);
  eb_ms at = o->alarm;
  if (at <= now) o->alarm = EB_NEVER;
  pthread_mutex_unlock(&o->lock);
  return at;
}

void eb_outbox_take (eb_outbox *o, eb_list *to) {
  pthread_mutex_lock(&o->lock);
  o->sleep = EB_AWAKE;
  if (o->rung) {
    pthread_mutex_unlock(&o->lock);
    eb_wake_clear(&o->wake);  /* awake: nobody rings in between */
    pthread_mutex_lock(&o->lock);
    o->rung = false;
  }
  eb_list_append(to, &o->list);
  pthread_mutex_unlock(&o->lock);
}

void eb_outbox_take_for (eb_outbox *o, eb_list *to) {
  pthread_mutex_lock(&o->lock);
  eb_list_append(to, &o->list);
  pthread_mutex_unlock(&o->lock);
}

bool eb_outbox_has_some (eb_outbox *o) {
  pthread_mutex_lock(&o->lock);
  bool some = o->list.count > 0;
  pthread_mutex_unlock(&o->lock);
  return some;
}

bool eb_outbox_sleep (eb_outbox *o, eb_sleep depth) {
  pthread_mutex_lock(&o->lock);
  bool ok = o->list.count == 0 && !o->rung && !o->unseen;
  if (ok) o->sleep = depth;
  pthread_mutex_unlock(&o->lock);
  return ok;
}

bool eb_outbox_stopping (eb_outbox *o, eb_ms *deadline, bool *abandoned) {
  pthread_mutex_lock(&o->lock);
  bool stopping = o->stopping;
  *deadline = o->close_deadline;
  *abandoned = o->abandoned;
  o->unseen = false;
  pthread_mutex_unlock(&o->lock);
  return stopping;
}

bool eb_inbox_init (eb_inbox *i) {
  memset(i, 0, sizeof *i);
  eb_bell_init(&i->bell);
  if (!eb_wake_init(&i->wake)) return false;
  if (pthread_mutex_init(&i->lock, NULL) != 0) {
    eb_wake_fini(&i->wake);
    return false;
  }
  return true;
}

void eb_inbox_fini (eb_inbox *i) {
  eb_list_free(&i->list);
  pthread_mutex_destroy(&i->lock);
  eb_wake_fini(&i->wake);
  eb_bell_fini(&i->bell);
}

void eb_inbox_ring (eb_inbox *i) {
  eb_wake_ring(&i->wake);
  eb_bell_ring(&i->bell);
}

/* Under lock. A program that never looks must not fill its memory with what
** the connections have to say: then the newest notices are dropped. */
static void drop_notices (eb_inbox *i, eb_list *from, eb_list *dropped) {
  eb_list kept;
  eb_list_init(&kept);
  eb_item *item;
  while ((item = eb_list_pop(from)) != NULL) {
    bool drop = item->kind == EB_ITEM_NOTICE &&
                i->list.notices + kept.notices >= MAX_NOTICES &&
                ((eb_notice *)item)->event != EB_EVENT_CLOSED;
    eb_list_push(drop ? dropped : &kept, item);
  }
  *from = kept;
}

static void push (eb_inbox *i, eb_list *from, bool ring) {
  if (from->count == 0) return;
  eb_list dropped;
  eb_list_init(&dropped);
  pthread_mutex_lock(&i->lock);
  if (from->notices > 0) drop_notices(i, from, &dropped);
  eb_list_append(&i->list, from);
  if (ring && i->list.count > 0 && !i->wake_pending) {
    i->wake_pending = true;
    eb_inbox_ring(i);
  }
  pthread_mutex_unlock(&i->lock);
  eb_list_free(&dropped);
}

void eb_inbox_push (eb_inbox *i, eb_list *from) {
  push(i, from, true);
}

void eb_inbox_add (eb_inbox *i, eb_list *from) {
  push(i, from, false);
}

void eb_inbox_drop_deliveries (eb_inbox *i) {
  eb_list stale;
  eb_list_init(&stale);
  pthread_mutex_lock(&i->lock);
  eb_list_split(&i->list, &stale, eb_item_is_delivery, NULL);
  pthread_mutex_unlock(&i->lock);
  eb_list_free(&stale);
}

bool eb_inbox_take (eb_inbox *i, eb_list *to) {
  pthread_mutex_lock(&i->lock);
  bool clear = i->list.count == 0 && i->wake_pending;
  if (clear) {
    /* While it is pending nobody rings, so this cannot swallow a ring. */
    pthread_mutex_unlock(&i->lock);
    eb_wake_clear(&i->wake);
    i->heard = true;
    pthread_mutex_lock(&i->lock);
    if (i->list.count == 0) i->wake_pending = false;
  }
  bool some = i->list.count > 0;
  eb_list_append(to, &i->list);
  pthread_mutex_unlock(&i->lock);
  return some || clear;
}

void eb_inbox_woken (eb_inbox *i) {
  pthread_mutex_lock(&i->lock);
  if (i->list.count == 0 && !i->wake_pending) {
    eb_wake_clear(&i->wake);
    i->heard = true;
  }
  pthread_mutex_unlock(&i->lock);
}
