--- The sender: what every publish goes through, from a user's arguments to a ticket.
-- The hot path of the library: no closure, one table for each event, options looked at once.

local Error = require "eventbus.error"
local config = require "eventbus.config"
local core = require "eventbus.core"
local options = require "eventbus.options"
local ticket = require "eventbus.ticket"
local units = require "eventbus.units"

local sender = {}

local Ticket = ticket.class
local now, next, type, setmetatable = core.now, next, type, setmetatable

-- Answers are taken at least every so many publishes, also when the user never waits.
local PUMP_EVERY = 128

---@class eventbus.PublishOptions
---@field tenant_id string|nil
---@field correlation_id string|nil
---@field metadata table|nil
---@field id string|nil              default: a new one, evt_ and a UUIDv7
---@field timestamp string|nil       RFC 3339; default: now
---@field source string|nil
---@field routing_key string|nil     default: the type
---@field headers table|nil
---@field traceparent string|nil     W3C trace context, sent as a header
---@field mandatory boolean|nil      an event that no queue takes is an error: 'returned'
---@field persistent boolean|nil     default true
---@field expiration number|string|nil
---@field priority integer|nil
---@field timeout number|string|nil  until the confirm, waiting for room included; default publish_timeout
---@field codec table|nil            for the payload: encode, decode
local PUBLISH = {
  tenant_id = options.string, correlation_id = options.string, metadata = options.table, id = options.string,
  timestamp = options.string, source = options.string, routing_key = options.name, headers = options.table,
  traceparent = options.string, mandatory = options.boolean, persistent = options.boolean,
  expiration = units.duration, priority = options.integer(0, 255), timeout = config.rules.timeout,
  codec = config.rules.codec,
}

-- Options that go into the envelope as they are: the fast path.
local OF_EVENT = {
  tenant_id = "string", correlation_id = "string", metadata = "table", id = "string", timestamp = "string",
  source = "string",
}

--- Both tables in one, the second's fields first; no copy when there is only one.
local function merged(first, second)
  if not first or not second then return second or first end
  local result = {}
  for key, value in next, first do result[key] = value end
  for key, value in next, second do result[key] = value end
  return result
end
sender.merged = merged

-- Options beyond the envelope: properties, routing key, timeout, codec.
local function read_rest(self, opts, where, level)
  local given = options.check(PUBLISH, opts, where, level)
  local properties, base = nil, self._properties
  if given.headers or given.traceparent or given.mandatory ~= nil or given.persistent ~= nil or given.expiration
    or given.priority then
    properties = {
      headers = merged(base and base.headers, given.headers), mandatory = base and base.mandatory,
      persistent = given.persistent, priority = given.priority,
      expiration = given.expiration and units.milliseconds(given.expiration),
    }
    if given.mandatory ~= nil then properties.mandatory = given.mandatory end
    if given.traceparent then
      properties.headers = merged(properties.headers, { traceparent = given.traceparent })
    end
  end
  return given.routing_key, properties or base, given.timeout, given.codec
end

-- Full: waits for answers, which make room, and tries again.
local function wait_for_room(hub, exchange, key, event, properties, timeout, codec)
  local deadline = now() + timeout
  while true do
    local waited = hub:turn(deadline)
    local left = deadline - now()
    local op, id = hub.core:publish_event(exchange, key, event, properties, left > 0.001 and left or 0.001, codec)
    if op or id.code ~= "full" then
      hub.parking:pass_on()
      return op, id
    end
    if not waited then
      hub.parking:pass_on()
      if hub.blocked.publish then
        return nil, Error.new("blocked", "the outbox is full and the broker takes nothing: " .. hub.blocked.publish)
      end
      return nil, id
    end
  end
end

-- Filled for each publish: the core reads it before anything else can run. (A codec could; it gets a table of its own.)
local scratch = {}

--- Hands an event to the core: a ticket, or nil, err. `batch`: whether flush waits for it. Mistakes raise `level` callers
-- up. Waits only while the outbox is full.
---@param self eventbus.Bus
function sender.send(self, exchange, event_type, data, opts, where, level, batch)
  local hub, defaults = self._hub, self._defaults
  local settings = hub.config
  if hub.loop.uninterrupted then hub.loop:uninterrupted() end
  local key, properties, timeout, codec = event_type, self._properties, settings.publish_timeout, settings.codec
  if type(exchange) ~= "string" then options.argument(exchange, "string", where, "the exchange", level) end
  if type(event_type) ~= "string" then options.argument(event_type, "string", where, "the event type", level) end
  local event = codec and {} or scratch
  event.type, event.source, event.tenant_id = event_type, defaults.source, defaults.tenant_id
  event.correlation_id, event.metadata, event.id, event.timestamp = defaults.correlation_id, defaults.metadata, nil, nil
  if opts ~= nil then
    local rest = type(opts) ~= "table"
    if not rest then
      for name, value in next, opts do
        if type(value) == OF_EVENT[name] then
          event[name] = value
        elseif name == "routing_key" and type(value) == "string" then
          key = value
        else
          rest = true
        end
      end
    end
    if rest then
      local routing_key, limit, coder
      routing_key, properties, limit, coder = read_rest(self, opts, where, level + 1)
      key, timeout = routing_key or key, limit or timeout
      if coder then
        codec, event = coder, merged({}, event)
      end
    end
    if defaults.metadata and opts.metadata then event.metadata = merged(defaults.metadata, opts.metadata) end
  end
  event.data = data

  local bus_core = hub.core
  local op, id = bus_core:publish_event(exchange, key, event, properties, timeout, codec)
  if not op and id.code == "full" and not hub.loop.sheds and hub:may_wait() then
    op, id = wait_for_room(hub, exchange, key, merged({}, event), properties, timeout, codec)
  end
  event.data = nil
  if not op then return nil, id end
  local made = setmetatable({ id = id, _hub = hub, _batch = false, done = false, _err = false }, Ticket)
  if timeout ~= settings.publish_timeout then made._timeout = timeout end
  if batch then
    local open = hub.batch
    made._batch = open
    open.pending = open.pending + 1
    hub.unpumped = hub.unpumped + 1
    if hub.loop.background then hub.parking:turn_in_background() end
    if hub.unpumped >= PUMP_EVERY and not hub.telling then
      hub:expect(op, made)
      hub:pump()
      return made
    end
  end
  hub:expect(op, made)
  return made
end

return sender
