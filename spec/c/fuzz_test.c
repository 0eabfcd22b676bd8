/* The fuzzing targets over what is kept of their inputs: corpora, and inputs that once broke something. */
#include <dirent.h>

#include "check.h"

#include "../fuzz/headers.c"
#include "../fuzz/json.c"
#include "../fuzz/json_write.c"
#include "../fuzz/session.c"
#include "../fuzz/time.c"
#include "../fuzz/url.c"

static size_t fuzz_file (const char *path, int (*target)(const uint8_t *, size_t)) {
  FILE *f = fopen(path, "rb");
  static uint8_t bytes[1 << 20];
  if (f == NULL) return 0;
  size_t n = fread(bytes, 1, sizeof bytes, f);
  fclose(f);
  uint8_t *just = malloc(n + (n == 0));  /* so that reading past them is noticed */
  if (just == NULL) return 0;
  memcpy(just, bytes, n);
  target(just, n);
  free(just);
  return 1;
}

/* How many files of spec/fuzz/KIND/NAME were run. */
static size_t fuzz_folder (const char *kind, const char *name, int (*target)(const uint8_t *, size_t)) {
  char path[1024];
  size_t count = 0;
  snprintf(path, sizeof path, "spec/fuzz/%s/%s", kind, name);
  DIR *dir = opendir(path);
  if (dir == NULL) return 0;
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "spec/fuzz/%s/%s/%.200s", kind, name, e->d_name);
    count += fuzz_file(path, target);
  }
  closedir(dir);
  return count;
}

#define FUZZ_TEST(name) \
  TEST(name##_of_every_kept_input_breaks_nothing) { \
    fuzz_folder("regressions", #name, fuzz_##name); \
    CHECK(fuzz_folder("corpus", #name, fuzz_##name) > 0); \
  }

FUZZ_TEST(handshake)
FUZZ_TEST(session)
FUZZ_TEST(url)
FUZZ_TEST(json)
FUZZ_TEST(json_write)
FUZZ_TEST(time)
FUZZ_TEST(headers)

int main (void) {
  RUN(handshake_of_every_kept_input_breaks_nothing);
  RUN(session_of_every_kept_input_breaks_nothing);
  RUN(url_of_every_kept_input_breaks_nothing);
  RUN(json_of_every_kept_input_breaks_nothing);
  RUN(json_write_of_every_kept_input_breaks_nothing);
  RUN(time_of_every_kept_input_breaks_nothing);
  RUN(headers_of_every_kept_input_breaks_nothing);
  return check_done();
}
