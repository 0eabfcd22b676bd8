/* eb_json's numbers: read as strtod reads them, written so that they come back,
** whatever the locale. */
#include "../../src/eb_json.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

static double read_double (const char *p, size_t n, eb_json_token *t) {
  eb_json j;
  eb_json_init(&j, p, n, 1);
  *t = eb_json_next(&j);
  double v = *t == EB_JSON_INT ? (double)j.integer : j.number;
  eb_json_fini(&j);
  return v;
}

static bool reads_as_strtod (const char *text) {
  eb_json_token t;
  double got = read_double(text, strlen(text), &t), want = strtod(text, NULL);
  if (isinf(want)) return t == EB_JSON_ERROR;
  bool same = t == EB_JSON_DOUBLE && memcmp(&got, &want, sizeof got) == 0;
  if (!same) printf("%s: %.17g, strtod %.17g\n", text, got, want);
  return same;
}

static const char *const hard_numbers[] = {
    "0.0", "-0.0", "0.1", "0.2", "0.3", "1.1", "3.14159", "500.00", "1e0",
    "1e22", "1e23", "-1e23", "9007199254740992e22", "9007199254740993e22",
    "9007199254740991e-22", "9007199254740993.0", "123456789.123456789",
    "2.2250738585072011e-308", "2.2250738585072012e-308",
    "2.2250738585072014e-308", "4.9e-324", "5e-324", "2.4703282292062327e-324",
    "2.4703282292062328e-324", "1.7976931348623157e308",
    "1.7976931348623158e308", "1.7976931348623159e308", "1e308", "1e309",
    "1e-323", "1e-324", "1e1000000", "1e-1000000", "0e1000000", "0.0e-99999999",
    "1e99999999999999999999", "0e99999999999999999999",
    "1e-99999999999999999999", "18446744073709551615.0",
    "18446744073709551616.0", "18446744073709551617e-5",
    "0.000000000000000000000000000000000000000000000000000000000001e60",
    "6929495644600919.5", "9007199254740993e-1",
    "1.00000000000000011102230246251565404236316680908203125",
    "1.00000000000000011102230246251565404236316680908203124",
    "1.00000000000000011102230246251565404236316680908203126",
    "123456789012345678901234567890.123456789012345678901234567890e-20"};

TEST(decimals_read_as_strtod_reads_them) {
  for (size_t i = 0; i < sizeof hard_numbers / sizeof *hard_numbers; i++)
    CHECK(reads_as_strtod(hard_numbers[i]));
}

static uint64_t random_state = 88172645463325252u;
static uint64_t random64 (void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

TEST(random_decimals_read_as_strtod_reads_them) {
  char text[128];
  for (int i = 0; i < 300000; i++) {
    uint64_t whole = random64() >> (random64() % 64);
    uint64_t part = random64() >> (random64() % 64);
    snprintf(text, sizeof text, "%s%" PRIu64 ".%" PRIu64 "e%d",
             i & 1 ? "-" : "", whole, part, (int)(random64() % 60) - 30);
    CHECK(reads_as_strtod(text));
    snprintf(text, sizeof text, "%" PRIu64 "e%d", whole,
             (int)(random64() % 660) - 330);
    CHECK(reads_as_strtod(text));
  }
}

/* 100,001 places and an exponent that makes up for all but a few of them. */
TEST(exponents_of_any_length_are_added_up_exactly) {
  enum { PLACES = 100001 };
  char *text = malloc(PLACES + 64);
  CHECK(text != NULL);
  static const char *const exponents[] = {"100001", "100000", "100002", "99999",
                                          "1000005", "10000000000000000000001"};
  for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
    memcpy(text, "0.", 2);
    memset(text + 2, '0', PLACES);
    text[1 + PLACES] = '1';
    sprintf(text + 2 + PLACES, "e%s", exponents[i]);
    CHECK(reads_as_strtod(text));
  }
  free(text);
}

