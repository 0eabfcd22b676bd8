/* eb_json: reading. See eb_json.h; writing is in eb_json_write.c. */
#include "eb_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eb_decimal.h"
#include "eb_json_run.h"

/* What may come next. */
enum {
  VALUE,          /* a value */
  FIRST_VALUE,    /* a value, or the end of an array */
  FIRST_KEY,      /* a name, or the end of an object */
  KEY,            /* a name */
  AFTER,          /* ',' or the end of what we are in */
  AFTER_ALL,      /* nothing */
  FAILED
};

void eb_json_init (eb_json *j, const char *p, size_t n, unsigned max_depth) {
  j->start = j->p = p;
  j->end = p + n;
  j->depth = 0;
  j->max_depth = max_depth < EB_JSON_MAX_DEPTH ? max_depth : EB_JSON_MAX_DEPTH;
  j->state = VALUE;
  j->text = NULL;
  j->size = 0;
  eb_buffer_init(&j->scratch);
  eb_error_clear(&j->err);
}

void eb_json_fini (eb_json *j) {
  eb_buffer_fini(&j->scratch);
}

static eb_json_token fail_at (eb_json *j, const char *at, const char *what) {
  size_t line = 1, column = 1;
  for (const char *c = j->start; c < at; c++) {
    column++;
    if (*c != '\n') continue;
    line++;
    column = 1;
  }
  eb_error_set(&j->err, EB_ERR_MALFORMED,
               "invalid JSON at line %zu, column %zu (byte %zu): %s", line,
               column, (size_t)(at - j->start) + 1, what);
  j->state = FAILED;
  return EB_JSON_ERROR;
}

static eb_json_token fail (eb_json *j, const char *what) {
  return fail_at(j, j->p, what);
}

static eb_json_token out_of_memory (eb_json *j) {
  eb_error_set(&j->err, EB_ERR_NO_MEMORY, "no memory for a JSON string");
  j->state = FAILED;
  return EB_JSON_ERROR;
}

static void skip_spaces (eb_json *j) {
  const char *p = j->p, *end = j->end;
  while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  j->p = p;
}

static inline void skip_space (eb_json *j) {
  if (j->p == j->end || (unsigned char)*j->p <= ' ') skip_spaces(j);
}

static inline bool in_object (const eb_json *j) {
  unsigned d = j->depth - 1;
  return (j->objects[d >> 3] >> (d & 7)) & 1;
}

static void value_done (eb_json *j) {
  j->state = j->depth == 0 ? AFTER_ALL : AFTER;
}

/* Nesting. */

static eb_json_token enter (eb_json *j, bool object) {
  if (j->depth >= j->max_depth) return fail(j, "nested too deep");
  unsigned d = j->depth++;
  uint8_t bit = (uint8_t)(1u << (d & 7));
  if (object)
    j->objects[d >> 3] |= bit;
  else
    j->objects[d >> 3] &= (uint8_t)~bit;
  j->p++;
  j->state = object ? FIRST_KEY : FIRST_VALUE;
  return object ? EB_JSON_OBJECT : EB_JSON_ARRAY;
}

static eb_json_token leave (eb_json *j) {
  eb_json_token t = in_object(j) ? EB_JSON_OBJECT_END : EB_JSON_ARRAY_END;
  j->p++;
  j->depth--;
  value_done(j);
  return t;
}

/* Strings. */

static int hex4 (const char *p) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    char c = p[i];
    int d = c >= '0' && c <= '9' ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (d < 0) return -1;
    v = v * 16 + d;
  }
  return v;
}

