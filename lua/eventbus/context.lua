--- The context of a handler: where the event came from, and how to publish what follows from it.
-- Fields are looked up when first read; read what you need before the handler ends, then the delivery is gone.

local deadletter = require "eventbus.deadletter"
local sender = require "eventbus.sender"

local context = {}


---@class eventbus.Context
---@field event table           the event itself
---@field queue string
---@field exchange string       where it was first published, also in a retry
---@field routing_key string    likewise
---@field redelivered boolean   the broker has delivered it before; it may have been handled
---@field attempt integer       1 for the first
---@field last_attempt boolean  a failure now goes to the dead letters
---@field headers table
---@field properties table      AMQP properties, as in the core's publish
---@field body string           the message as it came: the envelope's bytes
---@field subscription eventbus.Subscription
local fields, methods = {}, {}

function fields.queue(self) return self.subscription.queue end
function fields.headers(self) return self._delivery:headers() end
function fields.properties(self) return self._delivery:properties() end
function fields.body(self) return self._delivery:body() end
function fields.redelivered(self) return self._delivery:redelivered() end
function fields.attempt(self) return deadletter.attempt(self._delivery:header(deadletter.HEADERS.attempt)) end
function fields.last_attempt(self) return self.attempt > self.subscription._policy.count end

local function origin(self)
  local exchange, key = self._delivery:exchange(), self._delivery:routing_key()
  -- Only what came back through the default exchange can be a copy of ours.
  if exchange == "" then exchange, key = deadletter.origin(self.headers, exchange, key) end
  rawset(self, "exchange", exchange)
  rawset(self, "routing_key", key)
end

function fields.exchange(self)
  origin(self)
  return rawget(self, "exchange")
end

function fields.routing_key(self)
  origin(self)
  return rawget(self, "routing_key")
end

local function filled(text)
  if text ~= nil and text ~= "" then return text end
end

-- Options for what follows from this event: tenant, correlation, cause and trace go on unless given.
local function carried(self, opts)
  if opts ~= nil and type(opts) ~= "table" then return opts end
  local event, result = self.event, {}
  for key, value in pairs(sender.own(opts or {})) do result[key] = value end
  result.tenant_id = result.tenant_id or filled(event.tenant_id)
  result.correlation_id = result.correlation_id or filled(event.correlation_id) or event.id
  if result.metadata == nil or type(result.metadata) == "table" then
    local metadata = { causation_id = event.id }
    for key, value in pairs(result.metadata or {}) do metadata[key] = value end
    result.metadata = metadata
  end
  if result.traceparent == nil then
    local traceparent = self._traceparent
    if type(traceparent) == "string" then result.traceparent = traceparent end
  end
  return result
end

function fields._traceparent(self) return self._delivery:header("traceparent") or false end

--- Publishes what follows from this event; it carries tenant, correlation and causation on. Waits for the confirm.
---@param exchange string
---@param event_type string
---@param data any
---@param opts? eventbus.PublishOptions
---@return string|nil id, eventbus.Error|nil err
function methods.publish(self, exchange, event_type, data, opts)
  local id, err = self.subscription._bus:_publish(exchange, event_type, data, carried(self, opts), "ctx:publish", 3)
  return id, err
end

--- The same without waiting: a ticket.
---@return eventbus.Ticket|nil, eventbus.Error|nil
function methods.publish_async(self, exchange, event_type, data, opts)
  local bus, all = self.subscription._bus, carried(self, opts)
  local send = bus._usual_send
  local ticket, err = send and send(exchange, event_type, data, all), nil
  if not ticket then ticket, err = bus:_send(exchange, event_type, data, all, "ctx:publish_async", 3) end
  return ticket, err
end

local Context = {}

function Context.__index(self, key)
  local method = methods[key]
  if method then return method end
  local read = fields[key]
  -- Once the handler has ended the delivery may be settled: what was not read by then is gone.
  if not read or not rawget(self, "_delivery") then return nil end
  local value = read(self)
  rawset(self, key, value)
  return value
end

context.class = Context

return context
