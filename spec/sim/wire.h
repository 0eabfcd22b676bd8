/* wire: the two byte streams of a connection, with what networks do to them.
 *
 * Bytes sent lie in the stream until the other side takes them, any number at a time: a stream may stand still until a
 * moment, may end behind its bytes, and may swallow all that is sent from now on (a half-open connection).
 */
#ifndef SIM_WIRE_H
#define SIM_WIRE_H

#include "../../src/eb_buffer.h"
#include "../../src/eb_clock.h"

typedef struct stream {
  eb_buffer bytes;      /* sent, not taken yet */
  eb_ms still_until;    /* nothing arrives before */
  uint64_t taken;       /* bytes taken in all */
  bool ended;           /* the end follows the bytes */
  bool swallows;
} stream;

/* Ready for a new connection; the allocation is kept for it. */
static inline void stream_reset (stream *s) {
  eb_buffer_truncate(&s->bytes, 0);
  s->still_until = 0;
  s->taken = 0;
  s->ended = s->swallows = false;
}

static inline void stream_fini (stream *s) { eb_buffer_fini(&s->bytes); }

static inline void stream_send (stream *s, const void *p, size_t n) {
  if (s->ended || s->swallows) return;
  eb_buffer_append(&s->bytes, p, n);
}

static inline size_t stream_ready (const stream *s, eb_ms now) {
  return now < s->still_until ? 0 : eb_buffer_size(&s->bytes);
}

static inline bool stream_at_end (const stream *s, eb_ms now) {
  return s->ended && now >= s->still_until && eb_buffer_size(&s->bytes) == 0;
}

static inline void stream_take (stream *s, size_t n) {
  eb_buffer_consume(&s->bytes, n);
  s->taken += n;
}

#endif
