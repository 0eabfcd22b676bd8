/* json_write: any string and any number, written, is read back as the same; a string that is not UTF-8 is refused, at
 * the right place. */
#include <math.h>
#include <string.h>

#include "../../src/eb_json.h"
#include "fuzz.h"

static void write_string (const char *p, size_t n) {
  eb_buffer out;
  eb_json j;
  size_t bad = 0, valid = eb_json_valid_utf8(p, n);
  eb_buffer_init(&out);
  if (eb_json_put_string(&out, p, n, &bad)) {
    FUZZ_WANT(valid == n);
    eb_json_init(&j, (const char *)eb_buffer_bytes(&out), eb_buffer_size(&out), 4);
    FUZZ_WANT(eb_json_next(&j) == EB_JSON_STRING);
    FUZZ_WANT(j.size == n && (n == 0 || memcmp(j.text, p, n) == 0));
    FUZZ_WANT(eb_json_next(&j) == EB_JSON_END);
    eb_json_fini(&j);
  } else {
    FUZZ_WANT(valid < n && bad == valid);
  }
  eb_buffer_fini(&out);
}

static void write_numbers (int64_t integer, double number) {
  eb_buffer out;
  eb_json j;
  eb_buffer_init(&out);
  FUZZ_WANT(eb_buffer_putc(&out, '[') && eb_json_put_int(&out, integer) && eb_buffer_putc(&out, ','));
  if (!isfinite(number)) number = 0.5;
  FUZZ_WANT(eb_json_put_double(&out, number, true) && eb_buffer_putc(&out, ']'));
  eb_json_init(&j, (const char *)eb_buffer_bytes(&out), eb_buffer_size(&out), 4);
  FUZZ_WANT(eb_json_next(&j) == EB_JSON_ARRAY);
  FUZZ_WANT(eb_json_next(&j) == EB_JSON_INT && j.integer == integer);
  FUZZ_WANT(eb_json_next(&j) == EB_JSON_DOUBLE && memcmp(&j.number, &number, sizeof number) == 0);
  FUZZ_WANT(eb_json_next(&j) == EB_JSON_ARRAY_END && eb_json_next(&j) == EB_JSON_END);
  eb_json_fini(&j);
  eb_buffer_fini(&out);
}

int fuzz_json_write (const uint8_t *p, size_t n) {
  int64_t integer = 0;
  double number = 0;
  if (n >= 16) {
    memcpy(&integer, p, 8);
    memcpy(&number, p + 8, 8);
    write_numbers(integer, number);
  }
  write_string((const char *)p, n);
  return 0;
}
