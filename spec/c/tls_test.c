/* eb_tls: which certificates are trusted, and what is said of the others. */
#include "transport_peer.h"

/* Certificates. */

TEST(a_good_certificate_is_accepted) {
  eb_tls_options o = trusting("ca.pem");
  CHECK_STR(meets_cert("127.0.0.1", "good.pem", "good.key", &o), "");
  CHECK_STR(meets_cert("localhost", "good.pem", "good.key", &o), "");
}

TEST(a_directory_of_authorities_is_accepted) {
  eb_tls_options o = trusting("cas");
  CHECK_STR(meets_cert("127.0.0.1", "good.pem", "good.key", &o), "");
}

TEST(a_certificate_for_another_name_is_refused) {
  eb_tls_options o = trusting("ca.pem");
  const char *said = meets_cert("localhost", "named.pem", "named.key", &o);
  SAYS(said, "is not for localhost but for broker.example: ");
  SAYS(said, "pass server_name_indication=");
  said = meets_cert("127.0.0.1", "named.pem", "named.key", &o);
  SAYS(said, "is not for 127.0.0.1 but for broker.example: ");
  o.server_name = "elsewhere.example";
  said = meets_cert("127.0.0.1", "good.pem", "good.key", &o);
  SAYS(said, "is not for elsewhere.example but for localhost, 127.0.0.1: ");
}

TEST(a_given_server_name_is_the_one_checked) {
  eb_tls_options o = trusting("ca.pem");
  o.server_name = "broker.example";
  CHECK_STR(meets_cert("127.0.0.1", "named.pem", "named.key", &o), "");
  o.server_name = "broker.example.";
  CHECK_STR(meets_cert("127.0.0.1", "named.pem", "named.key", &o), "");
}

TEST(an_expired_certificate_is_refused) {
  eb_tls_options o = trusting("ca.pem");
  const char *said = meets_cert("127.0.0.1", "expired.pem", "expired.key", &o);
  SAYS(said, "certificate of 127.0.0.1:");
  SAYS(said, "ended on 20");
  SAYS(said, "certificate has expired");
  said = meets_cert("127.0.0.1", "future.pem", "future.key", &o);
  SAYS(said, "certificate is not yet valid");
  SAYS(said, "check the clock");
}

TEST(a_self_signed_certificate_is_refused) {
  eb_tls_options o = trusting("ca.pem"), system_store = {.verify = true};
  const char *said = meets_cert("127.0.0.1", "self.pem", "self.key", &o);
  SAYS(said, "is not trusted: self");
  SAYS(said, "ca.pem has no CA that signed it");
  said = meets_cert("127.0.0.1", "self.pem", "self.key", &system_store);
  SAYS(said, "is not trusted: self");
  SAYS(said, "pass cacertfile=...");
}

TEST(an_unknown_authority_is_refused) {
  eb_tls_options o = trusting("stranger.pem");
  const char *said = meets_cert("127.0.0.1", "good.pem", "good.key", &o);
  SAYS(said, "is not trusted: unable to get");
  SAYS(said, "stranger.pem has no CA");
}

TEST(a_self_signed_certificate_given_as_authority_is_accepted) {
  eb_tls_options o = trusting("self.pem");
  CHECK_STR(meets_cert("127.0.0.1", "self.pem", "self.key", &o), "");
}

TEST(verify_none_accepts_anything) {
  eb_tls_options o = {.verify = false};
  CHECK_STR(meets_cert("127.0.0.1", "self.pem", "self.key", &o), "");
  CHECK_STR(meets_cert("localhost", "expired.pem", "expired.key", &o), "");
  CHECK_STR(meets_cert("localhost", "named.pem", "named.key", &o), "");
}

static void sni_is (const char *host, const char *server_name,
                    const char *expected) {
  peer *p = start(ECHO, server_context("good.pem", "good.key"));
  eb_tls_options o = {.verify = false, .server_name = server_name};
  char said[600], sni[64];
  snprintf(said, sizeof said, "%s", meets(host, p, &o));
  pthread_join(p->thread, NULL);
  snprintf(sni, sizeof sni, "%s", p->sni);
  close(p->listener);
  SSL_CTX_free(p->ctx);
  free(p);
  CHECK_STR(said, "");
  CHECK_STR(sni, expected);
}

