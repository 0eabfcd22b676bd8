--- eventbus exec: any program as the handler of a queue.

local connection = require "eventbus.cli.connection"
local consume = require "eventbus.cli.consume"
local exit = require "eventbus.cli.exit"

local exec = { summary = "Run a program for each event of a queue." }

function exec.define(parser)
  parser:argument("queue", "The queue to consume."):argname("QUEUE")
  parser:argument("program", "The program and its arguments, after --."):argname("PROGRAM"):args("+")
  consume.options(parser)
  parser:option("--timeout", "End the program after so long: SIGTERM, 5 s later SIGKILL; default: never.")
    :argname("TIME"):convert(connection.duration)
  parser:epilog([[
The envelope is on the program's stdin; EVENTBUS_ID, _TYPE, _SOURCE, _TIMESTAMP,
_TENANT_ID, _CORRELATION_ID, _ATTEMPT, _LAST_ATTEMPT, _QUEUE, _EXCHANGE,
_ROUTING_KEY, _REDELIVERED and _HEADER_<NAME> are in its environment. Its exit
code: 0 acknowledges the event, 75 tries again later (as often as it takes), 65
sends it to the dead letters, any other is a failure: the retry policy decides.
The end of its stderr is the error's text.

  eventbus exec search.products --workers 4 --timeout 30s -- ./reindex.sh --fast]])
end

-- The platform's topology where the queue is one of its own, else none: the queue is somebody else's to declare.
local function topology_for(queue)
  local platform = require "eventbus.platform"
  return platform.topology.queues[queue] and platform.topology or {}
end

function exec.run(args, cli)
  local name = args.program[1]:match("([^/]+)$") or args.program[1]
  local function open(log)
    local program = require "eventbus.cli.program"
    if not program.exists(args.program[1]) then
      exit.misuse(("there is no program %s"):format(args.program[1]), "the words after -- are the program and its arguments")
    end
    local handler = program.new(args.program, {
      timeout = args.timeout,
      output = function(stream, line, event) log:output(name, line, { stream = stream, id = event.id }) end,
    })
    local definition = { name = name, source = name, queue = args.queue, topology = topology_for(args.queue),
      handlers = function(event, ctx) return handler:handle(event, ctx) end }
    return { definition = definition, subscriptions = require("eventbus.service").subscriptions(definition) }
  end
  return consume.run(args, cli, { { name = name, open = open } })
end

return exec
