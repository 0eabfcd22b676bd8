/* eb_time: RFC 3339 both ways, against tables and against timegm. */
#include "../../src/eb_time.h"

#include <time.h>

#include "check.h"

static const char *format (int64_t ms) {
  static char text[EB_TIME_TEXT + 2];
  memset(text, '#', sizeof text);
  eb_time_format(ms, text);
  if (text[EB_TIME_TEXT] != '#') return "wrote too much";
  text[EB_TIME_TEXT] = '\0';
  return text;
}

TEST(moments_are_formatted) {
  static const struct { int64_t ms; const char *text; } cases[] = {
      {0, "1970-01-01T00:00:00.000Z"},
      {1, "1970-01-01T00:00:00.001Z"},
      {-1, "1969-12-31T23:59:59.999Z"},
      {-1000, "1969-12-31T23:59:59.000Z"},
      {1705314600000, "2024-01-15T10:30:00.000Z"},
      {1709164800000, "2024-02-29T00:00:00.000Z"},
      {951782400000, "2000-02-29T00:00:00.000Z"},
      {-2203891200000, "1900-03-01T00:00:00.000Z"},
      {4107542400000, "2100-03-01T00:00:00.000Z"},
      {2147483648000, "2038-01-19T03:14:08.000Z"},
      {-62167219200000, "0000-01-01T00:00:00.000Z"},
      {253402300799999, "9999-12-31T23:59:59.999Z"},
      {-62167219200001, "0000-01-01T00:00:00.000Z"},
      {253402300800000, "9999-12-31T23:59:59.999Z"},
      {INT64_MIN, "0000-01-01T00:00:00.000Z"},
      {INT64_MAX, "9999-12-31T23:59:59.999Z"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    CHECK_STR(format(cases[i].ms), cases[i].text);
}

TEST(texts_are_parsed) {
  static const struct { const char *text; int64_t ms; } cases[] = {
      {"1970-01-01T00:00:00Z", 0},
      {"1970-01-01t00:00:00z", 0},
      {"2024-01-15T10:30:00Z", 1705314600000},
      {"2024-01-15T10:30:00.1Z", 1705314600100},
      {"2024-01-15T10:30:00.12Z", 1705314600120},
      {"2024-01-15T10:30:00.123456789Z", 1705314600123},
      {"2024-01-15T10:30:00.9999999999999999999999Z", 1705314600999},
      {"2024-01-15T10:30:00.000000001Z", 1705314600000},
      {"2024-01-15T12:30:00+02:00", 1705314600000},
      {"2024-01-15T05:00:00-05:30", 1705314600000},
      {"2024-01-15T10:30:00-00:00", 1705314600000},
      {"2024-01-15T10:30:00.5+00:00", 1705314600500},
      {"2024-01-16T10:29:00+23:59", 1705314600000},
      {"2016-12-31T23:59:60Z", 1483228800000},
      {"0001-01-01T00:00:00Z", -62135596800000},
      {"0000-01-01T00:00:00Z", -62167219200000},
      {"0000-01-01T00:00:00+23:59", -62167219200000 - 86340000},
      {"9999-12-31T23:59:59.999-23:59", 253402300799999 + 86340000}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t ms = 42;
    if (!eb_time_parse(cases[i].text, strlen(cases[i].text), &ms))
      CHECK_FAIL("%s is refused", cases[i].text);
    CHECK_INT(ms, cases[i].ms);
  }
}

TEST(what_is_not_rfc_3339_is_refused) {
  static const char *const wrong[] = {
      "", "2024", "2024-01-15", "2024-01-15T10:30:00", "2024-01-15 10:30:00Z",
      "2024-01-15T10:30Z", "2024-01-15T10:30:00 Z", "2024-01-15T10:30:00.Z",
      "2024-01-15T10:30:00,5Z", "2024-01-15T10:30:00+0200",
      "2024-01-15T10:30:00+02", "2024-01-15T10:30:00+24:00",
      "2024-01-15T10:30:00+02:60", "2024-01-15T10:30:00+02:0",
      "2024-01-15T10:30:00*02:00", "2024-01-15T10:30:00Zx",
      "2024-01-15T10:30:00ZZ", " 2024-01-15T10:30:00Z", "2024-1-15T10:30:00Z",
      "24-01-15T10:30:00Z", "12024-01-15T10:30:00Z", "-024-01-15T10:30:00Z",
      "+024-01-15T10:30:00Z", "2024-00-15T10:30:00Z", "2024-13-15T10:30:00Z",
      "2024-01-00T10:30:00Z", "2024-01-32T10:30:00Z", "2023-02-29T10:30:00Z",
      "1900-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2024-02-30T00:00:00Z",
      "2024-04-31T00:00:00Z", "2024-01-15T24:00:00Z", "2024-01-15T10:60:00Z",
      "2024-01-15T10:30:61Z", "2024-01-15T1a:30:00Z", "2024/01/15T10:30:00Z",
      "2024-01-15T10-30-00Z", "1705314600", "Mon, 15 Jan 2024 10:30:00 GMT"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    int64_t ms;
    if (eb_time_parse(wrong[i], strlen(wrong[i]), &ms))
      CHECK_FAIL("'%s' is accepted", wrong[i]);
  }
  int64_t ms;
  CHECK(!eb_time_parse("2024-01-15T10:30:00Z\0", 21, &ms));
}

TEST(every_prefix_is_refused) {
  static const char text[] = "2024-01-15T10:30:00.123+02:00";
  int64_t ms;
  for (size_t n = 0; n < sizeof text - 1; n++)
    CHECK(!eb_time_parse(text, n, &ms));
  CHECK(eb_time_parse(text, sizeof text - 1, &ms));
}

TEST(leap_years_have_their_day) {
  for (int y = 0; y <= 9999; y++) {
    char text[32];
    int64_t ms;
    bool leap = y % 400 == 0 || (y % 4 == 0 && y % 100 != 0);
    snprintf(text, sizeof text, "%04d-02-29T00:00:00Z", y);
    CHECK(eb_time_parse(text, strlen(text), &ms) == leap);
  }
}

/* Day by day through eight centuries, with a time of day that moves too. */
TEST(all_days_from_1600_to_2400_come_back) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  struct tm begin = {.tm_year = 1600 - 1900, .tm_mday = 1};
  int64_t day = (int64_t)timegm(&begin) / 86400, n = 0;
  for (int y = 1600; y <= 2400; y++) {
    for (int m = 0; m < 12; m++) {
      bool leap = y % 400 == 0 || (y % 4 == 0 && y % 100 != 0);
      for (int d = 1; d <= days[m] + (m == 1 && leap); d++, day++, n++) {
        char want[128];
        int64_t ms, t = n * 7919 % 86400, part = n % 1000;
        snprintf(want, sizeof want, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", y,
                 m + 1, d, (int)(t / 3600), (int)(t / 60 % 60), (int)(t % 60),
                 (int)part);
        CHECK_STR(format((day * 86400 + t) * 1000 + part), want);
        CHECK(eb_time_parse(want, EB_TIME_TEXT, &ms));
        CHECK_INT(ms, (day * 86400 + t) * 1000 + part);
      }
    }
  }
  CHECK_INT(n, 292560);
}

TEST(agrees_with_timegm_at_random_moments) {
  uint64_t seed = 1;
  for (int i = 0; i < 200000; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    time_t s = (time_t)(seed >> 20) % 253402300800 - 1000000000;
    struct tm tm;
    char want[64];
    gmtime_r(&s, &tm);
    size_t n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
    if (tm.tm_year < 1000 - 1900) continue;  /* %Y does not fill up */
    CHECK_INT(n, EB_TIME_TEXT);
    CHECK_STR(format((int64_t)s * 1000), want);
  }
}

TEST(a_moment_near_the_last_is_formatted_as_any) {
  static const int64_t begins[] = {0, 1, 999, 1000, -1, -1000, 1705314600000, 253402300799000, 253402300799999,
                                   253402300800000};
  eb_time_last last = {0, ""};
  uint64_t seed = 1;
  for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
    int64_t ms = begins[i];
    for (int k = 0; k < 2000; k++) {
      char near[EB_TIME_TEXT + 1] = "";
      eb_time_format_next(&last, ms, near);
      CHECK_STR(near, format(ms));
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      ms += (int64_t)(seed >> 60) * (k % 100 == 0 ? -1000 : 1);
    }
  }
}

int main (void) {
  RUN(moments_are_formatted);
  RUN(texts_are_parsed);
  RUN(what_is_not_rfc_3339_is_refused);
  RUN(every_prefix_is_refused);
  RUN(leap_years_have_their_day);
  RUN(all_days_from_1600_to_2400_come_back);
  RUN(agrees_with_timegm_at_random_moments);
  RUN(a_moment_near_the_last_is_formatted_as_any);
  return check_done();
}
