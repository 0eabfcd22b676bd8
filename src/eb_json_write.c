/* eb_json_write: writing JSON. See eb_json.h. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eb_json.h"

/* Length of the UTF-8 sequence at p, 0 when it is not one. Unicode 15, table
** 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t sequence (const unsigned char *p, const unsigned char *end) {
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

size_t eb_json_valid_utf8 (const char *text, size_t n) {
  const unsigned char *p = (const unsigned char *)text, *end = p + n;
  while (p < end) {
    size_t step = sequence(p, end);
    if (step == 0) break;
    p += step;
  }
  return n - (size_t)(end - p);
}

/* Written as they are: all but '"', '\\', controls, and bytes above 0x7F, which
** are looked at first. */
static size_t plain (const char *p, size_t n) {
  const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
  size_t i = 0;
  for (; n - i >= 8; i += 8) {
    uint64_t w;
    memcpy(&w, p + i, 8);
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
    uint64_t hit = (w - ones * 0x20) | (quote - ones) | (slash - ones) | w;
    if (hit & highs) break;
  }
  for (; i < n; i++) {
    unsigned char c = (unsigned char)p[i];
    if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
  }
  return i;
}

static size_t escape (unsigned char c, char *to) {
  static const char hex[] = "0123456789abcdef";
  to[0] = '\\';
  switch (c) {
    case '"': to[1] = '"'; return 2;
    case '\\': to[1] = '\\'; return 2;
    case '\b': to[1] = 'b'; return 2;
    case '\f': to[1] = 'f'; return 2;
    case '\n': to[1] = 'n'; return 2;
    case '\r': to[1] = 'r'; return 2;
    case '\t': to[1] = 't'; return 2;
    default:
      memcpy(to + 1, "u00", 3);
      to[4] = hex[c >> 4];
      to[5] = hex[c & 15];
      return 6;
  }
}

bool eb_json_put_string (eb_buffer *b, const char *p, size_t n, size_t *bad) {
  const unsigned char *end = (const unsigned char *)p + n;
  size_t i = 0;
  *bad = SIZE_MAX;
  if (n > SIZE_MAX / 8) return false;
  uint8_t *to = eb_buffer_reserve(b, n + 2);
  if (to == NULL) return false;
  *to++ = '"';
  for (;;) {
    size_t run = plain(p + i, n - i);
    while (i + run < n && (unsigned char)p[i + run] >= 0x80) {
      size_t step = sequence((const unsigned char *)p + i + run, end);
      if (step == 0) {
        *bad = i + run;
        return false;
      }
      run += step;
      if (i + run < n && (unsigned char)p[i + run] < 0x80)
        run += plain(p + i + run, n - i - run);
    }
    memcpy(to, p + i, run);
    to += run;
    i += run;
    if (i == n) break;
    unsigned char c = (unsigned char)p[i];
    /* Longer than it was: commit what there is, and make room anew. */
    char text[6];
    size_t size = escape(c, text);
    eb_buffer_commit(b, (size_t)(to - (b->data + b->tail)));
    to = eb_buffer_reserve(b, size + (n - i) + 2);
    if (to == NULL) return false;
    memcpy(to, text, size);
    to += size;
    i++;
  }
  *to++ = '"';
  eb_buffer_commit(b, (size_t)(to - (b->data + b->tail)));
  return true;
}

/* Decimal digits of v, the last at end[-1]; returns the first. */
static char *decimal (uint64_t v, char *end) {
  do {
    *--end = (char)('0' + v % 10);
    v /= 10;
  } while (v > 0);
  return end;
}

bool eb_json_put_int (eb_buffer *b, int64_t v) {
  char text[24], *end = text + sizeof text;
  char *p = decimal(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, end);
  if (v < 0) *--p = '-';
  return eb_buffer_append(b, p, (size_t)(end - p));
}

/* v as i / 10^k with the smallest k: then i has the fewest digits that read
** back as v, for both i and 10^k are exact and division rounds once. */
static bool short_decimal (double v, uint64_t *i, int *k) {
  double power = 1;
  if (v >= 9007199254740992.0) return false;
  for (*k = 0; *k <= 9; ++*k, power *= 10) {
    double scaled = v * power;
    if (scaled >= 9007199254740992.0) return false;
    double whole = nearbyint(scaled);
    if (whole / power != v) continue;
    *i = (uint64_t)whole;
    return true;
  }
  return false;
}

static bool put_short (eb_buffer *b, bool negative, uint64_t i, int k,
                       bool point) {
  char text[48], *end = text + sizeof text, *p = end;
  if (k > 0) {
    for (int n = 0; n < k; n++, i /= 10) *--p = (char)('0' + i % 10);
    *--p = '.';
  } else if (point) {
    *--p = '0';
    *--p = '.';
  }
  p = decimal(i, p);
  if (negative) *--p = '-';
  return eb_buffer_append(b, p, (size_t)(end - p));
}

/* Whatever the locale's decimal point is, of several bytes maybe: a '.'. */
static size_t with_point (char *text) {
  size_t n = 0;
  for (const char *p = text; *p != '\0'; p++) {
    bool ours = strchr("0123456789+-e", *p) != NULL;
    if (ours)
      text[n++] = *p;
    else if (text[n - 1] != '.')
      text[n++] = '.';
  }
  return n;
}

/* 15 digits are the fewest that normal numbers need to be told apart; those
** below keep fewer bits. */
static size_t print_shortest (double v, char *text, size_t size) {
  int precision = fabs(v) < DBL_MIN ? 1 : 15;
  for (; precision <= 17; precision++) {
    snprintf(text, size, "%.*g", precision, v);
    if (strtod(text, NULL) == v) break;
  }
  return with_point(text);
}

bool eb_json_put_double (eb_buffer *b, double v, bool point) {
  bool negative = signbit(v) != 0;
  uint64_t i;
  int k;
  if (short_decimal(fabs(v), &i, &k))
    return put_short(b, negative && (v != 0 || point), i, k, point);
  char text[48];
  size_t n = print_shortest(v, text, sizeof text);
  bool shows = memchr(text, '.', n) != NULL || memchr(text, 'e', n) != NULL;
  if (!eb_buffer_append(b, text, n)) return false;
  return shows || !point || eb_buffer_append(b, ".0", 2);
}
