--- eventbus run: consumer scripts as programs.

local connection = require "eventbus.cli.connection"
local exit = require "eventbus.cli.exit"
local topologies = require "eventbus.cli.topologies"

local run = { summary = "Run consumer scripts." }

function run.define(parser)
  parser:argument("file", "A script: eventbus new NAME makes one."):argname("FILE"):args("1")
  connection.options(parser)
  topologies.option(parser)
  parser:option("--log-format", "text or json; default text."):choices { "text", "json" }:default "text"
    :show_default(false):argname("FORMAT")
  parser:option("--log-level", "debug, info, warning or error; default info.")
    :choices { "debug", "info", "warning", "error" }:default "info":show_default(false):argname("LEVEL")
end

function run.run(args, cli)
  local eventlog = require "eventbus.cli.eventlog"
  local script, mistake = require("eventbus.script").open(args.file)
  if not script then exit.misuse(mistake) end
  local log = eventlog.new(io.stdout, { format = args.log_format, level = args.log_level,
    fields = { service = script.definition.name }, complain = function(text) cli.err:line("eventbus: ", text) end })
  io.stdout:setvbuf("line")
  require("eventbus.cli.worker").new(script, { log = log, connect = connection.given(args),
    topology = args.topology and topologies.load(args) }):run()
end

return run