static size_t put_utf8 (char *to, unsigned c) {
  if (c < 0x80) {
    to[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    to[0] = (char)(0xC0 | (c >> 6));
    to[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    to[0] = (char)(0xE0 | (c >> 12));
    to[1] = (char)(0x80 | ((c >> 6) & 0x3F));
    to[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  to[0] = (char)(0xF0 | (c >> 18));
  to[1] = (char)(0x80 | ((c >> 12) & 0x3F));
  to[2] = (char)(0x80 | ((c >> 6) & 0x3F));
  to[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

/* What a letter behind a backslash stands for; 0: nothing. */
static const char escaped_by[256] = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f',
    ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};

/* The escape at p (behind its backslash); NULL when it is wrong. */
static const char *unescape (eb_json *j, const char *p, char *to, size_t *n) {
  if (p == j->end) {
    fail_at(j, p, "an unfinished string");
    return NULL;
  }
  if (*p != 'u') {
    to[0] = escaped_by[(unsigned char)*p];
    *n = 1;
    if (to[0] != 0) return p + 1;
    fail_at(j, p, "no such escape");
    return NULL;
  }
  int c = j->end - p >= 5 ? hex4(p + 1) : -1;
  if (c < 0) {
    fail_at(j, p, "\\u wants four hexadecimal digits");
    return NULL;
  }
  const char *at = p - 1;
  p += 5;
  if (c >= 0xD800 && c <= 0xDBFF && j->end - p >= 6 && p[0] == '\\' &&
      p[1] == 'u') {
    int low = hex4(p + 2);
    if (low >= 0xDC00 && low <= 0xDFFF) {
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
      p += 6;
    }
  }
  if (c >= 0xD800 && c <= 0xDFFF) {
    fail_at(j, at, "a lone surrogate");
    return NULL;
  }
  *n = put_utf8(to, (unsigned)c);
  return p;
}

/* Why a run ended at p, if not for an escape or the closing quote. */
static bool bad_char (eb_json *j, const char *p) {
  fail_at(j, p, p == j->end ? "an unfinished string"
                : (unsigned char)*p < 0x20
                    ? "a control character in a string: escape it"
                    : "invalid UTF-8");
  return false;
}

/* What is near at *from: ASCII, and escapes of one letter. At *to there are sixteen
** bytes more than up to 'end'. */
static void read_near (const char **from, const char *end, char **to) {
  const char *p = *from;
  char *out = *to;
#if defined(__SSE2__)
  /* Sixteen at a time: where the next ones begin does not depend on what is found,
  ** and no jump on each byte, which nobody could foresee. */
  while (end - p > 32) {
    unsigned stops = eb_run_stops16(p, NULL), at = 0;
    while (stops != 0) {
      unsigned n = (unsigned)__builtin_ctz(stops);
      memcpy(out, p + at, 16);
      out += n - at;
      char letter = p[n] == '\\' ? escaped_by[(unsigned char)p[n + 1]] : 0;
      if (letter == 0) {
        *from = p + n;
        *to = out;
        return;
      }
      *out++ = letter;
      at = n + 2;
      stops &= ~(3u << n);
    }
    if (at < 16) {
      memcpy(out, p + at, 16);
      out += 16 - at;
      at = 16;
    }
    p += at;
  }
#endif
  const char *near = end - p > EB_NEAR ? p + EB_NEAR : end;
  while (p < near) {
    unsigned char c = (unsigned char)*p;
    if (eb_json_letter[c] == 1) {
      *out++ = (char)c;
      p++;
      continue;
    }
    char letter = c == '\\' && end - p > 1 ? escaped_by[(unsigned char)p[1]] : 0;
    if (letter == 0) break;
    *out++ = letter;
    p += 2;
    near = end - p > EB_NEAR ? p + EB_NEAR : end;
  }
  *from = p;
  *to = out;
}

/* About SPAN bytes behind p, but no character cut in two. */
static const char *span (const char *p, const char *end) {
  enum { SPAN = 1024 };
  if (end - p <= SPAN) return end;
  p += SPAN;
  for (int i = 0; i < 3 && ((unsigned char)*p & 0xC0) == 0x80; i++) p--;
  return p;
}

/* The rest of a string whose first escape is at p; what is before begins at
** j->p. It becomes j->text. */
static bool read_escaped (eb_json *j, const char *p) {
  const char *end = j->end, *limit;
  eb_buffer *b = &j->scratch;
  eb_buffer_truncate(b, 0);
  bool ok = eb_buffer_append(b, j->p, (size_t)(p - j->p));
  do {
    limit = span(p, end);
    /* No escape is shorter than what it stands for; what is behind gets written. */
    char *to = ok ? (char *)eb_buffer_reserve(b, (size_t)(limit - p) + 16) : NULL;
    char *start = to;
    ok = to != NULL;
    while (ok && p < limit) {
      read_near(&p, limit, &to);
      if (p == limit || *p == '"') break;
      const char *stop = eb_run(p, limit, to);
      to += stop - p;
      p = stop;
      if (p == limit || *p != '\\') break;
      if (limit - p > 1 && escaped_by[(unsigned char)p[1]] != 0) continue;
      size_t n;
      p = unescape(j, p + 1, to, &n);
      if (p == NULL) return false;
      to += n;
    }
    if (ok) eb_buffer_commit(b, (size_t)(to - start));
  } while (ok && p >= limit && p < end && *p != '"');
  if (!ok) {
    out_of_memory(j);
    return false;
  }
  if (p == end || *p != '"') return bad_char(j, p);
  j->text = (const char *)eb_buffer_bytes(b);
  j->size = eb_buffer_size(b);
  j->p = p + 1;
  return true;
}

/* The rest of a string of which what is before p is as it stands. */
static bool read_on (eb_json *j, const char *p) {
  p = eb_run(p, j->end, NULL);
  if (p == j->end) return bad_char(j, p);
  if (*p == '\\') return read_escaped(j, p);
  if (*p != '"') return bad_char(j, p);
  j->text = j->p;
  j->size = (size_t)(p - j->p);
  j->p = p + 1;
  return true;
}

/* j->p is behind the quote. The string becomes j->text; false: failed. */
static inline bool read_string (eb_json *j) {
  const char *p = (const char *)eb_run_ascii(
      (const unsigned char *)j->p, (const unsigned char *)j->end, NULL);
  if (p == j->end || *p != '"') return read_on(j, p);
  j->text = j->p;
  j->size = (size_t)(p - j->p);
  j->p = p + 1;
  return true;
}

/* Numbers. */

/* Far more than any count of digits in memory can make up for. */
#define EXPONENT_LIMIT INT64_C(100000000000000000)

static inline bool digit (const eb_json *j, const char *p) {
  return p < j->end && *p >= '0' && *p <= '9';
}

/* For more digits than 64 bits hold. strtod needs a '\0', and wants the locale's decimal point: it gets none, but
** the digits before the exponent as a whole number, and 'exponent' to match. */
static bool slow_double (const char *p, size_t n, int64_t exponent, double *v) {
  enum { EXPONENT_TEXT = 32 };
  char small[96], *text = small;
  size_t size = 0;
  if (n > sizeof small - EXPONENT_TEXT) text = malloc(n + EXPONENT_TEXT);
  if (text == NULL) return false;
  for (size_t i = 0; i < n && p[i] != 'e' && p[i] != 'E'; i++)
    if (p[i] != '.') text[size++] = p[i];
  snprintf(text + size, EXPONENT_TEXT, "e%" PRId64, exponent);
  *v = strtod(text, NULL);
  if (text != small) free(text);
  return true;
}

/* So many digits fit in 64 bits, whatever they are. */
enum { SAFE_DIGITS = 19 };

typedef struct digits {
  uint64_t v;
  bool exact;  /* they fit in v */
} digits;

/* Adds the digits at p, of which the first 'safe' need no check; returns their end. */
static inline const char *read_digits (const eb_json *j, const char *p,
                                       ptrdiff_t safe, digits *to) {
  const char *near = j->end - p > safe ? p + (safe > 0 ? safe : 0) : j->end;
  uint64_t v = to->v;
  unsigned d;
  for (; p < near && (d = (unsigned char)*p - (unsigned)'0') <= 9; p++)
    v = v * 10 + d;
  for (; p == near && digit(j, p); p++, near++) {
    d = (unsigned)(*p - '0');
    if (v > (UINT64_MAX - d) / 10)
      to->exact = false;
    else
      v = v * 10 + d;
  }
  to->v = v;
  return p;
}

static eb_json_token read_number (eb_json *j) {
  const char *begin = j->p, *p = begin;
  bool negative = *p == '-', whole = true;
  digits n = {0, true};
  int64_t shown = 0, places = 0;
  if (negative) p++;
  if (!digit(j, p)) return fail(j, "a digit expected");
  if (*p == '0' && digit(j, p + 1)) return fail(j, "a leading zero");
  const char *first = p;
  p = read_digits(j, p, SAFE_DIGITS, &n);
  if (p < j->end && *p == '.') {
    whole = false;
    const char *point = p++;
    if (!digit(j, p)) return fail_at(j, p, "a digit expected");
    p = read_digits(j, p, SAFE_DIGITS - (point - first), &n);
    places = p - point - 1;
  }
  if (p < j->end && (*p == 'e' || *p == 'E')) {
    whole = false;
    bool minus = ++p < j->end && *p == '-';
    if (p < j->end && (*p == '-' || *p == '+')) p++;
    if (!digit(j, p)) return fail_at(j, p, "a digit expected");
    for (; digit(j, p); p++)
      if (shown < EXPONENT_LIMIT) shown = shown * 10 + (*p - '0');
    if (minus) shown = -shown;
  }
  j->p = p;
  j->text = begin;
  j->size = (size_t)(p - begin);
  value_done(j);
  if (whole) {
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    if (!n.exact || n.v > limit) return EB_JSON_BIG;
    j->integer = negative ? (int64_t)(0 - n.v) : (int64_t)n.v;
    /* "-0" is an integer here, and so it stays 0. */
    return EB_JSON_INT;
  }
  int64_t exponent = shown - places;
  if (n.exact) {
    double x = eb_decimal_value(n.v, exponent);
    j->number = negative ? -x : x;
  } else if (!slow_double(begin, j->size, exponent, &j->number)) {
    return out_of_memory(j);
  }
  if (isinf(j->number)) return fail_at(j, begin, "a number beyond a double");
  return EB_JSON_DOUBLE;
}

static eb_json_token read_word (eb_json *j, const char *word, size_t n,
                                eb_json_token t) {
  if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n) != 0)
    return fail(j, "a value expected");
  j->p += n;
  value_done(j);
  return t;
}

static eb_json_token read_value (eb_json *j) {
  switch (*j->p) {
    case '{': return enter(j, true);
    case '[': return enter(j, false);
    case '"':
      j->p++;
      if (!read_string(j)) return EB_JSON_ERROR;
      value_done(j);
      return EB_JSON_STRING;
    case 't': return read_word(j, "true", 4, EB_JSON_TRUE);
    case 'f': return read_word(j, "false", 5, EB_JSON_FALSE);
    case 'n': return read_word(j, "null", 4, EB_JSON_NULL);
    case '-': case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
      return read_number(j);
    case '\xEF':
      if (j->end - j->p >= 3 && memcmp(j->p, "\xEF\xBB\xBF", 3) == 0)
        return fail(j, "a byte order mark: send UTF-8 without one");
      return fail(j, "a value expected");
    default: return fail(j, "a value expected");
  }
}

static inline eb_json_token read_key (eb_json *j) {
  if (*j->p != '"') return fail(j, "a name in quotes expected");
  j->p++;
  if (!read_string(j)) return EB_JSON_ERROR;
  skip_space(j);
  if (j->p == j->end || *j->p != ':') return fail(j, "':' expected");
  j->p++;
  j->state = VALUE;
  return EB_JSON_KEY;
}

eb_json_token eb_json_next (eb_json *j) {
  if (j->state == FAILED) return EB_JSON_ERROR;
  skip_space(j);
  if (j->p == j->end) {
    if (j->state == AFTER_ALL) return EB_JSON_END;
    return fail(j, j->p == j->start ? "empty text" : "the text ends too early");
  }
  switch (j->state) {
    case VALUE: return read_value(j);
    case FIRST_VALUE: return *j->p == ']' ? leave(j) : read_value(j);
    case FIRST_KEY: return *j->p == '}' ? leave(j) : read_key(j);
    case KEY: return read_key(j);
    case AFTER_ALL: return fail(j, "something behind the value");
    default: break;
  }
  bool object = in_object(j);
  if (*j->p == (object ? '}' : ']')) return leave(j);
  if (*j->p != ',') return fail(j, object ? "',' or '}' expected"
                                          : "',' or ']' expected");
  j->p++;
  skip_space(j);
  if (j->p == j->end) return fail(j, "the text ends too early");
  return object ? read_key(j) : read_value(j);
}

bool eb_json_skip (eb_json *j, eb_json_token first) {
  if (first == EB_JSON_ERROR) return false;
  if (first != EB_JSON_OBJECT && first != EB_JSON_ARRAY) return true;
  unsigned outside = j->depth - 1;
  while (j->depth > outside)
    if (eb_json_next(j) == EB_JSON_ERROR) return false;
  return true;
}

const char *eb_json_token_name (eb_json_token t) {
  switch (t) {
    case EB_JSON_OBJECT: return "an object";
    case EB_JSON_ARRAY: return "an array";
    case EB_JSON_STRING: return "a string";
    case EB_JSON_INT: case EB_JSON_DOUBLE: case EB_JSON_BIG: return "a number";
    case EB_JSON_TRUE: case EB_JSON_FALSE: return "a boolean";
    case EB_JSON_NULL: return "null";
    default: return "the end";
  }
}
