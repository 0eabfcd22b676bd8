/* eb_io and eb_bus against a broker of a few lines. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "io_peer.h"

TEST(a_publish_is_confirmed_and_the_end_is_in_order) {
  static broker b;
  broker_start(&b, NORMAL);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  eb_bus_shutdown(bus, PATIENCE_MS);
  eb_error err;
  CHECK(!eb_bus_may_post(bus, 0, &err));
  CHECK_INT(err.code, EB_ERR_CLOSED);
  CHECK(ends(bus, PATIENCE_MS));
  eb_bus_free(bus);
  broker_stop(&b);
  CHECK_INT(b.closed_in_order, 1);
}

TEST(a_refused_connect_goes_to_the_next_host) {
  static broker b;
  char hosts[100];
  broker_start(&b, NORMAL);
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", dead_port(), b.port);
  eb_bus *bus = open_bus(hosts, 5000);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(a_host_that_does_not_shake_hands_is_left_for_the_next) {
  static broker silent, b;
  char hosts[100];
  broker_start(&silent, SILENT);
  broker_start(&b, NORMAL);
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", silent.port, b.port);
  eb_bus *bus = open_bus(hosts, 200);
  CHECK(bus != NULL);
  eb_ms began = eb_clock_now();
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  CHECK(eb_clock_now() - began >= 200);
  eb_bus_free(bus);
  broker_stop(&silent);
  broker_stop(&b);
}

TEST(a_connection_that_the_broker_closes_is_made_again) {
  static broker b;
  broker_start(&b, FORCE_ONCE);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  CHECK_INT(b.connections, 2);
  CHECK(b.accepted <= 3);
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(refused_credentials_answer_at_once_and_end_the_attempts) {
  static broker b;
  char text[EB_ERROR_TEXT];
  broker_start(&b, REFUSE_LOGIN);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 60000), text), EB_ERR_REFUSED);
  CHECK(strstr(text, "Login was refused") != NULL);
  CHECK_INT(answer_of(bus, publish(bus, 60000), NULL), EB_ERR_REFUSED);
  CHECK_INT(b.accepted, 1);
  eb_bus_shutdown(bus, 60000);
  CHECK(ends(bus, PATIENCE_MS));
  eb_bus_free(bus);
  broker_stop(&b);
}

/* The first host is busy with the other connection: as a host of a cluster whose state the next does not know yet. */
TEST(a_refusal_is_not_final_when_the_other_connection_was_let_in) {
  static broker good, refusing;
  char hosts[100];
  eb_error err;
  broker_start(&good, NORMAL);
  broker_start(&refusing, REFUSE_LOGIN);
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u,127.0.0.1:%u", good.port, refusing.port);
  eb_bus *bus = open_bus(hosts, 1000);
  CHECK(bus != NULL && eb_bus_start(bus, EB_CONTROL, &err));
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  eb_session_stats s = {0};
  for (; s.connections == 0 && eb_clock_now() < until; usleep(1000)) eb_bus_get_stats(bus, EB_CONTROL, &s);
  do {
    CHECK_INT(answer_of(bus, publish(bus, 500), NULL), EB_ERR_TIMEOUT);
  } while (atomic_load(&refusing.accepted) < 2 && eb_clock_now() < until);
  CHECK(atomic_load(&refusing.accepted) > 1);
  eb_bus_free(bus);
  broker_stop(&good);
  broker_stop(&refusing);
}

/* Permissions may be given between the two. */
TEST(a_connection_that_gave_up_tries_again_when_the_other_was_let_in) {
  static broker b;
  eb_error err;
  broker_start(&b, REFUSE_ONCE);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_ERR_REFUSED);
  CHECK(eb_bus_start(bus, EB_CONTROL, &err));
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(&b.connections) == 0 && eb_clock_now() < until) eb_bus_wait(bus, 10 * EB_US_IN_MS);
  while (answer_of(bus, publish(bus, 100), NULL) == EB_ERR_REFUSED && eb_clock_now() < until) {}
  CHECK_INT(answer_of(bus, publish(bus, 100), NULL), EB_ERR_TIMEOUT);  /* the broker serves one at a time */
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(an_unreachable_broker_costs_no_processor) {
  char hosts[60];
  char text[EB_ERROR_TEXT];
  snprintf(hosts, sizeof hosts, "127.0.0.1:%u", dead_port());
  eb_bus *bus = open_bus(hosts, 5000);
  CHECK(bus != NULL);
  int64_t before = cpu_ms();
  CHECK_INT(answer_of(bus, publish(bus, 1000), text), EB_ERR_TIMEOUT);
  CHECK(strstr(text, "127.0.0.1") != NULL);
  CHECK(cpu_ms() - before < 500);
  eb_bus_free(bus);
}

