/* eb_io: one connection to the broker, kept alive by a thread of its own.
**
** The thread drives a session and its link: gives them time and operations from
** the outbox, puts what happened into the inbox, sleeps until something comes. It
** never touches a lua_State.
**
** While the Lua thread waits it may lead: do the same work in place of the thread,
** so that a publish and its confirm wake no other thread. What both drive is under
** one lock, which nobody holds while he polls. The thread comes back by itself when
** the time of the last lead is over; until then a connection may be left alone. It
** alone connects, closes sockets, and speaks TLS.
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
void eb_io_post (eb_io *io, eb_item *item, eb_haste haste);
void eb_io_kick (eb_io *io);

enum { EB_IO_LEAD_MS = 10 };

/* Thread: lua, about to wait. Does a turn if there is a reason; 'readable': the
** socket was polled as such. Then the caller looks into the inbox, polls for *fd
** and *events until *deadline or 'until' at most, and leaves. The thread comes back
** at 'until'. False: it does it all (it is at work, connects, ends, or has TLS), and
** is to be kicked. */
bool eb_io_lead (eb_io *io, eb_ms now, eb_ms until, bool readable, int *fd,
                 short *events, eb_ms *deadline);
/* Thread: lua. The descriptor is no longer polled. */
void eb_io_leave (eb_io *io);

/* Thread: lua. Rings the inbox at that time, if the thread was started. */
void eb_io_set_alarm (eb_io *io, eb_ms at);

/* Thread: lua. Begins the end; the notice 'closed' follows. */
void eb_io_stop (eb_io *io, eb_ms deadline);

/* Thread: lua. Ends it at once, whatever is under way, and joins the thread. */
void eb_io_free (eb_io *io);  /* NULL allowed */

/* Thread: lua. A snapshot, at most one turn of the loop old. */
void eb_io_get_stats (eb_io *io, eb_session_stats *to);

#endif
