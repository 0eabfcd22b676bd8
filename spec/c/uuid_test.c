/* eb_uuid: the form of RFC 9562, the order, and that none comes twice: not in
** one thread, between threads, nor between a process and its children. */
#include "../../src/eb_uuid.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/eb_clock.h"
#include "check.h"

typedef struct id {
  char text[EB_UUID_TEXT];
} id;

static int by_text (const void *a, const void *b) {
  return memcmp(a, b, sizeof(id));
}

/* How many are there twice. */
static size_t twice (id *ids, size_t n) {
  size_t count = 0;
  qsort(ids, n, sizeof *ids, by_text);
  for (size_t i = 1; i < n; i++) count += by_text(&ids[i - 1], &ids[i]) == 0;
  return count;
}

static bool make (id *ids, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!eb_uuid_v7(eb_clock_wall_ms(), ids[i].text)) return false;
  return true;
}

static bool well_formed (const char *p) {
  for (int i = 0; i < EB_UUID_TEXT; i++) {
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? p[i] != '-' : strchr("0123456789abcdef", p[i]) == NULL)
      return false;
  }
  return p[14] == '7' && strchr("89ab", p[19]) != NULL;
}

static int64_t ms_of (const char *p) {
  char hex[13];
  memcpy(hex, p, 8);
  memcpy(hex + 8, p + 9, 4);
  hex[12] = '\0';
  return (int64_t)strtoull(hex, NULL, 16);
}

TEST(the_form_is_that_of_version_7) {
  char text[EB_UUID_TEXT + 1];
  for (int i = 0; i < 100000; i++) {
    text[EB_UUID_TEXT] = '#';
    CHECK(eb_uuid_v7(eb_clock_wall_ms(), text));
    CHECK(text[EB_UUID_TEXT] == '#');
    text[EB_UUID_TEXT] = '\0';
    CHECK(well_formed(text));
  }
}

static void *first_of_a_thread (void *to) {
  id *one = to;
  if (!eb_uuid_v7(0x0123456789ab, one->text)) one->text[0] = '!';
  return NULL;
}

TEST(the_first_48_bits_are_the_milliseconds) {
  id one;
  pthread_t t;
  CHECK_INT(pthread_create(&t, NULL, first_of_a_thread, &one), 0);
  pthread_join(t, NULL);
  CHECK_MEM(one.text, 14, "01234567-89ab-", 14);
}

TEST(a_million_are_ascending_and_different) {
  enum { N = 1000000 };
  id *ids = malloc(N * sizeof *ids);
  CHECK(ids != NULL);
  bool ok = make(ids, N);
  size_t wrong = 0;
  for (size_t i = 1; i < N; i++) wrong += by_text(&ids[i - 1], &ids[i]) >= 0;
  int64_t ahead = ms_of(ids[N - 1].text) - eb_clock_wall_ms();
  free(ids);
  CHECK(ok);
  CHECK_INT(wrong, 0);
  CHECK(ahead < 1000);  /* the counter did not run away from the clock */
}

TEST(a_clock_that_stands_or_goes_back_keeps_the_order) {
  id last = {{0}}, next;
  int64_t now = eb_clock_wall_ms() + 10000;
  for (int i = 0; i < 20000; i++) {
    int64_t ms = i < 10000 ? now : now - i;
    CHECK(eb_uuid_v7(ms, next.text));
    CHECK(by_text(&last, &next) < 0);
    last = next;
  }
  CHECK(eb_uuid_v7(-5, next.text));
  CHECK(by_text(&last, &next) < 0);
}

enum { THREADS = 8, EACH = 125000 };

static void *fill (void *to) {
  return make(to, EACH) ? to : NULL;
}

TEST(threads_do_not_make_the_same) {
  id *ids = malloc((size_t)THREADS * EACH * sizeof *ids);
  pthread_t threads[THREADS];
  bool ok = true;
  CHECK(ids != NULL);
  for (int i = 0; i < THREADS; i++)
    ok = pthread_create(&threads[i], NULL, fill, ids + i * EACH) == 0 && ok;
  CHECK(ok);
  for (int i = 0; i < THREADS; i++) {
    void *done;
    pthread_join(threads[i], &done);
    ok = ok && done != NULL;
  }
  size_t same = twice(ids, (size_t)THREADS * EACH);
  free(ids);
  CHECK(ok);
  CHECK_INT(same, 0);
}

static bool read_all (int fd, void *to, size_t n) {
  char *p = to;
  while (n > 0) {
    ssize_t r = read(fd, p, n);
    if (r <= 0) return false;
    p += r;
    n -= (size_t)r;
  }
  return true;
}

/* Each child inherits a pool of random bytes half used, at one moment. */
TEST(forks_do_not_make_the_same) {
  enum { CHILDREN = 20, N = 5000 };
  size_t total = (CHILDREN + 1) * N;
  id *ids = malloc(total * sizeof *ids), one;
  int pipes[CHILDREN];
  CHECK(ids != NULL);
  CHECK(make(&one, 1));
  for (int c = 0; c < CHILDREN; c++) {
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      bool ok = make(ids, N);
      const char *p = (const char *)ids;
      for (size_t left = ok ? N * sizeof *ids : 0; left > 0;) {
        ssize_t w = write(ends[1], p, left);
        if (w <= 0) break;
        p += w;
        left -= (size_t)w;
      }
      _exit(0);
    }
    close(ends[1]);
    pipes[c] = ends[0];
  }
  bool ok = make(ids + CHILDREN * N, N);
  for (int c = 0; c < CHILDREN; c++) {
    ok = read_all(pipes[c], ids + c * N, N * sizeof *ids) && ok;
    close(pipes[c]);
    wait(NULL);
  }
  /* The random end alone must differ too: children count from one moment. */
  for (size_t i = 0; i < total; i++) memset(ids[i].text, '0', 19);
  size_t same = twice(ids, total);
  free(ids);
  CHECK(ok);
  CHECK_INT(same, 0);
}

/* A child of a child, and a child of a thread that is not the first. */
static void *fork_and_compare (void *unused) {
  (void)unused;
  id mine, theirs;
  int ends[2];
  if (!make(&mine, 1) || pipe(ends) != 0) return NULL;
  pid_t pid = fork();
  if (pid == 0) {
    pid_t inner = fork();
    id one;
    if (inner == 0 && make(&one, 1) && write(ends[1], &one, sizeof one) > 0)
      _exit(0);
    if (inner > 0) waitpid(inner, NULL, 0);
    _exit(0);
  }
  close(ends[1]);
  bool ok = make(&mine, 1) && read_all(ends[0], &theirs, sizeof theirs);
  close(ends[0]);
  waitpid(pid, NULL, 0);
  return ok && memcmp(mine.text + 19, theirs.text + 19, 17) != 0 ? "" : NULL;
}

TEST(a_grandchild_of_a_thread_makes_its_own) {
  pthread_t t;
  void *different;
  CHECK_INT(pthread_create(&t, NULL, fork_and_compare, NULL), 0);
  pthread_join(t, &different);
  CHECK(different != NULL);
}

int main (void) {
  RUN(the_form_is_that_of_version_7);
  RUN(the_first_48_bits_are_the_milliseconds);
  RUN(a_million_are_ascending_and_different);
  RUN(a_clock_that_stands_or_goes_back_keeps_the_order);
  RUN(threads_do_not_make_the_same);
  RUN(forks_do_not_make_the_same);
  RUN(a_grandchild_of_a_thread_makes_its_own);
  return check_done();
}
