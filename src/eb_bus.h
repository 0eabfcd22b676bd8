/* eb_bus: the two connections of a bus, and what may be under way on them.
**
** One connection publishes; the other, "control", consumes and changes the
** topology: so a publisher that the broker blocks never holds back the acks
** that would free the broker. Each is opened when first needed. A bus belongs
** to the process that made it. Thread: lua; one at a time.
*/
#ifndef EB_BUS_H
#define EB_BUS_H

#include "eb_io.h"
#include "eb_quiet.h"

typedef struct eb_bus eb_bus;

typedef enum eb_side { EB_CONTROL, EB_PUBLISH } eb_side;

typedef struct eb_bus_config {
  eb_io_config io;       /* its url is copied by taking ownership, below */
  size_t outbox_count;   /* operations under way */
  size_t outbox_bytes;   /* of bodies under way */
} eb_bus_config;

/* Takes over *url, which becomes empty, also when it fails. */
eb_bus *eb_bus_new (const eb_bus_config *config, eb_url *url, eb_error *err);

/* Ends both connections at once and joins their threads. In a forked child it
** only forgets. NULL allowed. */
void eb_bus_free (eb_bus *b);

bool eb_bus_start (eb_bus *b, eb_side side, eb_error *err);

/* Whether another operation with a body of 'bytes' may be posted; err says why
** not: closed, forked, full. */
bool eb_bus_may_post (eb_bus *b, size_t bytes, eb_error *err);

/* Whether one of no bytes may: without a reason, and quickly. */
bool eb_bus_has_room (const eb_bus *b);

/* A zeroed publish with 'extra' bytes of room; NULL when memory is out. */
eb_publish *eb_bus_new_publish (eb_bus *b, size_t extra);

/* Whether that publish can be sent at all: its body is within max_body, and AMQP
** can carry its names and headers. err says what is too large. */
bool eb_bus_check_publish (const eb_bus *b, const eb_publish *p,
                           eb_error *err);

/* Posts an operation, after eb_bus_may_post; its id is set and returned.
** 'urgent': the thread that sends it is woken for it. Without, it is sent when the
** caller waits, kicks, or some milliseconds have passed, a quiet publish sooner.
** 0: err says why; the item is freed. */
uint64_t eb_bus_post (eb_bus *b, eb_item *item, bool urgent, eb_error *err);

/* Settles a delivery, which the bus owns from then on. False: closed, forked, or
** stale, of a get whose channel is known to be gone; then the delivery is freed: the
** broker has it still. */
bool eb_bus_settle (eb_bus *b, eb_delivery *d, eb_settlement how,
                    eb_error *err);

/* The oldest answer, delivery or notice, now the caller's; NULL: none, and the
** descriptor is armed again. A quiet publish that succeeded is passed over, unless
** it is watched; one that is watched, or was, is no longer marked as quiet. */
eb_item *eb_bus_next (eb_bus *b);

/* The kind of what eb_bus_next would give; false: there is nothing. */
bool eb_bus_peek (eb_bus *b, eb_item_kind *kind);
/* After a peek: it is an operation that succeeded. */
bool eb_bus_next_succeeded (const eb_bus *b);

/* Whether quiet publishes were passed over since the last call: then there is room
** for others, and who waits for them may look. */
bool eb_bus_passed (eb_bus *b);
/* The quiet publishes under way. */
eb_quiet *eb_bus_quiet (eb_bus *b);

/* Readable while there may be something. */
int eb_bus_fd (const eb_bus *b);

/* Wakes the I/O threads for what was posted without urgency. */
void eb_bus_kick (eb_bus *b);

/* Kicks, then waits until there may be something, a signal came, or so many
** microseconds have passed (an hour at most). */
bool eb_bus_wait (eb_bus *b, eb_us us);

/* As eb_bus_wait, until that time, and quiet publishes that would be passed over do not
** end it. */
bool eb_bus_idle (eb_bus *b, eb_us end);

/* Waits, at most so many microseconds, for the success of that publish, and takes it.
** Deliveries may come before it, which keep their place; with such at hand it waits
** some milliseconds only. False: time is over, or something else is to be taken first,
** or a signal came. */
bool eb_bus_confirmed (eb_bus *b, uint64_t id, eb_us us);

/* Makes the descriptor readable, though nothing came: now, or in so many microseconds
** (an hour at most; a later call replaces an earlier one), up to a millisecond later, not
** before. False: no connection was started, so there is no thread to do it. */
void eb_bus_poke (eb_bus *b);
bool eb_bus_alarm (eb_bus *b, eb_us us);

/* For hosts that cannot watch the descriptor: a socket that gets a byte whenever
** it becomes readable. The host connects to the path that eb_bus_listen gives
** (NULL: err says why), then eb_bus_take_bell. */
const char *eb_bus_listen (eb_bus *b, eb_error *err);
bool eb_bus_take_bell (eb_bus *b, eb_error *err);

/* Begins an orderly end of both connections, until 'ms' from now. */
void eb_bus_shutdown (eb_bus *b, int64_t ms);
/* Both have ended: their 'closed' notices were taken. */
bool eb_bus_ended (const eb_bus *b);

bool eb_bus_forked (const eb_bus *b);
size_t eb_bus_under_way (const eb_bus *b);
void eb_bus_get_stats (eb_bus *b, eb_side side, eb_session_stats *to);

/* For a signal handler: makes eb_bus_wait return. */
const eb_wake *eb_bus_wake (const eb_bus *b);

#endif
