/* eb_error: see eb_error.h. */
#include "eb_error.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  bool retryable;
} codes[EB_CODE_COUNT] = {
    [EB_OK] = {"ok", false},
    [EB_ERR_INVALID] = {"invalid", false},
    [EB_ERR_MALFORMED] = {"malformed", false},
    [EB_ERR_TOO_LARGE] = {"too_large", false},
    [EB_ERR_CLOSED] = {"closed", false},
    [EB_ERR_FORKED] = {"forked", false},
    [EB_ERR_TIMEOUT] = {"timeout", true},
    [EB_ERR_FULL] = {"full", true},
    [EB_ERR_BLOCKED] = {"blocked", true},
    [EB_ERR_RETURNED] = {"returned", false},
    [EB_ERR_NACKED] = {"nacked", true},
    [EB_ERR_UNKNOWN] = {"unknown", true},
    [EB_ERR_CONNECTION] = {"connection", true},
    [EB_ERR_REFUSED] = {"refused", false},
    [EB_ERR_NOT_FOUND] = {"not_found", false},
    [EB_ERR_PRECONDITION] = {"precondition_failed", false},
    [EB_ERR_LOCKED] = {"locked", true},
    [EB_ERR_NOT_ALLOWED] = {"not_allowed", false},
    [EB_ERR_PROTOCOL] = {"protocol", true},
    [EB_ERR_TLS] = {"tls", false},
    [EB_ERR_CANCELLED] = {"cancelled", true},
    [EB_ERR_STALE] = {"stale", false},
    [EB_ERR_NO_MEMORY] = {"no_memory", true},
    [EB_ERR_INTERNAL] = {"internal", false},
};

const char *eb_code_name (eb_code code) {
  if ((unsigned)code >= EB_CODE_COUNT) return "internal";
  return codes[code].name;
}

bool eb_code_retryable (eb_code code) {
  return (unsigned)code < EB_CODE_COUNT && codes[code].retryable;
}

eb_code eb_code_of_reply (int reply_code) {
  switch (reply_code) {
    case 311: return EB_ERR_TOO_LARGE;
    case 313: return EB_ERR_RETURNED;    /* NO_CONSUMERS */
    case 312: return EB_ERR_RETURNED;    /* NO_ROUTE */
    case 320: return EB_ERR_CONNECTION;  /* CONNECTION_FORCED */
    case 403: return EB_ERR_REFUSED;
    case 404: return EB_ERR_NOT_FOUND;
    case 405: return EB_ERR_LOCKED;
    case 406: return EB_ERR_PRECONDITION;
    case 506: return EB_ERR_CONNECTION;  /* RESOURCE_ERROR */
    case 530: case 540: return EB_ERR_NOT_ALLOWED;
    case 541: return EB_ERR_INTERNAL;
    default: return EB_ERR_PROTOCOL;
  }
}

void eb_error_clear (eb_error *err) {
  if (err == NULL) return;
  err->code = EB_OK;
  err->reply_code = 0;
  err->message[0] = '\0';
}

bool eb_error_setv (eb_error *err, eb_code code, const char *fmt, va_list ap) {
  if (err == NULL) return false;
  err->code = code;
  err->reply_code = 0;
  if (vsnprintf(err->message, sizeof err->message, fmt, ap) < 0)
    err->message[0] = '\0';
  for (char *c = err->message; *c != '\0'; c++)
    if ((unsigned char)*c < ' ' || *c == 0x7F) *c = '?';
  return false;
}

bool eb_error_set (eb_error *err, eb_code code, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  eb_error_setv(err, code, fmt, ap);
  va_end(ap);
  return false;
}
