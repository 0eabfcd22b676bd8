/* eb_quiet: the publishes under way whose success nobody asked to hear of.
**
** Their confirms end where they are taken from the inbox, and become nothing in
** Lua; whoever wants to know asks, or watches one. A byte for each operation from
** the oldest that is open to the newest, in a ring that grows. Pure.
** Thread: lua.
*/
#ifndef EB_QUIET_H
#define EB_QUIET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum eb_quiet_state {
  EB_QUIET_NONE,    /* answered, or never quiet */
  EB_QUIET_OPEN,
  EB_QUIET_WATCHED  /* its answer is to be told, whatever it is */
} eb_quiet_state;

typedef struct eb_quiet {
  uint8_t *states;
  size_t size;     /* of the ring: 0, or a power of two */
  uint64_t first;  /* no older one is open */
  uint64_t end;    /* nor is this one, or any newer */
  size_t open;     /* how many are */
  uint64_t newest;
} eb_quiet;

void eb_quiet_init (eb_quiet *q);
void eb_quiet_fini (eb_quiet *q);

/* Makes room for an operation, newer than all before; false when memory is out. */
bool eb_quiet_reserve (eb_quiet *q, uint64_t id);
/* It is under way; room was made. */
void eb_quiet_add (eb_quiet *q, uint64_t id);

eb_quiet_state eb_quiet_look (const eb_quiet *q, uint64_t id);
/* It is answered: what it was until now. */
eb_quiet_state eb_quiet_take (eb_quiet *q, uint64_t id);
/* Its answer is to be told; false: it is answered already. */
bool eb_quiet_watch (eb_quiet *q, uint64_t id);

/* How many up to 'id' are open. Cost: as many as were made since the oldest. */
size_t eb_quiet_count (const eb_quiet *q, uint64_t id);
/* The newest that was added, open or not; 0 before the first. */
uint64_t eb_quiet_newest (const eb_quiet *q);
/* The oldest that is open, 0 when none is. */
uint64_t eb_quiet_oldest (const eb_quiet *q);

#endif
