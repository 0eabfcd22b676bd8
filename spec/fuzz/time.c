/* time: any text as a moment. What is read can be written, and read again as the same. */
#include "../../src/eb_time.h"
#include "fuzz.h"

int fuzz_time (const uint8_t *p, size_t n) {
  int64_t ms, again;
  char text[EB_TIME_TEXT];
  if (!eb_time_parse((const char *)p, n, &ms)) return 0;
  eb_time_format(ms, text);
  FUZZ_WANT(eb_time_parse(text, sizeof text, &again));
  /* An offset may lead out of the years that can be written: those are clamped. */
  if (text[0] != '0' && text[0] != '9') FUZZ_WANT(again == ms);
  return 0;
}