TEST(a_connection_broken_by_the_broker_costs_no_processor_while_it_is_away) {
  static broker b;
  broker_start(&b, FORCE_ONCE);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  eb_error err;
  CHECK(eb_bus_start(bus, EB_PUBLISH, &err));
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(&b.connections) == 0 && eb_clock_now() < until) eb_bus_wait(bus, 10 * EB_US_IN_MS);
  broker_stop(&b);
  int64_t before = cpu_ms();
  CHECK_INT(answer_of(bus, publish(bus, 1000), NULL), EB_ERR_TIMEOUT);
  CHECK(cpu_ms() - before < 500);
  eb_bus_free(bus);
}

TEST(start_stop_and_free_at_any_moment) {
  static broker b;
  broker_start(&b, NORMAL);
  for (int round = 0; round < 150; round++) {
    eb_bus *bus = open_on(&b);
    eb_error err;
    CHECK(bus != NULL);
    if (round % 5 > 0) CHECK(eb_bus_start(bus, EB_PUBLISH, &err));
    if (round % 5 > 1) CHECK(publish(bus, 4 * PATIENCE_MS) != 0);
    for (volatile int spin = 0; spin < round * 2000; spin++) {}
    eb_ms began = eb_clock_now();
    if (round % 3 == 0) {
      eb_bus_shutdown(bus, 4 * PATIENCE_MS);
      CHECK(ends(bus, 4 * PATIENCE_MS));
    }
    eb_bus_free(bus);
    CHECK(eb_clock_now() - began < PATIENCE_MS);
  }
  broker_stop(&b);
}

TEST(abandoning_while_connecting_does_not_wait) {
  static broker b;
  char host[40];
  broker_start(&b, SILENT);
  snprintf(host, sizeof host, "127.0.0.1:%u", b.port);
  for (int round = 0; round < 20; round++) {
    eb_bus *bus = open_bus(host, 4 * PATIENCE_MS);
    eb_error err;
    CHECK(bus != NULL && eb_bus_start(bus, EB_CONTROL, &err));
    if (round % 2) usleep(2000);
    eb_ms began = eb_clock_now();
    eb_bus_free(bus);
    CHECK(eb_clock_now() - began < PATIENCE_MS);
  }
  broker_stop(&b);
}

TEST(closing_while_connecting_ends_when_nothing_waits_and_else_at_the_deadline) {
  static broker b;
  broker_start(&b, SILENT);
  eb_bus *bus = open_on(&b);
  eb_error err;
  CHECK(bus != NULL && eb_bus_start(bus, EB_PUBLISH, &err));
  usleep(20000);
  eb_ms began = eb_clock_now();
  eb_bus_shutdown(bus, 4 * PATIENCE_MS);
  CHECK(ends(bus, PATIENCE_MS));
  eb_bus_free(bus);
  bus = open_on(&b);
  CHECK(bus != NULL);
  uint64_t id = publish(bus, 60000);
  began = eb_clock_now();
  eb_bus_shutdown(bus, 300);
  CHECK_INT(answer_of(bus, id, NULL), EB_ERR_CLOSED);
  CHECK(eb_clock_now() - began >= 290);
  CHECK(ends(bus, PATIENCE_MS));
  CHECK_INT(eb_bus_under_way(bus), 0);
  eb_bus_free(bus);
  broker_stop(&b);
}

TEST(what_was_sent_and_not_confirmed_is_unknown_at_the_end) {
  static broker b;
  broker_start(&b, NEVER_CONFIRM);
  eb_bus *bus = open_on(&b);
  CHECK(bus != NULL);
  uint64_t id = publish(bus, 60000);
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(&b.publishes) == 0 && eb_clock_now() < until) usleep(1000);
  eb_bus_shutdown(bus, 100);
  int code = answer_of(bus, id, NULL);
  CHECK(code == EB_ERR_UNKNOWN || code == EB_ERR_CLOSED);
  CHECK_INT(code, EB_ERR_UNKNOWN);
  eb_bus_free(bus);
  broker_stop(&b);
}

#if !defined(EB_TSAN)  /* it does not follow into a child with threads left behind */

/* A child has no thread but its own: what the others held looks lost to a leak checker. This runs after the handlers of
 * the engine, and before the checker's. */
static int child_code = -1;

