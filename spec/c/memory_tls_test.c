/* Memory that runs out under TLS, at each allocation of ours and of OpenSSL's: an error that is no verdict on
 * certificates, and nothing of ours stays.
 *
 * OpenSSL's blocks are counted apart, each with the place in its source that asked for it. Its objects that we hold, the
 * contexts and the connections, must all be freed; what else it keeps after a failure is its own.
 */
#include "transport_peer.h"

#if defined(__GLIBC__)

#include <stdalign.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "scarce.h"

static atomic_bool inside;

/* OpenSSL's memory. All of it is asked for by one thread: the peers are another process. */

typedef struct block {
  alignas(max_align_t) struct block *next;
  struct block *before;
  const char *file;
  int line;
  long run;
} block;

static block blocks = {.next = &blocks, .before = &blocks};
static long block_count, run_number;
static const char *failed_file;
static int failed_line;

static void link_block (block *of) {
  of->next = blocks.next;
  of->before = &blocks;
  of->next->before = of;
  blocks.next = of;
  block_count++;
}

static void unlink_block (block *of) {
  of->next->before = of->before;
  of->before->next = of->next;
  block_count--;
}

static bool ours_only;

static bool ssl_out (const char *file, int line) {
  if (ours_only || !scarce_out()) return false;
  failed_file = file;
  failed_line = line;
  return true;
}

static void *ssl_malloc (size_t n, const char *file, int line) {
  if (ssl_out(file, line)) return NULL;
  block *of = SCARCE_REAL(malloc)(sizeof *of + n);
  if (of == NULL) return NULL;
  of->file = file;
  of->line = line;
  of->run = run_number;
  link_block(of);
  return of + 1;
}

static void ssl_free (void *p, const char *file, int line) {
  (void)file, (void)line;
  if (p == NULL) return;
  unlink_block((block *)p - 1);
  SCARCE_REAL(free)((block *)p - 1);
}

static void *ssl_realloc (void *p, size_t n, const char *file, int line) {
  if (p == NULL) return ssl_malloc(n, file, line);
  if (n == 0) {
    ssl_free(p, file, line);
    return NULL;
  }
  if (ssl_out(file, line)) return NULL;
  block *of = (block *)p - 1;
  unlink_block(of);
  block *moved = SCARCE_REAL(realloc)(of, sizeof *of + n);
  link_block(moved == NULL ? of : moved);
  return moved == NULL ? NULL : moved + 1;
}

/* Its objects that are alive. */

enum { OBJECTS = 16 };
static void *objects[OBJECTS];

static void born (void *object, void *p, CRYPTO_EX_DATA *ad, int i, long l, void *q) {
  (void)p, (void)ad, (void)i, (void)l, (void)q;
  for (int at = 0; at < OBJECTS; at++) {
    if (objects[at] != NULL) continue;
    objects[at] = object;
    return;
  }
}

static void dead (void *object, void *p, CRYPTO_EX_DATA *ad, int i, long l, void *q) {
  (void)p, (void)ad, (void)i, (void)l, (void)q;
  for (int at = 0; at < OBJECTS; at++)
    if (objects[at] == object) objects[at] = NULL;
}

static int alive (void) {
  int n = 0;
  for (int at = 0; at < OBJECTS; at++) n += objects[at] != NULL;
  return n;
}

/* The peer, which wants a client certificate, in a process of its own. */
static pid_t fork_peer (int listener, int version) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  SSL_CTX *ctx = demanding_context(version);
  const peer echo = {.manner = ECHO, .ctx = ctx};
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) treat(&echo, fd, ssl);
    SSL_free(ssl);
    close(fd);
  }
}

/* Runs. */

static unsigned port;
static long untold;  /* failures that pass for something else */
static eb_tls_options options;
static eb_tls *tls;

/* In some places, mostly for a big number, OpenSSL 3.0 notes no lack of memory, and says on the way up what cannot be told
 * from what is so: "ee key too small". Those are counted. */
