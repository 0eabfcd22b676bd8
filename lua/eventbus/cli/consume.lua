--- Consuming by command: what `run` and `exec` share. Their options, and how a service becomes one process, several under a
-- supervisor, or an explanation of what would happen.

local connection = require "eventbus.cli.connection"
local exit = require "eventbus.cli.exit"
local nearest = require "eventbus.nearest"
local topologies = require "eventbus.cli.topologies"

local consume = {}

-- Says to a process that it is a worker, and which: "2.1" is the first worker of the second service.
local WORKER = "EVENTBUS_WORKER"
local CONTROL = 3   -- its descriptor of the supervisor's pipe

---@class eventbus.cli.Source
---@field name string                of its processes
---@field open fun(log: eventbus.cli.EventLog): table|nil, string|nil  a script, or nil and what is wrong

--- Adds the options to a command of the parser.
---@param parser table
function consume.options(parser)
  connection.address_options(parser)
  topologies.option(parser)
  parser:option("--workers", "Processes per service, supervised; default 1."):argname("N"):convert(connection.count(1))
  parser:option("--prefetch", "Unsettled events a process may hold; default: the script's, $RABBITMQ_PREFETCH, or 10.")
    :argname("N"):convert(connection.count(1))
  parser:option("--retry-count", "Retries of a failed event; default: the script's, $RABBITMQ_RETRY_COUNT, or 3.")
    :argname("N"):convert(connection.count(0))
  parser:option("--retry-delay", "Time before each; default: the script's, $RABBITMQ_RETRY_DELAY, or 5s.")
    :argname("TIME"):convert(connection.duration)
  parser:option("--log-format", "text or json; default text."):choices { "text", "json" }:argname("FORMAT")
  parser:option("--log-level", "debug, info, warning or error; default info.")
    :choices { "debug", "info", "warning", "error" }:argname("LEVEL")
  parser:flag("--dry-run", "Explain what would be declared and consumed; no broker is asked.")
end

-- Which of a service's queues: those named by --queue. A service with one queue can be pointed to another.
local function chosen(subscriptions, names)
  if #names == 0 then return subscriptions end
  local by_name, known, result = {}, {}, {}
  for i, subscription in ipairs(subscriptions) do
    by_name[subscription.queue], known[i] = subscription, subscription.queue
  end
  for _, name in ipairs(names) do
    local found = by_name[name] or (#subscriptions == 1 and #names == 1 and subscriptions[1])
    if not found then
      exit.misuse(("--queue %s: the service has no such queue%s"):format(name, nearest.hint(name, known)),
        "it has " .. table.concat(known, ", "))
    end
    result[#result + 1] = { queue = name, handlers = found.handlers, options = found.options }
  end
  return result
end

local function with_retry(retry, args)
  if not args.retry_count and not args.retry_delay then return retry end
  local result = {}
  for key, value in pairs(type(retry) == "table" and retry or {}) do result[key] = value end
  result.count = args.retry_count or result.count
  if args.retry_delay then result.delay, result.delays, result.backoff = args.retry_delay, nil, nil end
  return result
end

--- The subscriptions of a service as the command line wants them.
---@param args table
---@return fun(subscriptions: table[]): table[]
function consume.adjuster(args)
  return function(subscriptions)
    local result = {}
    for i, subscription in ipairs(chosen(subscriptions, args.queue_names or {})) do
      local options = {}
      for key, value in pairs(subscription.options) do options[key] = value end
      options.prefetch = args.prefetch or options.prefetch
      options.concurrency = args.concurrency or options.concurrency
      options.retry = with_retry(options.retry, args)
      result[i] = { queue = subscription.queue, handlers = subscription.handlers, options = options }
    end
    return result
  end
end

local function new_log(args, cli, fields)
  io.stdout:setvbuf("line")
  return require("eventbus.cli.eventlog").new(io.stdout, {
    format = args.log_format, level = args.log_level, fields = fields,
    style = function(style, text) return cli.out:style(style, text) end,
    complain = function(text) io.stderr:write("eventbus: ", text, "\n") end,
  })
end

local function open(source, log)
  local script, mistake = source.open(log)
  if not script then exit.misuse(mistake) end
  return script
end

local function work(args, cli, source, name)
  local topology = args.topology and topologies.load(args) or nil
  local fields = { worker = name }
  local log = new_log(args, cli, fields)
  local script = open(source, log)
  fields.service = script.definition.name
  return require("eventbus.cli.worker").new(script, {
    log = log, connect = connection.given(args), topology = topology, adjust = consume.adjuster(args),
    watch = args.reload and require("eventbus.cli.watch").new(script) or nil, supervised = name and CONTROL or nil,
  }):run()
end

-- The command line again, for a worker. A URL travels in the environment: others can see a process's arguments.
local function command_of(argv)
  local words = { require("luv").exepath(), "-e",
    ("package.path, package.cpath = %q, %q"):format(package.path, package.cpath), arg[0] }
  local i, program = 1, false
  while i <= #argv do
    local word = argv[i]
    program = program or word == "--"
    if not program and word == "--url" then
      i = i + 1
    elseif program or not word:find("^%-%-url=") then
      words[#words + 1] = word
    end
    i = i + 1
  end
  return words
end

local function supervise(args, cli, sources)
  local jobs = {}
  for i, source in ipairs(sources) do
    for n = 1, args.workers or 1 do
      local name = (args.workers or 1) > 1 and ("%s.%d"):format(source.name, n) or source.name
      jobs[#jobs + 1] = { name = name, command = command_of(cli.argv),
        environment = { [WORKER] = ("%d.%d"):format(i, n), RABBITMQ_URL = args.url } }
    end
  end
  local log = new_log(args, cli, { worker = "supervisor" })
  return require("eventbus.cli.supervisor").new(jobs, { log = log, prefix = args.log_format ~= "json",
    err = function(line) io.stderr:write(line, "\n") end }):run()
end

--- Does what the command line says with some services; the exit code.
---@param args table
---@param cli table
---@param sources eventbus.cli.Source[]
---@return integer
function consume.run(args, cli, sources)
  if args.dry_run then
    for _, source in ipairs(sources) do
      require("eventbus.cli.explanation").write(cli.out, args, open(source), consume.adjuster(args))
    end
    return exit.OK
  end
  local index, number = (os.getenv(WORKER) or ""):match("^(%d+)%.(%d+)$")
  if index then
    require("luv").os_unsetenv(WORKER)
    local source = sources[tonumber(index)]
    local name = (args.workers or 1) > 1 and ("%s.%s"):format(source.name, number) or source.name
    return work(args, cli, source, name)
  end
  connection.parts(args)
  if #sources > 1 or (args.workers or 1) > 1 then return supervise(args, cli, sources) end
  return work(args, cli, sources[1])
end

return consume
