/* eb_poll: poll, until a moment in microseconds.
**
** Where there is no ppoll (macOS) it waits whole milliseconds, rounded up. Thread: any.
*/
#ifndef EB_POLL_H
#define EB_POLL_H

#include <poll.h>

#include "eb_clock.h"

/* 'now': of eb_clock_us. At most an hour before 'end'. As poll otherwise. */
int eb_poll (struct pollfd *fds, nfds_t n, eb_us now, eb_us end);

#endif
