/* Memory that runs out at each allocation of the engine in turn: an error, no crash, no leak. (The session has its own
 * such test, in session_test_memory.c.) */
#include "check.h"

#if defined(__GLIBC__)

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../src/eb_bus.h"
#include "../../src/eb_codec.h"
#include "../../src/eb_json.h"
#include "../../src/eb_quiet.h"
#include "scarce.h"

static atomic_bool inside;

/* Each run does one thing; false: it went wrong in another way than for want of memory. */

static bool url_run (void) {
  eb_url url;
  eb_error err;
  inside = true;
  bool ok = eb_url_parse("amqps://us%65r:pass%77ord@one.example:5671,two.example,[::1]/v%68ost?heartbeat=5&"
                         "cacertfile=%2Fetc%2Fca.pem&certfile=c&keyfile=k&server_name_indication=name", &url, &err);
  inside = false;
  if (!ok) return err.code == EB_ERR_NO_MEMORY;
  bool whole = url.host_count == 3 && strcmp(url.vhost, "vhost") == 0;
  eb_url_fini(&url);
  return whole;
}

static bool json_read_run (void) {
  static const char text[] = "{\"with \\u00e9scapes\":[\"\\n and more of them, so that it must grow: \\t\\t\\t\\t\","
                             "12345678901234567890.123456789012345678901234567890123456789012345678901234567890,1e5]}";
  eb_json j;
  eb_json_token t;
  inside = true;
  eb_json_init(&j, text, sizeof text - 1, EB_JSON_DEPTH);
  do {
    t = eb_json_next(&j);
  } while (t != EB_JSON_END && t != EB_JSON_ERROR);
  inside = false;
  bool ok = t == EB_JSON_END || j.err.code == EB_ERR_NO_MEMORY;
  eb_json_fini(&j);
  return ok;
}

static bool json_write_run (void) {
  eb_buffer out;
  size_t bad = 0;
  char text[2000];
  memset(text, '\n', sizeof text);
  eb_buffer_init(&out);
  inside = true;
  bool ok = eb_json_put_string(&out, text, sizeof text, &bad);
  bool told = ok || bad == SIZE_MAX;
  for (int i = 0; i < 200 && ok; i++) ok = eb_json_put_int(&out, INT64_MIN) && eb_json_put_double(&out, 1.0 / 3, true);
  inside = false;
  eb_buffer_fini(&out);
  return told && (ok || scarce_failed > 0);
}

/* A publish with headers, its arena and all, onto the wire. */
static bool publish_run (void) {
  static const eb_field nested = {EB_FIELD_STRING, {.bytes = {"text", 4}}};
  static eb_pair pair = {{"inner", 5}, {EB_FIELD_STRING, {.bytes = {"text", 4}}}};
  static const eb_table inner = {1, &pair};
  eb_error err;
  eb_buffer out;
  amqp_pool_t pool;
  bool ok = false;
  eb_buffer_init(&out);
  init_amqp_pool(&pool, 4096);
  inside = true;
  eb_publish *p = eb_item_new(EB_ITEM_PUBLISH, sizeof *p, 16);
  if (p != NULL) {
    const eb_field table = {EB_FIELD_TABLE, {.table = &inner}};
    const eb_table *headers = eb_table_with(p->item.arena, NULL, "one", &nested);
    if (headers != NULL) headers = eb_table_with(p->item.arena, headers, "two", &table);
    if (headers != NULL) headers = eb_table_copy(p->item.arena, headers);
    p->properties.headers = headers;
    p->body = eb_bytes_of(eb_arena_copy(p->item.arena, "body", 4), 4);
    if (headers != NULL && p->body.p != NULL) {
      ok = eb_codec_put_publish(&out, &pool, 1, p, EB_FRAME_MAX, &err);
      if (!ok && (eb_buffer_size(&out) > 0 || err.code != EB_ERR_NO_MEMORY)) scarce_failed = 0;  /* half of it */
    }
    eb_error_set(&err, EB_ERR_TIMEOUT, "not in time");
    eb_item_fail(&p->item, &err);
    if (p->item.code != EB_ERR_TIMEOUT) scarce_failed = 0;
    eb_item_free(&p->item);
  }
  inside = false;
  empty_amqp_pool(&pool);
  eb_buffer_fini(&out);
  return ok || scarce_failed > 0;
}

