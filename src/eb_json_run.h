/* eb_json_run: how far text goes that stands in a JSON string as it is: valid
** UTF-8 without '"', '\\' and control characters. Reading and writing look at
** every byte through it, so it is inline and takes eight at a time where it can.
** Private to eb_json*.c. Thread: any; pure.
*/
#ifndef EB_JSON_RUN_H
#define EB_JSON_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EB_ONES UINT64_C(0x0101010101010101)
#define EB_HIGHS UINT64_C(0x8080808080808080)

/* Where escapes stand close, a few bytes one by one cost less than eight at a
** time: copies plain ASCII, at most EB_NEAR bytes of it, and moves both ends. */
enum { EB_NEAR = 16 };
static inline void eb_run_near (const char **from, const char *end,
                                char **to) {
  const char *p = *from;
  char *out = *to;
  const char *near = end - p > EB_NEAR ? p + EB_NEAR : end;
  for (; p < near; p++) {
    unsigned char c = (unsigned char)*p;
    if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
    *out++ = (char)c;
  }
  *from = p;
  *to = out;
}

/* Not zero when one of eight bytes is not plain ASCII: each test sets the high
** bit of a byte that it holds for, or of one above such a byte. */
static inline uint64_t eb_run_stops (uint64_t w) {
  uint64_t quote = w ^ (EB_ONES * '"'), slash = w ^ (EB_ONES * '\\');
  return ((w - EB_ONES * 0x20) | (quote - EB_ONES) | (slash - EB_ONES) | w) &
         EB_HIGHS;
}

/* Four sequences of two bytes, none overlong: Cyrillic and Greek, Latin with
** accents. */
static inline bool eb_run_pairs (uint64_t w) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const uint64_t shape = UINT64_C(0xC0E0C0E0C0E0C0E0);
  uint64_t leads = w & UINT64_C(0x001E001E001E001E);
  uint64_t carry = (leads + UINT64_C(0x00FE00FE00FE00FE)) &
                   UINT64_C(0x0100010001000100);
  return (w & shape) == UINT64_C(0x80C080C080C080C0) &&
         carry == UINT64_C(0x0100010001000100);
#else
  (void)w;
  return false;
#endif
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

/* The first byte of [p, end) that ends such a run, or 'end'. Its value tells
** why: '"', '\\', a control, or a byte of 0x80 and more that is not UTF-8. */
static inline const char *eb_run (const char *from, const char *to) {
  const unsigned char *p = (const unsigned char *)from;
  const unsigned char *end = (const unsigned char *)to;
  for (;;) {
    while (end - p >= 8) {
      uint64_t w;
      memcpy(&w, p, 8);
      if (eb_run_stops(w) != 0 && !eb_run_pairs(w)) break;
      p += 8;
    }
    if (p == end) return to;
    /* Byte by byte past what stopped it, then eight at a time again. */
    const unsigned char *near = end - p > 8 ? p + 8 : end;
    while (p < near) {
      unsigned c = *p;
      if (c < 0x80) {
        if (c < 0x20 || c == '"' || c == '\\') return (const char *)p;
        p++;
      } else if (c < 0xE0 && c >= 0xC2 && end - p >= 2 &&
                 (p[1] & 0xC0) == 0x80) {
        p += 2;
      } else {
        size_t step = eb_run_sequence(p, end);
        if (step == 0) return (const char *)p;
        p += step;
      }
    }
  }
}

#endif
