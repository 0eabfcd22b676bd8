/* eb_renewal: see eb_renewal.h. */
#include "eb_renewal.h"

#include <string.h>

enum {
  PATIENCE_MS = 1000,        /* doubles with each renewal */
  PATIENCE_MOST_MS = 10000,
  CALM_MS = 60000,           /* without a nack, and all is as at first */
  SPARED_MS = 10000,         /* doubles each time */
  SPARED_MOST_MS = 320000,
  SILENT_MS = 4000           /* less than a node is waited for, and than LAST_DRAIN */
};

/* How long each stage may take. */
static const int64_t stage_ms[] = {
    [EB_RENEWAL_DRAIN] = 200,
    [EB_RENEWAL_LAST_DRAIN] = 5000,
    [EB_RENEWAL_CLOSE] = 5000,
};

static int64_t twice (int64_t ms, int64_t most) {
  return ms * 2 < most ? ms * 2 : most;
}

static void begin (eb_renewal *r, eb_renewal_stage stage, eb_ms now) {
  r->stage = stage;
  r->due_by = eb_ms_after(now, stage_ms[stage]);
}

static void end (eb_renewal *r) {
  r->stage = EB_RENEWAL_NONE;
  r->due_by = EB_NEVER;
}

static void spare (eb_renewal *r, eb_ms now) {
  r->spared_until = eb_ms_after(now, r->spared_ms);
  r->spared_ms = twice(r->spared_ms, SPARED_MOST_MS);
}

static void calm_down (eb_renewal *r) {
  r->refused_since = EB_NEVER;
  r->undrained = false;
  r->patience_ms = PATIENCE_MS;
  r->spared_ms = SPARED_MS;
  r->spared_until = 0;
}

void eb_renewal_init (eb_renewal *r) {
  memset(r, 0, sizeof *r);
  end(r);
  calm_down(r);
}

void eb_renewal_channel_gone (eb_renewal *r) {
  end(r);
  r->refused_since = EB_NEVER;
  r->undrained = false;
}

void eb_renewal_connection_gone (eb_renewal *r) {
  eb_renewal_channel_gone(r);
  r->patience_ms = PATIENCE_MS;
}

static void refused (eb_renewal *r, eb_ms now) {
  if (now >= eb_ms_after(r->refused_last, CALM_MS)) calm_down(r);
  r->refused_last = now;
  if (r->stage != EB_RENEWAL_NONE) return;
  if (r->refused_since == EB_NEVER) {
    r->refused_since = now;
  } else if (now >= eb_ms_after(r->refused_since, r->patience_ms)) {
    r->refused_since = EB_NEVER;
    r->patience_ms = twice(r->patience_ms, PATIENCE_MOST_MS);
    bool last = r->undrained && now >= r->spared_until;
    begin(r, last ? EB_RENEWAL_LAST_DRAIN : EB_RENEWAL_DRAIN, now);
  }
}

void eb_renewal_answered (eb_renewal *r, bool nacked, eb_ms now) {
  r->answered_last = now;
  if (nacked) refused(r, now);
}

static eb_remedy undrained (eb_renewal *r, eb_ms now) {
  bool last = r->stage == EB_RENEWAL_LAST_DRAIN;
  bool silent = now >= eb_ms_after(r->answered_last, SILENT_MS);
  end(r);
  r->undrained = true;
  if (!last) return EB_REMEDY_NONE;
  spare(r, now);
  return silent ? EB_REMEDY_CONNECTION : EB_REMEDY_NONE;
}

eb_remedy eb_renewal_remedy (eb_renewal *r, bool answered, eb_ms now) {
  bool over = now >= r->due_by;
  if (r->stage == EB_RENEWAL_CLOSE)
    return over ? EB_REMEDY_CONNECTION : EB_REMEDY_NONE;
  if (!answered) return over ? undrained(r, now) : EB_REMEDY_NONE;
  if (r->stage == EB_RENEWAL_LAST_DRAIN) spare(r, now);
  begin(r, EB_RENEWAL_CLOSE, now);
  return EB_REMEDY_CHANNEL;
}

void eb_renewal_put_off (eb_renewal *r, eb_ms now) {
  begin(r, r->stage, now);
}
