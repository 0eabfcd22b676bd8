/* addresses: names of several addresses, or that take their time to be found, and what listens at an address.
 *
 *   two.test          127.0.0.2, then 127.0.0.1, whatever the machine's hosts file says
 *   dead.test         127.0.0.2, then one that no connection can be made to: that is known at once
 *   N.gate.test       127.0.0.1, as soon as the test opens the gate; each look-up is counted
 *   N.nowhere.test    the same, but has no address
 *
 * Our getaddrinfo comes before the C library's, and asks it for all others. */
#ifndef ADDRESSES_H
#define ADDRESSES_H

/* Each program uses its part. */
#pragma GCC diagnostic ignored "-Wunused-function"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TINY = 2048 };  /* send buffers (small windows make loopback crawl) */

/* Look-ups of the names with a gate: how many began, and whether they may end. */
static atomic_int gate_lookups;
static atomic_bool gate_open;

static bool ends_with (const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n >= m && strcmp(name + n - m, end) == 0;
}

static void wait_at_the_gate (void) {
  atomic_fetch_add(&gate_lookups, 1);
  for (int i = 0; i < 20000 && !atomic_load(&gate_open); i++) usleep(1000);
}

int getaddrinfo (const char *host, const char *port,
                 const struct addrinfo *hints, struct addrinfo **to) {
  typedef int resolver (const char *, const char *, const struct addrinfo *,
                        struct addrinfo **);
  static _Atomic(resolver *) next;
  resolver *ask = atomic_load(&next);
  if (ask == NULL) {
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&ask, &symbol, sizeof ask);
    atomic_store(&next, ask);
  }
  if (host == NULL || !ends_with(host, ".test")) return ask(host, port, hints, to);
  if (hints->ai_flags & AI_NUMERICHOST) return EAI_NONAME;
  bool dead = strcmp(host, "dead.test") == 0;
  if (strcmp(host, "two.test") != 0 && !dead) {
    wait_at_the_gate();
    return ends_with(host, ".nowhere.test") ? EAI_NONAME : ask("127.0.0.1", port, hints, to);
  }
  int e = ask("127.0.0.2", port, hints, to);
  if (e != 0) return e;
  return ask(dead ? "255.255.255.255" : "127.0.0.1", port, hints, &(*to)->ai_next);
}

/* *port 0: any, and told. */
static int new_listener (const char *address, unsigned *port, int backlog,
                         bool tiny) {
  struct sockaddr_storage any;
  memset(&any, 0, sizeof any);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&any;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&any;
  int family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
  socklen_t n = family == AF_INET ? sizeof *v4 : sizeof *v6;
  any.ss_family = (sa_family_t)family;
  if (family == AF_INET) {
    inet_pton(AF_INET, address, &v4->sin_addr);
    v4->sin_port = htons((uint16_t)*port);
  } else {
    inet_pton(AF_INET6, address, &v6->sin6_addr);
    v6->sin6_port = htons((uint16_t)*port);
  }
  int fd = socket(family, SOCK_STREAM, 0);
  int small = TINY;
  if (fd < 0) return -1;
  if (tiny)  /* before listen: accepted sockets inherit it */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  if (bind(fd, (struct sockaddr *)&any, n) != 0 || listen(fd, backlog) != 0 ||
      getsockname(fd, (struct sockaddr *)&any, &n) != 0) {
    close(fd);
    return -1;
  }
  *port = ntohs(family == AF_INET ? v4->sin_port : v6->sin6_port);
  return fd;
}

/* A listener whose backlog is full drops what knocks. */
typedef struct blackhole {
  int listener;
  int filler[32];
  size_t count;
} blackhole;

static bool swallow (blackhole *b, const char *address, unsigned *port) {
  struct sockaddr_storage at;
  socklen_t n = sizeof at;
  b->count = 0;
  b->listener = new_listener(address, port, 0, false);
  if (b->listener < 0) return false;
  if (getsockname(b->listener, (struct sockaddr *)&at, &n) != 0) return false;
  while (b->count < 32) {
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd p = {fd, POLLOUT, 0};
    b->filler[b->count++] = fd;
    if (connect(fd, (struct sockaddr *)&at, n) != 0 && poll(&p, 1, 300) == 0)
      return true;
  }
  return false;
}

static void spit (blackhole *b) {
  for (size_t i = 0; i < b->count; i++) close(b->filler[i]);
  close(b->listener);
}

#endif
