/* url: any text. A URL that is taken is whole; a password is in no error and not in what is shown. */
#include <string.h>

#include "../../src/eb_url.h"
#include "fuzz.h"

/* The password, when it is plainly one: scheme://user:password@ */
static char *password_of (const char *text) {
  const char *at = strstr(text, "://");
  const char *from = at == NULL ? NULL : strchr(at + 3, ':');
  const char *to = from == NULL ? NULL : strchr(from, '@');
  if (to == NULL || to - from < 9 || (size_t)(to - from) >= 200) return NULL;
  for (const char *c = from + 1; c < to; c++)
    if (strchr("/?#:,[]%", *c) != NULL) return NULL;
  return strndup(from + 1, (size_t)(to - from - 1));
}

static void check (const eb_url *url) {
  FUZZ_WANT(url->host_count > 0 && url->user != NULL && url->password != NULL && url->vhost != NULL);
  for (size_t i = 0; i < url->host_count; i++)
    FUZZ_WANT(url->hosts[i].name[0] != '\0' && url->hosts[i].port >= 1 && url->hosts[i].port <= 65535);
  FUZZ_WANT(url->frame_max == EB_URL_UNSET || url->frame_max == 0 || url->frame_max >= 8192);
  FUZZ_WANT(url->channel_max >= EB_URL_UNSET && url->heartbeat_s >= EB_URL_UNSET);
}

int fuzz_url (const uint8_t *p, size_t n) {
  char *text = malloc(n + 1), shown[300];
  eb_url url;
  eb_error err;
  if (text == NULL) return 0;
  if (n > 0) memcpy(text, p, n);
  text[n] = '\0';
  char *password = password_of(text);
  /* It may be said elsewhere in the URL too: then it is no secret. */
  char *said = password == NULL ? NULL : strstr(text, password);
  if (said != NULL && strstr(said + 1, password) != NULL) said = NULL;
  /* Nor is the word itself, which an error has that shows the form of a URL. */
  if (said != NULL && strcmp(password, "password") == 0) said = NULL;
  if (eb_url_parse(text, &url, &err)) {
    check(&url);
    eb_url_display(&url, shown, sizeof shown);
    if (said != NULL) FUZZ_WANT(strstr(shown, password) == NULL);
    char tiny[8];
    eb_url_display(&url, tiny, sizeof tiny);
    FUZZ_WANT(memchr(tiny, '\0', sizeof tiny) != NULL);
    eb_url_fini(&url);
    eb_url_fini(&url);
  } else {
    FUZZ_WANT(err.code == EB_ERR_INVALID && err.message[0] != '\0');
    if (said != NULL) FUZZ_WANT(strstr(err.message, password) == NULL);
  }
  free(password);
  free(text);
  return 0;
}
