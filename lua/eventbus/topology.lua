--- Topology as data: one Lua table of exchanges, queues and bindings, and what can be known of it without a broker.
-- Pure: no function here talks to a broker or changes the table it is given, and equal tables give equal answers in
-- equal order.
--
--   { exchanges = { products = { type = "topic" }, analytics = { type = "fanout" }, deadletter = { type = "direct" } },
--     queues = { ["search.products"] = {
--       message_ttl = 60000,                                                                   -- milliseconds
--       dead_letter = { exchange = "deadletter", routing_key = "search.products.failed" },
--       bindings = { { exchange = "products", routing_key = "product.#" } },
--       alerts = { depth = 500, consumers = 2, unacked = false, rate = 4 } } },   -- for `eventbus check`, docs/cli.md
--     bindings = { { source = "products", destination = "analytics", routing_key = "#" } },   -- exchange to exchange
--     defaults = { queue = { type = "quorum", delivery_limit = 20 } } }

local lint = require "eventbus.topology.lint"
local route = require "eventbus.topology.route"
local schema = require "eventbus.topology.schema"

local topology = {}

-- Normalised forms are known by identity: they may be passed wherever a topology is taken.
local normalised = setmetatable({}, { __mode = "k" })

--- The normalised form of a topology, or nil and what is wrong with it and where.
---@param t table
---@param config? { dlq_ttl: integer }
---@return table|nil, string|nil
function topology.check(t, config)
  if type(t) == "table" and normalised[t] then return t end
  local ok, result = pcall(schema.read, t, config)
  if ok then
    normalised[result] = true
    return result
  end
  if getmetatable(result) == schema.Mistake then return nil, result.message end
  error(result, 0)
end

--- The same, raising at the caller's line. `.queues[name]` has name, type, durable, arguments (final) and dead_letter;
-- `.exchanges[name]` likewise; `.bindings` is a list of { kind, source, destination, routing_key, arguments }.
---@param t table
---@param config? { dlq_ttl: integer }
---@return table
function topology.normalise(t, config)
  local result, message = topology.check(t, config)
  if not result then error(message, 2) end
  return result
end

local function arguments_of(entity)
  return next(entity.arguments) ~= nil and entity.arguments or nil
end

--- The steps that declare a topology, in an order in which each finds what it refers to: exchanges, queues, then
-- bindings, each by name. Passive entities are asked for, not made.
---@param t table
---@param config? { dlq_ttl: integer }
---@return { name: string, args: table }[]
function topology.plan(t, config)
  local result, message = topology.check(t, config)
  if not result then error(message, 2) end
  local steps = {}
  local function step(name, args) steps[#steps + 1] = { name = name, args = args } end

  for _, name in ipairs(schema.sorted_keys(result.exchanges)) do
    local e = result.exchanges[name]
    step("exchange_declare", {
      exchange = name, type = e.type, durable = e.durable, auto_delete = e.auto_delete, internal = e.internal,
      passive = e.passive, arguments = arguments_of(e),
    })
  end
  for _, name in ipairs(schema.sorted_keys(result.queues)) do
    local q = result.queues[name]
    step("queue_declare", {
      queue = name, durable = q.durable, exclusive = q.exclusive, auto_delete = q.auto_delete, passive = q.passive,
      arguments = arguments_of(q),
    })
  end
  for _, b in ipairs(result.bindings) do
    if b.kind == "queue" then
      step("queue_bind", { queue = b.destination, exchange = b.source, routing_key = b.routing_key,
        arguments = arguments_of(b) })
    else
      step("exchange_bind", { destination = b.destination, source = b.source, routing_key = b.routing_key,
        arguments = arguments_of(b) })
    end
  end
  return steps
end

--- The queues that a message published to `exchange` with `key` reaches, by name, in order. "" is the default exchange.
---@param t table
---@param exchange string
---@param key string
---@return string[]
function topology.route(t, exchange, key)
  local result, message = topology.check(t)
  if not result then error(message, 2) end
  return route.queues(result, exchange, key)
end

--- What the broker would accept and what would then never work: a list of findings, worst first. Empty: nothing found.
---@param t table
---@param catalogue? { type: string, exchange: string, routing_key: string }[]  the events that are published
---@param config? { dlq_ttl: integer }
---@return { code: string, severity: "error"|"warning", subject: string, message: string }[]
function topology.lint(t, catalogue, config)
  local result, message = topology.check(t, config)
  if not result then
    return { { code = "invalid", severity = "error", subject = "topology", message = message } }
  end
  return lint.findings(result, catalogue or {})
end

return topology
