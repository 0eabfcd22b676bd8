/* eb_json_run: how far text goes that stands in a JSON string as it is: valid
** UTF-8 without '"', '\\' and control characters. Reading and writing look at
** every byte through it, so it is inline and takes eight at a time where it can, or
** sixteen.
** Private to eb_json*.c. Thread: any; pure.
*/
#ifndef EB_JSON_RUN_H
#define EB_JSON_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define EB_ONES UINT64_C(0x0101010101010101)
#define EB_HIGHS UINT64_C(0x8080808080808080)

/* 1: ASCII that stands as it is; else the letter behind the backslash of its escape;
** 0: neither. */
static const unsigned char eb_json_letter[256] = {
    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
    [' ' ... '!'] = 1, ['"'] = '"', ['#' ... '['] = 1, ['\\'] = '\\',
    [']' ... 0x7F] = 1};

/* Escapes stand close: so far behind one, bytes are looked at one by one. */
enum { EB_NEAR = 16 };

/* The high bit of each byte of 'w' that ends a run and is ASCII: a control, '"' or
** '\\'. No sum carries into the next byte, so every bit is exact. */
static inline uint64_t eb_run_stops (uint64_t w) {
  const uint64_t low = ~EB_HIGHS;
  uint64_t x = w & low;
  uint64_t visible = x + EB_ONES * 0x60;
  uint64_t other = ((x ^ (EB_ONES * '"')) + low) & ((x ^ (EB_ONES * '\\')) + low);
  return ~(visible & other) & ~w & EB_HIGHS;
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* Whether eight bytes hold ASCII and sequences of two bytes, none overlong: Cyrillic
** and Greek, Latin with accents. *open is 0x80 when one began in the byte before
** them, and then when one begins in the last of them, else 0. */
static inline bool eb_run_pairs (uint64_t w, uint64_t *open) {
  uint64_t high = w & EB_HIGHS;
  uint64_t lead = high & (w << 1);
  uint64_t small = (w & (EB_ONES * 0x1E)) + EB_ONES * 0x7E;  /* high bit: not */
  uint64_t want = lead << 8 | *open;
  *open = lead >> 63 << 7;
  return (high & ~lead) == want && (lead & ((w << 2) | ~small)) == 0;
}

/* The n bytes at p, 1 to 7, and letters behind them. 'from' <= p: how far back
** one may read. */
static inline uint64_t eb_run_tail (const unsigned char *from,
                                    const unsigned char *p, size_t n) {
  uint64_t w;
  uint32_t lo, hi;
  if ((size_t)(p - from) >= 8 - n) {
    memcpy(&w, p + n - 8, 8);
    w >>= 8 * (8 - n);
  } else if (n >= 4) {
    memcpy(&lo, p, 4);
    memcpy(&hi, p + n - 4, 4);
    w = lo | (uint64_t)hi << (8 * (n - 4));
  } else {
    w = p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) |
        (uint64_t)p[n - 1] << (8 * (n - 1));
  }
  return w | (EB_ONES * 'a') << (8 * n);
}
#endif

/* Whether n bytes, at most 16, are ASCII that stands as it is: most names and many values
** are no longer. 'copy' gets them. */
static inline bool eb_run_short (const char *p, size_t n, char *copy) {
  uint64_t v, w;
  if (n >= 8) {
    memcpy(&v, p, 8);
    memcpy(&w, p + n - 8, 8);
    memcpy(copy, &v, 8);
    memcpy(copy + n - 8, &w, 8);
    return ((eb_run_stops(v) | eb_run_stops(w)) | ((v | w) & EB_HIGHS)) == 0;
  }
  if (n >= 4) {
    uint32_t lo, hi;
    memcpy(&lo, p, 4);
    memcpy(&hi, p + n - 4, 4);
    memcpy(copy, &lo, 4);
    memcpy(copy + n - 4, &hi, 4);
    w = lo | (uint64_t)hi << 32;
    return (eb_run_stops(w) | (w & EB_HIGHS)) == 0;
  }
  unsigned char bad = 0;
  for (size_t i = 0; i < n; i++) {
    copy[i] = p[i];
    bad |= (unsigned char)(eb_json_letter[(unsigned char)p[i]] ^ 1);
  }
  return bad == 0;
}

