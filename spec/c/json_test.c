/* eb_json: token streams, malformed text, numbers against strtod, strings. */
#include "../../src/eb_json.h"

#include <stdlib.h>
#include <unistd.h>

#include "check.h"

/* A document as a line of tokens: "{ k:a 1 } .", and "!" for an error. */
static void trace (const char *p, size_t n, unsigned depth, char *to,
                   size_t size) {
  eb_json j;
  eb_json_token t;
  size_t at = 0;
  char number[32];
  eb_buffer b;
  eb_buffer_init(&b);
  eb_json_init(&j, p, n, depth);
  to[0] = '\0';
  do {
    t = eb_json_next(&j);
    const char *mark = "";
    int text = 0;
    switch (t) {
      case EB_JSON_OBJECT: mark = "{"; break;
      case EB_JSON_OBJECT_END: mark = "}"; break;
      case EB_JSON_ARRAY: mark = "["; break;
      case EB_JSON_ARRAY_END: mark = "]"; break;
      case EB_JSON_KEY: mark = "k:"; text = 1; break;
      case EB_JSON_STRING: mark = "s:"; text = 1; break;
      case EB_JSON_BIG: mark = "b:"; text = 1; break;
      case EB_JSON_INT:
        snprintf(number, sizeof number, "%" PRId64, j.integer);
        mark = number;
        break;
      case EB_JSON_DOUBLE:
        eb_buffer_truncate(&b, 0);
        eb_json_put_double(&b, j.number, true);
        snprintf(number, sizeof number, "d:%.*s", (int)eb_buffer_size(&b),
                 (const char *)eb_buffer_bytes(&b));
        mark = number;
        break;
      case EB_JSON_TRUE: mark = "true"; break;
      case EB_JSON_FALSE: mark = "false"; break;
      case EB_JSON_NULL: mark = "null"; break;
      case EB_JSON_END: mark = "."; break;
      case EB_JSON_ERROR: mark = "!"; break;
    }
    at += (size_t)snprintf(to + at, size - at, "%s%s%.*s", at > 0 ? " " : "",
                           mark, text ? (int)j.size : 0, text ? j.text : "");
  } while (t != EB_JSON_END && t != EB_JSON_ERROR && at < size);
  eb_json_fini(&j);
  eb_buffer_fini(&b);
}

TEST(documents_become_tokens) {
  static const struct { const char *text, *tokens; } cases[] = {
      {"1", "1 ."},
      {" \t\r\n1 \t\r\n", "1 ."},
      {"\"\"", "s: ."},
      {"[]", "[ ] ."},
      {"{}", "{ } ."},
      {"[[],{}]", "[ [ ] { } ] ."},
      {"{\"a\":1,\"b\":[true,false,null]}", "{ k:a 1 k:b [ true false null ] } ."},
      {"{\"a\":1,\"a\":2}", "{ k:a 1 k:a 2 } ."},
      {"{\"\":{}}", "{ k: { } } ."},
      {"[ 1 , \"x\" , 1.5 ]", "[ 1 s:x d:1.5 ] ."},
      {"\"\\\"\\\\\\/\\u0041\"", "s:\"\\/A ."},
      {"\"\\u00e9\\u20AC\\ud83d\\ude00\"", "s:\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80 ."},
      {"\"a\\tb\"", "s:a\tb ."},
      {"{\"\\u0061\":1}", "{ k:a 1 } ."},
      {"-0", "0 ."},
      {"-0.0", "d:-0.0 ."},
      {"9223372036854775807", "9223372036854775807 ."},
      {"-9223372036854775808", "-9223372036854775808 ."},
      {"9223372036854775808", "b:9223372036854775808 ."},
      {"-9223372036854775809", "b:-9223372036854775809 ."},
      {"18446744073709551616", "b:18446744073709551616 ."},
      {"123456789012345678901234567890", "b:123456789012345678901234567890 ."},
      {"1000.0", "d:1000.0 ."},
      {"1e2", "d:100.0 ."},
      {"1E+2", "d:100.0 ."},
      {"1e-7", "d:0.0000001 ."},
      {"1e400", "!"},
      {"1e-400", "d:0.0 ."},
      {"", "!"}, {" ", "!"}, {"1 2", "1 !"}, {"1,", "1 !"}, {"[1,]", "[ 1 !"},
      {"[,1]", "[ !"}, {"[1 2]", "[ 1 !"}, {"{\"a\"}", "{ !"},
      {"{\"a\":}", "{ k:a !"}, {"{\"a\":1,}", "{ k:a 1 !"}, {"{a:1}", "{ !"},
      {"{1:1}", "{ !"}, {"{\"a\":1 \"b\":2}", "{ k:a 1 !"}, {"[}", "[ !"},
      {"{]", "{ !"}, {"]", "!"}, {"}", "!"}, {"[1}", "[ 1 !"}, {"[]]", "[ ] !"},
      {"tru", "!"}, {"truex", "true !"}, {"True", "!"}, {"nul", "!"},
      {"NaN", "!"}, {"Infinity", "!"}, {"-Infinity", "!"}, {"-", "!"},
      {"+1", "!"}, {"01", "!"}, {"-01", "!"}, {"00", "!"}, {".5", "!"},
      {"1.", "!"}, {"1.e5", "!"}, {"1e", "!"}, {"1e+", "!"}, {"0x10", "0 !"},
      {"'a'", "!"}, {"\"a", "!"}, {"\"\\", "!"}, {"\"\\x\"", "!"},
      {"\"\\u12\"", "!"}, {"\"\\u12g4\"", "!"}, {"\"\t\"", "!"},
      {"\"\x01\"", "!"}, {"\"\n\"", "!"}, {"\"\\ud800\"", "!"},
      {"\"\\udc00\"", "!"}, {"\"\\ud800\\ud800\"", "!"},
      {"\"\\ud800\\u0041\"", "!"}, {"\"\\ud800x\"", "!"}, {"\"\\ud800", "!"},
      {"\xEF\xBB\xBF{}", "!"}, {"\xEF\xBB", "!"}, {"// x\n1", "!"},
      {"/**/1", "!"}, {"\xC2\xA0" "1", "!"}, {"1\f", "1 !"},
      {"\"\x7F\"", "s:\x7F ."}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char got[512];
    trace(cases[i].text, strlen(cases[i].text), EB_JSON_DEPTH, got, sizeof got);
    CHECK_STR(got, cases[i].tokens);
  }
}

