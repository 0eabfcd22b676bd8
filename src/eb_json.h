/* eb_json: JSON as RFC 8259 has it, written to a buffer and read by pulling.
**
** Strict both ways: valid UTF-8 only, no lone surrogates, no BOM, no comments, no
** trailing bytes. Integers are exact over int64, and what does not fit is told,
** never rounded. Knows nothing of Lua. Thread: any; pure.
*/
#ifndef EB_JSON_H
#define EB_JSON_H

#include "eb_buffer.h"
#include "eb_error.h"

enum {
  EB_JSON_DEPTH = 128,       /* standard limit of nesting */
  EB_JSON_MAX_DEPTH = 1024   /* largest limit one may ask for */
};

/* Writing. False: memory is out, or (string) the UTF-8 is not valid: then
** *bad is the offset of the first wrong byte, else SIZE_MAX. On false the
** buffer may hold half of it: the caller rolls back. */
bool eb_json_put_string (eb_buffer *b, const char *p, size_t n, size_t *bad);
/* The same of a member's name: ',' unless it is the first, name and ':'. */
bool eb_json_put_name (eb_buffer *b, bool first, const char *p, size_t n,
                       size_t *bad);
bool eb_json_put_int (eb_buffer *b, int64_t v);
/* The shortest digits that read back as v, which is finite. 'point': a whole
** number shows that it is a float, "1000.0". The locale does not matter. */
bool eb_json_put_double (eb_buffer *b, double v, bool point);

/* Offset of the first byte that is not UTF-8, or n. */
size_t eb_json_valid_utf8 (const char *p, size_t n);

/* Reading. */

typedef enum eb_json_token {
  EB_JSON_OBJECT,      /* { */
  EB_JSON_OBJECT_END,
  EB_JSON_ARRAY,       /* [ */
  EB_JSON_ARRAY_END,
  EB_JSON_KEY,         /* text: the member's name; its value is next */
  EB_JSON_STRING,      /* text */
  EB_JSON_INT,         /* integer */
  EB_JSON_DOUBLE,      /* number; text is how it was written */
  EB_JSON_BIG,         /* an integer beyond int64; text is how it was written */
  EB_JSON_TRUE,
  EB_JSON_FALSE,
  EB_JSON_NULL,
  EB_JSON_END,         /* of the whole text */
  EB_JSON_ERROR        /* see err; stays */
} eb_json_token;

typedef struct eb_json {
  const char *start;
  const char *p;
  const char *end;
  unsigned depth;
  unsigned max_depth;
  int state;                                  /* what may come */
  uint8_t objects[EB_JSON_MAX_DEPTH / 8];     /* bit d: level d is an object */
  const char *text;                           /* good until the next call */
  size_t size;
  int64_t integer;
  double number;
  eb_buffer scratch;                          /* strings with escapes */
  eb_error err;                               /* malformed, with the place */
} eb_json;

/* Reads n bytes at p, which outlive the reader. */
void eb_json_init (eb_json *j, const char *p, size_t n, unsigned max_depth);
void eb_json_fini (eb_json *j);
eb_json_token eb_json_next (eb_json *j);

/* After a value's first token: passes over the rest of it. False: see err. */
bool eb_json_skip (eb_json *j, eb_json_token first);

/* "object", "a number": for messages. */
const char *eb_json_token_name (eb_json_token t);

#endif
