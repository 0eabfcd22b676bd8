/* check: the least a C test program needs. One translation unit each; the last line is `N passed, N failed`.
 *
 *   TEST(name) { CHECK(1 + 1 == 2); CHECK_INT(f(), 3); CHECK_STR(s, "x"); }
 *   int main(void) { RUN(name); return check_done(); }
 *
 * A failed check ends its test (the function returns), and the next one runs.
 * Thread: the main one; threads a test starts hand their findings to it.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int check_passed, check_failed, check_bad;

#define TEST(name) static void name(void)

#define RUN(name) \
  do { \
    check_bad = 0; \
    name(); \
    if (check_bad) { \
      check_failed++; \
      printf("FAILED %s\n", #name); \
    } else { \
      check_passed++; \
    } \
    fflush(stdout); \
  } while (0)

#define CHECK_FAIL(...) \
  do { \
    printf("%s:%d: ", __FILE__, __LINE__); \
    printf(__VA_ARGS__); \
    printf("\n"); \
    check_bad = 1; \
    return; \
  } while (0)

#define CHECK(condition) \
  do { \
    if (!(condition)) CHECK_FAIL("not true: %s", #condition); \
  } while (0)

#define CHECK_INT(got, want) \
  do { \
    intmax_t check_got = (intmax_t)(got), check_want = (intmax_t)(want); \
    if (check_got != check_want) CHECK_FAIL("%s is %" PRIdMAX ", not %" PRIdMAX, #got, check_got, check_want); \
  } while (0)

#define CHECK_STR(got, want) \
  do { \
    const char *check_got = (got), *check_want = (want); \
    if (check_got == NULL || strcmp(check_got, check_want) != 0) \
      CHECK_FAIL("%s is \"%s\", not \"%s\"", #got, check_got ? check_got : "(null)", check_want); \
  } while (0)

#define CHECK_MEM(got, got_len, want, want_len) \
  do { \
    size_t check_got_len = (got_len), check_want_len = (want_len); \
    if (check_got_len != check_want_len) \
      CHECK_FAIL("%s has %zu bytes, not %zu", #got, check_got_len, check_want_len); \
    if (check_want_len > 0 && memcmp((got), (want), check_want_len) != 0) CHECK_FAIL("%s differs", #got); \
  } while (0)

static inline int check_done(void) {
  printf("%d passed, %d failed\n", check_passed, check_failed);
  return check_failed == 0 ? 0 : 1;
}

#endif
