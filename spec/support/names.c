/* names: preloaded into a program, gives a name the address that a file has for
** it: a line "ADDRESS NAME", in the file that EVENTBUS_SPEC_NAMES names. The file
** is read for each look-up, so a new one counts at once. All other names are the
** system's.
**
** Any number of threads may look up, while the file is replaced by rename. In
** libnss_wrapper 1.1.12, which could have been this, they crash.
*/
#include <dlfcn.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver (const char *, const char *, const struct addrinfo *,
                      struct addrinfo **);

static resolver *system_resolver;

__attribute__((constructor)) static void find_system_resolver (void) {
  void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
  memcpy(&system_resolver, &symbol, sizeof system_resolver);
}

static bool address_of (const char *host, char address[64]) {
  const char *path = getenv("EVENTBUS_SPEC_NAMES");
  FILE *file = path == NULL ? NULL : fopen(path, "re");
  char name[256];
  if (file == NULL) return false;
  bool found = false;
  while (!found && fscanf(file, "%63s %255s", address, name) == 2)
    found = strcmp(name, host) == 0;
  fclose(file);
  return found;
}

__attribute__((visibility("default")))
int getaddrinfo (const char *host, const char *port,
                 const struct addrinfo *hints, struct addrinfo **to) {
  char address[64];
  bool numeric = hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0;
  if (host != NULL && !numeric && address_of(host, address)) host = address;
  return system_resolver(host, port, hints, to);
}
