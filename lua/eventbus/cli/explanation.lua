--- An explanation: what a service would declare and consume, and where its events would go, said without a broker.

local config = require "eventbus.config"
local connection = require "eventbus.cli.connection"
local consumer = require "eventbus.consumer"
local deadletter = require "eventbus.deadletter"
local exit = require "eventbus.cli.exit"
local options = require "eventbus.options"
local retry = require "eventbus.retry"
local topologies = require "eventbus.cli.topologies"
local topology = require "eventbus.topology"
local units = require "eventbus.units"

local explanation = {}

local KINDS = { { "exchange_declare", "exchange" }, { "queue_declare", "queue" }, { "queue_bind", "binding" },
  { "exchange_bind", "binding" } }

local function counted(n, noun)
  return ("%d %s%s"):format(n, noun, n == 1 and "" or "s")
end

-- The settings of the bus, and the topology.
local function settings_of(args, definition)
  local given, mistake = options.read(config.SCHEMA, definition.connect or {})
  local settings
  if given then settings, mistake = config.resolve(given) end
  if not settings then exit.misuse("connect: " .. mistake) end
  local wanted, name = definition.topology, "its own topology"
  if args.topology or not wanted then wanted, name = topologies.load(args) end
  local normal
  normal, mistake = topology.check(wanted, { dlq_ttl = settings.dlq_ttl })
  if not normal then exit.misuse("topology: " .. mistake) end
  return settings, normal, name
end

local function declared(normal, settings)
  local counts, parts = {}, {}
  for _, step in ipairs(topology.plan(normal, { dlq_ttl = settings.dlq_ttl })) do
    for _, kind in ipairs(KINDS) do
      if kind[1] == step.name then counts[kind[2]] = (counts[kind[2]] or 0) + 1 end
    end
  end
  for _, noun in ipairs { "exchange", "queue", "binding" } do
    if counts[noun] then parts[#parts + 1] = counted(counts[noun], noun) end
  end
  return #parts > 0 and table.concat(parts, ", ") or "nothing"
end

local function place_of(handler)
  local info = type(handler) == "function" and debug.getinfo(handler, "S")
  return info and info.short_src .. ":" .. info.linedefined or "a callable " .. type(handler)
end

local function rows_of_handlers(out, handlers)
  if type(handlers) == "function" then handlers = { ["#"] = handlers } end
  local names = {}
  for name in pairs(handlers) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    out:line(("    %-13s %s  (%s)"):format(i == 1 and "handlers" or "", name, place_of(handlers[name])))
  end
end

local function field(out, name, text) out:line(("    %-13s %s"):format(name, text)) end

local function bindings(out, normal, queue)
  local known = normal.queues[queue]
  if not known then return field(out, "queue", "is not declared here: it must exist") end
  local parts = { known.type, known.durable and "durable" or "transient" }
  field(out, "queue", table.concat(parts, ", "))
  local first = true
  for _, b in ipairs(normal.bindings) do
    if b.kind == "queue" and b.destination == queue then
      field(out, first and "bound to" or "", ("%s with %s"):format(b.source, b.routing_key == "" and '""' or b.routing_key))
      first = false
    end
  end
end

local function retries(out, policy, queue)
  if policy.count == 0 then return field(out, "retries", "none") end
  local parts = {}
  for n = 1, math.min(policy.count, 8) do parts[n] = units.show(policy:delay_of(n, function() return 0 end)) end
  if policy.count > 8 then parts[9] = "..." end
  local jitter = policy.options.jitter
  field(out, "retries", ("%d, after %s%s"):format(policy.count, table.concat(parts, ", "),
    jitter and jitter > 0 and (", up to %.14g %% longer"):format(jitter * 100) or ""))
  for i, ms in ipairs(policy:delays()) do
    field(out, i == 1 and "delay queues" or "", retry.queue_name(queue, ms))
    if i == 8 then return field(out, "", ("... %d in all"):format(#policy:delays())) end
  end
end

local function dead_letters(out, normal, queue, given, settings)
  local destination, ours = deadletter.destination(queue, normal.queues[queue], given.dead_letter, settings)
  if not destination then return field(out, "dead letters", "none of its own: rejected to what the broker has for them") end
  local key = destination.routing_key or "(that of the event)"
  local reached = ours and { "deadletter." .. queue } or {}
  if not ours and destination.routing_key and normal.exchanges[destination.exchange] then
    reached = topology.route(normal, destination.exchange, destination.routing_key)
  end
  field(out, "dead letters", ("%s with %s%s"):format(destination.exchange, key,
    #reached > 0 and ", to " .. table.concat(reached, ", ") or ""))
end

--- Writes what a script would do.
---@param out eventbus.cli.Terminal
---@param args table
---@param script table       { definition =, subscriptions = }
---@param adjust fun(subscriptions: table[]): table[]
function explanation.write(out, args, script, adjust)
  local definition = script.definition
  local settings, normal, name = settings_of(args, definition)
  local url = not args.url and definition.connect and definition.connect.url
  local subscriptions = adjust(script.subscriptions)
  out:line(out:style("bold", definition.name), "  at ", connection.display { url = url or args.url })
  out:line("  would declare ", name, ": ", declared(normal, settings))
  for _, wanted in ipairs(subscriptions) do
    local given, mistake = options.read(consumer.SCHEMA, wanted.options)
    local policy
    if given then policy, mistake = retry.policy(given.retry, settings.retry) end
    if not policy then exit.misuse(("queue %q: %s"):format(wanted.queue, mistake)) end
    out:line("  would consume ", out:style("bold", wanted.queue))
    bindings(out, normal, wanted.queue)
    rows_of_handlers(out, wanted.handlers)
    local concurrency = given.concurrency or 1
    field(out, "prefetch", tostring(math.max(given.prefetch or settings.prefetch, concurrency)))
    if concurrency > 1 then field(out, "concurrency", tostring(concurrency)) end
    retries(out, policy, wanted.queue)
    dead_letters(out, normal, wanted.queue, given, settings)
    local workers = args.workers or 1
    if workers > 1 then field(out, "workers", tostring(workers)) end
  end
end

return explanation
