/* eb_codec: frames and methods, between bytes and structs, by rabbitmq-c.
**
** rabbitmq-c is used for what it is exact at: the encoding of methods,
** properties and field tables. Frames are cut here, hostile lengths and nesting
** are refused here, before its decoder sees them (see docs/adr/0002).
** Only the session includes this. Thread: io only; pure.
*/
#ifndef EB_CODEC_H
#define EB_CODEC_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#include "eb_buffer.h"
#include "eb_error.h"
#include "eb_item.h"

enum {
  EB_FRAME_OVERHEAD = 8,      /* type, channel, size; end mark */
  EB_FRAME_MIN_MAX = 4096,    /* AMQP 0-9-1 section 4.2.3 */
  EB_FRAME_MAX = 131072       /* what we ask for */
};

typedef struct eb_frame {
  uint8_t type;
  uint16_t channel;
  const uint8_t *payload;
  size_t size;
} eb_frame;

typedef enum eb_cut { EB_CUT_FRAME, EB_CUT_MORE, EB_CUT_BAD } eb_cut;

/* The first frame of n bytes. *used: what it takes off the front. */
eb_cut eb_codec_cut (const uint8_t *p, size_t n, size_t frame_max,
                     eb_frame *frame, size_t *used, eb_error *err);

/* A method frame, decoded into 'pool'; strings point into the frame. */
bool eb_codec_method (amqp_pool_t *pool, const eb_frame *frame,
                      amqp_method_t *method, eb_error *err);

typedef struct eb_header {
  uint64_t body_size;
  amqp_basic_properties_t *properties;
  bool bad_headers;  /* nested too deep: left out */
} eb_header;

/* A content header frame, likewise. */
bool eb_codec_header (amqp_pool_t *pool, const eb_frame *frame,
                      eb_header *header, eb_error *err);

/* Appends a method frame. On false nothing was appended. */
bool eb_codec_put_method (eb_buffer *out, uint16_t channel,
                          amqp_method_number_t id, void *decoded,
                          size_t size_hint, eb_error *err);

/* Appends basic.publish with its content: all of it, or on false nothing. */
bool eb_codec_put_publish (eb_buffer *out, amqp_pool_t *pool, uint16_t channel,
                           const eb_publish *p, size_t frame_max,
                           eb_error *err);

/* Whether the content header of these properties fits one frame, and every
** short string its 255 bytes: asked before a publish is queued. */
bool eb_codec_check_publish (const eb_publish *p, size_t frame_max,
                             eb_error *err);

bool eb_codec_put_heartbeat (eb_buffer *out);
bool eb_codec_put_greeting (eb_buffer *out);  /* "AMQP" 0 0 9 1 */

amqp_bytes_t eb_codec_bytes (eb_bytes b);
amqp_bytes_t eb_codec_cstring (const char *s);

/* The text under a key; "" when there is none. */
amqp_bytes_t eb_codec_find_text (const amqp_table_t *table, const char *key);

/* Bytes a table takes on the wire. */
size_t eb_codec_table_size (const eb_table *t);

/* 't' in rabbitmq-c's form, allocated from 'pool'; NULL is the empty table. */
bool eb_codec_from_table (amqp_pool_t *pool, const eb_table *t,
                          amqp_table_t *to);

/* Likewise; strings are shared, not copied. */
bool eb_codec_from_properties (amqp_pool_t *pool, const eb_properties *from,
                               amqp_basic_properties_t *to);

/* Copies into an arena. False: memory is out. */
bool eb_codec_to_bytes (eb_arena *a, amqp_bytes_t from, eb_bytes *to);
bool eb_codec_to_properties (eb_arena *a, const amqp_basic_properties_t *from,
                             eb_properties *to);

#endif
