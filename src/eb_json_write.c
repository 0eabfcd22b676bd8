/* eb_json_write: writing JSON. See eb_json.h. */
#include <math.h>
#include <string.h>

#include "eb_decimal.h"
#include "eb_json.h"
#include "eb_json_run.h"

size_t eb_json_valid_utf8 (const char *text, size_t n) {
  const unsigned char *p = (const unsigned char *)text, *end = p + n;
  while (p < end) {
    size_t step = eb_run_sequence(p, end);
    if (step == 0) break;
    p += step;
  }
  return n - (size_t)(end - p);
}

static bool is_escaped (char c) {
  return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

/* c is '"', '\\' or a control. */
static size_t escape (unsigned char c, char *to) {
  static const char hex[] = "0123456789abcdef";
  unsigned char letter = eb_json_letter[c];
  to[0] = '\\';
  to[1] = (char)letter;
  if (letter != 0) return 2;
  memcpy(to + 1, "u00", 3);
  to[4] = hex[c >> 4];
  to[5] = hex[c & 15];
  return 6;
}

/* What is near at *from, escaped: to *to. */
static void write_near (const char **from, const char *end, char **to) {
  const char *p = *from, *near = end - p > EB_NEAR ? p + EB_NEAR : end;
  char *out = *to;
  for (; p < near; p++) {
    unsigned char letter = eb_json_letter[(unsigned char)*p];
    if (letter == 1) {
      *out++ = *p;
    } else if (letter != 0) {
      *out++ = '\\';
      *out++ = (char)letter;
      near = end - p > EB_NEAR ? p + EB_NEAR : end;
    } else {
      break;
    }
  }
  *from = p;
  *to = out;
}

/* What a string needs beside its bytes: two quotes, and what eb_run writes. */
enum { ROOM = 2 + 8 };

/* See write_string. Apart from it, so that its loops have the registers to themselves. */
__attribute__((noinline)) static char *
write_any (eb_buffer *b, char *to, const char *p, size_t n, size_t *bad) {
  const char *start = p, *end = p + n;
  *to++ = '"';
  for (;;) {
    const char *stop = eb_run(p, end, to);
    to += stop - p;
    p = stop;
    if (p == end) break;
    if (!is_escaped(*p)) {
      *bad = (size_t)(p - start);
      return NULL;
    }
    /* Longer than it was: from here on there may be more escapes. */
    size_t left = (size_t)(end - p);
    if ((size_t)((char *)b->data + b->cap - to) < 2 * left + 8 + ROOM) {
      eb_buffer_commit(b, (size_t)((uint8_t *)to - (b->data + b->tail)));
      to = (char *)eb_buffer_reserve(b, 2 * left + 64);
      if (to == NULL) return NULL;
    }
    to += escape((unsigned char)*p++, to);
    write_near(&p, end, &to);
  }
  *to++ = '"';
  return to;
}

/* The string between its quotes, at 'to', where there are n + ROOM bytes. NULL:
** see eb_json_put_string. */
static inline char *write_string (eb_buffer *b, char *to, const char *p,
                                  size_t n, size_t *bad) {
  if (n > 16 || !eb_run_short(p, n, to + 1)) return write_any(b, to, p, n, bad);
  to[0] = '"';
  to[n + 1] = '"';
  return to + n + 2;
}

bool eb_json_put_string (eb_buffer *b, const char *p, size_t n, size_t *bad) {
  *bad = SIZE_MAX;
  if (n > SIZE_MAX / 8) return false;
  char *to = (char *)eb_buffer_reserve(b, n + ROOM);
  if (to == NULL || (to = write_string(b, to, p, n, bad)) == NULL) return false;
  eb_buffer_commit(b, (size_t)((uint8_t *)to - (b->data + b->tail)));
  return true;
}

bool eb_json_put_name (eb_buffer *b, bool first, const char *p, size_t n,
                       size_t *bad) {
  *bad = SIZE_MAX;
  if (n > SIZE_MAX / 8) return false;
  char *to = (char *)eb_buffer_reserve(b, n + ROOM + 2);
  if (to == NULL) return false;
  if (!first) {
    *to++ = ',';
    eb_buffer_commit(b, 1);
  }
  to = write_string(b, to, p, n, bad);
  if (to == NULL) return false;
  *to++ = ':';
  eb_buffer_commit(b, (size_t)((uint8_t *)to - (b->data + b->tail)));
  return true;
}

static const char hundred[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536"
    "37383940414243444546474849505152535455565758596061626364656667686970717273"
    "7475767778798081828384858687888990919293949596979899";

/* Decimal digits of v, the last at end[-1]; returns the first. */
static char *decimal (uint64_t v, char *end) {
  while (v >= 100) {
    end -= 2;
    memcpy(end, hundred + v % 100 * 2, 2);
    v /= 100;
  }
  if (v < 10) {
    *--end = (char)('0' + v);
    return end;
  }
  end -= 2;
  memcpy(end, hundred + v * 2, 2);
  return end;
}

/* Room for the digits of a number. They are copied whole, whatever their count: what
** is behind them is written, and then written over. */
enum { DIGITS = 24 };

bool eb_json_put_int (eb_buffer *b, int64_t v) {
  char text[2 * DIGITS], *end = text + DIGITS;
  char *to = (char *)eb_buffer_reserve(b, DIGITS);
  if (to == NULL) return false;
  char *p = decimal(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, end);
  if (v < 0) *--p = '-';
  memcpy(to, p, DIGITS);
  eb_buffer_commit(b, (size_t)(end - p));
  return true;
}

/* Up to so many digits a number is written without an exponent. */
enum { PLAIN_DIGITS = 17, PLAIN_ZEROS = 9, ROOM_DOUBLE = 64 };

/* 'count' digits at p, the point behind 'before' of them (it may lie outside). Returns
** what was written. There are 2 * DIGITS bytes to read at p, and ROOM_DOUBLE at 'to'. */
static size_t put_digits (char *to, const char *p, int count, int before,
                          bool point) {
  char *start = to;
  if (before > 0 && before <= PLAIN_DIGITS) {
    int whole = count < before ? count : before;
    memcpy(to, p, DIGITS);
    memset(to + whole, '0', DIGITS);
    to += before;
    if (count <= before) {
      if (point) memcpy(to, ".0", 2), to += 2;
      return (size_t)(to - start);
    }
    *to++ = '.';
    memcpy(to, p + whole, DIGITS);
    return (size_t)(to + (count - whole) - start);
  }
  if (before <= 0 && before > -PLAIN_ZEROS) {
    memcpy(to, "0.", 2);
    memset(to + 2, '0', DIGITS);
    memcpy(to + 2 - before, p, DIGITS);
    return (size_t)(2 - before + count);
  }
  *to++ = *p;
  if (count > 1) {
    *to++ = '.';
    memcpy(to, p + 1, DIGITS);
    to += count - 1;
  }
  int e = before - 1;
  *to++ = 'e';
  *to++ = e < 0 ? '-' : '+';
  if (e < 0) e = -e;
  if (e >= 100) *to++ = (char)('0' + e / 100);
  *to++ = (char)('0' + e / 10 % 10);
  *to++ = (char)('0' + e % 10);
  return (size_t)(to - start);
}

bool eb_json_put_double (eb_buffer *b, double v, bool point) {
  char digits[3 * DIGITS], *end = digits + DIGITS, *p = end - 1;
  char *to = (char *)eb_buffer_reserve(b, ROOM_DOUBLE);
  if (to == NULL) return false;
  char *start = to;
  if (v == 0) {
    if (signbit(v) && point) *to++ = '-';
    *p = '0';
    to += put_digits(to, p, 1, 1, point);
  } else {
    eb_decimal d = eb_decimal_of(fabs(v));
    p = decimal(d.digits, end);
    int count = (int)(end - p);
    if (v < 0) *to++ = '-';
    to += put_digits(to, p, count, count + d.exponent, point);
  }
  eb_buffer_commit(b, (size_t)(to - start));
  return true;
}
