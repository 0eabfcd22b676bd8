/* eb_tls: the settings; see eb_transport.h. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "eb_tls_priv.h"

const char *eb_tls_reason (unsigned long e) {
  const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;
  return reason != NULL ? reason : "unknown reason";
}

/* What OpenSSL makes of it on the way up is any verdict: "ee key too small". */
bool eb_tls_out_of_memory (void) {
  bool out = false;
  for (unsigned long e; (e = ERR_get_error()) != 0;)
    out = out || ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE ||
          (ERR_GET_LIB(e) == ERR_LIB_SYS && ERR_GET_REASON(e) == ENOMEM);
  return out;
}

/* Never ask on the terminal of a server. */
static int no_password (char *to, int size, int writing, void *asked) {
  (void)to, (void)size, (void)writing;
  if (asked != NULL) *(bool *)asked = true;
  return -1;
}

static bool unreadable (const char *option, const char *path, int e,
                        eb_error *err) {
  bool scarce = e == ENOMEM || e == EMFILE || e == ENFILE;
  return eb_error_set(err, scarce ? EB_ERR_NO_MEMORY : EB_ERR_TLS, "%s %s: %s",
                      option, path, strerror(e));
}

/* OpenSSL's own words for these are "system lib" and "PEM lib". */
static bool check_readable (const char *option, const char *path,
                            eb_error *err) {
  FILE *f = fopen(path, "r");
  if (f == NULL) return unreadable(option, path, errno, err);
  fclose(f);
  return true;
}

static bool is_directory (const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool check_file (const char *option, const char *path, eb_error *err) {
  if (is_directory(path)) return unreadable(option, path, EISDIR, err);
  return check_readable(option, path, err);
}

static bool unusable (const char *option, const char *path, const char *what,
                      eb_error *err) {
  return eb_error_set(err, EB_ERR_TLS, "%s %s holds no usable %s in PEM: %s",
                      option, path, what, eb_tls_reason(ERR_peek_last_error()));
}

static bool load_ca (SSL_CTX *ctx, const char *path, eb_error *err) {
  ERR_clear_error();
  if (path == NULL) {
    if (SSL_CTX_set_default_verify_paths(ctx) == 1) return true;
    return eb_error_set(err, EB_ERR_TLS, "cannot use the system's certificate "
                        "store: %s; pass cacertfile=...",
                        eb_tls_reason(ERR_peek_last_error()));
  }
  if (!check_readable("cacertfile", path, err)) return false;
  bool directory = is_directory(path);
  if (SSL_CTX_load_verify_locations(ctx, directory ? NULL : path,
                                    directory ? path : NULL) == 1)
    return true;
  return unusable("cacertfile", path, "certificate", err);
}

static bool load_key (SSL_CTX *ctx, const char *option, const char *path,
                      eb_error *err) {
  bool asked = false;
  if (!check_file(option, path, err)) return false;
  ERR_clear_error();
  SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
  int loaded = SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM);
  SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
  if (asked)
    return eb_error_set(err, EB_ERR_TLS, "%s %s is protected by a password, "
                        "which is not supported: decrypt it with 'openssl pkey'",
                        option, path);
  /* Loading a key checks it against the certificate that is there already. */
  unsigned long e = ERR_peek_last_error();
  if (loaded == 1 && SSL_CTX_check_private_key(ctx) == 1) return true;
  if (e == 0) e = ERR_peek_last_error();
  if (ERR_GET_LIB(e) == ERR_LIB_X509)
    return eb_error_set(err, EB_ERR_TLS, "%s %s does not belong to the client "
                        "certificate: %s", option, path, eb_tls_reason(e));
  return unusable(option, path, "private key", err);
}

static bool load_client (SSL_CTX *ctx, const eb_tls_options *o, eb_error *err) {
  if (o->certfile == NULL && o->keyfile != NULL)
    return eb_error_set(err, EB_ERR_TLS, "keyfile %s without certfile",
                        o->keyfile);
  if (o->certfile == NULL) return true;
  if (!check_file("certfile", o->certfile, err)) return false;
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(ctx, o->certfile) != 1)
    return unusable("certfile", o->certfile, "certificate", err);
  return o->keyfile != NULL ? load_key(ctx, "keyfile", o->keyfile, err)
                            : load_key(ctx, "certfile", o->certfile, err);
}

static SSL_CTX *new_context (const eb_tls_options *o, eb_error *err) {
  ERR_clear_error();
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  if (ctx == NULL) {
    eb_error_set(err, EB_ERR_TLS, "cannot start OpenSSL: %s",
                 eb_tls_reason(ERR_peek_last_error()));
    return NULL;
  }
  SSL_CTX_set_default_passwd_cb(ctx, no_password);
  SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(ctx, o->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
                     o->verify ? eb_tls_verify_step : NULL);
  SSL_CTX_set_client_cert_cb(ctx, eb_tls_note_asked);
  /* openssl.cnf may ask for more, never for less. */
  if (SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION &&
      SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
    eb_error_set(err, EB_ERR_TLS, "this OpenSSL has no TLS 1.2");
    SSL_CTX_free(ctx);
    return NULL;
  }
  return ctx;
}

static bool copy (const char *from, char **to, eb_error *err) {
  if (from == NULL) return true;
  *to = strdup(from);
  if (*to != NULL) return true;
  return eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for TLS");
}

eb_tls *eb_tls_new (const eb_tls_options *o, eb_error *err) {
  eb_tls *tls = calloc(1, sizeof *tls);
  if (tls == NULL) {
    eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for TLS");
    return NULL;
  }
  bool ok = copy(o->cacertfile, &tls->cacertfile, err) &&
            copy(o->certfile, &tls->certfile, err) &&
            copy(o->server_name, &tls->server_name, err) &&
            (tls->ctx = new_context(o, err)) != NULL &&
            load_ca(tls->ctx, o->cacertfile, err) &&
            load_client(tls->ctx, o, err);
  if (ok) {
    ERR_clear_error();
    return tls;
  }
  if (eb_tls_out_of_memory())
    eb_error_set(err, EB_ERR_NO_MEMORY, "no memory for TLS");
  eb_tls_free(tls);
  return NULL;
}

void eb_tls_free (eb_tls *tls) {
  if (tls == NULL) return;
  SSL_CTX_free(tls->ctx);
  free(tls->cacertfile);
  free(tls->certfile);
  free(tls->server_name);
  free(tls);
}