/* Length of the UTF-8 sequence at p, 0 when it is not one. Unicode 15, table
** 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
static inline size_t eb_run_sequence (const unsigned char *p,
                                      const unsigned char *end) {
  size_t left = (size_t)(end - p);
  unsigned c = p[0];
  if (c < 0x80) return 1;
  if (c < 0xC2 || c > 0xF4) return 0;
  if (left < 2) return 0;
  unsigned lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
  unsigned hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
  if (p[1] < lo || p[1] > hi) return 0;
  if (c < 0xE0) return 2;
  if (left < 3 || (p[2] & 0xC0) != 0x80) return 0;
  if (c < 0xF0) return 3;
  return left < 4 || (p[3] & 0xC0) != 0x80 ? 0 : 4;
}

#if defined(__SSE2__)
/* A bit for each of sixteen bytes that is not ASCII as it stands. 'copy', if it is not
** NULL, gets all sixteen. */
static inline unsigned eb_run_stops16 (const void *p, char *copy) {
  __m128i v = _mm_loadu_si128(p);
  if (copy != NULL) _mm_storeu_si128((void *)copy, v);
  /* Signed: what is not ASCII is below ' ' too. */
  __m128i stops = _mm_or_si128(
      _mm_cmplt_epi8(v, _mm_set1_epi8(' ')),
      _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                   _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));
  return (unsigned)_mm_movemask_epi8(stops);
}
#endif

/* The first byte at p that is not ASCII as it stands; or where fewer than sixteen
** bytes are left to look at. 'copy', if it is not NULL, gets what is before, and may
** get what is behind it up to 'end'. */
static inline const unsigned char *eb_run_ascii (const unsigned char *p,
                                                 const unsigned char *end,
                                                 char *copy) {
#if defined(__SSE2__)
  for (; end - p >= 16; p += 16) {
    unsigned stops = eb_run_stops16(p, copy);
    if (stops != 0) return p + __builtin_ctz(stops);
    if (copy != NULL) copy += 16;
  }
#else
  (void)end;
  (void)copy;
#endif
  return p;
}

/* The first byte of [from, to) that ends such a run, or 'to'. Its value tells why:
** '"', '\\', a control, or a byte of 0x80 and more that is not UTF-8. 'copy', if it
** is not NULL, gets the run; it is as long as [from, to) and seven bytes more, and
** what is behind the run there may change. */
static inline const char *eb_run (const char *from, const char *to, char *copy) {
  const unsigned char *start = (const unsigned char *)from, *p = start;
  const unsigned char *end = (const unsigned char *)to;
  for (;;) {
    if (end - p >= 16) {
      p = eb_run_ascii(p, end, copy == NULL ? NULL : copy + (p - start));
      if (p < end && *p < 0x80 && eb_json_letter[*p] != 1) return (const char *)p;
    }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t w, open = 0, before = 0;
    bool fine = true;
    while (end - p >= 8) {
      memcpy(&w, p, 8);
      if (copy != NULL) memcpy(copy + (p - start), &w, 8);
      if (((w & EB_HIGHS) | open) != 0 && !eb_run_pairs(w, &open)) {
        fine = false;
        break;
      }
      uint64_t stops = eb_run_stops(w);
      if (stops != 0) return (const char *)p + (__builtin_ctzll(stops) >> 3);
      before = open;
      p += 8;
    }
    p -= before >> 7;  /* back to the beginning of what is not whole yet */
    if (p == end) return to;
    if (fine && end - p < 8) {
      open = 0;
      w = eb_run_tail(start, p, (size_t)(end - p));
      if (copy != NULL) memcpy(copy + (p - start), &w, 8);
      if ((w & EB_HIGHS) == 0 || eb_run_pairs(w, &open)) {
        uint64_t stops = eb_run_stops(w);
        return stops == 0 ? to : (const char *)p + (__builtin_ctzll(stops) >> 3);
      }
    }
#else
    if (p == end) return to;
#endif
    /* Byte by byte past what is neither, then eight at a time again. */
    const unsigned char *near = end - p > 8 ? p + 8 : end;
    while (p < near) {
      unsigned c = *p;
      size_t step = eb_run_sequence(p, end);
      if (step == 0 || c < 0x20 || c == '"' || c == '\\') return (const char *)p;
      if (copy != NULL) memcpy(copy + (p - start), p, step);
      p += step;
    }
  }
}

#endif
