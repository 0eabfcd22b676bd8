/* eb_url: what parses, what is refused and with which words, what is shown. */
#include "../../src/eb_url.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

static const char *const secret = "s3cr3t";

/* The text of the error of 'url', "" when there is none. Not for two at once. */
static const char *refusal (const char *url) {
  static eb_error err;
  eb_url u;
  eb_error_clear(&err);
  if (eb_url_parse(url, &u, &err)) {
    eb_url_fini(&u);
    return "";
  }
  if (err.code != EB_ERR_INVALID) return "not EB_ERR_INVALID";
  return err.message;
}

#define PARSE(text) \
  eb_url u; \
  eb_error err; \
  eb_error_clear(&err); \
  if (!eb_url_parse(text, &u, &err)) CHECK_FAIL("%s: %s", text, err.message)

#define REFUSED(text, words) \
  do { \
    const char *said = refusal(text); \
    if (strstr(said, words) == NULL || said[0] == '\0') \
      CHECK_FAIL("%s: \"%s\" lacks \"%s\"", text, said, words); \
  } while (0)

/* A string of n times c; the caller frees it. */
static char *times (size_t n, char c) {
  char *s = malloc(n + 1);
  if (s == NULL) abort();
  memset(s, c, n);
  s[n] = '\0';
  return s;
}

static char *joined (const char *a, const char *b, const char *c) {
  size_t n = strlen(a) + strlen(b) + strlen(c) + 1;
  char *s = malloc(n);
  if (s == NULL) abort();
  snprintf(s, n, "%s%s%s", a, b, c);
  return s;
}

TEST(takes_everything_apart) {
  PARSE("amqps://bob:pw@a.example:1111,b,[::1]:2222/shop"
        "?heartbeat=30&connection_timeout=1500&channel_max=128&frame_max=65536"
        "&cacertfile=/etc/ca.pem&certfile=/c%20d/cert.pem&keyfile=key.pem"
        "&verify=verify_none&server_name_indication=rabbit.example"
        "&auth_mechanism=EXTERNAL");
  CHECK(u.tls);
  CHECK_STR(u.user, "bob");
  CHECK_STR(u.password, "pw");
  CHECK_INT(u.host_count, 3);
  CHECK_STR(u.hosts[0].name, "a.example");
  CHECK_INT(u.hosts[0].port, 1111);
  CHECK_STR(u.hosts[1].name, "b");
  CHECK_INT(u.hosts[1].port, 5671);
  CHECK_STR(u.hosts[2].name, "::1");
  CHECK_INT(u.hosts[2].port, 2222);
  CHECK_STR(u.vhost, "shop");
  CHECK_INT(u.heartbeat_s, 30);
  CHECK_INT(u.connection_timeout_ms, 1500);
  CHECK_INT(u.channel_max, 128);
  CHECK_INT(u.frame_max, 65536);
  CHECK_STR(u.cacertfile, "/etc/ca.pem");
  CHECK_STR(u.certfile, "/c d/cert.pem");
  CHECK_STR(u.keyfile, "key.pem");
  CHECK_INT(u.verify, 0);
  CHECK_STR(u.server_name, "rabbit.example");
  CHECK_INT(u.auth, EB_AUTH_EXTERNAL);
  eb_url_fini(&u);
  eb_url_fini(&u);
}

TEST(leaves_what_is_absent_unset) {
  PARSE("amqp://host");
  CHECK(!u.tls);
  CHECK_STR(u.user, "guest");
  CHECK_STR(u.password, "guest");
  CHECK_STR(u.vhost, "/");
  CHECK_INT(u.hosts[0].port, 5672);
  CHECK_INT(u.heartbeat_s, EB_URL_UNSET);
  CHECK_INT(u.connection_timeout_ms, EB_URL_UNSET);
  CHECK_INT(u.channel_max, EB_URL_UNSET);
  CHECK_INT(u.frame_max, EB_URL_UNSET);
  CHECK_INT(u.verify, EB_URL_UNSET);
  CHECK_INT(u.auth, EB_AUTH_PLAIN);
  CHECK(u.cacertfile == NULL && u.certfile == NULL && u.keyfile == NULL);
  CHECK(u.server_name == NULL);
  eb_url_fini(&u);
}

