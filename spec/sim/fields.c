/* fields: see fields.h. */
#include "fields.h"

#include <stdio.h>
#include <string.h>

static bool text_from (char *to, size_t room, amqp_bytes_t from) {
  if (from.len >= room) return false;
  if (from.len > 0) memcpy(to, from.bytes, from.len);
  to[from.len] = '\0';
  return true;
}

static bool field_from (field *to, const amqp_table_entry_t *from) {
  memset(to, 0, sizeof *to);
  if (!text_from(to->name, sizeof to->name, from->key)) return false;
  switch (from->value.kind) {
    case AMQP_FIELD_KIND_VOID: to->kind = FIELD_NOTHING; return true;
    case AMQP_FIELD_KIND_I64:
      to->kind = FIELD_NUMBER;
      to->number = from->value.value.i64;
      return true;
    case AMQP_FIELD_KIND_UTF8:
      to->kind = FIELD_STRING;
      return text_from(to->text, sizeof to->text, from->value.value.bytes);
    default: return false;
  }
}

bool fields_from (fields *to, const amqp_table_t *from) {
  to->count = 0;
  for (int i = 0; i < from->num_entries; i++) {
    field f;
    if (to->count == FIELDS || !field_from(&f, &from->entries[i])) return false;
    unsigned at = to->count++;
    for (; at > 0 && strcmp(to->items[at - 1].name, f.name) > 0; at--) to->items[at] = to->items[at - 1];
    to->items[at] = f;
  }
  return true;
}

const field *fields_find (const fields *f, const char *name) {
  for (unsigned i = 0; i < f->count; i++)
    if (strcmp(f->items[i].name, name) == 0) return &f->items[i];
  return NULL;
}

bool field_equal (const field *a, const field *b) {
  return a->kind == b->kind && a->number == b->number && strcmp(a->text, b->text) == 0;
}

bool fields_equal (const fields *a, const fields *b) {
  if (a->count != b->count) return false;
  for (unsigned i = 0; i < a->count; i++)
    if (strcmp(a->items[i].name, b->items[i].name) != 0 || !field_equal(&a->items[i], &b->items[i])) return false;
  return true;
}

void fields_text (const fields *f, char to[FIELDS_TEXT]) {
  size_t at = 0;
  to[0] = '\0';
  for (unsigned i = 0; i < f->count && at < FIELDS_TEXT; i++) {
    const field *e = &f->items[i];
    int n = e->kind == FIELD_NUMBER ? snprintf(to + at, FIELDS_TEXT - at, "%s=%lld", e->name, (long long)e->number)
            : e->kind == FIELD_STRING ? snprintf(to + at, FIELDS_TEXT - at, "%s='%s'", e->name, e->text)
                                      : snprintf(to + at, FIELDS_TEXT - at, "%s", e->name);
    at += (size_t)n;
    if (i + 1 < f->count && at + 1 < FIELDS_TEXT) to[at++] = ' ', to[at] = '\0';
  }
}
