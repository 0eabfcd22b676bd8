--- Where a message goes: a broker's routing, computed on a normalised topology.
-- Follows exchange-to-exchange bindings and alternate exchanges; a headers exchange, whose choice needs the message's
-- headers, counts as reaching all that is bound to it.

local pattern = require "eventbus.pattern"

local route = {}

-- Exchanges that every broker has.
local BUILT_IN = {
  ["amq.direct"] = "direct", ["amq.fanout"] = "fanout", ["amq.topic"] = "topic",
  ["amq.headers"] = "headers", ["amq.match"] = "headers",
}

--- The type of an exchange, nil when neither the topology nor every broker has it.
function route.kind(topology, exchange)
  local declared = topology.exchanges[exchange]
  return declared and declared.type or BUILT_IN[exchange]
end

--- Does this binding of an exchange of this type take a message with this key?
---@return boolean
function route.takes(kind, binding, key)
  if kind == "topic" then return pattern.matches(binding.routing_key, key) end
  if kind == "direct" then return binding.routing_key == key end
  return true
end

local function visit(topology, exchange, key, seen, queues)
  local kind = route.kind(topology, exchange)
  if seen[exchange] or not kind then return end
  seen[exchange] = true
  local declared, taken = topology.exchanges[exchange], false
  for _, binding in ipairs(topology.bindings) do
    if binding.source == exchange and route.takes(kind, binding, key) then
      taken = true
      if binding.kind == "queue" then
        queues[binding.destination] = true
      else
        visit(topology, binding.destination, key, seen, queues)
      end
    end
  end
  local alternate = declared and declared.arguments["alternate-exchange"]
  if not taken and alternate then visit(topology, alternate, key, seen, queues) end
end

--- Names of the queues reached, in order.
---@param topology table  normalised
---@param exchange string
---@param key string
---@return string[]
function route.queues(topology, exchange, key)
  local reached = {}
  if exchange == "" then
    if topology.queues[key] then reached[key] = true end
  else
    visit(topology, exchange, key, {}, reached)
  end
  local names = {}
  for name in pairs(reached) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- Names of the exchanges whose messages may arrive at `exchange`, itself included.
---@param topology table  normalised
---@param exchange string
---@return table<string, boolean>
function route.upstream(topology, exchange)
  local found, open = { [exchange] = true }, { exchange }
  while #open > 0 do
    local current = table.remove(open)
    for _, binding in ipairs(topology.bindings) do
      if binding.kind == "exchange" and binding.destination == current and not found[binding.source] then
        found[binding.source] = true
        open[#open + 1] = binding.source
      end
    end
  end
  return found
end

return route
