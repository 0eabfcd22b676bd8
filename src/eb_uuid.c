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

#define ONES UINT64_C(0x0101010101010101)

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

/* 32 digits of 16 bytes, four bytes at a time: each half of a byte in one of its own,
** and what is above 9 as much higher as 'a' is above the sign behind '9'. */
static void put_hex (char *to, const uint8_t *from) {
  for (int i = 0; i < 16; i += 4, to += 8) {
    uint64_t x = from[i] | (uint64_t)from[i + 1] << 16 |
                 (uint64_t)from[i + 2] << 32 | (uint64_t)from[i + 3] << 48;
    x = (x >> 4 & UINT64_C(0x000F000F000F000F)) |
        (x & UINT64_C(0x000F000F000F000F)) << 8;
    uint64_t letter = (x + ONES * 6) >> 4 & ONES;
    x += ONES * '0' + letter * ('a' - '9' - 1);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    memcpy(to, &x, 8);
  }
}

bool eb_uuid_v7 (int64_t wall_ms, char to[EB_UUID_TEXT]) {
  static _Thread_local generator g;
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
  char digits[32];
  put_hex(digits, b);
  memcpy(to, digits, 8);
  memcpy(to + 9, digits + 8, 4);
  memcpy(to + 14, digits + 12, 4);
  memcpy(to + 19, digits + 16, 4);
  memcpy(to + 24, digits + 20, 12);
  to[8] = to[13] = to[18] = to[23] = '-';
  return true;
}
