/* Memory runs out at every place where the session, or rabbitmq-c for it, asks for some. Included by session_test.c, but
 * not where a sanitizer owns malloc. */
#include <dlfcn.h>

void *__libc_malloc (size_t n);
void *__libc_calloc (size_t n, size_t size);
void *__libc_realloc (void *p, size_t n);
void __libc_free (void *p);
void *malloc (size_t n);
void *calloc (size_t n, size_t size);
void *realloc (void *p, size_t n);
void free (void *p);

static long memory_live, memory_asked, memory_fails_at, memory_failed;
static bool memory_librarys;  /* rabbitmq-c asked: its pools lose what they had when their list cannot grow */

static bool memory_out (const void *caller) {
  if (!peer_inside || memory_fails_at == 0) return false;
  if (++memory_asked != memory_fails_at) return false;
  Dl_info info;
  memory_librarys = dladdr(caller, &info) != 0 && strstr(info.dli_fname, "rabbitmq") != NULL;
  memory_failed++;
  return true;
}

void *malloc (size_t n) {
  void *p = memory_out(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
  if (p != NULL) memory_live++;
  return p;
}

void *calloc (size_t n, size_t size) {
  void *p = memory_out(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
  if (p != NULL) memory_live++;
  return p;
}

void *realloc (void *old, size_t n) {
  void *p = memory_out(__builtin_return_address(0)) ? NULL : __libc_realloc(old, n);
  if (p != NULL && old == NULL) memory_live++;
  return p;
}

void free (void *p) {
  if (p != NULL) memory_live--;
  __libc_free(p);
}

static void memory_drain (peer *p) {
  for (int i = 0; i < 100 && peer_next(p) != PEER_NOTHING; i++) {}
  if (!p->alive) peer_lost(p);
}

/* All that a session does once, as far as it comes; what it was answered does not matter, only that it was. */
static bool memory_run (void) {
  peer p;
  eb_session_config c = peer_config();
  c.heartbeat_s = 10;
  peer_init(&p, &c);
  if (p.s == NULL) return false;
  for (int round = 0; round < 3; round++) {
    if (!peer_up_with(&p, 100, 131072, 10)) peer_lost(&p);
    memory_drain(&p);
    if (eb_session_phase(p.s) != EB_PHASE_UP) continue;
    peer_declare(&p, "q");
    peer_bind_with(&p, EB_QUEUE_BIND, "q", "orders", NULL);
    if (p.alive && peer_next(&p) == AMQP_QUEUE_DECLARE_METHOD) {
      unsigned ch = p.channel;
      peer_declare_ok(&p, "q");
      p.channel = ch;
      peer_ok(&p, AMQP_QUEUE_BIND_OK_METHOD);
    }
    memory_drain(&p);
    uint64_t consumer = peer_subscribe(&p, "q", 10, 1000);
    uint32_t id;
    while ((id = peer_next(&p)) != PEER_NOTHING)
      if (id == AMQP_BASIC_CONSUME_METHOD) peer_consume_ok(&p);
    for (uint64_t tag = 1; tag <= 3 && p.alive; tag++) {
      if (tag == 1) put_messages(&p, 3);
      else peer_put_deliver(&p, 3, tag + 2), peer_put_header(&p, 3, NULL, 0);
      peer_flush(&p);
      eb_delivery *d = peer_delivery(&p);
      if (d != NULL) peer_settle(&p, d, tag == 2 ? EB_REJECT : EB_ACK);
    }
    memory_drain(&p);
    uint64_t get = peer_call(&p, EB_GET, "q", 1000);
    while ((id = peer_next(&p)) != PEER_NOTHING)
      if (id == AMQP_BASIC_GET_METHOD) peer_get_ok(&p, p.channel, 1, "got");
    eb_item *answer = peer_pick(&p, EB_ITEM_RPC, get, -1);
    if (answer != NULL) eb_item_free(answer);
    memory_drain(&p);
    for (int i = 0; i < 70; i++) peer_publish(&p, "body", 1000);
    memory_drain(&p);
    if (p.alive && peer_stats(&p).unconfirmed > 3 && eb_session_phase(p.s) == EB_PHASE_UP) peer_confirm(&p, 1, false);
    memory_drain(&p);
    peer_call(&p, EB_QUEUE_PURGE, "q", 50);
    peer_wait(&p, 60);
    memory_drain(&p);
    if (round == 1) peer_cancel(&p, consumer, 1000);
    memory_drain(&p);
    peer_sleep(&p, 200);
    peer_lost(&p);
  }
  return peer_end(&p);
}

TEST(memory_that_runs_out_anywhere_is_survived_and_leaked_nowhere) {
  memory_fails_at = 0;
  CHECK(memory_run());
  long before = memory_live;
  for (long n = 1; n < 5000; n++) {
    memory_asked = memory_failed = 0;
    before = memory_live;
    memory_fails_at = n;
    bool ok = memory_run();
    memory_fails_at = 0;
    if (!ok) CHECK_FAIL("the allocation number %ld", n);
    if (memory_live != before && !memory_librarys) CHECK_FAIL("%ld allocations leaked after the failed number %ld", memory_live - before, n);
    if (memory_failed == 0) return;
  }
  CHECK_FAIL("it never came to an end");
}
