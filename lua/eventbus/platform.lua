--- The platform of the owner's document, ready-made: exchanges, queues, event catalogue, service subscriptions.
-- Data and pure functions; whoever wants it on a broker says `bus:declare(platform.topology)`.

local catalogue = require "eventbus.platform.catalogue"
local nearest = require "eventbus.nearest"
local payload = require "eventbus.platform.payload"

local platform = {
  catalogue = catalogue,
  services = require "eventbus.platform.services",
  topology = require "eventbus.platform.topology",
}

local by_type, types = {}, {}
for i, event in ipairs(catalogue) do
  by_type[event.type] = event
  types[i] = event.type
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, item in pairs(value) do result[key] = copy(item) end
  return result
end

--- The catalogue's entry for an event type, or nil and a message with the nearest type.
---@param event_type string
---@return table|nil, string|nil
function platform.event(event_type)
  local found = by_type[event_type]
  if found then return found end
  return nil, ("no event %q in the catalogue%s"):format(tostring(event_type), nearest.hint(event_type, types))
end

--- The exchange an event is published to, or nil and a message.
---@param event_type string
---@return string|nil, string|nil
function platform.exchange_of(event_type)
  local found, message = platform.event(event_type)
  if not found then return nil, message end
  return found.exchange
end

--- An example envelope of an event, one's own to change; nil and a message for an unknown type.
---@param event_type string
---@return table|nil, string|nil
function platform.example(event_type)
  local found, message = platform.event(event_type)
  if not found then return nil, message end
  return {
    id = "evt_123456789", type = event_type, source = "oms-service", timestamp = "2024-01-15T10:30:00Z",
    tenant_id = "tenant_abc", data = copy(found.example),
  }
end

--- Does an event's payload hold what the catalogue says? Fields beyond that are welcome.
---@param event { type: string, data: any }
---@return true|nil, { path: string, problem: string, message: string }[]|nil
function platform.validate(event)
  if type(event) ~= "table" then error("platform.validate takes an event table, got " .. type(event), 2) end
  local found, message = platform.event(event.type)
  if not found then return nil, { { path = "type", problem = "unknown", message = message } } end
  local problems = payload.problems(event.data, found.fields)
  if #problems == 0 then return true end
  return nil, problems
end

--- A topology of one queue `<service>.<type>` that gets a single event, for a service that reads its events from a queue
-- each, as the owner's "notification.order.created" does. Not part of the platform's topology: without a consumer such a
-- queue fills up, and beside the service's other queues it means a second copy of the event.
---@param service string
---@param event_type string
---@return table|nil, string|nil
function platform.queue_for(service, event_type)
  local found, message = platform.event(event_type)
  if not found then return nil, message end
  local name = service .. "." .. event_type
  return {
    exchanges = copy { [found.exchange] = platform.topology.exchanges[found.exchange],
      deadletter = platform.topology.exchanges.deadletter },
    queues = {
      [name] = {
        dead_letter = { exchange = "deadletter", routing_key = name .. ".failed" },
        bindings = { { exchange = found.exchange, routing_key = found.routing_key } },
      },
      ["deadletter." .. name] = {
        dead_letters = true,
        bindings = { { exchange = "deadletter", routing_key = name .. ".failed" } },
      },
    },
  }
end

return platform
