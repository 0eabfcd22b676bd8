/* eb_fork: whether this process is still the one it was.
**
** Asking the system for the process id costs a call each time; a counter that
** every fork advances in the child costs a load. Thread: any.
*/
#ifndef EB_FORK_H
#define EB_FORK_H

/* Differs between a process and each child it forked after the first call. */
unsigned eb_fork_generation (void);

#endif
