/* eb_buffer: bytes come out as they went in, and memory moves only when it must. */
#include "../../src/eb_buffer.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

static bool holds (const eb_buffer *b, const char *text) {
  size_t n = strlen(text);
  return eb_buffer_size(b) == n &&
         (n == 0 || memcmp(eb_buffer_bytes(b), text, n) == 0);
}

TEST(appends_at_the_end_and_consumes_at_the_front) {
  eb_buffer b;
  eb_buffer_init(&b);
  CHECK(holds(&b, ""));
  CHECK(eb_buffer_append(&b, "hello ", 6));
  CHECK(eb_buffer_append(&b, NULL, 0));
  CHECK(eb_buffer_append(&b, "world", 5));
  CHECK(eb_buffer_putc(&b, '!'));
  CHECK(holds(&b, "hello world!"));
  eb_buffer_consume(&b, 6);
  CHECK(holds(&b, "world!"));
  eb_buffer_consume(&b, 0);
  eb_buffer_consume(&b, 6);
  CHECK(holds(&b, ""));
  CHECK_INT(b.head, 0);  /* empty: the room begins at the start again */
  eb_buffer_fini(&b);
  eb_buffer_fini(&b);
  eb_buffer_fini(NULL);
}

TEST(bytes_reserved_live_once_committed) {
  eb_buffer b;
  eb_buffer_init(&b);
  uint8_t *to = eb_buffer_reserve(&b, 1000);
  CHECK(to != NULL);
  memset(to, 'x', 1000);
  CHECK_INT(eb_buffer_size(&b), 0);
  eb_buffer_commit(&b, 3);
  CHECK(holds(&b, "xxx"));
  CHECK(eb_buffer_reserve(&b, 900) == to + 3);  /* there is room: no move */
  eb_buffer_fini(&b);
}

TEST(truncate_rolls_an_append_back) {
  eb_buffer b;
  eb_buffer_init(&b);
  CHECK(eb_buffer_append(&b, "..keep", 6));
  eb_buffer_consume(&b, 2);
  size_t mark = eb_buffer_size(&b);
  CHECK(eb_buffer_append(&b, "half a message", 14));
  eb_buffer_truncate(&b, mark);
  CHECK(holds(&b, "keep"));
  CHECK(eb_buffer_append(&b, "!", 1));
  CHECK(holds(&b, "keep!"));
  eb_buffer_truncate(&b, 0);
  CHECK(holds(&b, ""));
  eb_buffer_fini(&b);
}

TEST(consumed_room_is_used_again) {
  eb_buffer b;
  char block[100];
  memset(block, 'b', sizeof block);
  eb_buffer_init(&b);
  for (int i = 0; i < 100000; i++) {  /* one stays behind, always */
    CHECK(eb_buffer_append(&b, block, sizeof block));
    if (i > 0) eb_buffer_consume(&b, sizeof block);
  }
  CHECK(b.cap <= 512);
  eb_buffer_fini(&b);
}

TEST(impossible_sizes_are_refused_and_nothing_is_lost) {
  eb_buffer b;
  eb_buffer_init(&b);
  CHECK(eb_buffer_append(&b, "abc", 3));
  CHECK(eb_buffer_reserve(&b, SIZE_MAX) == NULL);
  CHECK(eb_buffer_reserve(&b, SIZE_MAX / 2) == NULL);
  CHECK(!eb_buffer_append(&b, "", SIZE_MAX - 1));
  CHECK(holds(&b, "abc"));
  eb_buffer_fini(&b);
}

TEST(shrink_gives_a_large_allocation_back_and_keeps_the_bytes) {
  eb_buffer b;
  eb_buffer_init(&b);
  eb_buffer_shrink(&b, 0);
  CHECK(eb_buffer_reserve(&b, 100000) != NULL);
  eb_buffer_shrink(&b, 1000);  /* idle */
  CHECK_INT(b.cap, 0);
  CHECK(eb_buffer_reserve(&b, 100000) != NULL);
  CHECK(eb_buffer_append(&b, "..keep", 6));
  eb_buffer_consume(&b, 2);
  eb_buffer_shrink(&b, 3);  /* it does not fit: nothing happens */
  CHECK(b.cap >= 100000 && holds(&b, "keep"));
  eb_buffer_shrink(&b, 4);
  CHECK_INT(b.cap, 4);
  CHECK(holds(&b, "keep"));
  CHECK(eb_buffer_append(&b, "ing", 3));
  CHECK(holds(&b, "keeping"));
  eb_buffer_fini(&b);
}

/* Against a model: one long array of bytes with two marks. */
TEST(any_sequence_gives_the_bytes_in_order) {
  enum { ALL = 1 << 18 };
  uint8_t *model = malloc(ALL);
  eb_buffer b;
  size_t head = 0, tail = 0, wrong = 0;
  uint64_t random = 1;
  eb_buffer_init(&b);
  if (model == NULL) abort();
  for (size_t i = 0; i < ALL; i++) model[i] = (uint8_t)(i * 31 + (i >> 8));
  for (;;) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    size_t n = (size_t)(random >> 40) % 700;
    if (n > ALL - tail) break;
    switch ((random >> 33) % 5) {
      case 0: case 1:
        wrong += !eb_buffer_append(&b, model + tail, n);
        tail += n;
        break;
      case 2:
        if (n > tail - head) n = tail - head;
        eb_buffer_consume(&b, n);
        head += n;
        break;
      case 3:
        if (n > tail - head) n = tail - head;
        eb_buffer_truncate(&b, n);
        tail = head + n;
        break;
      default:
        eb_buffer_shrink(&b, n);
    }
    wrong += eb_buffer_size(&b) != tail - head;
    if (tail > head) wrong += memcmp(eb_buffer_bytes(&b), model + head, tail - head) != 0;
    if (head == tail) head = tail = tail + 1;  /* go on in the model */
  }
  eb_buffer_fini(&b);
  free(model);
  CHECK_INT(wrong, 0);
}

int main (void) {
  RUN(appends_at_the_end_and_consumes_at_the_front);
  RUN(bytes_reserved_live_once_committed);
  RUN(truncate_rolls_an_append_back);
  RUN(consumed_room_is_used_again);
  RUN(impossible_sizes_are_refused_and_nothing_is_lost);
  RUN(shrink_gives_a_large_allocation_back_and_keeps_the_bytes);
  RUN(any_sequence_gives_the_bytes_in_order);
  return check_done();
}
