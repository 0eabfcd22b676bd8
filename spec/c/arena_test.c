/* eb_arena: what it gives is aligned, distinct, and stays good until the end. */
#include "../../src/eb_arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

TEST(allocations_are_aligned_for_any_type) {
  eb_arena *a = eb_arena_new(10);
  CHECK(a != NULL);
  for (size_t n = 0; n < 200; n++) {
    void *p = eb_arena_alloc(a, n);
    CHECK(p != NULL);
    CHECK_INT((uintptr_t)p % alignof(max_align_t), 0);
    memset(p, 0x55, n);  /* ASan watches the end of the chunk */
  }
  eb_arena_free(a);
}

TEST(allocations_do_not_overlap) {
  enum { COUNT = 2000 };
  static unsigned char *at[COUNT];
  eb_arena *a = eb_arena_new(100);
  size_t wrong = 0;
  CHECK(a != NULL);
  for (int i = 0; i < COUNT; i++) {
    size_t n = (size_t)(i * 37 % 1500);
    at[i] = eb_arena_alloc(a, n);
    CHECK(at[i] != NULL);
    memset(at[i], i & 0xFF, n);
  }
  for (int i = 0; i < COUNT; i++)
    for (size_t k = 0; k < (size_t)(i * 37 % 1500); k++)
      wrong += at[i][k] != (i & 0xFF);
  CHECK_INT(wrong, 0);
  eb_arena_free(a);
}

TEST(what_fits_the_hint_is_one_allocation) {
  eb_arena *a = eb_arena_new(1000);
  CHECK(a != NULL);
  size_t before = eb_arena_size(a);
  CHECK(before >= 1000);
  CHECK(eb_arena_alloc(a, 900) != NULL);
  CHECK_INT(eb_arena_size(a), before);
  CHECK(eb_arena_alloc(a, 900) != NULL);
  CHECK(eb_arena_size(a) >= before + 900);
  eb_arena_free(a);
}

TEST(copies_end_with_a_zero_that_does_not_count) {
  eb_arena *a = eb_arena_new(0);
  CHECK(a != NULL);
  char *s = eb_arena_copy(a, "a\0b", 3);
  CHECK(s != NULL);
  CHECK_MEM(s, 4, "a\0b\0", 4);
  char *empty = eb_arena_copy(a, NULL, 0);
  CHECK(empty != NULL && empty[0] == '\0');
  CHECK(empty != s);
  eb_arena_free(a);
}

TEST(impossible_sizes_are_refused_and_nothing_is_lost) {
  eb_arena *a = eb_arena_new(64);
  CHECK(a != NULL);
  char *s = eb_arena_copy(a, "kept", 4);
  CHECK(eb_arena_new(SIZE_MAX) == NULL);
  CHECK(eb_arena_new(SIZE_MAX / 4 + 1) == NULL);
  CHECK(eb_arena_alloc(a, SIZE_MAX) == NULL);
  CHECK(eb_arena_alloc(a, SIZE_MAX / 2) == NULL);
  CHECK(eb_arena_copy(a, "", SIZE_MAX) == NULL);
  CHECK_STR(s, "kept");
  CHECK(eb_arena_alloc(a, 10) != NULL);
  eb_arena_free(a);
  eb_arena_free(NULL);
}

TEST(what_is_spare_is_used_again_if_it_is_large_enough) {
  eb_spares s = {NULL, 0};
  eb_arena *a = eb_spares_take(&s, 700);
  CHECK(a != NULL && eb_arena_alloc(a, 700) != NULL);
  eb_spares_give(&s, a);
#if !defined(EB_ASAN)
  CHECK(eb_spares_take(&s, 1000) == a);
  CHECK(eb_arena_alloc(a, 1000) != NULL);
  eb_spares_give(&s, a);
#endif
  a = eb_spares_take(&s, 3000);
  CHECK(a != NULL && eb_arena_alloc(a, 3000) != NULL);
  CHECK_INT(s.bytes, 0);
  CHECK(eb_arena_alloc(a, 3000) != NULL);  /* more than its own chunk: not kept */
  eb_spares_give(&s, a);
  CHECK_INT(s.bytes, 0);
  eb_spares_fini(&s);
}

TEST(each_size_up_to_a_page_is_kept_and_serves_the_same_again) {
  for (size_t hint = 1; hint <= 4096; hint++) {
    eb_spares s = {NULL, 0};
    eb_arena *a = eb_spares_take(&s, hint);
    CHECK(a != NULL && eb_arena_alloc(a, hint) != NULL);
    eb_spares_give(&s, a);
#if !defined(EB_ASAN)
    CHECK(s.first == a);
    CHECK(eb_spares_take(&s, hint) == a);
    eb_spares_give(&s, a);
#endif
    eb_spares_fini(&s);
  }
}

TEST(spares_are_bounded) {
  enum { MANY = 4000 };
  static eb_arena *all[MANY];
  eb_spares s = {NULL, 0};
  size_t kept = 0;
  for (size_t i = 0; i < MANY; i++) {
    all[i] = eb_spares_take(&s, i % 2 == 0 ? 1500 : 5000);
    CHECK(all[i] != NULL);
  }
  for (size_t i = 0; i < MANY; i++) eb_spares_give(&s, all[i]);
  CHECK(s.bytes <= EB_SPARES);
  while (s.first != NULL) {
    eb_arena_free(eb_spares_take(&s, 1));
    kept++;
  }
  CHECK(kept <= EB_SPARES / 1500 + 1);
#if !defined(EB_ASAN)
  CHECK(kept >= 1000);  /* a window of small ones */
#endif
  eb_spares_fini(&s);
  CHECK_INT(s.bytes, 0);
}

int main (void) {
  RUN(allocations_are_aligned_for_any_type);
  RUN(allocations_do_not_overlap);
  RUN(what_fits_the_hint_is_one_allocation);
  RUN(copies_end_with_a_zero_that_does_not_count);
  RUN(impossible_sizes_are_refused_and_nothing_is_lost);
  RUN(what_is_spare_is_used_again_if_it_is_large_enough);
  RUN(each_size_up_to_a_page_is_kept_and_serves_the_same_again);
  RUN(spares_are_bounded);
  return check_done();
}
