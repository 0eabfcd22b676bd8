/* headers: any content header frame. Properties that are taken can be published again, and are taken as the same. */
#include <string.h>

#include "../../src/eb_codec.h"
#include "fuzz.h"

static bool headers_take (amqp_pool_t *pool, const uint8_t *p, size_t n, eb_arena *arena, eb_properties *to) {
  eb_frame frame = {AMQP_FRAME_HEADER, 1, p, n};
  eb_header header;
  eb_error err;
  if (!eb_codec_header(pool, &frame, &header, &err)) {
    FUZZ_WANT(err.code == EB_ERR_PROTOCOL && err.message[0] != '\0');
    return false;
  }
  if (header.bad_headers) FUZZ_WANT(header.properties->headers.num_entries == 0);
  return eb_codec_to_properties(arena, header.properties, to);
}

static void headers_again (const eb_properties *props) {
  eb_publish op;
  eb_properties again;
  eb_error err;
  eb_buffer out;
  eb_frame frame;
  amqp_pool_t pool;
  size_t used;
  memset(&op, 0, sizeof op);
  memset(&again, 0, sizeof again);
  op.properties = *props;
  op.exchange = op.routing_key = eb_bytes_of("x", 1);
  eb_buffer_init(&out);
  init_amqp_pool(&pool, 4096);
  eb_arena *arena = eb_arena_new(1024);
  if (arena != NULL && eb_codec_check_publish(&op, EB_FRAME_MAX, &err)) {
    FUZZ_WANT(eb_codec_put_publish(&out, &pool, 1, &op, EB_FRAME_MAX, &err));
    FUZZ_WANT(eb_codec_cut(eb_buffer_bytes(&out), eb_buffer_size(&out), EB_FRAME_MAX, &frame, &used, &err) == EB_CUT_FRAME);
    eb_buffer_consume(&out, used);
    FUZZ_WANT(eb_codec_cut(eb_buffer_bytes(&out), eb_buffer_size(&out), EB_FRAME_MAX, &frame, &used, &err) == EB_CUT_FRAME);
    FUZZ_WANT(used == eb_buffer_size(&out));
    FUZZ_WANT(headers_take(&pool, frame.payload, frame.size, arena, &again));
    FUZZ_WANT(eb_bytes_equal(again.message_id, props->message_id) && eb_bytes_equal(again.type, props->type));
    FUZZ_WANT(again.timestamp == props->timestamp && again.delivery_mode == props->delivery_mode);
    size_t before = props->headers == NULL ? 4 : eb_codec_table_size(props->headers);
    size_t after = again.headers == NULL ? 4 : eb_codec_table_size(again.headers);
    FUZZ_WANT(before == after);
  }
  eb_arena_free(arena);
  empty_amqp_pool(&pool);
  eb_buffer_fini(&out);
}

int fuzz_headers (const uint8_t *p, size_t n) {
  amqp_pool_t pool;
  eb_properties props;
  if (n > EB_FRAME_MAX) return 0;
  memset(&props, 0, sizeof props);
  init_amqp_pool(&pool, 4096);
  eb_arena *arena = eb_arena_new(1024);
  if (arena != NULL && headers_take(&pool, p, n, arena, &props)) headers_again(&props);
  eb_arena_free(arena);
  empty_amqp_pool(&pool);
  return 0;
}