/* https://www.rabbitmq.com/uri-spec#appendix-a */
TEST(agrees_with_the_examples_of_the_uri_spec) {
  static const struct {
    const char *text, *user, *password, *host;
    unsigned port;
    const char *vhost;
  } rows[] = {
      {"amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10000,
       "vhost"},
      {"amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass",
       "hoast", 10000, "v/host"},
      {"amqp://", "guest", "guest", "localhost", 5672, "/"},
      {"amqp://:@/", "", "", "localhost", 5672, ""},
      {"amqp://user@", "user", "guest", "localhost", 5672, "/"},
      {"amqp://user:pass@", "user", "pass", "localhost", 5672, "/"},
      {"amqp://host", "guest", "guest", "host", 5672, "/"},
      {"amqp://:10000", "guest", "guest", "localhost", 10000, "/"},
      {"amqp:///vhost", "guest", "guest", "localhost", 5672, "vhost"},
      {"amqp://host/", "guest", "guest", "host", 5672, ""},
      {"amqp://host/%2F", "guest", "guest", "host", 5672, "/"},
      {"amqp://[::1]", "guest", "guest", "::1", 5672, "/"},
      {"AMQP://host/%2f", "guest", "guest", "host", 5672, "/"},
      {"aMqPs://host", "guest", "guest", "host", 5671, "/"},
      {"amqp://host:", "guest", "guest", "host", 5672, "/"},
      {"amqp://host?", "guest", "guest", "host", 5672, "/"},
      {"amqp://host/?&", "guest", "guest", "host", 5672, ""},
      {"amqp://u:p%3A%40%2F%3F%23%25@127.0.0.1:65535", "u", "p:@/?#%",
       "127.0.0.1", 65535, "/"},
      {"amqp://%D0%B8%D0%BC%D1%8F:%FF%80@h/%e2%82%ac", "\xD0\xB8\xD0\xBC\xD1\x8F",
       "\xFF\x80", "h", 5672, "\xE2\x82\xAC"},
      {"amqp://a+b:c+d@h/e+f", "a+b", "c+d", "h", 5672, "e+f"},
      {"amqp://u:a,b@h", "u", "a,b", "h", 5672, "/"},
      {"amqp://[fe80::1%25eth0]:1/x", "guest", "guest", "fe80::1%eth0", 1, "x"},
      {"amqp://[::ffff:10.0.0.1]", "guest", "guest", "::ffff:10.0.0.1", 5672,
       "/"},
      {"amqp://my_host-1.", "guest", "guest", "my_host-1.", 5672, "/"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    PARSE(rows[i].text);
    CHECK_STR(u.user, rows[i].user);
    CHECK_STR(u.password, rows[i].password);
    CHECK_INT(u.host_count, 1);
    CHECK_STR(u.hosts[0].name, rows[i].host);
    CHECK_INT(u.hosts[0].port, rows[i].port);
    CHECK_STR(u.vhost, rows[i].vhost);
    eb_url_fini(&u);
  }
}

TEST(server_name_indication_can_be_disabled) {
  PARSE("amqps://h?server_name_indication=disable");
  CHECK_STR(u.server_name, "");
  eb_url_fini(&u);
}

TEST(the_last_auth_mechanism_wins) {
  PARSE("amqp://h?auth_mechanism=external&auth_mechanism=plain");
  CHECK_INT(u.auth, EB_AUTH_PLAIN);
  eb_url_fini(&u);
}

TEST(numbers_at_the_ends_of_their_range) {
  PARSE("amqp://h?heartbeat=0&connection_timeout=86400000&channel_max=65535"
        "&frame_max=2147483647");
  CHECK_INT(u.heartbeat_s, 0);
  CHECK_INT(u.connection_timeout_ms, 86400000);
  CHECK_INT(u.channel_max, 65535);
  CHECK_INT(u.frame_max, 2147483647);
  eb_url_fini(&u);
  CHECK_STR(refusal("amqp://h?frame_max=0"), "");
  CHECK_STR(refusal("amqp://h?frame_max=8192"), "");
}

TEST(names_every_mistake) {
  static const struct {
    const char *text, *words;
  } rows[] = {
      {"", "it is empty"},
      {"host", "must begin with amqp:// or amqps://"},
      {"http://host", "must begin with amqp:// or amqps://"},
      {"amqp:/host", "must begin with amqp://"},
      {" amqp://h", "a space at byte 1"},
      {"amqp://h\n", "a control character at byte 9: remove it, or write it as %0A"},
      {"amqp://h/a b", "write it as %20"},
      {"amqp://h#x", "'#' at byte 9: write it as %23"},
      {"amqp://a%@h", "write '%' itself as %25"},
      {"amqp://a%2@h", "two hexadecimal digits"},
      {"amqp://h/%zz", "in the vhost, '%'"},
      {"amqp://u:%00@h", "%00 in the password"},
      {"amqp://h/%00", "%00 in the vhost"},
      {"amqp://u:p:q@h", "write ':' in the user or password as %3A"},
      {"amqp://u:p@q@h", "write '@' in the user or password as %40"},
      {"amqp://u:p@h/v@w", "write '@' as %40"},
      {"amqp://h/a/b", "write '/' in its name as %2F"},
      {"amqp://h//", "write '/' in its name as %2F"},
      {"amqp://a,,b", "host 2 of the list is empty"},
      {"amqp://a,", "host 2 of the list is empty"},
      {"amqp://,a", "host 1 of the list is empty"},
      {"amqp://a,b:0", "the port of host 2 is not a number from 1 to 65535"},
      {"amqp://a:65536", "the port of host 1"},
      {"amqp://a:99999999999999999999", "the port of host 1"},
      {"amqp://a:-1", "the port of host 1"},
      {"amqp://a:+5", "the port of host 1"},
      {"amqp://a:5x", "the port of host 1"},
      {"amqp://::1", "write an IPv6 address as [::1]"},
      {"amqp://[::1", "has no ']'"},
      {"amqp://[]", "must be an IPv6 address"},
      {"amqp://[host]", "must be an IPv6 address"},
      {"amqp://[127.0.0.1]", "must be an IPv6 address"},
      {"amqp://[fe80::1%25]", "must be an IPv6 address"},
      {"amqp://[fe80::1%eth0]", "write '%' itself as %25"},
      {"amqp://[::1]x", "only ':port' may follow"},
      {"amqp://[::1]:x", "the port of host 1"},
      {"amqp://a!b", "a character that no host name has"},
      {"amqp://a%2Fb", "a character that no host name has"},
      {"amqp://h?heartbeet=1", "unknown option 'heartbeet': did you mean 'heartbeat'?"},
      {"amqp://h?cacert=1", "did you mean 'cacertfile'?"},
      {"amqps://h?verfy=1", "did you mean 'verify'?"},
      {"amqp://h?Heartbeat=1", "did you mean 'heartbeat'?"},
      {"amqp://h?zzz=1", "known are heartbeat, connection_timeout"},
      {"amqp://h?=1", "unknown option ''"},
      {"amqp://h?heartbeat", "option heartbeat has no value: write heartbeat=..."},
      {"amqp://h?heartbeat=", "option heartbeat has no value"},
      {"amqp://h?heartbeat=1&heartbeat=1", "option heartbeat is given twice"},
      {"amqp://h?heartbeat=-1", "heartbeat must be a whole number of seconds from 0 to 65535"},
      {"amqp://h?heartbeat=65536", "from 0 to 65535"},
      {"amqp://h?heartbeat=60s", "a whole number of seconds"},
      {"amqp://h?heartbeat=1.5", "a whole number of seconds"},
      {"amqp://h?heartbeat=99999999999999999999999", "from 0 to 65535"},
      {"amqp://h?connection_timeout=0", "a whole number of milliseconds from 1 to 86400000"},
      {"amqp://h?channel_max=65536", "from 0 to 65535"},
      {"amqp://h?frame_max=4096", "0 (the default) or a number of bytes from 8192"},
      {"amqp://h?frame_max=2147483648", "from 8192 to 2147483647"},
      {"amqp://h?auth_mechanism=amqplain", "plain or external"},
      {"amqps://h?verify=yes", "verify_peer or verify_none"},
      {"amqps://h?verify=%zz", "in the verify, '%'"},
      {"amqps://h?keyfile=k", "keyfile without certfile"},
      {"amqps://h?server_name_indication=a/b", "must be a host name, or disable"},
      {"amqp://h?cacertfile=c", "option cacertfile needs TLS: write amqps://"},
      {"amqp://h?certfile=c", "needs TLS"},
      {"amqp://h?keyfile=c", "needs TLS"},
      {"amqp://h?verify=verify_none", "needs TLS"},
      {"amqp://h?server_name_indication=c", "needs TLS"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    REFUSED(rows[i].text, rows[i].words);
}

TEST(an_unset_error_is_allowed) {
  eb_url u;
  CHECK(!eb_url_parse("amqp://a,,b", &u, NULL));
  CHECK(u.hosts == NULL && u.user == NULL);
  eb_url_fini(&u);
}

TEST(limits_lengths) {
  char *long_name = times(256, 'a'), *fits = times(255, 'a');
  char *secrets = times(7001, 'a');
  char *url[] = {joined("amqp://", fits, ""),     joined("amqp://h/", fits, ""),
                 joined("amqp://", long_name, ""), joined("amqp://h/", long_name, ""),
                 joined("amqp://:", secrets, "@h"),
                 joined("amqp://:", secrets + 1, "@h")};
  char said[6][EB_ERROR_TEXT];
  for (size_t i = 0; i < 6; i++) {
    snprintf(said[i], sizeof said[i], "%s", refusal(url[i]));
    free(url[i]);
  }
  free(long_name);
  free(fits);
  free(secrets);
  CHECK_STR(said[0], "");
  CHECK_STR(said[1], "");
  CHECK_STR(said[2], "AMQP URL: host 1 is longer than 255 bytes");
  CHECK_STR(said[3], "AMQP URL: the vhost is longer than 255 bytes");
  CHECK(strstr(said[4], "longer than 7000 bytes") != NULL);
  CHECK_STR(said[5], "");
}

/* Wherever an unescaped character moves it. */
TEST(never_tells_the_password) {
  static const char *const forms[] = {
      "amqp://u:s3cr3t",             "amqp://u:s3cr3t@h:x",
      "amqp://u:12,s3cr3t,",         "amqp://u:12,s3cr3t:x",
      "amqp://u:1/s3cr3t@h",         "amqp://u:1?s3cr3t@h",
      "amqp://u:1#s3cr3t@h",         "amqp://u:1@s3cr3t@h",
      "amqp://u:1@s3cr3t/x@h",       "amqp://u:1:s3cr3t@h",
      "amqp://u:%s3cr3t@h",          "amqp://u:s3cr3t%@h",
      "amqp://u:s3cr3t%00@h",        "amqp://u:s3 cr3t@s3cr3t",
      "amqp://u:[s3cr3t",            "amqp://[s3cr3t]",
      "amqp://u:1/s3cr3t/x@h",       "amqp://u:1?heartbeat=s3cr3t@h",
      "u:s3cr3t@h",                  "amqp//u:s3cr3t@h",
      "amqp://u:s3cr3t@h?hartbeat=1", "amqp://u:s3cr3t@h/a/b",
      "amqp://u:s3cr3t@h,,",          "amqp://s3cr3t!",
      "amqp://u:1?heartbeat=s3cr3t",
  };
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    const char *said = refusal(forms[i]);
    if (said[0] == '\0' || strstr(said, secret) != NULL ||
        strstr(said, "cr3t") != NULL)
      CHECK_FAIL("%s: \"%s\"", forms[i], said);
  }
}

TEST(displays_without_password_and_query) {
  char shown[256];
  PARSE("amqps://b%40b:s3cr3t@a,[fe80::1%25e]:7/x%2Fy%20?certfile=s3cr3t");
  eb_url_display(&u, shown, sizeof shown);
  CHECK_STR(shown, "amqps://b%40b@a:5671,[fe80::1%25e]:7/x%2Fy%20");
  eb_url_display(&u, shown, 0);
  for (size_t size = 1; size < 64; size++) {  /* ASan watches the end */
    char *small = malloc(size);
    if (small == NULL) abort();
    eb_url_display(&u, small, size);
    size_t n = strlen(small);
    bool ok = n < size && memcmp(small, shown, n) == 0;
    free(small);
    CHECK(ok);
  }
  eb_url_fini(&u);
  eb_url_display(&u, shown, sizeof shown);  /* of an ended one: harmless */
  CHECK_STR(shown, "amqp:///");
}

TEST(what_is_displayed_parses_to_the_same) {
  static const char *const urls[] = {"amqp://h", "amqp://h/", "amqps://a:1,[::1]:2,c/v%2f",
                                     "amqp://%ff%01@h/%e2%82%ac"};
  for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
    char shown[256], again[256];
    PARSE(urls[i]);
    eb_url_display(&u, shown, sizeof shown);
    eb_url v;
    CHECK(eb_url_parse(shown, &v, &err));
    eb_url_display(&v, again, sizeof again);
    CHECK_STR(again, shown);
    CHECK_STR(v.user, u.user);
    CHECK_STR(v.vhost, u.vhost);
    CHECK_INT(v.host_count, u.host_count);
    eb_url_fini(&u);
    eb_url_fini(&v);
  }
}

/* Mutations of good URLs: nothing crashes, and each has an outcome. */
TEST(survives_any_bytes) {
  static const char *const seeds[] = {
      "amqps://u:p@a:1,b,[::1]:2/v%2f?heartbeat=3&verify=verify_none",
      "amqp://[fe80::1%25eth0]:5673/?frame_max=8192&auth_mechanism=plain"};
  static const char bytes[] = "%@:/?#[],&=amqps0123456789\x01\x7f\xff%2F%00";
  uint64_t random = 42;
  for (int i = 0; i < 50000; i++) {
    char text[128];
    char shown[64];
    snprintf(text, sizeof text, "%s", seeds[i & 1]);
    for (int k = 0; k < 1 + i % 5; k++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      size_t at = (size_t)(random >> 33) % strlen(seeds[i & 1]);
      text[at] = bytes[(random >> 20) % (sizeof bytes - 1)];
    }
    eb_url u;
    eb_error err;
    eb_error_clear(&err);
    if (eb_url_parse(text, &u, &err)) {
      eb_url_display(&u, shown, sizeof shown);
      eb_url_fini(&u);
    } else if (err.code != EB_ERR_INVALID || err.message[0] == '\0') {
      CHECK_FAIL("no reason for %s", text);
    }
  }
}

int main (void) {
  RUN(takes_everything_apart);
  RUN(leaves_what_is_absent_unset);
  RUN(agrees_with_the_examples_of_the_uri_spec);
  RUN(server_name_indication_can_be_disabled);
  RUN(the_last_auth_mechanism_wins);
  RUN(numbers_at_the_ends_of_their_range);
  RUN(names_every_mistake);
  RUN(an_unset_error_is_allowed);
  RUN(limits_lengths);
  RUN(never_tells_the_password);
  RUN(displays_without_password_and_query);
  RUN(what_is_displayed_parses_to_the_same);
  RUN(survives_any_bytes);
  return check_done();
}