/* Many publishes under way, so that their ring grows: one that finds no room is not among them, and the rest are. */
static bool quiet_run (void) {
  enum { MANY = 5000 };
  eb_quiet q;
  eb_quiet_init(&q);
  size_t kept = 0;
  bool told = true;
  for (uint64_t id = 1; id <= MANY; id++) {
    inside = true;
    bool room = eb_quiet_reserve(&q, id);
    inside = false;
    if (room) eb_quiet_add(&q, id);
    told = told && (eb_quiet_look(&q, id) == EB_QUIET_OPEN) == room;
    kept += room;
  }
  bool good = told && q.open == kept && eb_quiet_count(&q, MANY) == kept && (kept == MANY || scarce_failed > 0);
  for (uint64_t id = 1; id <= MANY; id++) kept -= eb_quiet_take(&q, id) == EB_QUIET_OPEN;
  eb_quiet_fini(&q);
  return good && kept == 0;
}

/* A port of 127.0.0.1 where nobody listens. */
static unsigned closed_port (void) {
  struct sockaddr_in a;
  socklen_t size = sizeof a;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  memset(&a, 0, sizeof a);
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0) return 1;
  getsockname(fd, (struct sockaddr *)&a, &size);
  close(fd);
  return ntohs(a.sin_port);
}

/* A bus with both threads, which finds no broker: its publish is answered, and it ends. */
static bool bus_run (void) {
  char text[64];
  eb_url url;
  eb_error err;
  eb_bus_config c;
  snprintf(text, sizeof text, "amqp://127.0.0.1:%u", closed_port());
  memset(&c, 0, sizeof c);
  c.io.session.vhost = "/";
  c.io.session.user = c.io.session.password = c.io.session.connection_name = "x";
  c.io.session.window_count = 10;
  c.io.session.window_bytes = c.outbox_bytes = 1000;
  c.io.link.connection_timeout_ms = 1000;
  c.io.link.reconnect_delay_ms = c.io.link.reconnect_max_ms = 5;
  c.outbox_count = 10;
  if (!eb_url_parse(text, &url, &err)) return false;
  inside = true;
  bool good = true;
  eb_bus *b = eb_bus_new(&c, &url, &err);
  eb_publish *p = eb_item_new(EB_ITEM_PUBLISH, sizeof *p, 16);
  if (p != NULL) {
    p->exchange = p->routing_key = p->body = eb_bytes_of("x", 1);
    p->item.deadline = eb_clock_now() + 30;
  }
  uint64_t id = 0;
  if (b != NULL && p != NULL && eb_bus_start(b, EB_PUBLISH, &err) && eb_bus_start(b, EB_CONTROL, &err)) {
    id = eb_bus_post(b, &p->item, true, &err);
    p = NULL;
  }
  if (p != NULL) eb_item_free(&p->item);
  if (id != 0) {
    eb_item *item = NULL;
    for (int i = 0; i < 2000 && good; i++) {
      eb_bus_wait(b, 10 * EB_US_IN_MS);
      while ((item = eb_bus_next(b)) != NULL && item->kind != EB_ITEM_PUBLISH) eb_item_free(item);
      if (item != NULL) break;
    }
    good = item != NULL && item->id == id && item->code != EB_OK;
    eb_item_free(item);
  }
  inside = false;
  eb_bus_free(b);
  return good && (b != NULL || scarce_failed > 0);
}

TEST(a_url_is_parsed_or_refused_for_want_of_memory) { CHECK_INT(scarce_every(url_run), 0); }
TEST(json_is_read_or_refused_for_want_of_memory) { CHECK_INT(scarce_every(json_read_run), 0); }
TEST(json_is_written_or_not_for_want_of_memory) { CHECK_INT(scarce_every(json_write_run), 0); }
TEST(a_publish_is_encoded_whole_or_not_at_all) { CHECK_INT(scarce_every(publish_run), 0); }
TEST(quiet_publishes_are_counted_right_without_memory) {
  CHECK_INT(scarce_every(quiet_run), 0);
  CHECK_INT(scarce_for_good(quiet_run), 0);
}
TEST(a_bus_without_memory_answers_and_ends) { CHECK_INT(scarce_every(bus_run), 0); }

int main (void) {
  scarce_gate = &inside;
  RUN(a_url_is_parsed_or_refused_for_want_of_memory);
  RUN(json_is_read_or_refused_for_want_of_memory);
  RUN(json_is_written_or_not_for_want_of_memory);
  RUN(a_publish_is_encoded_whole_or_not_at_all);
  RUN(quiet_publishes_are_counted_right_without_memory);
  RUN(a_bus_without_memory_answers_and_ends);
  return check_done();
}

#else

/* Only the GNU C library lets itself be asked behind a malloc of ours. */
int main (void) {
  check_bad = 0;
  return check_done();
}

#endif