TEST(a_zero_byte_is_neither_space_nor_the_end) {
  char got[64];
  trace("1\0", 2, 8, got, sizeof got);
  CHECK_STR(got, "1 !");
  trace("\"\\\0\"", 4, 8, got, sizeof got);
  CHECK_STR(got, "!");
  eb_json j;
  eb_json_init(&j, "\"a\\u0000b\"", 10, 8);
  CHECK_INT(eb_json_next(&j), EB_JSON_STRING);
  CHECK_MEM(j.text, j.size, "a\0b", 3);
  CHECK_INT(eb_json_next(&j), EB_JSON_END);
  eb_json_fini(&j);
}

static const char *message_of (const char *text, unsigned depth) {
  static char message[EB_ERROR_TEXT];
  eb_json j;
  eb_json_token t;
  eb_json_init(&j, text, strlen(text), depth);
  do t = eb_json_next(&j);
  while (t != EB_JSON_ERROR && t != EB_JSON_END);
  memcpy(message, j.err.message, sizeof message);
  eb_json_fini(&j);
  return message;
}

TEST(errors_name_line_column_and_byte) {
#define AT(l, c, b, what) \
  "invalid JSON at line " #l ", column " #c " (byte " #b "): " what
  CHECK_STR(message_of("", 8), AT(1, 1, 1, "empty text"));
  CHECK_STR(message_of("{\n  \"a\": x}", 8), AT(2, 8, 10, "a value expected"));
  CHECK_STR(message_of("[1]\n[", 8), AT(2, 1, 5, "something behind the value"));
  CHECK_STR(message_of("[01]", 8), AT(1, 2, 2, "a leading zero"));
  CHECK_STR(message_of("[\"a\xFF\"]", 8), AT(1, 4, 4, "invalid UTF-8"));
  CHECK_STR(message_of("[\"a\\ud800\"]", 8), AT(1, 4, 4, "a lone surrogate"));
  CHECK_STR(message_of("[\"\\udc00x\"]", 8), AT(1, 3, 3, "a lone surrogate"));
  CHECK_STR(message_of("\"\\ud800", 8), AT(1, 2, 2, "a lone surrogate"));
  CHECK_STR(message_of("[[[", 2), AT(1, 3, 3, "nested too deep"));
  CHECK_STR(message_of("[1e999]", 8), AT(1, 2, 2, "a number beyond a double"));
  CHECK_STR(message_of("[1,", 8), AT(1, 4, 4, "the text ends too early"));
#undef AT
}

