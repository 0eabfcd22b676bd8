/* eb_io: one connection to the broker, kept alive by a thread of its own.
**
** The thread owns the session and its link, and gives them what they need: time,
** operations from the outbox, a sleep until something comes. It never touches a
** lua_State.
*/
#ifndef EB_IO_H
#define EB_IO_H

#include "eb_link.h"
#include "eb_mailbox.h"

typedef struct eb_io eb_io;

typedef struct eb_io_config {
  eb_session_config session;
  eb_link_config link;
  uint64_t id;                     /* stamped on the notices */
} eb_io_config;

/* Thread: lua. Copies what it needs; starts nothing. NULL: err says why. */
eb_io *eb_io_new (const eb_io_config *config, eb_inbox *inbox, eb_error *err);

/* Thread: lua. Starts the thread, once; false: err says why. All signals are
** blocked in it. */
bool eb_io_start (eb_io *io, eb_error *err);
bool eb_io_started (const eb_io *io);

/* Thread: lua. See eb_outbox_post; before the start items wait. */
void eb_io_post (eb_io *io, eb_item *item, bool urgent);
void eb_io_kick (eb_io *io);

/* Thread: lua. Rings the inbox at that time, if the thread was started. */
void eb_io_set_alarm (eb_io *io, eb_ms at);

/* Thread: lua. Begins the end; the notice 'closed' follows. */
void eb_io_stop (eb_io *io, eb_ms deadline);

/* Thread: lua. Ends it at once, whatever is under way, and joins the thread. */
void eb_io_free (eb_io *io);  /* NULL allowed */

/* Thread: lua. A snapshot, at most one turn of the loop old. */
void eb_io_get_stats (eb_io *io, eb_session_stats *to);

#endif
