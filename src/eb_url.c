/* eb_url: see eb_url.h.
**
** A password may stand anywhere in a URL that is wrong (an unescaped '/' or '@'
** moves it into what looks like the port, the vhost or the query). So errors
** quote nothing of the authority, and an '@' out of place is refused first.
*/
#include "eb_url.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
  MAX_NAME = 255,          /* host; vhost is a short string on the wire */
  MAX_CREDENTIALS = 7000,  /* start-ok must fit the broker's first 8192 bytes */
  QUOTED = 40              /* of an unknown option */
};

typedef struct span {
  const char *p;
  size_t n;
} span;

static bool bad (eb_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static bool bad (eb_error *err, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  eb_error_setv(err, EB_ERR_INVALID, fmt, ap);
  va_end(ap);
  return false;
}

static bool no_memory (eb_error *err) {
  return eb_error_set(err, EB_ERR_NO_MEMORY, "no memory to parse the AMQP URL");
}

/* Cuts *s at the first 'c': the part before is returned, *s is what follows.
** Without 'c' all of *s is returned and *s becomes absent (p NULL). */
static span cut (span *s, char c) {
  span head = *s;
  const char *at = s->n > 0 ? memchr(s->p, c, s->n) : NULL;
  if (at == NULL) {
    s->p = NULL;
    s->n = 0;
    return head;
  }
  head.n = (size_t)(at - s->p);
  s->p = at + 1;
  s->n -= head.n + 1;
  return head;
}

static bool has (span s, char c) {
  return s.n > 0 && memchr(s.p, c, s.n) != NULL;
}

static bool is (span s, const char *word) {
  return strlen(word) == s.n && memcmp(s.p, word, s.n) == 0;
}

static bool same_word (const char *a, const char *b) {
  return strcasecmp(a, b) == 0;
}

static int hex (char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* The bytes of 's', percent-decoded, as a new string; 'what' is for errors. */
static bool decode (span s, const char *what, char **to, eb_error *err) {
  char *out = malloc(s.n + 1);
  if (out == NULL) return no_memory(err);
  size_t used = 0;
  for (size_t i = 0; i < s.n; i++) {
    char c = s.p[i];
    if (c == '%') {
      int high = i + 1 < s.n ? hex(s.p[i + 1]) : -1;
      int low = i + 2 < s.n ? hex(s.p[i + 2]) : -1;
      if (high < 0 || low < 0) {
        bad(err, "AMQP URL: in the %s, '%%' is not followed by two hexadecimal "
                 "digits: write '%%' itself as %%25", what);
        goto fail;
      }
      c = (char)(high * 16 + low);
      if (c == '\0') {
        bad(err, "AMQP URL: %%00 in the %s: a zero byte cannot be sent", what);
        goto fail;
      }
      i += 2;
    }
    out[used++] = c;
  }
  out[used] = '\0';
  *to = out;
  return true;
fail:
  free(out);
  return false;
}

static bool copy (const char *from, char **to, eb_error *err) {
  *to = strdup(from);
  return *to != NULL || no_memory(err);
}

static bool parse_user (span info, eb_url *url, eb_error *err) {
  span password = info;
  span user = cut(&password, ':');
  if (has(password, ':'))
    return bad(err, "AMQP URL: more than one ':' before the '@': write ':' in "
                    "the user or password as %%3A");
  if (!decode(user, "user", &url->user, err)) return false;
  if (password.p != NULL &&
      !decode(password, "password", &url->password, err))
    return false;
  return true;
}

static bool complete_user (eb_url *url, eb_error *err) {
  if (url->user == NULL && !copy("guest", &url->user, err)) return false;
  if (url->password == NULL && !copy("guest", &url->password, err))
    return false;
  if (strlen(url->user) + strlen(url->password) > MAX_CREDENTIALS)
    return bad(err, "AMQP URL: user and password are longer than %d bytes: "
                    "brokers accept no more at login", MAX_CREDENTIALS);
  return true;
}

static bool parse_number (const char *s, long min, long max, long *to) {
  long value = 0;
  if (*s == '\0') return false;
  for (; *s != '\0'; s++) {
    if (*s < '0' || *s > '9') return false;
    int digit = *s - '0';
    if (value > (max - digit) / 10) return false;
    value = value * 10 + digit;
  }
  if (value < min) return false;
  *to = value;
  return true;
}

static bool is_ipv6 (const char *name) {
  char address[INET6_ADDRSTRLEN];
  struct in6_addr parsed;
  size_t n = strcspn(name, "%");  /* fe80::1%eth0 */
  if (n >= sizeof address || (name[n] == '%' && name[n + 1] == '\0'))
    return false;
  memcpy(address, name, n);
  address[n] = '\0';
  return inet_pton(AF_INET6, address, &parsed) == 1;
}

/* Bytes above 0x7F pass: the resolver knows what to do with them. */
static bool is_host_name (const char *name) {
  for (; *name != '\0'; name++) {
    unsigned char c = (unsigned char)*name;
    bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
    bool digit = c >= '0' && c <= '9';
    if (!letter && !digit && c != '-' && c != '.' && c != '_' && c < 0x80)
      return false;
  }
  return true;
}

static bool parse_port (span text, size_t nth, eb_host *host, eb_error *err) {
  char digits[8];
  long port;
  if (text.n == 0) return true;
  if (text.n >= sizeof digits) goto fail;
  memcpy(digits, text.p, text.n);
  digits[text.n] = '\0';
  if (!parse_number(digits, 1, 65535, &port)) goto fail;
  host->port = (unsigned)port;
  return true;
fail:
  return bad(err, "AMQP URL: the port of host %zu is not a number from 1 to "
                  "65535 (the form is amqp://user:password@host:port/vhost)",
             nth);
}

static bool parse_bracketed (span item, size_t nth, eb_host *host,
                             eb_error *err) {
  span rest = {item.p + 1, item.n - 1};
  span address = cut(&rest, ']');
  if (rest.p == NULL)
    return bad(err, "AMQP URL: host %zu begins with '[' and has no ']'", nth);
  if (!decode(address, "host", &host->name, err)) return false;
  if (strlen(host->name) > MAX_NAME || !is_ipv6(host->name))
    return bad(err, "AMQP URL: between '[' and ']' host %zu must be an IPv6 "
                    "address, as in [::1]", nth);
  if (rest.n == 0) return true;
  if (rest.p[0] != ':')
    return bad(err, "AMQP URL: after the ']' of host %zu only ':port' may "
                    "follow", nth);
  rest.p++;
  rest.n--;
  return parse_port(rest, nth, host, err);
}

static bool parse_named (span item, size_t nth, eb_host *host, eb_error *err) {
  span port = item;
  span name = cut(&port, ':');
  if (has(port, ':'))
    return bad(err, "AMQP URL: host %zu has more than one ':': write an IPv6 "
                    "address as [::1]", nth);
  if (name.n == 0) {  /* amqp://:5673 */
    if (!copy("localhost", &host->name, err)) return false;
  } else if (!decode(name, "host", &host->name, err)) {
    return false;
  }
  if (strlen(host->name) > MAX_NAME)
    return bad(err, "AMQP URL: host %zu is longer than %d bytes", nth,
               MAX_NAME);
  if (!is_host_name(host->name))
    return bad(err, "AMQP URL: host %zu has a character that no host name has",
               nth);
  return parse_port(port, nth, host, err);
}

static bool parse_hosts (span list, eb_url *url, eb_error *err) {
  size_t count = 1;
  for (size_t i = 0; i < list.n; i++) count += list.p[i] == ',';
  url->hosts = calloc(count, sizeof *url->hosts);
  if (url->hosts == NULL) return no_memory(err);
  for (size_t nth = 1; nth <= count; nth++) {
    span item = cut(&list, ',');
    eb_host *host = &url->hosts[url->host_count++];
    host->port = url->tls ? 5671 : 5672;
    if (item.n == 0 && count > 1)
      return bad(err, "AMQP URL: host %zu of the list is empty: remove the "
                      "extra ','", nth);
    bool ok = item.n > 0 && item.p[0] == '['
                  ? parse_bracketed(item, nth, host, err)
                  : parse_named(item, nth, host, err);
    if (!ok) return false;
  }
  return true;
}

static bool parse_vhost (span path, eb_url *url, eb_error *err) {
  if (path.p == NULL) return copy("/", &url->vhost, err);
  if (has(path, '/'))
    return bad(err, "AMQP URL: more than one '/' in the vhost: write '/' in "
                    "its name as %%2F (the default vhost is /%%2F, or nothing)");
  if (!decode(path, "vhost", &url->vhost, err)) return false;
  if (strlen(url->vhost) > MAX_NAME)
    return bad(err, "AMQP URL: the vhost is longer than %d bytes", MAX_NAME);
  return true;
}

typedef enum option {
  OPT_HEARTBEAT,
  OPT_CONNECTION_TIMEOUT,
  OPT_CHANNEL_MAX,
  OPT_FRAME_MAX,
  OPT_AUTH_MECHANISM,
  OPT_CACERTFILE,
  OPT_CERTFILE,
  OPT_KEYFILE,
  OPT_VERIFY,
  OPT_SERVER_NAME,
  OPT_COUNT
} option;

static const struct {
  const char *name;
  bool tls_only;
} options[OPT_COUNT] = {
    [OPT_HEARTBEAT] = {"heartbeat", false},
    [OPT_CONNECTION_TIMEOUT] = {"connection_timeout", false},
    [OPT_CHANNEL_MAX] = {"channel_max", false},
    [OPT_FRAME_MAX] = {"frame_max", false},
    [OPT_AUTH_MECHANISM] = {"auth_mechanism", false},
    [OPT_CACERTFILE] = {"cacertfile", true},
    [OPT_CERTFILE] = {"certfile", true},
    [OPT_KEYFILE] = {"keyfile", true},
    [OPT_VERIFY] = {"verify", true},
    [OPT_SERVER_NAME] = {"server_name_indication", true},
};

static size_t least (size_t a, size_t b) {
  return a < b ? a : b;
}

/* Edits from 'a' to 'b', which is a name of ours. */
static size_t distance (span a, const char *b) {
  enum { WIDTH = 32 };
  size_t row[WIDTH];
  size_t n = strlen(b);
  if (n >= WIDTH || a.n >= WIDTH) return SIZE_MAX;
  for (size_t j = 0; j <= n; j++) row[j] = j;
  for (size_t i = 1; i <= a.n; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= n; j++) {
      size_t swap = diagonal + (a.p[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = least(swap, least(row[j], row[j - 1]) + 1);
    }
  }
  return row[n];
}

static bool unknown_option (span key, eb_error *err) {
  int quoted = key.n > QUOTED ? QUOTED : (int)key.n;
  option nearest = OPT_COUNT;
  size_t best = key.n / 3 + 2;
  for (option o = 0; o < OPT_COUNT; o++) {
    size_t d = distance(key, options[o].name);
    if (key.n >= 4 && strncmp(key.p, options[o].name, key.n) == 0)
      d = 1;  /* cacert */
    if (d < best) {
      best = d;
      nearest = o;
    }
  }
  if (nearest != OPT_COUNT)
    return bad(err, "AMQP URL: unknown option '%.*s': did you mean '%s'?",
               quoted, key.p, options[nearest].name);
  return bad(err, "AMQP URL: unknown option '%.*s': known are heartbeat, "
                  "connection_timeout, channel_max, frame_max, auth_mechanism, "
                  "cacertfile, certfile, keyfile, verify, "
                  "server_name_indication", quoted, key.p);
}

static bool set_number (option o, const char *value, long min, long max,
                        const char *unit, long *to, eb_error *err) {
  if (parse_number(value, min, max, to)) return true;
  return bad(err, "AMQP URL: %s must be a whole number%s from %ld to %ld",
             options[o].name, unit, min, max);
}

static bool set_frame_max (const char *value, long *to, eb_error *err) {
  if (parse_number(value, 0, INT32_MAX, to) && (*to == 0 || *to >= 8192))
    return true;
  return bad(err, "AMQP URL: frame_max must be 0 (the default) or a number "
                  "of bytes from 8192 to %ld", (long)INT32_MAX);
}

static bool set_auth (const char *value, eb_auth *to, eb_error *err) {
  if (same_word(value, "plain")) *to = EB_AUTH_PLAIN;
  else if (same_word(value, "external")) *to = EB_AUTH_EXTERNAL;
  else return bad(err, "AMQP URL: auth_mechanism must be plain or external");
  return true;
}

static bool set_verify (const char *value, int *to, eb_error *err) {
  if (strcmp(value, "verify_peer") == 0) *to = 1;
  else if (strcmp(value, "verify_none") == 0) *to = 0;
  else return bad(err, "AMQP URL: verify must be verify_peer or verify_none");
  return true;
}

/* Takes *value over when the URL keeps it, and sets it to NULL then. */
static bool set_text (char **value, char **to) {
  *to = *value;
  *value = NULL;
  return true;
}

static bool set_server_name (char **value, char **to, eb_error *err) {
  if (same_word(*value, "disable")) (*value)[0] = '\0';
  else if (strlen(*value) > MAX_NAME || !is_host_name(*value))
    return bad(err, "AMQP URL: server_name_indication must be a host name, or "
                    "disable");
  return set_text(value, to);
}

static bool set_option (option o, char **value, eb_url *url, eb_error *err) {
  switch (o) {
    case OPT_HEARTBEAT:
      return set_number(o, *value, 0, 65535, " of seconds", &url->heartbeat_s,
                        err);
    case OPT_CONNECTION_TIMEOUT:
      return set_number(o, *value, 1, 24L * 60 * 60 * 1000, " of milliseconds",
                        &url->connection_timeout_ms, err);
    case OPT_CHANNEL_MAX:
      return set_number(o, *value, 0, 65535, "", &url->channel_max, err);
    case OPT_FRAME_MAX: return set_frame_max(*value, &url->frame_max, err);
    case OPT_AUTH_MECHANISM: return set_auth(*value, &url->auth, err);
    case OPT_VERIFY: return set_verify(*value, &url->verify, err);
    case OPT_CACERTFILE: return set_text(value, &url->cacertfile);
    case OPT_CERTFILE: return set_text(value, &url->certfile);
    case OPT_KEYFILE: return set_text(value, &url->keyfile);
    case OPT_SERVER_NAME: return set_server_name(value, &url->server_name, err);
    case OPT_COUNT: break;
  }
  return false;
}

static bool parse_option (span pair, unsigned *seen, eb_url *url,
                          eb_error *err) {
  span text = pair;
  span key = cut(&text, '=');
  option o = 0;
  while (o < OPT_COUNT && !is(key, options[o].name)) o++;
  if (o == OPT_COUNT) return unknown_option(key, err);
  const char *name = options[o].name;
  if (text.n == 0)
    return bad(err, "AMQP URL: option %s has no value: write %s=...", name,
               name);
  if (options[o].tls_only && !url->tls)
    return bad(err, "AMQP URL: option %s needs TLS: write amqps:// instead of "
                    "amqp://, or remove it", name);
  /* The URI spec lets auth_mechanism repeat; we use one, the last. */
  if ((*seen & 1u << o) != 0 && o != OPT_AUTH_MECHANISM)
    return bad(err, "AMQP URL: option %s is given twice", name);
  *seen |= 1u << o;
  char *value;
  if (!decode(text, name, &value, err)) return false;
  bool ok = set_option(o, &value, url, err);
  free(value);
  return ok;
}

static bool parse_query (span query, eb_url *url, eb_error *err) {
  unsigned seen = 0;
  while (query.p != NULL) {
    span pair = cut(&query, '&');
    if (pair.n > 0 && !parse_option(pair, &seen, url, err)) return false;
  }
  if (url->keyfile != NULL && url->certfile == NULL)
    return bad(err, "AMQP URL: keyfile without certfile: give the client "
                    "certificate that belongs to the key");
  return true;
}

static bool check_text (span text, eb_error *err) {
  for (size_t i = 0; i < text.n; i++) {
    unsigned char c = (unsigned char)text.p[i];
    if (c <= ' ' || c == 0x7F)
      return bad(err, "AMQP URL: %s at byte %zu: remove it, or write it as "
                      "%%%02X", c == ' ' ? "a space" : "a control character",
                 i + 1, (unsigned)c);
    if (c == '#')
      return bad(err, "AMQP URL: '#' at byte %zu: write it as %%23", i + 1);
  }
  return true;
}

static bool parse_scheme (span *text, eb_url *url, eb_error *err) {
  if (strncasecmp(text->p, "amqp://", 7) == 0) {
    text->p += 7;
    text->n -= 7;
    return true;
  }
  if (strncasecmp(text->p, "amqps://", 8) == 0) {
    url->tls = true;
    text->p += 8;
    text->n -= 8;
    return true;
  }
  return bad(err, text->n == 0 ? "AMQP URL: it is empty"
                               : "AMQP URL: it must begin with amqp:// or "
                                 "amqps://");
}

static bool parse (span text, eb_url *url, eb_error *err) {
  if (!check_text(text, err) || !parse_scheme(&text, url, err)) return false;
  span query = text;
  span path = cut(&query, '?');
  span hosts = cut(&path, '/');
  if (has(path, '@') || has(query, '@'))
    return bad(err, "AMQP URL: an '@' after the first '/' or '?': in a user or "
                    "password write '@' as %%40, '/' as %%2F and '?' as %%3F; "
                    "elsewhere write '@' as %%40");
  if (has(hosts, '@')) {
    span info = cut(&hosts, '@');
    if (has(hosts, '@'))
      return bad(err, "AMQP URL: more than one '@': write '@' in the user or "
                      "password as %%40");
    if (!parse_user(info, url, err)) return false;
  }
  return complete_user(url, err) && parse_hosts(hosts, url, err) &&
         parse_vhost(path, url, err) && parse_query(query, url, err);
}

bool eb_url_parse (const char *text, eb_url *url, eb_error *err) {
  span all = {text, strlen(text)};
  memset(url, 0, sizeof *url);
  url->auth = EB_AUTH_PLAIN;
  url->heartbeat_s = EB_URL_UNSET;
  url->connection_timeout_ms = EB_URL_UNSET;
  url->channel_max = EB_URL_UNSET;
  url->frame_max = EB_URL_UNSET;
  url->verify = EB_URL_UNSET;
  if (parse(all, url, err)) return true;
  eb_url_fini(url);
  return false;
}

void eb_url_fini (eb_url *url) {
  if (url == NULL) return;
  for (size_t i = 0; i < url->host_count; i++) free(url->hosts[i].name);
  free(url->hosts);
  free(url->user);
  free(url->password);
  free(url->vhost);
  free(url->cacertfile);
  free(url->certfile);
  free(url->keyfile);
  free(url->server_name);
  memset(url, 0, sizeof *url);
}

typedef struct line {
  char *to;
  size_t size;
  size_t used;
  bool cut;
} line;

/* A piece goes in whole or not at all, and nothing after one that did not. */
static void put (line *l, const char *piece, size_t n) {
  if (l->cut || n >= l->size - l->used) {
    l->cut = true;
    return;
  }
  memcpy(l->to + l->used, piece, n);
  l->used += n;
}

static void put_text (line *l, const char *s) {
  put(l, s, strlen(s));
}

static void put_encoded (line *l, const char *s, const char *plain) {
  static const char digits[] = "0123456789ABCDEF";
  for (; *s != '\0'; s++) {
    unsigned char c = (unsigned char)*s;
    bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
    if (letter || (c >= '0' && c <= '9') || strchr(plain, c) != NULL) {
      put(l, s, 1);
    } else {
      char piece[3] = {'%', digits[c >> 4], digits[c & 15]};
      put(l, piece, 3);
    }
  }
}

static void put_host (line *l, const eb_host *host) {
  bool address = strchr(host->name, ':') != NULL;
  char port[8];
  size_t at = sizeof port;
  for (unsigned n = host->port; n > 0; n /= 10)
    port[--at] = (char)('0' + n % 10);
  if (address) put_text(l, "[");
  put_encoded(l, host->name, address ? "-._:" : "-._");
  put_text(l, address ? "]:" : ":");
  put(l, port + at, sizeof port - at);
}

void eb_url_display (const eb_url *url, char *to, size_t size) {
  if (size == 0) return;
  line l = {to, size, 0, false};
  put_text(&l, url->tls ? "amqps://" : "amqp://");
  if (url->user != NULL) {
    put_encoded(&l, url->user, "-._~");
    put_text(&l, "@");
  }
  for (size_t i = 0; i < url->host_count; i++) {
    if (i > 0) put_text(&l, ",");
    put_host(&l, &url->hosts[i]);
  }
  put_text(&l, "/");
  if (url->vhost != NULL) put_encoded(&l, url->vhost, "-._~");
  l.to[l.used] = '\0';
}
