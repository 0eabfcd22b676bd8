/* eb_link: names that take their time to be found, and names with more than one address. */
#include <errno.h>
#include <signal.h>

#include "addresses.h"
#include "io_peer.h"

static eb_bus *bus_on (const char *hosts, int64_t connection_timeout) {
  atomic_store(&gate_lookups, 0);
  atomic_store(&gate_open, false);
  return open_bus(hosts, connection_timeout);
}

/* The same port as another's, at an address of its own. */
static bool broker_start_at (broker *b, manner how, const char *address, unsigned port) {
  memset(b, 0, sizeof *b);
  b->manner = how;
  b->port = port;
  b->listener = new_listener(address, &b->port, 16, false);
  if (b->listener < 0) return false;
  broker_run(b);
  return true;
}

static bool looks_up (int count) {
  eb_ms until = eb_clock_now() + PATIENCE_MS;
  while (atomic_load(&gate_lookups) < count && eb_clock_now() < until) usleep(1000);
  return atomic_load(&gate_lookups) == count;
}

TEST(no_further_name_is_looked_up_at_the_end_when_nothing_waits_for_it) {
  eb_error err;
  eb_bus *bus = bus_on("a.nowhere.test,b.nowhere.test,c.nowhere.test", 5000);
  CHECK(bus != NULL && eb_bus_start(bus, EB_CONTROL, &err));
  CHECK(looks_up(1));
  eb_bus_shutdown(bus, 60000);
  atomic_store(&gate_open, true);
  CHECK(ends(bus, PATIENCE_MS));
  CHECK_INT(atomic_load(&gate_lookups), 1);
  eb_bus_free(bus);
}

/* It is all of a connection_timeout until the look-up ends. */
TEST(the_time_that_a_look_up_takes_is_not_taken_from_the_connection) {
  enum { TIMEOUT_MS = 2000 };
  static broker b;
  char hosts[100];
  broker_start(&b, NORMAL);
  snprintf(hosts, sizeof hosts, "a.gate.test:%u", b.port);
  eb_bus *bus = bus_on(hosts, TIMEOUT_MS);
  CHECK(bus != NULL);
  uint64_t id = publish(bus, PATIENCE_MS);
  CHECK(looks_up(1));
  eb_ms until = eb_clock_now() + TIMEOUT_MS;
  while (eb_clock_now() <= until) usleep(10000);
  atomic_store(&gate_open, true);
  CHECK_INT(answer_of(bus, id, NULL), EB_OK);
  eb_bus_free(bus);
  broker_stop(&b);
  CHECK_INT(atomic_load(&gate_lookups), 1);
}

/* The first swallows packets: with the second there is nothing left to wait for. */
TEST(an_address_that_is_left_for_one_without_a_way_to_it_says_so) {
  enum { TIMEOUT_MS = 1000 };
  blackhole hole;
  unsigned port = 0;
  char hosts[100], text[EB_ERROR_TEXT];
  CHECK(swallow(&hole, "127.0.0.2", &port));
  snprintf(hosts, sizeof hosts, "dead.test:%u", port);
  eb_bus *bus = bus_on(hosts, TIMEOUT_MS);
  CHECK(bus != NULL);
  /* Where the machine stood still over an attempt's end, its trouble is another: the next one's, then. */
  text[0] = '\0';
  for (int i = 0; i < 5 && strstr(text, strerror(ENETUNREACH)) == NULL; i++)
    CHECK_INT(answer_of(bus, publish(bus, 3 * TIMEOUT_MS), text), EB_ERR_TIMEOUT);
  if (strstr(text, strerror(ENETUNREACH)) == NULL) CHECK_FAIL("it says: %s", text);
  eb_bus_free(bus);
  spit(&hole);
}

/* A node that stands still still takes connections: its system does. */
TEST(an_address_that_takes_connections_and_says_nothing_is_left_for_the_next) {
  static broker frozen, good;
  char hosts[100];
  broker_start(&good, NORMAL);
  CHECK(broker_start_at(&frozen, SILENT, "127.0.0.2", good.port));
  snprintf(hosts, sizeof hosts, "two.test:%u", good.port);
  eb_bus *bus = bus_on(hosts, 500);
  CHECK(bus != NULL);
  CHECK_INT(answer_of(bus, publish(bus, PATIENCE_MS), NULL), EB_OK);
  CHECK(atomic_load(&frozen.accepted) > 0);
  eb_bus_free(bus);
  broker_stop(&frozen);
  broker_stop(&good);
}

int main (void) {
  signal(SIGPIPE, SIG_IGN);
  RUN(no_further_name_is_looked_up_at_the_end_when_nothing_waits_for_it);
  RUN(the_time_that_a_look_up_takes_is_not_taken_from_the_connection);
  RUN(an_address_that_is_left_for_one_without_a_way_to_it_says_so);
  RUN(an_address_that_takes_connections_and_says_nothing_is_left_for_the_next);
  return check_done();
}
