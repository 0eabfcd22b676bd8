rockspec_format = "3.0"
package = "eventbus"
version = "scm-1"
-- For `luarocks make` in a checkout. The rockspec of the release is made from this one by `make rockspec`.
source = {
  url = "git+https://example.invalid/eventbus.git",
}
description = {
  summary = "A reliable event bus on RabbitMQ",
  detailed = [[
    Publish with broker confirms, subscribe handlers by event type, declare topology as data. Retries with delays,
    annotated dead letters, reconnection and graceful stop included; a C core over rabbitmq-c whose heartbeats never
    wait for a handler. The command `eventbus` runs consumer scripts, applies topology and looks after dead letters.
  ]],
  license = "MIT",
  labels = { "rabbitmq", "amqp", "messaging", "events" },
}
supported_platforms = { "unix" }
-- The library needs Lua alone; the others are for the command.
dependencies = {
  "lua >= 5.1, < 5.5",
  "argparse >= 0.7",
  "luasec >= 1.0",
  "luasocket >= 3.0",
  "luv >= 1.30",
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
  variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    RABBITMQ_INCDIR = "$(RABBITMQ_INCDIR)",
    RABBITMQ_LIBDIR = "$(RABBITMQ_LIBDIR)",
    OPENSSL_INCDIR = "$(OPENSSL_INCDIR)",
    OPENSSL_LIBDIR = "$(OPENSSL_LIBDIR)",
  },
  install_variables = {
    PREFIX = "$(PREFIX)",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
    BINDIR = "$(BINDIR)",
    RELOCATED = "yes",
  },
  copy_directories = { "docs", "examples" },
}
