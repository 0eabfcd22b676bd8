/* fields: an AMQP table as the model keeps it: arguments and headers, of the few kinds the program uses. */
#ifndef SIM_FIELDS_H
#define SIM_FIELDS_H

#include "../../src/eb_codec.h"

enum { FIELDS = 4, FIELD_NAME = 24, FIELD_TEXT = 16, FIELDS_TEXT = 80 };

typedef struct field {
  char name[FIELD_NAME];
  enum { FIELD_NOTHING, FIELD_NUMBER, FIELD_STRING } kind;
  int64_t number;
  char text[FIELD_TEXT];
} field;

/* In the order of their names: the same table, the same bytes. */
typedef struct fields {
  unsigned count;
  field items[FIELDS];
} fields;

/* False: it holds what the program never sends. */
bool fields_from (fields *to, const amqp_table_t *from);
const field *fields_find (const fields *f, const char *name);
bool field_equal (const field *a, const field *b);  /* kind and value */
bool fields_equal (const fields *a, const fields *b);
/* "color='red' size=2"; a name alone for a field without a value. */
void fields_text (const fields *f, char to[FIELDS_TEXT]);

#endif
