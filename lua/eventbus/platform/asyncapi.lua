--- The platform as an AsyncAPI 3 document: a channel and a message per event, what each service receives, JSON Schemas of
-- the envelopes. https://www.asyncapi.com/docs/reference/specification/v3.0.0 with the AMQP bindings 0.3.0. Pure.

local catalogue = require "eventbus.platform.catalogue"
local json = require "eventbus.json"
local services = require "eventbus.platform.services"
local topology = require "eventbus.topology"

local asyncapi = {}

local function array(list) return json.array(list) end

local object_of

-- A field of the catalogue in JSON Schema; see platform/catalogue.lua for how they are written.
local function schema_of(wanted, fields)
  wanted = wanted:gsub("%?$", "")
  local types, result = {}, {}
  for one in wanted:gmatch("[^|]+") do
    types[#types + 1] = one
    if fields and one == "array" then result.items = object_of(fields) end
    if fields and one == "object" then
      for key, value in pairs(object_of(fields)) do result[key] = value end
    end
  end
  result.type = #types == 1 and types[1] or array(types)
  return result
end

object_of = function(fields)
  local properties, required = {}, {}
  for _, field in ipairs(fields) do
    properties[field[1]] = schema_of(field[2], field[3])
    if not field[2]:find("?", 1, true) then required[#required + 1] = field[1] end
  end
  return { type = "object", properties = properties, required = #required > 0 and array(required) or nil }
end

--- The JSON Schema of an event's payload.
---@param event table  of the catalogue
---@return table
function asyncapi.payload(event) return object_of(event.fields) end

local TEXT = { type = "string", maxLength = 255 }

local function envelope_schema(event)
  return {
    type = "object",
    required = array { "id", "type", "source", "timestamp", "data" },
    properties = {
      id = TEXT, type = { type = "string", const = event.type }, source = TEXT,
      timestamp = { type = "string", format = "date-time" }, tenant_id = TEXT, correlation_id = TEXT,
      data = asyncapi.payload(event), metadata = { type = "object" },
    },
  }
end

local function message_of(event, example)
  return {
    name = event.type, title = event.name, contentType = "application/json", payload = envelope_schema(event),
    headers = { type = "object", properties = { tenant_id = { type = "string" }, traceparent = { type = "string" } } },
    bindings = { amqp = { contentEncoding = "utf-8", messageType = event.type, bindingVersion = "0.3.0" } },
    examples = array { { name = "example", payload = example } },
  }
end

local function channel_of(event, exchange)
  return {
    address = event.routing_key, title = event.name,
    messages = { [event.type] = { ["$ref"] = "#/components/messages/" .. event.type } },
    bindings = { amqp = {
      is = "routingKey", bindingVersion = "0.3.0",
      exchange = { name = event.exchange, type = exchange.type, durable = exchange.durable,
        autoDelete = exchange.auto_delete },
    } },
  }
end

-- The names of the events that reach a service's queues.
local function received_by(service, normal)
  local received = {}
  for _, event in ipairs(catalogue) do
    for _, queue in ipairs(topology.route(normal, event.exchange, event.routing_key)) do
      if service.queues[queue] then received[#received + 1] = event.type break end
    end
  end
  return received
end

local function operations_of(normal)
  local operations = {}
  for _, event in ipairs(catalogue) do
    operations["send." .. event.type] = {
      action = "send", summary = event.name, channel = { ["$ref"] = "#/channels/" .. event.type },
      bindings = { amqp = { deliveryMode = 2, mandatory = false, bindingVersion = "0.3.0" } },
    }
  end
  for _, service in ipairs(services) do
    for _, event_type in ipairs(received_by(service, normal)) do
      operations[("%s.receive.%s"):format(service.name, event_type)] = {
        action = "receive", summary = service.name .. " handles " .. event_type,
        channel = { ["$ref"] = "#/channels/" .. event_type },
        bindings = { amqp = { ack = true, bindingVersion = "0.3.0" } },
      }
    end
  end
  return operations
end

--- The document, as a table for eventbus.json.
---@param version string  of the document
---@return table
function asyncapi.document(version)
  local platform = require "eventbus.platform"
  local normal = topology.normalise(platform.topology, { dlq_ttl = 0 })
  local channels, messages = {}, {}
  for _, event in ipairs(catalogue) do
    channels[event.type] = channel_of(event, normal.exchanges[event.exchange])
    messages[event.type] = message_of(event, platform.example(event.type))
  end
  return {
    asyncapi = "3.0.0",
    info = { title = "Event bus", version = version,
      description = "The events of the platform, published to RabbitMQ's topic exchanges in the standard envelope." },
    defaultContentType = "application/json",
    servers = { broker = { host = "localhost:5672", protocol = "amqp", protocolVersion = "0.9.1" } },
    channels = channels, operations = operations_of(normal), components = { messages = messages },
  }
end

return asyncapi
