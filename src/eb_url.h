/* eb_url: an AMQP URL, with one host or several, taken apart.
**
** amqp[s]://user:password@host1:port1,host2,[::1]:5673/vhost?key=value&...
** https://www.rabbitmq.com/uri-spec and uri-query-parameters. The input is not
** changed; every mistake is named; the password never appears in an error, not
** even when an unescaped character moved it into another part of the URL.
** Thread: any.
*/
#ifndef EB_URL_H
#define EB_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "eb_error.h"

typedef struct eb_host {
  char *name;     /* a name, IPv4 or IPv6 without brackets */
  unsigned port;  /* 1..65535: 5672, or 5671 under amqps, unless given */
} eb_host;

typedef enum eb_auth { EB_AUTH_PLAIN, EB_AUTH_EXTERNAL } eb_auth;

/* What was not given is absent: NULL, or EB_URL_UNSET. */
enum { EB_URL_UNSET = -1 };

typedef struct eb_url {
  bool tls;
  eb_host *hosts;
  size_t host_count;    /* at least 1 */
  char *user;           /* "guest" when absent, decoded */
  char *password;       /* "guest" when absent, decoded */
  char *vhost;          /* "/" when absent; "amqp://h/" is the vhost "" */
  eb_auth auth;         /* auth_mechanism=external */
  long heartbeat_s;
  long connection_timeout_ms;
  long channel_max;
  long frame_max;       /* 0 or >= 8192; smaller is an error */
  int verify;           /* verify=verify_peer 1 | verify_none 0, or unset */
  char *cacertfile;
  char *certfile;
  char *keyfile;
  char *server_name;    /* server_name_indication; "" for disable */
} eb_url;

/* Parses 'text' ('\0'-terminated). On success the caller owns *url and ends it
** with eb_url_fini; on failure nothing is owned and 'err' is set (invalid). */
bool eb_url_parse (const char *text, eb_url *url, eb_error *err);
void eb_url_fini (eb_url *url);  /* twice, or on a zeroed one, is fine */

/* The URL for people: without password and query. Cut to fit 'size'. */
void eb_url_display (const eb_url *url, char *to, size_t size);

#endif