TEST(a_megabyte_of_digits_is_quick) {
  enum { N = 4000000 };
  char *text = malloc(N);
  eb_json_token t;
  CHECK(text != NULL);
  memset(text, '7', N);
  read_double(text, N, &t);
  CHECK_INT(t, EB_JSON_BIG);
  text[1] = '.';
  CHECK(fabs(read_double(text, N, &t) - 7.7777777777777777) == 0);
  CHECK_INT(t, EB_JSON_DOUBLE);
  free(text);
}

static size_t write_double (double v, bool point, char *to) {
  eb_buffer b;
  eb_buffer_init(&b);
  size_t n = eb_json_put_double(&b, v, point) ? eb_buffer_size(&b) : 0;
  memcpy(to, eb_buffer_bytes(&b), n);
  to[n] = '\0';
  eb_buffer_fini(&b);
  return n;
}

TEST(doubles_are_written_shortly) {
  static const struct { double v; const char *text, *plain; } cases[] = {
      {0, "0.0", "0"}, {-0.0, "-0.0", "0"}, {1, "1.0", "1"},
      {1000, "1000.0", "1000"}, {-1000, "-1000.0", "-1000"},
      {0.1, "0.1", "0.1"}, {-0.3, "-0.3", "-0.3"}, {500.25, "500.25", "500.25"},
      {19.99, "19.99", "19.99"}, {0.1 + 0.2, "0.30000000000000004", NULL},
      {1e15, "1000000000000000.0", "1000000000000000"},
      {9007199254740991.0, "9007199254740991.0", "9007199254740991"},
      {9007199254740992.0, "9007199254740992.0", "9007199254740992"},
      {1e22, "1e+22", "1e+22"}, {1e-7, "0.0000001", NULL},
      {5e-324, "5e-324", NULL}, {1e-323, "1e-323", NULL},
      {2.2250738585072014e-308, "2.2250738585072014e-308", NULL},
      {1.7976931348623157e308, "1.7976931348623157e+308", NULL},
      {1.0 / 3, "0.3333333333333333", NULL}, {2.0 / 3, "0.6666666666666666", NULL},
      {123456789.125, "123456789.125", NULL}, {1e-9, "0.000000001", NULL}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char got[64];
    write_double(cases[i].v, true, got);
    CHECK_STR(got, cases[i].text);
    write_double(cases[i].v, false, got);
    CHECK_STR(got, cases[i].plain != NULL ? cases[i].plain : cases[i].text);
  }
}

/* Significant digits of a number's text. */
static int digits_of (const char *text) {
  char digits[64];
  int n = 0;
  for (const char *p = text; *p != '\0' && *p != 'e'; p++)
    if (*p >= '0' && *p <= '9' && (n > 0 || *p != '0')) digits[n++] = *p;
  while (n > 0 && digits[n - 1] == '0') n--;
  return n;
}

static bool round_trips (double v) {
  char text[64], fewer[64];
  eb_json_token t;
  size_t n = write_double(v, true, text);
  double back = read_double(text, n, &t);
  if (t != EB_JSON_DOUBLE || memcmp(&back, &v, sizeof v) != 0) {
    printf("%.17g became %s\n", v, text);
    return false;
  }
  int digits = digits_of(text);
  for (int k = 1; k < digits; k++) {  /* nothing shorter would have done */
    snprintf(fewer, sizeof fewer, "%.*e", k - 1, v);
    if (strtod(fewer, NULL) != v) continue;
    printf("%.17g became %s, and %s is enough\n", v, text, fewer);
    return false;
  }
  return true;
}

TEST(random_doubles_come_back_and_are_shortest) {
  for (int i = 0; i < 1000000; i++) {
    uint64_t bits = random64();
    double v;
    memcpy(&v, &bits, sizeof v);
    if (v != v || isinf(v)) continue;
    if (i % 20 == 0) {
      CHECK(round_trips(v));
      continue;
    }
    char text[64];
    eb_json_token t;
    double back = read_double(text, write_double(v, true, text), &t);
    CHECK(t == EB_JSON_DOUBLE && memcmp(&back, &v, sizeof v) == 0);
  }
}

