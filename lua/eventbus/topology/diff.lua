--- The differences between a topology and what a broker has, and which of them would make its declaration fail. Pure: what
-- the broker has is given as the management API tells it.
--
-- A difference is { action, entity, name, ... }:
--   create   the topology names it, the broker lacks it
--   refused  the broker refuses the declaration whatever it has (`message` says why), or lacks what is only asked for
--   differs  `argument` is `have` on the broker, `want` in the topology; `conflict`: declaring it fails (406, or 405)
--   stale    the broker has it, the topology does not name it, and it belongs to the topology
--   note     not counted: what is not the topology's own, but touches it
--
-- To the topology belong bindings towards its queues and exchanges, and queues whose first word its own queues have
-- (`notification.returns` beside `notification.orders`) when its exchanges feed them. Delay and dead-letter queues that
-- consumers declare for its queues are as good as named. What is exclusive or auto-delete comes and goes by itself.

local argument = require "eventbus.topology.argument"
local retry = require "eventbus.retry"
local schema = require "eventbus.topology.schema"

local diff = {}

local ACTIONS = { create = 1, refused = 2, differs = 3, stale = 4, note = 5 }
local ENTITIES = { exchange = 1, queue = 2, binding = 3 }

---@class eventbus.Difference
---@field action "create"|"refused"|"differs"|"stale"|"note"
---@field entity "exchange"|"queue"|"binding"
---@field name string
---@field argument string|nil
---@field have any
---@field want any
---@field conflict boolean|nil  declaring it fails
---@field message string|nil
---@field binding table|nil     { kind, source, destination, routing_key, arguments, properties_key }
---@field queue table|nil       of a stale queue: { type, messages, consumers }

---@class eventbus.BrokerState
---@field exchanges table[]
---@field queues table[]
---@field bindings table[]
---@field default_queue_type string|nil  of the virtual host

local function by_name(list)
  local result = {}
  for _, item in ipairs(list) do result[item.name] = item end
  return result
end

local function table_of(value) return type(value) == "table" and value or {} end

local function binding_of(b)
  return { kind = b.destination_type or b.kind, source = b.source, destination = b.destination,
    routing_key = b.routing_key, arguments = table_of(b.arguments), properties_key = b.properties_key }
end

--- What two bindings must share to be one.
---@param b table
---@return string
function diff.binding_id(b)
  return table.concat({ b.kind, b.source, b.destination, b.routing_key, argument.show(b.arguments) }, "\0")
end

--- A binding for people.
---@param b table
---@return string
function diff.binding_name(b)
  local key = b.routing_key ~= "" and (" (%s)"):format(b.routing_key) or ""
  if next(b.arguments) ~= nil then key = key .. " " .. argument.show(b.arguments) end
  return ("%s -> %s%s%s"):format(b.source, b.kind == "exchange" and "exchange " or "", b.destination, key)
end

local function compare_fields(report, entity, want, have, fields)
  for _, field in ipairs(fields) do
    if want[field] ~= have[field] then
      report { action = "differs", entity = entity, name = want.name, argument = field, want = want[field],
        have = have[field], conflict = true }
    end
  end
end

-- `compared(name)`: whether the broker minds. `because[name]`: where what is wanted comes from.
local function compare_arguments(report, entity, name, want, have, compared, because)
  local names = {}
  for key in pairs(want) do names[key] = true end
  for key in pairs(have) do names[key] = true end
  for _, key in ipairs(schema.sorted_keys(names)) do
    if not argument.same(want[key], have[key]) then
      report { action = "differs", entity = entity, name = name, argument = key, want = want[key], have = have[key],
        conflict = compared(key), message = because and because[key] }
    end
  end
end

local function compare_exchange(report, want, have)
  if want.passive then
    if not have then
      report { action = "refused", entity = "exchange", name = want.name, conflict = true,
        message = "is passive (somebody else's) and not there" }
    end
    return
  end
  if not have then return report { action = "create", entity = "exchange", name = want.name } end
  compare_fields(report, "exchange", want, have, { "type", "durable", "auto_delete", "internal" })
  compare_arguments(report, "exchange", want.name, want.arguments, table_of(have.arguments), function(name)
    return name == "alternate-exchange"
  end)
end

local OF_DEAD_LETTERS = { ["x-message-ttl"] = "RABBITMQ_DLQ_TTL says so, or the default of a day" }

