/* eb_bell: a byte in a unix socket for each ring, for hosts that cannot watch a
** descriptor of ours but can connect to a socket and read it.
**
** The host connects to a path in a folder of our own, which exists only until
** eb_bell_take. Thread: eb_bell_ring any, the rest lua.
*/
#ifndef EB_BELL_H
#define EB_BELL_H

#include <stdatomic.h>

#include "eb_error.h"

enum { EB_BELL_PATH = 108 };

typedef struct eb_bell {
  atomic_int peer;  /* our end of the host's connection, -1: none */
  int listener;     /* -1: nobody is expected */
  char folder[EB_BELL_PATH];
  char path[EB_BELL_PATH];
} eb_bell;

void eb_bell_init (eb_bell *b);
void eb_bell_fini (eb_bell *b);  /* twice is fine; the host reads an end */

/* Expects the host at b->path. False: err says why. */
bool eb_bell_listen (eb_bell *b, eb_error *err);

/* The host has connected; an earlier connection is dropped. It is rung at once:
** what came before it was there must not be missed. False: it has not. */
bool eb_bell_take (eb_bell *b, eb_error *err);

/* Never blocks; a full socket is readable already. */
void eb_bell_ring (const eb_bell *b);

#endif
