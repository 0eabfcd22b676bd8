rockspec_format = "3.0"
package = "eventbus"
version = "scm-1"
source = {
  url = "git+https://example.invalid/eventbus.git",
}
description = {
  summary = "A reliable event bus on RabbitMQ",
  detailed = [[
    Publish with broker confirms, subscribe handlers by event type, declare topology as data. Retries with delays,
    annotated dead letters, reconnection and graceful stop included; a C core over rabbitmq-c whose heartbeats never
    wait for a handler.
  ]],
  license = "MIT",
  labels = { "rabbitmq", "amqp", "messaging", "events" },
}
supported_platforms = { "unix" }
dependencies = {
  "lua >= 5.1, < 5.5",
}
external_dependencies = {
  RABBITMQ = { header = "amqp.h", library = "rabbitmq" },
  OPENSSL = { header = "openssl/ssl.h", library = "ssl" },
}
-- The Makefile is the one description of the build. It learns the Lua version from the headers it is given.
build = {
  type = "make",
  build_target = "build",
  install_target = "install",
  build_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    RABBITMQ_INCDIR = "$(RABBITMQ_INCDIR)",
    RABBITMQ_LIBDIR = "$(RABBITMQ_LIBDIR)",
    OPENSSL_INCDIR = "$(OPENSSL_INCDIR)",
    OPENSSL_LIBDIR = "$(OPENSSL_LIBDIR)",
  },
  install_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    RABBITMQ_INCDIR = "$(RABBITMQ_INCDIR)",
    RABBITMQ_LIBDIR = "$(RABBITMQ_LIBDIR)",
    OPENSSL_INCDIR = "$(OPENSSL_INCDIR)",
    OPENSSL_LIBDIR = "$(OPENSSL_LIBDIR)",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
    BINDIR = "$(BINDIR)",
  },
}
