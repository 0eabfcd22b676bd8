/* simulate: eb_session against a model of a broker, by bytes and virtual time, with faults drawn from a seed.
 *
 *   simulate [--first N] [--seeds N] [--jobs N] [--failures N]   many runs, until so many have violated a promise
 *   simulate --seed N [-v]     one run; -v writes every step
 *   simulate --list FILE ...   first the seeds of a file, one a line, # begins a comment
 *
 * The last line is `N passed, N failed`.
 */
#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MOST = 64, SEED_SECONDS = 60 };

typedef struct job {      /* shared with its process */
  uint64_t seed;          /* at work on */
  volatile uint64_t failed;  /* the others look at it */
  tally tally;
} job;

typedef struct options {
  uint64_t first, seeds, failures, one;
  int jobs;
  bool single, verbose;
  const char *list;
} options;

static const char *program;

static void replay (uint64_t seed) {
  printf("    replay: %s --seed %llu -v\n", program, (unsigned long long)seed);
}

static bool run_one (world *w, uint64_t seed) {
  if (world_run(w, seed)) return true;
  printf("seed %llu, step %u: %s\n", (unsigned long long)seed, w->step, w->violation);
  return false;
}

static bool enough_failed (const job *jobs, const options *o) {
  uint64_t n = 0;
  for (int i = 0; i < o->jobs; i++) n += jobs[i].failed;
  return n >= o->failures;
}

/* Every jobs-th seed of the range. */
static void work (job *jobs, const options *o, int number) {
  job *j = &jobs[number];
  world *w = world_new();
  if (w == NULL) exit(2);
  for (uint64_t i = (uint64_t)number; i < o->seeds && !enough_failed(jobs, o); i += (uint64_t)o->jobs) {
    j->seed = o->first + i;
    alarm(SEED_SECONDS);
    if (run_one(w, j->seed)) continue;
    replay(j->seed);
    fflush(stdout);
    j->failed++;
  }
  alarm(0);
  j->tally = w->tally;
  world_free(w);
}

static void add (tally *to, const tally *from) {
  const uint64_t *f = (const uint64_t *)from;
  uint64_t *t = (uint64_t *)to;
  for (size_t i = 0; i < sizeof *to / sizeof *t; i++) t[i] += f[i];
}

static void print_tally (const tally *t, double seconds) {
#define N(x) (unsigned long long)t->x
  printf("simulate: %llu seeds, %llu steps, %.1f s, %.0f seeds/s\n", N(seeds), N(steps), seconds,
         (double)t->seeds / (seconds > 0 ? seconds : 1));
  printf("  asked %llu, confirmed %llu, taken without a confirm %llu, timed out %llu, returned %llu, refused %llu, slowly %llu\n",
         N(asked), N(confirmed), N(unconfirmed), N(timed_out), N(returned), N(refused), N(slowly));
  printf("  delivered %llu, again %llu, settled %llu, lost by right %llu, connections %llu, up %llu\n", N(delivered),
         N(redelivered), N(settled), N(lost_legally), N(conns), N(ups));
  printf("  published where a queue is known to be bound %llu, where all are known %llu\n", N(routed), N(sure));
  printf("  faults:");
  for (int f = 0; f < FAULT_COUNT; f++) printf("%s %s %llu", f ? "," : "", fault_name((fault)f), N(faults[f]));
  printf("\n");
#undef N
}

static int verdict (uint64_t passed, uint64_t failed) {
  printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

/* All seeds of the range together pass, or each that failed counts. */
static int simulate (const options *o, uint64_t passed, uint64_t failed_before) {
  job *jobs = mmap(NULL, sizeof *jobs * JOBS_MOST, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pids[JOBS_MOST];
  struct timespec from, to;
  uint64_t failed = 0;
  tally all;
  if (jobs == MAP_FAILED) return 2;
  memset(&all, 0, sizeof all);
  clock_gettime(CLOCK_MONOTONIC, &from);
  fflush(stdout);
  for (int i = 0; i < o->jobs; i++) {
    pids[i] = fork();
    if (pids[i] < 0) return 2;
    if (pids[i] > 0) continue;
    work(jobs, o, i);
    exit(0);
  }
  for (int i = 0; i < o->jobs; i++) {
    int status;
    if (waitpid(pids[i], &status, 0) < 0) return 2;
    if (status != 0) {
      jobs[i].failed++;
      printf("seed %llu: %s\n", (unsigned long long)jobs[i].seed,
             !WIFSIGNALED(status) ? "the process failed" : WTERMSIG(status) == SIGALRM ? "it hangs" : "it crashed");
      replay(jobs[i].seed);
    }
    failed += jobs[i].failed;
    add(&all, &jobs[i].tally);
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  print_tally(&all, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
  return verdict(passed + (failed == 0), failed_before + failed);
}

static int simulate_one (const options *o) {
  world *w = world_new();
  if (w == NULL) return 2;
  w->verbose = o->verbose;
  bool ok = run_one(w, o->one);
  world_free(w);
  return verdict(ok, !ok);
}

/* How many of them passed. */
static uint64_t run_list (const options *o, uint64_t *failed) {
  FILE *f = fopen(o->list, "r");
  world *w = world_new();
  char line[512];
  uint64_t passed = 0;
  if (f == NULL || w == NULL) {
    fprintf(stderr, "simulate: cannot read %s\n", o->list);
    exit(2);
  }
  while (fgets(line, sizeof line, f) != NULL) {
    char *end;
    unsigned long long seed = strtoull(line, &end, 10);
    if (end == line) continue;
    if (run_one(w, seed)) {
      passed++;
      continue;
    }
    ++*failed;
    replay(seed);
  }
  fclose(f);
  world_free(w);
  return passed;
}

static int usage (void) {
  fprintf(stderr, "usage: simulate [--list FILE] [--first N] [--seeds N] [--jobs N] [--failures N] | --seed N [-v]\n");
  return 2;
}

int main (int argc, char **argv) {
  options o = {1, 1000, 10, 0, (int)sysconf(_SC_NPROCESSORS_ONLN), false, false, NULL};
  program = argv[0];
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (strcmp(name, "-v") == 0) {
      o.verbose = true;
      continue;
    }
    if (i + 1 == argc) return usage();
    const char *value = argv[++i];
    if (strcmp(name, "--first") == 0) o.first = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seeds") == 0) o.seeds = strtoull(value, NULL, 10);
    else if (strcmp(name, "--failures") == 0) o.failures = strtoull(value, NULL, 10);
    else if (strcmp(name, "--jobs") == 0) o.jobs = atoi(value);
    else if (strcmp(name, "--list") == 0) o.list = value;
    else if (strcmp(name, "--seed") == 0) o.one = strtoull(value, NULL, 10), o.single = true;
    else return usage();
  }
  if (o.jobs < 1) o.jobs = 1;
  if (o.jobs > JOBS_MOST) o.jobs = JOBS_MOST;
  if (o.single) return simulate_one(&o);
  uint64_t failed = 0, passed = o.list != NULL ? run_list(&o, &failed) : 0;
  return simulate(&o, passed, failed);
}