TEST(an_error_stays) {
  eb_json j;
  eb_json_init(&j, "[x]", 3, 8);
  CHECK_INT(eb_json_next(&j), EB_JSON_ARRAY);
  for (int i = 0; i < 3; i++) CHECK_INT(eb_json_next(&j), EB_JSON_ERROR);
  CHECK(!eb_json_skip(&j, EB_JSON_ARRAY));
  eb_json_fini(&j);
}

TEST(depth_is_counted_in_levels) {
  char text[4096], got[16384];
  for (unsigned limit = 0; limit <= EB_JSON_MAX_DEPTH; limit += 128) {
    memset(text, '[', limit);
    memset(text + limit, ']', limit);
    if (limit > 0) {
      trace(text, 2 * limit, limit, got, sizeof got);
      CHECK(strchr(got, '!') == NULL);
    }
    memset(text, '[', limit + 1);
    trace(text, limit + 1, limit, got, sizeof got);
    CHECK(strchr(got, '!') != NULL);
  }
  CHECK(strstr(message_of("[1]", 0), "nested too deep") != NULL);
}

/* What is deep alternates, so that a wrong level's bit would show. */
TEST(every_level_remembers_what_it_is) {
  char text[8 * EB_JSON_MAX_DEPTH];
  uint32_t seed = 1;
  for (int round = 0; round < 50; round++) {
    char ends[EB_JSON_MAX_DEPTH];
    size_t n = 0;
    for (int d = 0; d < EB_JSON_MAX_DEPTH; d++) {
      seed = seed * 1664525u + 1013904223u;
      bool object = (seed >> 24) & 1;
      if (object)
        memcpy(text + n, "{\"\":", 4), n += 4;
      else
        text[n++] = '[';
      ends[d] = object ? '}' : ']';
    }
    text[n++] = '1';
    for (int d = EB_JSON_MAX_DEPTH; d-- > 0;) text[n++] = ends[d];
    eb_json j;
    eb_json_init(&j, text, n, 100000);
    CHECK(eb_json_skip(&j, eb_json_next(&j)));
    CHECK_INT(eb_json_next(&j), EB_JSON_END);
    eb_json_fini(&j);
  }
}

static const char document[] =
    "{\"id\":\"evt_1\",\"n\":[0,-1,12345678901234567890,1.5e-3,-0.0],\"s\":"
    "\"\\u00e9\\ud83d\\ude00\\n\xD0\x96\xE2\x82\xAC\xF0\x9F\x98\x80 plain text"
    " longer than eight\",\"o\":{\"a\":[[{}],[]],\"t\":true,\"f\":false,"
    "\"z\":null}}";

/* Each prefix is on the heap at its exact size: reading over shows. */
TEST(every_prefix_is_an_error) {
  size_t n = sizeof document - 1;
  char got[1024];
  for (size_t cut = 0; cut <= n; cut++) {
    char *copy = malloc(cut > 0 ? cut : 1);
    CHECK(copy != NULL);
    memcpy(copy, document, cut);
    trace(copy, cut, EB_JSON_DEPTH, got, sizeof got);
    free(copy);
    CHECK_INT(got[strlen(got) - 1], cut == n ? '.' : '!');
  }
}

TEST(every_single_byte_change_ends) {
  size_t n = sizeof document - 1;
  char got[1024], *copy = malloc(n);
  CHECK(copy != NULL);
  for (size_t i = 0; i < n; i++) {
    memcpy(copy, document, n);
    for (int c = 0; c < 256; c++) {
      copy[i] = (char)c;
      trace(copy, n, EB_JSON_DEPTH, got, sizeof got);
    }
  }
  free(copy);
}

TEST(skip_passes_over_one_value) {
  eb_json j;
  static const char text[] = "{\"a\":[1,{\"b\":[]}],\"c\":2}";
  eb_json_init(&j, text, sizeof text - 1, 8);
  CHECK_INT(eb_json_next(&j), EB_JSON_OBJECT);
  CHECK_INT(eb_json_next(&j), EB_JSON_KEY);
  CHECK(eb_json_skip(&j, eb_json_next(&j)));
  CHECK_INT(eb_json_next(&j), EB_JSON_KEY);
  CHECK_MEM(j.text, j.size, "c", 1);
  CHECK(eb_json_skip(&j, eb_json_next(&j)));
  CHECK_INT(eb_json_next(&j), EB_JSON_OBJECT_END);
  CHECK_INT(eb_json_next(&j), EB_JSON_END);
  eb_json_fini(&j);
}

