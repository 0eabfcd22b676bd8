/* eb_time: see eb_time.h. Days are counted as in Howard Hinnant's public
** "chrono-compatible low-level date algorithms": years begin in March. */
#include "eb_time.h"

#include <string.h>

enum { DAY_S = 86400 };

static const int64_t FIRST_MS = -62167219200000;  /* 0000-01-01 */
static const int64_t LAST_MS = 253402300799999;   /* 9999-12-31T23:59:59.999 */

static void two (char *to, unsigned v) {
  to[0] = (char)('0' + v / 10);
  to[1] = (char)('0' + v % 10);
}

void eb_time_format (int64_t ms, char to[EB_TIME_TEXT]) {
  if (ms < FIRST_MS) ms = FIRST_MS;
  if (ms > LAST_MS) ms = LAST_MS;
  int64_t s = ms / 1000, part = ms % 1000;
  if (part < 0) {
    part += 1000;
    s--;
  }
  int64_t day = s / DAY_S, rest = s % DAY_S;
  if (rest < 0) {
    rest += DAY_S;
    day--;
  }
  int64_t z = day + 719468;
  int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  unsigned doe = (unsigned)(z - era * 146097);
  unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  unsigned mp = (5 * doy + 2) / 153;
  unsigned d = doy - (153 * mp + 2) / 5 + 1;
  unsigned m = mp < 10 ? mp + 3 : mp - 9;
  int64_t y = (int64_t)yoe + era * 400 + (m <= 2);
  unsigned t = (unsigned)rest;
  two(to, (unsigned)y / 100);
  two(to + 2, (unsigned)y % 100);
  to[4] = '-';
  two(to + 5, m);
  to[7] = '-';
  two(to + 8, d);
  to[10] = 'T';
  two(to + 11, t / 3600);
  to[13] = ':';
  two(to + 14, t / 60 % 60);
  to[16] = ':';
  two(to + 17, t % 60);
  to[19] = '.';
  two(to + 20, (unsigned)part / 10);
  to[22] = (char)('0' + part % 10);
  to[23] = 'Z';
}

void eb_time_format_next (eb_time_last *last, int64_t ms, char to[EB_TIME_TEXT]) {
  enum { FRACTION = 20 };  /* where its three digits are */
  int64_t second = ms / 1000;
  if (ms < 0 || ms > LAST_MS) {
    eb_time_format(ms, to);
    return;
  }
  if (last->text[0] == '\0' || last->second != second) {
    eb_time_format(ms, last->text);
    last->second = second;
  }
  unsigned part = (unsigned)(ms - second * 1000);
  memcpy(to, last->text, EB_TIME_TEXT);
  to[FRACTION] = (char)('0' + part / 100);
  to[FRACTION + 1] = (char)('0' + part / 10 % 10);
  to[FRACTION + 2] = (char)('0' + part % 10);
}

/* n digits at *p, which moves on; -1 when there are fewer. */
static int take (const char **p, const char *end, int n) {
  int v = 0;
  if (end - *p < n) return -1;
  for (int i = 0; i < n; i++) {
    char c = *(*p)++;
    if (c < '0' || c > '9') return -1;
    v = v * 10 + (c - '0');
  }
  return v;
}

static bool expect (const char **p, const char *end, char a, char b) {
  if (*p == end || (**p != a && **p != b)) return false;
  (*p)++;
  return true;
}

static int days_in (int y, int m) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
  return m == 2 && leap ? 29 : days[m - 1];
}

static int64_t days_from_civil (int year, int m, int d) {
  int64_t y = year - (m <= 2);
  int64_t era = (y >= 0 ? y : y - 399) / 400;
  int64_t yoe = y - era * 400;
  int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + doe - 719468;
}

bool eb_time_parse (const char *p, size_t n, int64_t *ms) {
  const char *end = p + n;
  int y = take(&p, end, 4);
  if (y < 0 || !expect(&p, end, '-', '-')) return false;
  int mo = take(&p, end, 2);
  if (mo < 1 || mo > 12 || !expect(&p, end, '-', '-')) return false;
  int d = take(&p, end, 2);
  if (d < 1 || d > days_in(y, mo) || !expect(&p, end, 'T', 't')) return false;
  int h = take(&p, end, 2);
  if (h < 0 || h > 23 || !expect(&p, end, ':', ':')) return false;
  int mi = take(&p, end, 2);
  if (mi < 0 || mi > 59 || !expect(&p, end, ':', ':')) return false;
  int s = take(&p, end, 2);
  if (s < 0 || s > 60) return false;
  int part = 0;
  if (p < end && *p == '.') {
    int count = 0;
    for (p++; p < end && *p >= '0' && *p <= '9'; p++, count++)
      if (count < 3) part = part * 10 + (*p - '0');
    if (count == 0) return false;
    for (; count < 3; count++) part *= 10;
  }
  int offset = 0;
  if (p == end) return false;
  if (*p == 'Z' || *p == 'z') {
    p++;
  } else {
    int sign = *p == '-' ? -1 : 1;
    if (!expect(&p, end, '+', '-')) return false;
    int oh = take(&p, end, 2);
    if (oh < 0 || oh > 23 || !expect(&p, end, ':', ':')) return false;
    int om = take(&p, end, 2);
    if (om < 0 || om > 59) return false;
    offset = sign * (oh * 60 + om);
  }
  if (p != end) return false;
  *ms = ((days_from_civil(y, mo, d) * 24 + h) * 60 + mi - offset) * 60000 +
        s * 1000 + part;
  return true;
}
