--- A topology as RabbitMQ definitions: what `rabbitmqctl import_definitions` and POST /api/definitions take. Pure.
--
-- With policies, what a policy can say leaves the declarations: an operator changes a policy while messages flow, where an
-- argument stays for the life of its queue. A queue has one policy at a time: each of ours names its queues in full.

local argument = require "eventbus.topology.argument"
local json = require "eventbus.json"
local schema = require "eventbus.topology.schema"

local definitions = {}

-- Over `.*` policies of the house, which commonly have 0.
local PRIORITY = 1

-- Argument → key of a policy.
local POLICY_KEY = {
  ["x-message-ttl"] = "message-ttl", ["x-expires"] = "expires", ["x-max-length"] = "max-length",
  ["x-max-length-bytes"] = "max-length-bytes", ["x-overflow"] = "overflow",
  ["x-dead-letter-exchange"] = "dead-letter-exchange", ["x-dead-letter-routing-key"] = "dead-letter-routing-key",
  ["x-dead-letter-strategy"] = "dead-letter-strategy", ["x-delivery-limit"] = "delivery-limit",
  ["x-queue-mode"] = "queue-mode", ["x-queue-version"] = "queue-version",
  ["x-queue-leader-locator"] = "queue-leader-locator", ["x-queue-master-locator"] = "queue-master-locator",
  ["x-max-in-memory-length"] = "max-in-memory-length", ["x-max-in-memory-bytes"] = "max-in-memory-bytes",
  ["x-max-age"] = "max-age", ["x-stream-max-segment-size-bytes"] = "stream-max-segment-size-bytes",
  ["alternate-exchange"] = "alternate-exchange",
}

local function copy(value)
  local result = {}
  for key, item in pairs(value) do result[key] = item end
  return result
end

-- Arguments that stay, and what a policy says instead.
local function split(arguments)
  local stay, policy = {}, {}
  for name, value in pairs(arguments) do
    if POLICY_KEY[name] then policy[POLICY_KEY[name]] = value else stay[name] = value end
  end
  return stay, policy
end

-- A regular expression for exactly these names.
local function pattern_of(names)
  local escaped = {}
  for i, name in ipairs(names) do
    escaped[i] = name:gsub("[^%w_%-\128-\255]", function(c)
      return c == "\n" and "\\n" or "\\" .. c
    end)
  end
  return #names == 1 and "^" .. escaped[1] .. "$" or "^(" .. table.concat(escaped, "|") .. ")$"
end

-- Queues with the same policy share it: the TTL of all dead letters is then changed in one place.
local function add_policies(result, vhost, apply_to, entities)
  local groups, order = {}, {}
  for _, name in ipairs(schema.sorted_keys(entities)) do
    local _, policy = split(entities[name].arguments)
    if next(policy) ~= nil then
      local id = argument.show(policy)
      if not groups[id] then
        groups[id] = { names = {}, policy = policy, dead = true }
        order[#order + 1] = groups[id]
      end
      table.insert(groups[id].names, name)
      groups[id].dead = groups[id].dead and entities[name].dead_letters or false
    end
  end
  for _, group in ipairs(order) do
    local more = #group.names - 1
    local name = more == 0 and group.names[1] or group.dead and "dead-letters"
      or ("%s-and-%d-more"):format(group.names[1], more)
    table.insert(result.policies, { vhost = vhost, name = name, pattern = pattern_of(group.names), ["apply-to"] = apply_to,
      priority = PRIORITY, definition = group.policy })
  end
end

--- The definitions of a normalised topology. What is passive or exclusive is not ours to define.
---@param topology table
---@param vhost string
---@param options? { policies: boolean }
---@return table  for eventbus.json
function definitions.of(topology, vhost, options)
  local policies = options and options.policies or false
  local result = { vhosts = json.array { { name = vhost } }, exchanges = json.array(), queues = json.array(),
    bindings = json.array(), policies = json.array() }
  local function kept(arguments)
    if not policies then return copy(arguments) end
    return (split(arguments))
  end
  local exchanges, queues = {}, {}
  for name, e in pairs(topology.exchanges) do
    if not e.passive then exchanges[name] = e end
  end
  for name, q in pairs(topology.queues) do
    if not q.passive and not q.exclusive then queues[name] = q end
  end
  for _, name in ipairs(schema.sorted_keys(exchanges)) do
    local e = exchanges[name]
    table.insert(result.exchanges, { name = name, vhost = vhost, type = e.type, durable = e.durable,
      auto_delete = e.auto_delete, internal = e.internal, arguments = kept(e.arguments) })
  end
  for _, name in ipairs(schema.sorted_keys(queues)) do
    local q = queues[name]
    table.insert(result.queues, { name = name, vhost = vhost, durable = q.durable, auto_delete = q.auto_delete,
      arguments = kept(q.arguments) })
  end
  for _, b in ipairs(topology.bindings) do
    local queue = b.kind == "queue" and topology.queues[b.destination]
    if not (queue and queue.exclusive) then
      table.insert(result.bindings, { source = b.source, vhost = vhost, destination = b.destination,
        destination_type = b.kind, routing_key = b.routing_key, arguments = copy(b.arguments) })
    end
  end
  if policies then
    add_policies(result, vhost, "queues", queues)
    add_policies(result, vhost, "exchanges", exchanges)
  end
  return result
end

return definitions