static uint64_t random_state = 88172645463325252u;
static uint64_t random64 (void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

/* The definition: code points from the table of RFC 3629, encoded. */
static size_t utf8 (uint32_t c, char *to) {
  if (c < 0x80) return to[0] = (char)c, 1;
  size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (size_t i = n; i-- > 1; c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
  to[0] = (char)((0xF00u >> n & 0xFF) | c);
  return n;
}

TEST(every_code_point_is_valid_but_surrogates) {
  for (uint32_t c = 0; c < 0x110000; c++) {
    char text[4];
    size_t n = utf8(c, text);
    bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    CHECK_INT(eb_json_valid_utf8(text, n), surrogate ? 0 : n);
    for (size_t cut = 1; cut < n; cut++) CHECK_INT(eb_json_valid_utf8(text, cut), 0);
  }
}

TEST(overlong_and_stray_bytes_are_not_valid) {
  static const char *const wrong[] = {
      "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x80\x80",
      "\xE0\x9F\xBF", "\xE2\x82", "\xE2(\xA1", "\xE2\x82(", "\xED\xA0\x80",
      "\xED\xBF\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98",
      "\xF0\x9F\x98(", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF",
      "\xF8\x88\x80\x80\x80"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    char text[64];
    for (size_t pad = 0; pad < 20; pad++) {
      size_t n = (size_t)snprintf(text, sizeof text, "%.*s%sabcdefghijk",
                                  (int)pad, "\xD0\x96xxxxxxxxxxxxxxxxxxxx",
                                  wrong[i]), bad;
      if (pad == 1) continue;  /* half a letter in front */
      eb_buffer b;
      eb_buffer_init(&b);
      CHECK_INT(eb_json_valid_utf8(text, n), pad);
      CHECK(!eb_json_put_string(&b, text, n, &bad));
      CHECK_INT(bad, pad);
      eb_buffer_fini(&b);
    }
  }
}

/* Every byte at every place of a word, and all lengths around it. */
TEST(strings_come_back_whatever_they_hold) {
  for (size_t n = 0; n < 40; n++) {
    for (int c = 0; c < 128; c++) {
      for (size_t at = 0; at < (n > 0 ? n : 1); at++) {
        char text[64];
        size_t bad;
        memset(text, 'x', sizeof text);
        text[at] = (char)c;
        eb_buffer b;
        eb_json j;
        eb_buffer_init(&b);
        CHECK(eb_json_put_string(&b, text, n, &bad));
        const char *out = (const char *)eb_buffer_bytes(&b);
        for (size_t i = 0; i < eb_buffer_size(&b); i++)
          CHECK((unsigned char)out[i] >= 0x20);
        eb_json_init(&j, out, eb_buffer_size(&b), 1);
        CHECK_INT(eb_json_next(&j), EB_JSON_STRING);
        CHECK_MEM(j.text, j.size, text, n);
        CHECK_INT(eb_json_next(&j), EB_JSON_END);
        eb_json_fini(&j);
        eb_buffer_fini(&b);
      }
    }
  }
}

TEST(random_text_comes_back) {
  for (int round = 0; round < 20000; round++) {
    char text[512];
    size_t n = 0, bad;
    size_t count = random64() % 60;
    for (size_t i = 0; i < count; i++) {
      uint32_t c = (uint32_t)(random64() >> (40 + random64() % 24)) % 0x110000;
      if (c < 0xD800 || c > 0xDFFF) n += utf8(c, text + n);
    }
    eb_buffer b;
    eb_json j;
    eb_buffer_init(&b);
    CHECK(eb_json_put_string(&b, text, n, &bad));
    eb_json_init(&j, (const char *)eb_buffer_bytes(&b), eb_buffer_size(&b), 1);
    CHECK_INT(eb_json_next(&j), EB_JSON_STRING);
    CHECK_MEM(j.text, j.size, text, n);
    eb_json_fini(&j);
    eb_buffer_fini(&b);
  }
}

int main (void) {
  RUN(documents_become_tokens);
  RUN(a_zero_byte_is_neither_space_nor_the_end);
  RUN(errors_name_line_column_and_byte);
  RUN(an_error_stays);
  RUN(depth_is_counted_in_levels);
  RUN(every_level_remembers_what_it_is);
  RUN(every_prefix_is_an_error);
  RUN(every_single_byte_change_ends);
  RUN(skip_passes_over_one_value);
  RUN(every_code_point_is_valid_but_surrogates);
  RUN(overlong_and_stray_bytes_are_not_valid);
  RUN(strings_come_back_whatever_they_hold);
  RUN(random_text_comes_back);
  return check_done();
}