static bool fair (const eb_error *err) {
  if (err->code == EB_ERR_NO_MEMORY || err->code == EB_ERR_CONNECTION) return true;
  if (err->code != EB_ERR_TLS || ours_only)
    printf("%s: %s (at %s:%d)\n", eb_code_name(err->code), err->message, failed_file, failed_line);
  untold++;
  return err->code == EB_ERR_TLS && !ours_only;
}

static bool end_run (bool ok, int before) {
  inside = false;
  int objects_left = alive() - before;
  if (objects_left != 0) printf("%d of OpenSSL's objects are left\n", objects_left);
  run_number++;
  return ok && objects_left == 0;
}

static bool settings_run (void) {
  eb_error err;
  eb_error_clear(&err);
  inside = true;
  eb_tls *made = eb_tls_new(&options, &err);
  bool ok = made != NULL || fair(&err);
  eb_tls_free(made);
  return end_run(ok, 0);
}

/* There and back; whoever fails may be tried again. */
static bool talk_run (void) {
  eb_error err;
  eb_error_clear(&err);
  size_t n;
  char byte = 'x';
  int before = alive();
  inside = true;
  eb_transport *t = eb_transport_open("127.0.0.1", port, 0, tls, &err);
  bool ok = t != NULL && drive(t, &err) == EB_IO_OK && write_some(t, &byte, 1, &n, &err) == EB_IO_OK &&
            read_some(t, &byte, 1, &n, &err) == EB_IO_OK;
  ok = ok || fair(&err);
  eb_transport_free(t);
  return end_run(ok, before);
}

/* OpenSSL asks ten thousand times: SCARCE_STEP=1 fails each, which takes half a minute. */
static long step (void) {
  const char *given = getenv("SCARCE_STEP");
  return given == NULL ? 29 : atol(given);
}

/* As scarce_every, of OpenSSL's allocations too, and wants OpenSSL to lose nothing: what it keeps of a failure, in its
 * caches and its queue of errors, it does not keep again of the same failure. */
static long every_of_openssl (bool (*run)(void)) {
  long most = 0, failures = 0;
  untold = 0;
  scarce_at(0);
  if (!run()) return -1;
  for (long n = 1;; n += step()) {
    if (!scarce_survives(run, n)) return n;
    if (scarce_failed == 0) break;
    failures++;
    for (int again = 0; again < 3 && block_count > most; again++) {
      most = block_count;
      if (!scarce_survives(run, n)) return n;
    }
    if (block_count <= most) continue;
    printf("OpenSSL loses blocks when %s:%d fails\n", failed_file, failed_line);
    return n;
  }
  if (untold * 16 > failures) printf("%ld of %ld failures pass for something else\n", untold, failures);
  return untold * 16 > failures ? -2 : 0;
}

static long every_of_ours (bool (*run)(void)) {
  ours_only = true;
  long n = scarce_every(run);
  ours_only = false;
  return n;
}

TEST(settings_without_memory_are_an_error) {
  CHECK_INT(every_of_ours(settings_run), 0);
  CHECK_INT(every_of_openssl(settings_run), 0);
}

TEST(a_connection_without_memory_is_an_error_and_no_verdict) {
  eb_error err;
  tls = eb_tls_new(&options, &err);
  CHECK(tls != NULL);
  CHECK_INT(every_of_ours(talk_run), 0);
  CHECK_INT(every_of_openssl(talk_run), 0);
  eb_tls_free(tls);
}

int main (void) {
  CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  make_certificates();
  CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, born, NULL, dead);
  CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, born, NULL, dead);
  int listener = new_listener("127.0.0.1", &port, 8, false);
  pid_t pid = fork_peer(listener, TLS1_3_VERSION);
  options = trusting("ca.pem");
  options.certfile = in_dir("client.pem");
  options.keyfile = in_dir("client.key");
  options.server_name = "localhost";
  scarce_gate = &inside;
  RUN(settings_without_memory_are_an_error);
  RUN(a_connection_without_memory_is_an_error_and_no_verdict);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  remove_certificates();
  return check_done();
}

#else

int main (void) {
  check_bad = 0;
  return check_done();
}

#endif
