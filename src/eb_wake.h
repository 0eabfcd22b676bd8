/* eb_wake: a file descriptor that is readable while somebody is called.
**
** An eventfd where there is one, else a pipe; non-blocking, close-on-exec.
** Thread: eb_wake_ring any; eb_wake_clear the one that waits.
*/
#ifndef EB_WAKE_H
#define EB_WAKE_H

#include <stdbool.h>

typedef struct eb_wake {
  int read_fd;
  int write_fd;  /* the same as read_fd for an eventfd */
} eb_wake;

bool eb_wake_init (eb_wake *w);  /* false: out of descriptors */
void eb_wake_fini (eb_wake *w);  /* twice is fine after init or with fds -1 */

/* Makes read_fd readable. Never blocks; a full pipe is readable already.
** Safe in a signal handler. */
void eb_wake_ring (const eb_wake *w);

/* Makes it unreadable until the next ring. */
void eb_wake_clear (const eb_wake *w);

#endif