-- A queue without x-queue-type is of the default type, which the broker fills in for itself.
local function with_type(arguments, default)
  local result = {}
  for name, value in pairs(arguments) do result[name] = value end
  result["x-queue-type"] = result["x-queue-type"] or default
  return result
end

local function compare_existing_queue(report, want, have, default)
  if want.exclusive ~= (have.exclusive or false) then
    report { action = "differs", entity = "queue", name = want.name, argument = "exclusive", want = want.exclusive,
      have = have.exclusive or false, conflict = true }
  end
  compare_fields(report, "queue", want, have, { "durable", "auto_delete" })
  local has = with_type(table_of(have.arguments), have.type or "classic")
  compare_arguments(report, "queue", want.name, with_type(want.arguments, default), has, function(name)
    return argument.compared(has["x-queue-type"], name)
  end, want.dead_letters and OF_DEAD_LETTERS)
end

local function compare_queue(report, want, have, default)
  if want.passive then
    if not have then
      report { action = "refused", entity = "queue", name = want.name, conflict = true,
        message = "is passive (somebody else's) and not there" }
    end
    return
  end
  -- What is there is compared, and only what the broker makes anew it checks.
  if have then return compare_existing_queue(report, want, have, default) end
  local problems = argument.problems(want)
  for _, problem in ipairs(problems) do
    report { action = "refused", entity = "queue", name = want.name, conflict = true, message = problem }
  end
  if want.exclusive then
    report { action = "note", entity = "queue", name = want.name, message = "is exclusive: it lives with its consumer" }
  elseif #problems == 0 then
    report { action = "create", entity = "queue", name = want.name }
  end
end

-- The queue that a delay or dead-letter queue is for, going by its name; nil for others.
local function owner_of(name)
  local queue, ms = name:match("^(.+)%.retry%.(%d+)$")
  if queue then return queue, tonumber(ms) end
  return name:match("^deadletter%.(.+)$")
end

local function first_word(name) return name:match("^[^.]*") end

-- What the topology has to do with a queue that it does not name.
local function touches(topology, queue, bindings)
  for _, b in ipairs(bindings) do
    if b.kind == "queue" and b.destination == queue.name and topology.exchanges[b.source] then
      return ('"%s" feeds it'):format(b.source)
    end
  end
  local exchange = table_of(queue.arguments)["x-dead-letter-exchange"]
  if exchange and topology.exchanges[exchange] then return ('it dead-letters to "%s"'):format(exchange) end
end

local function is_temporary(queue)
  return queue.exclusive or queue.auto_delete or queue.name:find("^amq%.gen") ~= nil
end

local function report_stale_queue(report, queue, message)
  report { action = "stale", entity = "queue", name = queue.name, message = message,
    queue = { type = queue.type, messages = queue.messages or 0, consumers = queue.consumers or 0 } }
end

local function unnamed_queue(report, topology, state, queue, bindings, whole)
  if topology.queues[queue.name] then return end
  local owner, ms = owner_of(queue.name)
  local ours = owner and topology.queues[owner]
  if ours then
    -- A consumer declares it so; somebody else's declaration would fail the consumer.
    if ms then
      local args = retry.step_for(owner, ms, ours).args
      compare_existing_queue(report, { name = queue.name, durable = args.durable, exclusive = args.exclusive,
        auto_delete = false, arguments = args.arguments }, queue, state.default_queue_type or "classic")
    end
    return
  end
  if is_temporary(queue) then return end
  if whole then return report_stale_queue(report, queue, "the topology does not name it") end
  local touching = touches(topology, queue, bindings)
  local orphan = owner and not state.queue_named[owner]
  local why = orphan and ('its queue "%s" is gone'):format(owner) or touching
  if not why or (owner and not orphan and not topology.words[first_word(owner)]) then return end
  if topology.words[first_word(queue.name)] then
    report_stale_queue(report, queue, why)
  else
    report { action = "note", entity = "queue", name = queue.name, message = "is not the topology's: " .. why }
  end
end

local function unnamed_exchange(report, topology, exchange, bindings, whole)
  local name = exchange.name
  if name == "" or name:find("^amq%.") or topology.exchanges[name] then return end
  if whole and not exchange.auto_delete then
    return report { action = "stale", entity = "exchange", name = name, message = "the topology does not name it" }
  end
  for _, b in ipairs(bindings) do
    local other = b.source == name and b.destination or b.kind == "exchange" and b.destination == name and b.source
    if other and (topology.exchanges[other] or (b.source == name and b.kind == "queue" and topology.queues[other])) then
      return report { action = "note", entity = "exchange", name = name,
        message = ('is not the topology\'s: bound %s "%s"'):format(b.source == name and "to" or "from", other) }
    end
  end
