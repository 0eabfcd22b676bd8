/* envelope: any body of a message, taken apart as an envelope is: an object, its fields by name, its time, the payload
 * passed over. (The Lua side of it has its own tests.) */
#include <string.h>

#include "../../src/eb_json.h"
#include "../../src/eb_time.h"
#include "fuzz.h"

static void envelope_time (const eb_json *j) {
  int64_t ms, again;
  char text[EB_TIME_TEXT];
  if (!eb_time_parse(j->text, j->size, &ms)) return;
  eb_time_format(ms, text);
  FUZZ_WANT(eb_time_parse(text, sizeof text, &again));
  /* An offset may lead out of the years that can be written: those are clamped. */
  if (text[0] != '0' && text[0] != '9') FUZZ_WANT(again == ms);
}

int fuzz_envelope (const uint8_t *p, size_t n) {
  eb_json j;
  eb_json_token t;
  char name[16];
  eb_json_init(&j, (const char *)p, n, EB_JSON_DEPTH);
  if (eb_json_next(&j) == EB_JSON_OBJECT) {
    while ((t = eb_json_next(&j)) == EB_JSON_KEY) {
      size_t size = j.size < sizeof name ? j.size : sizeof name;
      if (size > 0) memcpy(name, j.text, size);
      t = eb_json_next(&j);
      if (t == EB_JSON_STRING && size == 9 && memcmp(name, "timestamp", 9) == 0) envelope_time(&j);
      if (!eb_json_skip(&j, t)) break;
    }
  }
  eb_json_next(&j);
  eb_json_fini(&j);
  return 0;
}
