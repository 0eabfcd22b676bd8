--- eventbus run: consumer scripts as programs.

local connection = require "eventbus.cli.connection"
local consume = require "eventbus.cli.consume"

local run = { summary = "Run consumer scripts." }

function run.define(parser)
  parser:argument("file", "A script, a process each; eventbus new NAME makes one."):argname("FILE"):args("+")
  consume.options(parser)
  parser:option("--queue", "Only this queue of the script; or, if it has but one, this one instead. May be repeated.")
    :argname("QUEUE"):count("*"):target("queue_names")
  parser:option("--concurrency", "Handlers under way at once in a process; default: the script's, or 1."):argname("N")
    :convert(connection.count(1))
  parser:flag("--reload", "Reload a script when it, or a module beside it, has changed. SIGHUP does so as well.")
  parser:epilog([[
A script returns a table { name =, queue =, handlers = }, or calls service,
queue and on: see docs/cli.md.

  eventbus run bot.lua --reload                    while writing it
  eventbus run bot.lua --workers 4 --log-format json

SIGTERM or Ctrl-C ends it once running handlers are done; a second one ends it
at once, and their events are delivered again.]])
end

-- One name per file: its own, unless two files have the same.
local function names_of(files)
  local count, names = {}, {}
  for i, path in ipairs(files) do
    names[i] = path:match("([^/]+)%.lua$") or path
    count[names[i]] = (count[names[i]] or 0) + 1
  end
  for i, path in ipairs(files) do
    if count[names[i]] > 1 then names[i] = path end
  end
  return names
end

function run.run(args, cli)
  local sources, names = {}, names_of(args.file)
  for i, path in ipairs(args.file) do
    sources[i] = { name = names[i], open = function() return require("eventbus.script").open(path) end }
  end
  return consume.run(args, cli, sources)
end

return run
