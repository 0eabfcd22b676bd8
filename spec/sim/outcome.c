/* outcome: what must hold once the faults are over and some time has passed.
 *
 *   answered   no operation waits
 *   settled    what the user settled is settled at the broker
 *   consuming  every subscription that was accepted consumes; none that failed or was cancelled does
 *   arrived    a queue that is consumed is empty: every event in it was handled; what was sent without a confirm is there
 *   restored   what was declared and bound is there, as it was declared; what was deleted and unbound is not
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether the connection has a channel for each consumer, beside those of publishes, calls and gets. */
static bool enough_channels (const world *w) {
  unsigned n = 0;
  for (int i = 0; i < w->ledger.asked_count; i++) n += w->ledger.asked[i].kind == EB_ITEM_SUBSCRIBE && w->ledger.asked[i].active;
  return n + (w->plan.unconfirmed > 0 ? 4 : 3) <= w->user.conn->channel_max;
}

static bool consumes (const conn *l, int id) {
  for (unsigned n = 1; n <= CHANNELS; n++)
    if (l->channels[n].state == CH_OPEN && l->channels[n].consumer[0] == 'c' && atoi(l->channels[n].consumer + 1) == id)
      return true;
  return false;
}

/* A queue that the broker named has another name after each reconnect. */
static bool queue_is_there (const world *w, const asked *a) {
  return strncmp(a->queue, "amq.", 4) != 0 && topology_queue(w, a->queue) >= 0;
}

static const char *consumers (const world *w) {
  const conn *l = w->user.conn;
  bool enough = enough_channels(w);
  for (int i = 0; i < w->ledger.asked_count; i++) {
    const asked *a = &w->ledger.asked[i];
    if (a->kind != EB_ITEM_SUBSCRIBE) continue;
    bool there = consumes(l, i + 1);
    if (a->active && enough && !there && queue_is_there(w, a)) return "a subscription does not consume";
    if (!a->active && there) return "a subscription that failed or was cancelled consumes";
  }
  return NULL;
}

static const char *channels (const world *w) {
  const conn *l = w->user.conn;
  for (unsigned n = 1; n <= CHANNELS; n++) {
    const model_channel *ch = &l->channels[n];
    if (ch->state == CH_CLOSED) continue;
    if (ch->out_count > 0) return "a delivery is not settled";
    if (ch->state == CH_OPEN && ch->owed_count > 0) return "a confirm is owed";
    if (ch->state == CH_OPEN && ch->consumer[0] != '\0' && w->broker.queues[ch->queue].first != 0 && !w->ledger.full)
      return "a queue that is consumed is not empty";
  }
  return NULL;
}

/* What was sent without a confirm arrives, if nothing happens to its channel and connection. */
static const char *sent (const world *w) {
  const conn *l = w->user.conn;
  for (int i = 0; i < w->ledger.asked_count && !l->refused; i++) {
    const asked *a = &w->ledger.asked[i];
    if (a->kind == EB_ITEM_PUBLISH && a->unconfirmed && a->answered && a->code == EB_OK && !a->taken &&
        a->answered_on == l->serial)
      return "a publish that wanted no confirm was never sent";
  }
  return NULL;
}

bool outcome_reached (world *w, const char **why) {
  const user *u = &w->user;
  *why = NULL;
  if (u->conn == NULL || eb_session_phase(u->session) != EB_PHASE_UP || u->conn->state != CONN_UP)
    *why = "it does not come back";
  else if (w->ledger.unanswered > 0)
    *why = "an operation is not answered";
  else if (u->held_count > 0)
    *why = "a delivery is held";
  if (*why == NULL) *why = channels(w);
  if (*why == NULL) *why = consumers(w);
  if (*why == NULL) *why = sent(w);
  return *why == NULL;
}

void outcome_check (world *w) {
  const char *why = w->ledger.full ? NULL : promise_broken(w);
  if (why != NULL) violate(w, "%s", why);
}