static void end_child (void) {
  if (child_code >= 0) _exit(child_code);
}

static void exit_child (int code) {
  child_code = code;
  exit(code);
}

static int child_status (pid_t pid) {
  int status = -1;
  for (int i = 0; i < PATIENCE_MS; i++) {
    pid_t r = waitpid(pid, &status, WNOHANG);
    if (r == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    usleep(1000);
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return 129;
}

TEST(exit_with_a_live_bus_joins_its_threads) {
  static broker b;
  broker_listen(&b, NORMAL);  /* its thread after the fork: a sanitizer's locks do not survive one */
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    static eb_bus *bus;  /* found by the leak checker */
    bus = open_on(&b);
    int code = bus == NULL ? 100 : answer_of(bus, publish(bus, PATIENCE_MS), NULL);
    if (code != EB_OK) _exit(10 + code);
    publish(bus, 5000);
    exit_child(0);
  }
  broker_run(&b);
  CHECK_INT(child_status(pid), 0);
  broker_stop(&b);
}

static atomic_bool exiting;
static eb_bus *bus_of_another;

static void note_exit (void) {
  atomic_store(&exiting, true);
}

/* While the exit waits for what is under way. */
static void *free_at_exit (void *unused) {
  while (!atomic_load(&exiting)) usleep(1000);
  usleep(100000);
  eb_bus_free(bus_of_another);
  return unused;
}

TEST(a_bus_that_another_thread_frees_during_an_exit_is_joined_once) {
  static broker b;
  broker_listen(&b, NEVER_CONFIRM);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    pthread_t thread;
    bus_of_another = open_on(&b);
    if (bus_of_another == NULL || publish(bus_of_another, 60000) == 0) _exit(10);
    if (pthread_create(&thread, NULL, free_at_exit, NULL) != 0) _exit(11);
    atexit(note_exit);  /* after the engine's: it runs before that */
    exit_child(0);
  }
  broker_run(&b);
  CHECK_INT(child_status(pid), 0);
  broker_stop(&b);
}

TEST(a_forked_child_answers_forked_and_leaves_the_connection_alone) {
  static broker b;
  broker_start(&b, NORMAL);
  static eb_bus *bus;
  bus = open_on(&b);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    eb_error err;
    int bad = 0;
    if (eb_bus_may_post(bus, 0, &err) || err.code != EB_ERR_FORKED) bad |= 1;
    if (eb_bus_next(bus) != NULL || eb_bus_wait(bus, 10 * EB_US_IN_MS)) bad |= 2;
    eb_bus_kick(bus);
    eb_bus_shutdown(bus, 10);
    eb_bus *own = open_on(&b);  /* its own: the broker serves one after the other, so it only starts */
    if (own == NULL || !eb_bus_start(own, EB_PUBLISH, &err)) bad |= 4;
    eb_bus_free(own);
    eb_bus_free(bus);
    exit_child(bad);
  }
  CHECK_INT(child_status(pid), 0);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  CHECK_INT(b.connections, 1);
  eb_bus_free(bus);
  broker_stop(&b);
}

#endif

int main (void) {
  signal(SIGPIPE, SIG_IGN);
#if !defined(EB_TSAN)
  atexit(end_child);
#endif
  RUN(a_publish_is_confirmed_and_the_end_is_in_order);
  RUN(a_refused_connect_goes_to_the_next_host);
  RUN(a_host_that_does_not_shake_hands_is_left_for_the_next);
  RUN(a_connection_that_the_broker_closes_is_made_again);
  RUN(refused_credentials_answer_at_once_and_end_the_attempts);
  RUN(a_refusal_is_not_final_when_the_other_connection_was_let_in);
  RUN(a_connection_that_gave_up_tries_again_when_the_other_was_let_in);
  RUN(an_unreachable_broker_costs_no_processor);
  RUN(a_connection_broken_by_the_broker_costs_no_processor_while_it_is_away);
  RUN(start_stop_and_free_at_any_moment);
  RUN(abandoning_while_connecting_does_not_wait);
  RUN(closing_while_connecting_ends_when_nothing_waits_and_else_at_the_deadline);
  RUN(what_was_sent_and_not_confirmed_is_unknown_at_the_end);
#if !defined(EB_TSAN)
  RUN(exit_with_a_live_bus_joins_its_threads);
  RUN(a_bus_that_another_thread_frees_during_an_exit_is_joined_once);
  RUN(a_forked_child_answers_forked_and_leaves_the_connection_alone);
#endif
  return check_done();
}