end

local function compare_bindings(report, topology, state, bindings)
  local there, named = {}, {}
  for _, b in ipairs(bindings) do there[diff.binding_id(b)] = true end
  for _, b in ipairs(topology.bindings) do
    local id = diff.binding_id(b)
    local queue = b.kind == "queue" and topology.queues[b.destination]
    if not there[id] and not named[id] and not (queue and queue.exclusive and not state.queue_named[queue.name]) then
      report { action = "create", entity = "binding", name = diff.binding_name(b), binding = binding_of(b) }
    end
    named[id] = true
  end
  -- Those towards what the topology does not name belong to that, and go with it.
  for _, b in ipairs(bindings) do
    local entities = b.kind == "queue" and topology.queues or topology.exchanges
    local to = entities[b.destination]
    if b.source ~= "" and to and not to.passive and not named[diff.binding_id(b)] then
      report { action = "stale", entity = "binding", name = diff.binding_name(b), binding = b }
    end
  end
end

-- A policy gives what the topology says nothing of, or otherwise. No declaration fails of it.
local function note_policy(report, want, have)
  local effective = table_of(have.effective_policy_definition)
  for _, key in ipairs(schema.sorted_keys(effective)) do
    local said = want.arguments["x-" .. key]
    if said == nil then said = want.arguments[key] end
    if not argument.same(said, effective[key]) then
      report { action = "note", entity = want.type and "queue" or "exchange", name = want.name, argument = key,
        have = effective[key], want = said, message = ('the policy "%s" sets %s to %s'):format(
          tostring(have.policy or have.operator_policy), key, argument.show(effective[key])) }
    end
  end
end

--- All differences, in the order in which they would be acted on. Empty: the broker has what the topology says.
---@param topology table  normalised
---@param broker eventbus.BrokerState
---@param options? { whole: boolean }  whole: the topology is all of the virtual host, nothing else is to be there
---@return eventbus.Difference[]
function diff.compare(topology, broker, options)
  local list = {}
  local function report(difference)
    difference.position = #list
    list[#list + 1] = difference
  end
  local whole = options and options.whole or false
  local state = { default_queue_type = broker.default_queue_type, queue_named = by_name(broker.queues),
    exchange_named = by_name(broker.exchanges) }
  local words, bindings = {}, {}
  for name in pairs(topology.queues) do words[first_word(name)] = true end
  for i, b in ipairs(broker.bindings) do bindings[i] = binding_of(b) end
  local ours = { exchanges = topology.exchanges, queues = topology.queues, bindings = topology.bindings, words = words }

  for _, name in ipairs(schema.sorted_keys(ours.exchanges)) do
    local have = state.exchange_named[name]
    compare_exchange(report, ours.exchanges[name], have)
    if have then note_policy(report, { name = name, arguments = ours.exchanges[name].arguments }, have) end
  end
  for _, name in ipairs(schema.sorted_keys(ours.queues)) do
    local have = state.queue_named[name]
    compare_queue(report, ours.queues[name], have, broker.default_queue_type or "classic")
    if have then note_policy(report, ours.queues[name], have) end
  end
  compare_bindings(report, ours, state, bindings)
  for _, exchange in ipairs(broker.exchanges) do unnamed_exchange(report, ours, exchange, bindings, whole) end
  for _, queue in ipairs(broker.queues) do unnamed_queue(report, ours, state, queue, bindings, whole) end

  table.sort(list, function(a, b)
    if a.action ~= b.action then return ACTIONS[a.action] < ACTIONS[b.action] end
    if a.entity ~= b.entity then return ENTITIES[a.entity] < ENTITIES[b.entity] end
    if a.name ~= b.name then return a.name < b.name end
    return a.position < b.position
  end)
  for _, difference in ipairs(list) do difference.position = nil end
  return list
end

--- How many differences of each action, and of those that would make a declaration fail.
---@param list eventbus.Difference[]
---@return { create: integer, refused: integer, differs: integer, stale: integer, note: integer, conflicts: integer }
function diff.count(list)
  local counts = { create = 0, refused = 0, differs = 0, stale = 0, note = 0, conflicts = 0 }
  for _, each in ipairs(list) do
    counts[each.action] = counts[each.action] + 1
    if each.conflict then counts.conflicts = counts.conflicts + 1 end
  end
  return counts
end

return diff
