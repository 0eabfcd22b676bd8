/* eb_json: strings of every short length with every kind of thing at every place,
** against a reference that looks at one byte at a time. The text ends where its
** allocation ends, so that a sanitizer sees a read or a write beyond. */
#include "../../src/eb_json.h"

#include <stdlib.h>

#include "check.h"

enum { LONGEST = 70, LONGEST_PAIRS = 34, ROOM = 8 * (LONGEST + 32) };

/* Reference. */

/* Length of the sequence at p, by decoding it; 0: not UTF-8. */
static size_t sequence (const unsigned char *p, size_t left) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = p[0] < 0x80   ? 1
             : p[0] < 0xC0 ? 0
             : p[0] < 0xE0 ? 2
             : p[0] < 0xF0 ? 3
             : p[0] < 0xF8 ? 4 : 0;
  if (n < 2) return n;
  if (n > left) return 0;
  uint32_t c = p[0] & (0x7Fu >> n);
  for (size_t i = 1; i < n; i++) {
    if ((p[i] & 0xC0) != 0x80) return 0;
    c = c << 6 | (p[i] & 0x3Fu);
  }
  return c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF) ? 0 : n;
}

/* With its quotes; false: *bad is the first byte that is not UTF-8. */
static bool encoded (const char *p, size_t n, char *to, size_t *size,
                     size_t *bad) {
  char *out = to;
  *out++ = '"';
  for (size_t i = 0; i < n;) {
    size_t step = sequence((const unsigned char *)p + i, n - i);
    if (step == 0) {
      *bad = i;
      return false;
    }
    unsigned char c = (unsigned char)p[i];
    const char *letter = c == 0 ? NULL : strchr("\"\"\\\\\bb\ff\nn\rr\tt", c);
    if (c == '"' || c == '\\' || (c < 0x20 && letter != NULL)) {
      *out++ = '\\';
      *out++ = letter[1];
    } else if (c < 0x20) {
      out += sprintf(out, "\\u%04x", c);
    } else {
      memcpy(out, p + i, step);
      out += step;
    }
    i += step;
  }
  *out++ = '"';
  *size = (size_t)(out - to);
  return true;
}