TEST(prices_and_fractions_come_back_and_are_shortest) {
  for (int i = 0; i < 100000; i++) {
    static const double powers[] = {1, 10, 100, 1e3, 1e4, 1e6, 1e9, 1e12};
    double v = (double)(random64() >> (11 + random64() % 53)) /
               powers[random64() % 8];
    CHECK(round_trips(i & 1 ? -v : v));
  }
  for (int e = -1074; e <= 1023; e++) {
    double v = ldexp(1, e), back;
    char text[64];
    eb_json_token t;
    back = read_double(text, write_double(v, true, text), &t);
    CHECK(memcmp(&back, &v, sizeof v) == 0);
    CHECK(digits_of(text) <= 17);
  }
}

TEST(integers_are_written_over_the_whole_range) {
  static const int64_t values[] = {0, 1, -1, 9, 10, 99, 100, INT64_MAX,
                                   INT64_MIN, INT64_MIN + 1,
                                   -1001234567890123456, 9007199254740993};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    char want[32];
    eb_buffer b;
    eb_json j;
    eb_buffer_init(&b);
    int n = snprintf(want, sizeof want, "%" PRId64, values[i]);
    CHECK(eb_json_put_int(&b, values[i]));
    CHECK_MEM(eb_buffer_bytes(&b), eb_buffer_size(&b), want, (size_t)n);
    eb_json_init(&j, want, (size_t)n, 1);
    CHECK_INT(eb_json_next(&j), EB_JSON_INT);
    CHECK_INT(j.integer, values[i]);
    eb_json_fini(&j);
    eb_buffer_fini(&b);
  }
}

/* A locale with that decimal point, compiled if the system has none. */
static bool use_locale (const char *name, const char *point) {
  char command[512], dir[] = "/tmp/eb_locale.XXXXXX";
  char full[64];
  snprintf(full, sizeof full, "%s.UTF-8", name);
  if (setlocale(LC_ALL, full) == NULL && mkdtemp(dir) != NULL) {
    snprintf(command, sizeof command,
             "localedef -i %s -f UTF-8 %s/%s.UTF-8 >/dev/null 2>&1", name, dir,
             name);
    if (system(command) == 0) {
      setenv("LOCPATH", dir, 1);
      setlocale(LC_ALL, full);
      unsetenv("LOCPATH");
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0) printf("%s stays\n", dir);
  }
  if (strcmp(localeconv()->decimal_point, point) == 0) return true;
  printf("no locale %s here: not tested with it\n", name);
  return false;
}

static bool numbers_work (void) {
  char text[64];
  eb_json_token t;
  write_double(1.5e-300, true, text);
  if (strcmp(text, "1.5e-300") != 0) return false;
  write_double(1.0 / 3, true, text);
  if (strcmp(text, "0.3333333333333333") != 0) return false;
  return read_double("1.5e-300", 8, &t) > 1.4e-300 &&
         read_double("9007199254740993.5", 18, &t) > 9007199254740993.0 &&
         read_double("-0.3333333333333333333333", 25, &t) == -1.0 / 3;
}

TEST(the_decimal_comma_of_a_locale_changes_nothing) {
  if (!use_locale("de_DE", ",")) return;
  bool ok = numbers_work();
  setlocale(LC_ALL, "C");
  CHECK(ok);
}

TEST(the_two_byte_decimal_point_of_a_locale_changes_nothing) {
  if (!use_locale("ps_AF", "\xD9\xAB")) return;
  bool ok = numbers_work();
  setlocale(LC_ALL, "C");
  CHECK(ok);
}

int main (void) {
  RUN(decimals_read_as_strtod_reads_them);
  RUN(random_decimals_read_as_strtod_reads_them);
  RUN(exponents_of_any_length_are_added_up_exactly);
  RUN(a_megabyte_of_digits_is_quick);
  RUN(doubles_are_written_shortly);
  RUN(random_doubles_come_back_and_are_shortest);
  RUN(prices_and_fractions_come_back_and_are_shortest);
  RUN(integers_are_written_over_the_whole_range);
  RUN(the_decimal_comma_of_a_locale_changes_nothing);
  RUN(the_two_byte_decimal_point_of_a_locale_changes_nothing);
  return check_done();
}