TEST(sni_is_sent_for_names_only) {
  sni_is("localhost", NULL, "localhost");
  sni_is("127.0.0.1", NULL, "");
  sni_is("127.0.0.1", "broker.example.", "broker.example");
  sni_is("localhost", "10.0.0.1", "");
  sni_is("localhost", "", "");
}

TEST(without_sni_the_host_is_still_checked) {
  eb_tls_options o = trusting("ca.pem");
  o.server_name = "";
  CHECK_STR(meets_cert("localhost", "good.pem", "good.key", &o), "");
  SAYS(meets_cert("localhost", "named.pem", "named.key", &o), "is not for localhost");
}

static void client_certificates (int version) {
  eb_tls_options o = trusting("ca.pem");
  peer *p = start(ECHO, demanding_context(version));
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "client certificate: pass certfile=... and keyfile=...");
  o.certfile = in_dir("client.pem");
  o.keyfile = in_dir("client.key");
  p = start(ECHO, demanding_context(version));
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  CHECK_STR(said, "");
  o.certfile = in_dir("alien.pem");
  o.keyfile = in_dir("alien.key");
  p = start(ECHO, demanding_context(version));
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "does not accept the client certificate");
  SAYS(said, "alien.pem");
}

TEST(a_demanded_client_certificate_over_tls_1_3) {
  client_certificates(TLS1_3_VERSION);
}

TEST(a_demanded_client_certificate_over_tls_1_2) {
  client_certificates(TLS1_2_VERSION);
}

/* The handshake is over for the client when a TLS 1.3 server rejects it. */
TEST(a_late_rejection_is_clear_on_the_first_read) {
  peer *p = start(ECHO, demanding_context(TLS1_3_VERSION));
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  char byte;
  size_t n;
  CHECK_INT(read_some(t, &byte, 1, &n, &err), EB_IO_FAILED);
  SAYS(err.message, "asks for a client certificate");
  SAYS(err.message, "certificate required");
  CHECK_INT(err.code, EB_ERR_TLS);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

/* RabbitMQ asks for a certificate wherever it would take one. One that goes away
** then may have other reasons, and is to be tried again. */
TEST(a_peer_that_asked_in_vain_and_went_away_may_come_back) {
  SSL_CTX *ctx = server_context("good.pem", "good.key");
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  peer *p = start(CLOSE, ctx);
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  char byte;
  size_t n;
  CHECK_INT(write_some(t, "0123456789", 10, &n, &err), EB_IO_OK);
  CHECK_INT(read_some(t, &byte, 1, &n, &err), EB_IO_FAILED);
  CHECK_INT(err.code, EB_ERR_CONNECTION);
  SAYS(err.message, "it asked for a client certificate, and may insist");
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

/* Peers that are not what they should be. */

TEST(a_plain_amqp_port_is_recognised) {
  peer *p = start(GREET, NULL);
  eb_tls_options o = trusting("ca.pem");
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "does not answer in TLS");
  SAYS(said, "plain AMQP is amqp://");
}

TEST(a_peer_that_hangs_up_in_the_handshake) {
  peer *p = start(HANG_UP, NULL);
  eb_tls_options o = trusting("ca.pem");
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "lost in the TLS handshake: ");
  SAYS(said, "is it a TLS port?");
}

TEST(a_peer_that_never_shakes_hands_stays_again) {
  peer *p = start(SILENT, NULL);
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  eb_error err;
  eb_transport *t = eb_transport_open("127.0.0.1", p->port, 0, tls, &err);
  CHECK(t != NULL);
  eb_ms until = eb_clock_now() + 200;
  int rounds = 0;
  while (eb_clock_now() < until) {
    CHECK_INT(eb_transport_advance(t, &err), EB_IO_AGAIN);
    await(t, true, until);
    rounds++;
  }
  CHECK(rounds < 20);  /* it waits, it does not spin */
  CHECK_INT(eb_transport_events(t, true), POLLIN);
  eb_transport_free(t);
  eb_tls_free(tls);
  stop(p);
}

TEST(tls_1_1_is_refused) {
  SSL_CTX *ctx = server_context("good.pem", "good.key");
  SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
  SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
  peer *p = start(ECHO, ctx);
  eb_tls_options o = trusting("ca.pem");
  char said[600];
  snprintf(said, sizeof said, "%s", meets("127.0.0.1", p, &o));
  stop(p);
  SAYS(said, "at least TLS 1.2 is needed");
}

