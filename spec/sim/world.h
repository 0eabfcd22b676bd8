/* world: one run: the broker's model, the user with the session, the clock, and the chance between them. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "draw.h"
#include "ledger.h"
#include "model.h"
#include "plan.h"
#include "promise.h"
#include "user.h"

typedef struct tally {   /* of many runs: shows what they were made of */
  uint64_t seeds, steps, asked, confirms, confirmed, unconfirmed, delivered, settled, conns, ups, returned, refused;
  uint64_t timed_out, slowly;  /* events refused by a node that stands still */
  uint64_t redelivered, lost_legally;
  uint64_t sure, routed;  /* events whose queues were all known, and some of them */
  uint64_t faults[FAULT_COUNT];
} tally;

struct world {
  uint64_t seed;
  bool verbose;
  bool violated;
  bool poisoned;         /* the broker broke the protocol once */
  bool probing;          /* the end: everything was restored */
  char violation[400];
  unsigned step;
  eb_ms now;
  draw draw;
  plan plan;
  ledger ledger;
  promise promise;
  model broker;
  user user;
  tally tally;
};

world *world_new (void);
void world_free (world *w);

/* The run of a seed. False: w->violation tells what was broken, at w->step. */
bool world_run (world *w, uint64_t seed);

/* faults.c: perhaps one of the plan's. */
void faults_strike (world *w);

/* outcome.c: what must hold once the faults are over. True: it does, or 'why' is what does not yet. */
bool outcome_reached (world *w, const char **why);
void outcome_check (world *w);

#endif
