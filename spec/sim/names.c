/* names: see names.h. */
#include "names.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  int nature;
  bool durable;
} exchanges[EXCHANGES] = {{"", TYPE_DIRECT, true},
                          {"direct", TYPE_DIRECT, true},
                          {"passing", TYPE_DIRECT, true},
                          {"topic", TYPE_TOPIC | WITH_ALTERNATE, true},
                          {"fanout", TYPE_FANOUT, false},
                          {"headers", TYPE_HEADERS, true},
                          {"changing", 0, false},
                          {"missing", TYPE_DIRECT, false}};

static const char *const queues[] = {"q0", "q1", "q2", "nowhere"};

int names_exchange (const char *name) {
  for (int x = 0; x < EXCHANGES; x++)
    if (strcmp(exchanges[x].name, name) == 0) return x;
  return -1;
}

const char *names_of_exchange (int x) { return exchanges[x].name; }

int names_queue (const char *name) {
  for (int q = 0; q < PROGRAM_QUEUES; q++)
    if (strcmp(queues[q], name) == 0) return q;
  return OTHER_QUEUE;
}

const char *names_of_queue (int q) { return queues[q]; }
bool names_queue_durable (int q) { return q < 2; }

/* Natures. */

bool names_nature_is_fixed (int x) { return x != X_CHANGING; }
bool names_exchange_durable (int x) { return exchanges[x].durable; }
int names_nature (int x, draw *d) { return names_nature_is_fixed(x) ? exchanges[x].nature : (int)draw_below(d, 8); }
int names_alternate (int nature) { return nature & WITH_ALTERNATE ? X_FANOUT : -1; }

const char *names_type (int nature) {
  static const char *const types[] = {"direct", "fanout", "topic", "headers"};
  return types[nature & 3];
}

#define TEXT(s) {EB_FIELD_STRING, {.bytes = {s, sizeof s - 1}}}
#define NUMBER(n) {EB_FIELD_INT, {.integer = n}}
#define KEY(s) {s, sizeof s - 1}
#define TABLE(pairs) {sizeof(pairs) / sizeof *(pairs), pairs}

const eb_table *names_nature_arguments (int nature) {
  static eb_pair pairs[] = {{KEY("alternate-exchange"), TEXT("fanout")}};
  static const eb_table table = TABLE(pairs);
  return nature & WITH_ALTERNATE ? &table : NULL;
}

void names_nature_text (int x, int nature, char to[DETAIL]) {
  snprintf(to, DETAIL, "%s%s%s", names_type(nature), names_exchange_durable(x) ? " durable" : "",
           nature & WITH_ALTERNATE ? " alternate-exchange='fanout'" : "");
}

/* Keys, after AMQP 0-9-1 section 3.1.3.3: words between dots, * is one word, # any number of them. */

static const char *const keys[BINDING_KEYS] = {"q0",  "q1",  "q2",  "k0",    "k1", "a.b", "a.b.c", "a",    "",
                                               "a.*", "a.#", "#.c", "#.b.#", "#",  "*",   "a.*.c", "*.#.b"};

const char *names_key (int i) { return keys[i]; }

static int key_of (const char *key) {
  int i = 0;
  while (i < BINDING_KEYS && strcmp(keys[i], key) != 0) i++;
  return i;
}

/* A row for each pattern, a column for each of the event keys: q0 q1 q2 k0 k1 a.b a.b.c a and none. */
static const char patterns[BINDING_KEYS - EVENT_KEYS][EVENT_KEYS + 1] = {
    "000001000", "000001110", "000000100", "000001100", "111111111", "111110010", "000000100", "000001000"};

static bool topic_match (int binding, int event) {
  if (binding < EVENT_KEYS) return binding == event;
  return patterns[binding - EVENT_KEYS][event] == '1';
}

/* Arguments and headers. */

static eb_pair all[] = {{KEY("x-match"), TEXT("all")}, {KEY("size"), NUMBER(2)}, {KEY("color"), TEXT("red")}};
static eb_pair all_turned[] = {{KEY("size"), NUMBER(2)}, {KEY("color"), TEXT("red")}, {KEY("x-match"), TEXT("all")}};
static eb_pair any[] = {{KEY("color"), TEXT("red")}, {KEY("x-match"), TEXT("any")}, {KEY("size"), NUMBER(2)}};
static eb_pair blue[] = {{KEY("color"), TEXT("blue")}};
static eb_pair sized[] = {{KEY("size"), {EB_FIELD_VOID, {0}}}, {KEY("x-match"), TEXT("any")}};
static eb_pair is_red[] = {{KEY("color"), TEXT("red")}};
static eb_pair is_red_2[] = {{KEY("color"), TEXT("red")}, {KEY("size"), NUMBER(2)}};
static eb_pair is_blue_3[] = {{KEY("color"), TEXT("blue")}, {KEY("size"), NUMBER(3)}};
static eb_pair is_text_2[] = {{KEY("size"), TEXT("2")}};

static const struct {
  eb_table table;
  const char *text;
} arguments[ARGUMENTS] = {{{0, NULL}, ""},
                          {TABLE(all), "color='red' size=2 x-match='all'"},
                          {TABLE(any), "color='red' size=2 x-match='any'"},
                          {TABLE(blue), "color='blue'"},
                          {TABLE(sized), "size x-match='any'"}},
  headers[HEADERS] = {{{0, NULL}, ""},
                      {TABLE(is_red), "color='red'"},
                      {TABLE(is_red_2), "color='red' size=2"},
                      {TABLE(is_blue_3), "color='blue' size=3"},
                      {TABLE(is_text_2), "size='2'"}};

const eb_table *names_arguments (int i) { return i == 0 ? NULL : &arguments[i].table; }

const eb_table *names_arguments_turned (int i) {
  static const eb_table turned = TABLE(all_turned);
  return names_arguments(i) == &arguments[1].table ? &turned : names_arguments(i);
}

const char *names_arguments_text (int i) { return arguments[i].text; }
const eb_table *names_headers (int i) { return i == 0 ? NULL : &headers[i].table; }
const char *names_headers_text (int i) { return headers[i].text; }

/* A row for each of the arguments, a column for each of the headers. */
static const char headers_match[ARGUMENTS][HEADERS + 1] = {"11111", "00100", "01100", "00010", "00111"};

bool names_match (int nature, const char *binding_key, int args, const char *event_key, int hdrs) {
  switch (nature & 3) {
    case TYPE_FANOUT: return true;
    case TYPE_TOPIC: return topic_match(key_of(binding_key), key_of(event_key));
    case TYPE_HEADERS: return headers_match[args][hdrs] == '1';
    default: return strcmp(binding_key, event_key) == 0;
  }
}
