/* eb_renewal: see eb_renewal.h. */
#include "eb_renewal.h"

#include <string.h>

enum {
  PATIENCE_MS = 1000,         /* doubles with each renewal */
  PATIENCE_MOST_MS = 10000,
  DRAIN_MS = 200,             /* for what was sent to be answered */
  LAST_DRAIN_MS = 5000,       /* likewise, before the connection is given up */
  SPARED_MS = 10000,          /* after that; doubles each time */
  SPARED_MOST_MS = 320000,
  CALM_MS = 60000             /* without a nack, and all is as at first */
};

static int64_t twice (int64_t ms, int64_t most) {
  return ms * 2 < most ? ms * 2 : most;
}

void eb_renewal_init (eb_renewal *r) {
  memset(r, 0, sizeof *r);
  r->spared_ms = SPARED_MS;
  eb_renewal_connection_gone(r);
}

void eb_renewal_channel_gone (eb_renewal *r) {
  r->refused_since = r->due_by = EB_NEVER;
  r->undrained = r->last_resort = false;
}

void eb_renewal_connection_gone (eb_renewal *r) {
  eb_renewal_channel_gone(r);
  r->patience_ms = PATIENCE_MS;
}

void eb_renewal_refused (eb_renewal *r, eb_ms now) {
  if (r->due_by != EB_NEVER) return;
  if (now >= eb_ms_after(r->refused_last, CALM_MS)) {
    r->patience_ms = PATIENCE_MS;
    r->spared_ms = SPARED_MS;
    r->undrained = false;
  }
  r->refused_last = now;
  if (r->refused_since == EB_NEVER) {
    r->refused_since = now;
  } else if (now >= eb_ms_after(r->refused_since, r->patience_ms)) {
    r->refused_since = EB_NEVER;
    r->patience_ms = twice(r->patience_ms, PATIENCE_MOST_MS);
    r->last_resort = r->undrained && now >= r->spared_until;
    r->due_by = eb_ms_after(now, r->last_resort ? LAST_DRAIN_MS : DRAIN_MS);
  }
}

eb_remedy eb_renewal_remedy (eb_renewal *r, bool answered, eb_ms now) {
  if (answered) {
    eb_renewal_channel_gone(r);
    return EB_REMEDY_CHANNEL;
  }
  if (now < r->due_by) return EB_REMEDY_NONE;
  r->due_by = EB_NEVER;
  r->undrained = true;
  if (!r->last_resort) return EB_REMEDY_NONE;
  r->spared_until = eb_ms_after(now, r->spared_ms);
  r->spared_ms = twice(r->spared_ms, SPARED_MOST_MS);
  return EB_REMEDY_CONNECTION;
}