/* Settings. */

static const char *setting_error (eb_tls_options o) {
  static eb_error err;
  eb_error_clear(&err);
  eb_tls_free(eb_tls_new(&o, &err));
  if (err.code != EB_OK && err.code != EB_ERR_TLS) return "not EB_ERR_TLS";
  return ERR_peek_error() == 0 ? err.message : "errors left in OpenSSL's queue";
}

TEST(a_wrong_file_is_named) {
  eb_tls_options o = {.cacertfile = in_dir("none.pem"), .verify = true};
  SAYS(setting_error(o), "cacertfile /tmp/");
  SAYS(setting_error(o), strerror(ENOENT));
  o.cacertfile = in_dir("garbage.pem");
  SAYS(setting_error(o), "garbage.pem holds no usable certificate in PEM");
  o.cacertfile = NULL;
  o.certfile = in_dir("none.pem");
  SAYS(setting_error(o), "certfile /tmp/");
  o.certfile = in_dir("garbage.pem");
  SAYS(setting_error(o), "holds no usable certificate");
  o.certfile = in_dir("client.pem");
  SAYS(setting_error(o), "client.pem holds no usable private key");
  o.keyfile = in_dir("none.key");
  SAYS(setting_error(o), "keyfile /tmp/");
  o.keyfile = in_dir("garbage.pem");
  SAYS(setting_error(o), "garbage.pem holds no usable private key");
  o.keyfile = in_dir("alien.key");
  SAYS(setting_error(o), "alien.key does not belong to the client certificate");
  o.keyfile = in_dir("client.key");
  CHECK_STR(setting_error(o), "");
  o.certfile = NULL;
  SAYS(setting_error(o), "without certfile");
}

TEST(a_key_with_a_password_is_refused_and_nobody_is_asked) {
  eb_tls_options o = {.certfile = in_dir("locked.pem"),
                      .keyfile = in_dir("locked.key"), .verify = true};
  SAYS(setting_error(o), "locked.key is protected by a password");
}

/* The host program's mistakes with OpenSSL are not ours. */
TEST(stale_openssl_errors_do_no_harm) {
  peer *p = start(ECHO, server_context("good.pem", "good.key"));
  eb_tls_options o = trusting("ca.pem");
  eb_tls *tls = eb_tls_new(&o, NULL);
  CONNECT(p, tls);
  char byte;
  size_t n;
  BIO *bio = BIO_new_mem_buf("nonsense", -1);
  CHECK(PEM_read_bio_X509(bio, NULL, NULL, NULL) == NULL);
  BIO_free(bio);
  CHECK(ERR_peek_error() != 0);
  CHECK_INT(eb_transport_read(t, &byte, 1, &n, &err), EB_IO_AGAIN);
  eb_transport_free(t);
  eb_tls_free(tls);
  eb_tls_free(NULL);
  stop(p);
}

int main (void) {
  sigset_t all;  /* as in the I/O thread */
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  make_certificates();
  RUN(a_good_certificate_is_accepted);
  RUN(a_directory_of_authorities_is_accepted);
  RUN(a_certificate_for_another_name_is_refused);
  RUN(a_given_server_name_is_the_one_checked);
  RUN(an_expired_certificate_is_refused);
  RUN(a_self_signed_certificate_is_refused);
  RUN(an_unknown_authority_is_refused);
  RUN(a_self_signed_certificate_given_as_authority_is_accepted);
  RUN(verify_none_accepts_anything);
  RUN(sni_is_sent_for_names_only);
  RUN(without_sni_the_host_is_still_checked);
  RUN(a_demanded_client_certificate_over_tls_1_3);
  RUN(a_demanded_client_certificate_over_tls_1_2);
  RUN(a_late_rejection_is_clear_on_the_first_read);
  RUN(a_peer_that_asked_in_vain_and_went_away_may_come_back);
  RUN(a_plain_amqp_port_is_recognised);
  RUN(a_peer_that_hangs_up_in_the_handshake);
  RUN(a_peer_that_never_shakes_hands_stays_again);
  RUN(tls_1_1_is_refused);
  RUN(a_wrong_file_is_named);
  RUN(a_key_with_a_password_is_refused_and_nobody_is_asked);
  RUN(stale_openssl_errors_do_no_harm);
  remove_certificates();
  return check_done();
}
