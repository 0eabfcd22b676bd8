/* plan: see plan.h. */
#include "plan.h"

#include <string.h>

const char *fault_name (fault f) {
  static const char *const names[FAULT_COUNT] = {
      "reset",           "hang-up", "half-open", "stream still",   "broker frozen", "broker restart",
      "connection.close", "channel.close", "login refused", "confirms withheld", "confirms repeated", "blocked",
      "queue deleted",   "exchange deleted", "unbound", "basic.cancel", "loop late", "given up",  "protocol broken"};
  return names[f];
}

static unsigned one_of (draw *d, const unsigned *values, size_t n) { return values[draw_below(d, (unsigned)n)]; }

#define ONE_OF(d, ...) \
  one_of(d, (const unsigned[]){__VA_ARGS__}, sizeof((const unsigned[]){__VA_ARGS__}) / sizeof(unsigned))

static void draw_config (plan *p, draw *d) {
  eb_session_config *c = &p->config;
  c->vhost = "/";
  c->user = "guest";
  c->password = "secret";
  c->connection_name = "simulated";
  c->auth = draw_below(d, 8) == 0 ? EB_AUTH_EXTERNAL : EB_AUTH_PLAIN;
  c->heartbeat_s = ONE_OF(d, 0, 0, 5, 10, 60);
  c->frame_max = ONE_OF(d, 0, 0, 4096, 10000);
  c->channel_max = ONE_OF(d, 0, 0, 5, 8);
  c->window_count = ONE_OF(d, 1, 2, 3, 5, 8, 20);
  c->window_bytes = ONE_OF(d, 1, 100, 5000, 1 << 20, 1 << 20);
  c->max_body = ONE_OF(d, 20, 6000, 1 << 20, 1 << 20);
  c->ack_delay_ms = ONE_OF(d, 0, 5, 200);
  c->resend = draw_below(d, 4) > 0;
  c->seed = draw_bits(d);
}

plan plan_draw (draw *d) {
  plan p;
  memset(&p, 0, sizeof p);
  draw_config(&p, d);
  p.steps = 50 + draw_below(d, 250);
  p.frame_max = ONE_OF(d, 4096, 8192, 131072, 0);
  p.channel_max = ONE_OF(d, 5, 8, 14, 14);
  p.heartbeat = ONE_OF(d, 0, 3, 10, 60);
  p.pieces = ONE_OF(d, 0, 0, 1, 2, 3, 3);
  p.timeouts = ONE_OF(d, 0, 0, 100, 500, 1000);
  p.nacks = ONE_OF(d, 0, 0, 50, 300);
  p.large_bodies = draw_below(d, 6) == 0;
  p.prepared = draw_below(d, 2) == 0;
  p.orderly = draw_below(d, 3) == 0;
  unsigned kinds = draw_below(d, 6);  /* of faults; 0: an ordinary day */
  for (unsigned i = 0; i < kinds; i++) {
    unsigned kind = draw_below(d, FAULT_COUNT);
    p.rates[kind] = ONE_OF(d, 3, 10, 30, 100);
  }
  if (draw_below(d, 4) > 0) p.rates[FAULT_HOSTILE] = 0;
  static const unsigned most[ACT_COUNT] = {20, 20, 2, 6, 3, 4, 2};
  for (int i = 0; i < ACT_COUNT; i++)
    p.weights[i] = draw_below(d, 3) > 0 ? 1 + draw_below(d, most[i]) : 0;
  p.weights[ACT_SETTLE] += 1;
  p.weights[ACT_PUBLISH] += 1;
  /* Not drawn: the other seeds stay what they were. */
  p.unconfirmed = p.config.seed % 8 == 0 ? 400 : 0;
  p.stuck = p.config.seed % 8 == 1 ? 700 : 0;
  if (p.stuck > 0) p.nacks = 0;  /* or the session would have other reasons to spare its connection */
  return p;
}

size_t plan_piece (const plan *p, draw *d, size_t n) {
  if (n == 0) return 0;
  unsigned style = p->pieces == 3 ? draw_below(d, 3) : p->pieces;
  size_t most = style == 0 ? n : style == 1 ? 1 + draw_below(d, 3) : 1 + draw_below(d, 80);
  return most < n ? most : n;
}
