/* eb_uuid: see eb_uuid.h. */
#include "eb_uuid.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "eb_fork.h"

#if defined(__linux__)
#include <sys/random.h>
#endif

enum { POOL_SIZE = 512, COUNTER_BITS = 12 };

typedef struct generator {
  uint8_t pool[POOL_SIZE];  /* random bytes, each used once */
  size_t left;
  unsigned generation;
  int64_t last_ms;
  unsigned counter;
} generator;

static bool fill (uint8_t *to, size_t n) {
#if defined(__linux__)
  if (getrandom(to, n, 0) == (ssize_t)n) return true;
#endif
  int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t done = 0;
  while (done < n) {
    ssize_t r = read(fd, to + done, n - done);
    if (r <= 0) break;
    done += (size_t)r;
  }
  close(fd);
  return done == n;
}

/* A child must not hand out its parent's bytes again. */
static bool take (generator *g, void *to, size_t n) {
  unsigned now = eb_fork_generation();
  if (g->generation != now || g->left < n) {
    if (!fill(g->pool, POOL_SIZE)) return false;
    if (g->generation != now) g->last_ms = 0;
    g->generation = now;
    g->left = POOL_SIZE;
  }
  g->left -= n;
  memcpy(to, g->pool + g->left, n);
  return true;
}

bool eb_uuid_v7 (int64_t wall_ms, char to[EB_UUID_TEXT]) {
  static _Thread_local generator g;
  static const char hex[] = "0123456789abcdef";
  uint8_t b[16];
  if (!take(&g, b + 6, 10)) return false;
  if (wall_ms > g.last_ms) {
    g.last_ms = wall_ms;
    g.counter = (((unsigned)b[6] << 8) | b[7]) & 0x7FF;  /* room to count up */
  } else if (++g.counter >> COUNTER_BITS) {
    g.last_ms++;  /* more than the millisecond holds, or the clock went back */
    g.counter = 0;
  }
  uint64_t t = (uint64_t)g.last_ms;
  for (int i = 0; i < 6; i++) b[i] = (uint8_t)(t >> (40 - 8 * i));
  b[6] = (uint8_t)(0x70 | (g.counter >> 8));
  b[7] = (uint8_t)g.counter;
  b[8] = (uint8_t)(0x80 | (b[8] & 0x3F));
  for (int i = 0, at = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) to[at++] = '-';
    to[at++] = hex[b[i] >> 4];
    to[at++] = hex[b[i] & 15];
  }
  return true;
}
