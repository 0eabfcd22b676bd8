/* json: any text. What is read is written again, and read again as the same. */
#include <math.h>
#include <string.h>

#include "../../src/eb_json.h"
#include "fuzz.h"

enum { JSON_DEPTH = 64 };

static bool json_put (eb_buffer *out, const eb_json *j, eb_json_token t) {
  size_t bad;
  switch (t) {
    case EB_JSON_OBJECT: return eb_buffer_putc(out, '{');
    case EB_JSON_OBJECT_END: return eb_buffer_putc(out, '}');
    case EB_JSON_ARRAY: return eb_buffer_putc(out, '[');
    case EB_JSON_ARRAY_END: return eb_buffer_putc(out, ']');
    case EB_JSON_KEY: return eb_json_put_string(out, j->text, j->size, &bad) && eb_buffer_putc(out, ':');
    case EB_JSON_STRING: return eb_json_put_string(out, j->text, j->size, &bad);
    case EB_JSON_INT: return eb_json_put_int(out, j->integer);
    case EB_JSON_DOUBLE:
      FUZZ_WANT(isfinite(j->number));
      return eb_json_put_double(out, j->number, true);
    case EB_JSON_BIG: return eb_buffer_append(out, j->text, j->size);
    case EB_JSON_TRUE: return eb_buffer_append(out, "true", 4);
    case EB_JSON_FALSE: return eb_buffer_append(out, "false", 5);
    case EB_JSON_NULL: return eb_buffer_append(out, "null", 4);
    case EB_JSON_END: case EB_JSON_ERROR: break;
  }
  return false;
}

/* The tokens of a text, written as JSON; false when it is not JSON. */
static bool json_again (const char *p, size_t n, eb_buffer *out) {
  eb_json j;
  eb_json_token t, before = EB_JSON_OBJECT;
  eb_json_init(&j, p, n, JSON_DEPTH);
  while ((t = eb_json_next(&j)) != EB_JSON_END && t != EB_JSON_ERROR) {
    bool opens = before == EB_JSON_OBJECT || before == EB_JSON_ARRAY || before == EB_JSON_KEY;
    bool ends = t == EB_JSON_OBJECT_END || t == EB_JSON_ARRAY_END;
    if (eb_buffer_size(out) > 0 && !opens && !ends) eb_buffer_putc(out, ',');
    FUZZ_WANT(json_put(out, &j, t));
    before = t;
  }
  if (t == EB_JSON_ERROR) {
    FUZZ_WANT(j.err.code != EB_OK && j.err.message[0] != '\0');
    FUZZ_WANT(eb_json_next(&j) == EB_JSON_ERROR);
  } else {
    FUZZ_WANT(eb_json_next(&j) == EB_JSON_END);
  }
  eb_json_fini(&j);
  return t == EB_JSON_END;
}

int fuzz_json (const uint8_t *p, size_t n) {
  eb_buffer once, twice;
  eb_buffer_init(&once);
  eb_buffer_init(&twice);
  if (json_again((const char *)p, n, &once)) {
    FUZZ_WANT(json_again((const char *)eb_buffer_bytes(&once), eb_buffer_size(&once), &twice));
    FUZZ_WANT(eb_buffer_size(&once) == eb_buffer_size(&twice));
    FUZZ_WANT(memcmp(eb_buffer_bytes(&once), eb_buffer_bytes(&twice), eb_buffer_size(&once)) == 0);
  }
  eb_buffer_fini(&once);
  eb_buffer_fini(&twice);
  /* Skipping a value ends where reading it does. */
  eb_json j;
  eb_json_init(&j, (const char *)p, n, JSON_DEPTH);
  eb_json_token t = eb_json_next(&j);
  if (t != EB_JSON_END && t != EB_JSON_ERROR && eb_json_skip(&j, t)) eb_json_next(&j);
  eb_json_fini(&j);
  return 0;
}