/* What the escape at p, after its backslash, stands for; false: it is wrong. */
static bool unescaped (const char **p, const char *end, char *to,
                       size_t *size) {
  static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
  for (size_t i = 0; *p < end && **p != 0 && letters[i] != 0; i += 2)
    if (**p == letters[i]) {
      to[0] = letters[i + 1];
      *size = 1;
      (*p)++;
      return true;
    }
  uint32_t c = 0;
  for (int unit = 0; unit < 2; unit++) {
    char digits[5] = "";
    if (end - *p < 5 || **p != 'u') return false;
    memcpy(digits, *p + 1, 4);
    if (strspn(digits, "0123456789abcdefABCDEF") != 4) return false;
    uint32_t v = (uint32_t)strtoul(digits, NULL, 16);
    *p += 5;
    if (unit == 1) {
      if (v < 0xDC00 || v > 0xDFFF) return false;
      c = 0x10000 + ((c - 0xD800) << 10) + (v - 0xDC00);
      break;
    }
    c = v;
    if (c >= 0xDC00 && c <= 0xDFFF) return false;
    if (c < 0xD800 || c > 0xDFFF) break;
    if (*p == end || **p != '\\') return false;
    (*p)++;
  }
  if (c < 0x80) {
    to[0] = (char)c;
    *size = 1;
    return true;
  }
  size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (size_t i = n - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
  to[0] = (char)((0xF00u >> n & 0xFF) | c);
  *size = n;
  return true;
}

/* A document of one string. */
static bool decoded (const char *p, size_t n, char *to, size_t *size) {
  const char *end = p + n;
  char *out = to;
  if (n == 0 || *p++ != '"') return false;
  while (p < end && *p != '"') {
    size_t step = sequence((const unsigned char *)p, (size_t)(end - p));
    if (step == 0 || (unsigned char)*p < 0x20) return false;
    if (*p != '\\') {
      memcpy(out, p, step);
      p += step;
    } else {
      p++;
      if (!unescaped(&p, end, out, &step)) return false;
    }
    out += step;
  }
  *size = (size_t)(out - to);
  if (p == end) return false;
  for (p++; p < end && *p != 0 && strchr(" \t\r\n", *p) != NULL;) p++;
  return p == end;
}

/* Comparing. */

static char *copy_of (const char *p, size_t n) {
  char *copy = calloc(1, n > 0 ? n : 1);
  if (copy == NULL) abort();
  if (n > 0) memcpy(copy, p, n);
  return copy;
}

static bool reads_alike (const char *p, size_t n) {
  char want[ROOM];
  size_t size = 0;
  bool ok = decoded(p, n, want, &size);
  char *text = copy_of(p, n);
  eb_json j;
  eb_json_init(&j, text, n, 8);
  bool got = eb_json_next(&j) == EB_JSON_STRING;
  bool same = !got || (ok ? j.size == size && memcmp(j.text, want, size) == 0
                          : true);
  got = got && eb_json_next(&j) == EB_JSON_END;
  eb_json_fini(&j);
  free(text);
  return same && got == ok;
}

/* Into a buffer of that capacity, which has something in it already. */
static bool writes_alike (const char *p, size_t n, size_t cap, bool name) {
  char want[ROOM];
  size_t size = 0, want_bad = SIZE_MAX, bad;
  bool ok = encoded(p, n, want + 1, &size, &want_bad);
  char *text = copy_of(p, n);
  eb_buffer b;
  eb_buffer_init(&b);
  if (cap > 0 && eb_buffer_reserve(&b, cap) != NULL && cap < b.cap) {
    /* The buffer's end is its block's. */
    eb_buffer_commit(&b, b.cap - cap);
    memset(b.data, 'x', b.tail);
  }
  size_t before = eb_buffer_size(&b);
  bool got = name ? eb_json_put_name(&b, false, text, n, &bad)
                  : eb_json_put_string(&b, text, n, &bad);
  bool same = got == ok && bad == want_bad;
  if (name) {
    want[0] = ',';
    want[++size] = ':';
    size++;
  }
  if (same && ok)
    same = eb_buffer_size(&b) == before + size &&
           memcmp(eb_buffer_bytes(&b) + before, want + !name, size) == 0;
  for (size_t i = 0; same && i < before; i++) same = b.data[i] == 'x';
  if (eb_json_valid_utf8(text, n) != (ok ? n : want_bad)) same = false;
  eb_buffer_fini(&b);
  free(text);
  return same;
}

typedef struct part {
  const char *bytes;
  size_t n;
} part;

#define PART(s) {s, sizeof s - 1}

static const part raw[] = {
    PART(""), PART("\""), PART("\\"), PART("\n"), PART("\x01"), PART("\0"),
    PART("\x1F"), PART("\x7F"), PART("\xC3\xA9"), PART("\xD0\x96\xD0\x96"),
    PART("\xDF\xBF"), PART("\xE2\x82\xAC"), PART("\xED\x9F\xBF"),
    PART("\xEF\xBF\xBF"), PART("\xF0\x9F\x98\x80"), PART("\xF4\x8F\xBF\xBF"),
    PART("\x80"), PART("\xBF"), PART("\xC0\x80"), PART("\xC1\xBF"), PART("\xC2"),
    PART("\xC3\x28"), PART("\xE0\x9F\xBF"), PART("\xE2\x82"), PART("\xE2\x28\xA1"),
    PART("\xED\xA0\x80"), PART("\xF0\x8F\xBF\xBF"), PART("\xF0\x9F\x98"),
    PART("\xF4\x90\x80\x80"), PART("\xF5\x80\x80\x80"), PART("\xFF"),
    PART("\xC3\xA9\xC1\xA9"), PART("\xC3\xC3\xA9"), PART("\"\\\"\\"),
    PART("\x01\x02\x03\x04\x05\x06\x07\x08\x0B\x0E\x0F\x10\x11\x12")};

static const part escapes[] = {
    PART("\\n"), PART("\\\""), PART("\\\\"), PART("\\/"), PART("\\x"), PART("\\"),
    PART("\\u"), PART("\\u00"), PART("\\u00g0"), PART("\\u0041"), PART("\\u0000"),
    PART("\\u00e9"), PART("\\u20AC"), PART("\\ud83d\\ude00"), PART("\\ud83d"),
    PART("\\ude00"), PART("\\ud83d\\u0041"), PART("\\ud83d\\u"), PART("\\uFFFF"),
    PART("\\n\\t\\r\\b\\f"), PART("\\"  "\0"),
    PART("\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00"
         "\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00")};

static size_t count_of_raw (void) { return sizeof raw / sizeof *raw; }
static size_t count_of_parts (void) {
  return count_of_raw() + sizeof escapes / sizeof *escapes;
}
static part part_at (size_t i) {
  return i < count_of_raw() ? raw[i] : escapes[i - count_of_raw()];
}

/* 'n' bytes of filling with a part put in at 'at'. The filling: plain, or pairs
** of bytes, in step or out of step with words. */
static size_t build (char *to, size_t n, size_t at, part what, int filling) {
  static const char *const kinds[] = {"aaaaaaaa", "\xD0\x96\xD0\x96", "a\xC3\xA9"};
  const char *kind = kinds[filling];
  size_t size = 0, period = strlen(kind);
  for (size_t i = 0; i < n; i++) {
    if (i == at) memcpy(to + size, what.bytes, what.n), size += what.n;
    to[size++] = kind[i % period];
  }
  if (at == n) memcpy(to + size, what.bytes, what.n), size += what.n;
  return size;
}

static size_t longest (int filling) {
  return filling == 0 ? LONGEST : LONGEST_PAIRS;
}

TEST(strings_are_read_as_the_reference_does) {
  char text[ROOM];
  for (size_t i = 0; i < count_of_parts(); i++)
    for (int filling = 0; filling < 3; filling++)
      for (size_t n = 0; n <= longest(filling); n++)
        for (size_t at = 0; at <= n; at++) {
          text[0] = '"';
          size_t size = 1 + build(text + 1, n, at, part_at(i), filling);
          /* Without its end as well: the text ends anywhere. */
          if (!reads_alike(text, size))
            CHECK_FAIL("unfinished: part %zu, filling %d, %zu bytes, at %zu", i,
                       filling, n, at);
          text[size++] = '"';
          if (!reads_alike(text, size))
            CHECK_FAIL("part %zu, filling %d, %zu bytes, at %zu", i, filling, n,
                       at);
        }
}

TEST(strings_are_written_as_the_reference_does) {
  char text[ROOM];
  for (size_t i = 0; i < count_of_raw(); i++)
    for (int filling = 0; filling < 3; filling++)
      for (size_t n = 0; n <= longest(filling); n++)
        for (size_t at = 0; at <= n; at++) {
          size_t size = build(text, n, at, raw[i], filling);
          size_t caps[] = {0, size, size + 2, size + 4, size + 9};
          for (size_t c = 0; c < sizeof caps / sizeof *caps; c++)
            if (!writes_alike(text, size, caps[c], (at & 1) != 0))
              CHECK_FAIL("part %zu, filling %d, %zu bytes, at %zu, room %zu", i,
                         filling, n, at, caps[c]);
        }
}

/* Bytes of which most matter, at random. */
TEST(a_mix_is_read_and_written_as_the_reference_does) {
  static const char some[] =
      "ab\"\\\\u00d8n/\n\x01\x7F\xC3\xA9\xC3\xA9\xD0\x96\xE2\x82\xAC\xF0\x9F"
      "\x98\x80\xED\xA0\x80\xC1";
  uint32_t seed = 20240229;
  char text[ROOM];
  for (unsigned round = 0; round < 200000; round++) {
    size_t n = 0, want = round % LONGEST;
    text[0] = '"';
    while (n < want) {
      seed = seed * 1664525 + 1013904223;
      part p = part_at((seed >> 8) % count_of_parts());
      if ((seed >> 28) != 0 || p.n > 16)
        p = (part){some + (seed >> 8) % (sizeof some - 1), 1};
      if ((seed >> 27 & 1) != 0) p = (part){"abcdefgh", (seed >> 24 & 7) + 1};
      memcpy(text + 1 + n, p.bytes, p.n);
      n += p.n;
    }
    CHECK(writes_alike(text + 1, n, n + 2 + seed % 8, (seed & 1) != 0));
    text[1 + n] = '"';
    CHECK(reads_alike(text, n + 2));
    CHECK(reads_alike(text, n + 1));
  }
}

/* Read back, what was written is what it was; buffers grow on the way. */
TEST(long_strings_of_escapes_come_back) {
  static const size_t lengths[] = {255, 256, 257, 4095, 4096, 4097, 100000};
  for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
    for (unsigned kind = 0; kind < 4; kind++) {
      size_t n = lengths[l], bad;
      char *text = malloc(n);
      CHECK(text != NULL);
      for (size_t i = 0; i < n; i++)
        text[i] = kind == 0   ? '\x01'
                  : kind == 1 ? '"'
                  : kind == 2 ? (i % 17 == 0 ? '\n' : 'a')
                              : (i % 200 == 199 ? '\x1F' : 'b');
      eb_buffer b;
      eb_buffer_init(&b);
      bool ok = eb_json_put_string(&b, text, n, &bad);
      eb_json j;
      eb_json_init(&j, (const char *)eb_buffer_bytes(&b), eb_buffer_size(&b), 8);
      ok = ok && eb_json_next(&j) == EB_JSON_STRING && j.size == n &&
           memcmp(j.text, text, n) == 0 && eb_json_next(&j) == EB_JSON_END;
      eb_json_fini(&j);
      eb_buffer_fini(&b);
      free(text);
      CHECK(ok);
    }
}

int main (void) {
  RUN(strings_are_read_as_the_reference_does);
  RUN(strings_are_written_as_the_reference_does);
  RUN(a_mix_is_read_and_written_as_the_reference_does);
  RUN(long_strings_of_escapes_come_back);
  return check_done();
}
