/* eb_time: moments as RFC 3339 text, and back. Pure. Thread: any. */
#ifndef EB_TIME_H
#define EB_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EB_TIME_TEXT = 24 };  /* "2024-01-15T10:30:00.000Z", no '\0' */

/* Milliseconds since 1970, UTC, of the years 0 to 9999; others are clamped. */
void eb_time_format (int64_t ms, char to[EB_TIME_TEXT]);

/* The same, of moments of which most are in the same second as the one before: of that
** it is kept what it looked like. All zero: none yet. */
typedef struct eb_time_last {
  int64_t second;
  char text[EB_TIME_TEXT];  /* text[0] is 0: none */
} eb_time_last;
void eb_time_format_next (eb_time_last *last, int64_t ms, char to[EB_TIME_TEXT]);

/* RFC 3339 section 5.6: any number of fraction digits, any offset, 't' and 'z'
** too; a leap second counts as the next one. False: it is not that. */
bool eb_time_parse (const char *p, size_t n, int64_t *ms);

#endif
