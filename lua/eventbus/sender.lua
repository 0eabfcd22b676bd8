--- The sender: what every publish goes through, from a user's arguments to a ticket.
-- The usual ones are the core's, whole (lua_sender.c); what comes here has more to it, or a mistake to tell.

local Error = require "eventbus.error"
local config = require "eventbus.config"
local core = require "eventbus.core"
local merged = require "eventbus.merged"
local options = require "eventbus.options"
local ticket = require "eventbus.ticket"
local units = require "eventbus.units"

local sender = {}

--- A return is told by a confirm that follows it.
sender.CONTRADICTION = ": an event cannot be mandatory without a confirm: only a confirm tells that no queue took it; "
  .. "leave out confirm = false, or set mandatory = false"

local now, next, type, getmetatable = core.now, next, type, getmetatable

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
---@field confirm boolean|nil        default true; false: done when it is sent, and it may be lost
---@field persistent boolean|nil     default true
---@field expiration number|string|nil
---@field priority integer|nil
---@field timeout number|string|nil  until the confirm, waiting for room included; default publish_timeout
---@field codec table|nil            for the payload: encode, decode
local PUBLISH = {
  tenant_id = options.string, correlation_id = options.string, metadata = options.table, id = options.string,
  timestamp = options.string, source = options.string, routing_key = options.string, headers = options.table,
  traceparent = options.string, mandatory = options.boolean, confirm = options.boolean,
  persistent = options.boolean, expiration = units.duration, priority = options.integer(0, 255),
  timeout = config.rules.timeout, codec = config.rules.codec,
}

--- The options of a publish as a plain table.
function sender.own(opts) return options.own(PUBLISH, opts) end

-- Options beyond the envelope: properties, routing key, timeout, codec.
local function read_rest(self, opts, where, level)
  local given = options.check(PUBLISH, opts, where, level)
  local properties, base = nil, self._properties
  if given.headers or given.traceparent or given.mandatory ~= nil or given.confirm ~= nil or given.persistent ~= nil
    or given.expiration or given.priority then
    properties = {
      headers = merged(base and base.headers, given.headers), mandatory = base and base.mandatory,
      confirm = base and base.confirm, persistent = given.persistent, priority = given.priority,
      expiration = given.expiration and units.milliseconds(given.expiration),
    }
    if given.mandatory ~= nil then properties.mandatory = given.mandatory end
    if given.confirm ~= nil then properties.confirm = given.confirm end
    if properties.mandatory and properties.confirm == false then error(where .. sender.CONTRADICTION, level) end
    if given.traceparent then
      properties.headers = merged(properties.headers, { traceparent = given.traceparent })
    end
  end
  return given.routing_key, properties or base, given.timeout, given.codec
end

-- Full: waits for answers, which make room, and tries again.
local function wait_for_room(hub, timeout, exchange, key, properties, ...)
  local deadline = now() + timeout
  while true do
    local waited = hub:turn(deadline)
    local left = deadline - now()
    local op, id = hub.core:publish_fields(exchange, key, properties, left > 0.001 and left or 0.001, ...)
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

-- Hands an event to the core: its operation, the event's id, its time limit, and whether it wants a confirm; or nil, err.
-- `batch`: whether flush waits for it. Mistakes raise `level` callers up. Waits only while the outbox is full.
local function post(self, exchange, event_type, data, opts, where, level, batch)
  local hub, defaults = self._hub, self._defaults
  local settings = hub.config
  if hub.loop.uninterrupted then hub.loop:uninterrupted() end
  local key, properties, timeout, codec = event_type, self._properties, settings.publish_timeout, settings.codec
  if type(exchange) ~= "string" then options.argument(exchange, "string", where, "the exchange", level) end
  if type(event_type) ~= "string" then options.argument(event_type, "string", where, "the event type", level) end
  local source, tenant_id, correlation_id = defaults.source, defaults.tenant_id, defaults.correlation_id
  local metadata, id, timestamp = defaults.metadata, nil, nil
  if opts ~= nil then
    local rest = type(opts) ~= "table"
    if not rest then
      if getmetatable(opts) ~= nil then opts = sender.own(opts) end
      -- What goes into the envelope as it is, and the routing key: the fast path.
      for name, value in next, opts do
        local kind = type(value)
        if kind == "string" then
          if name == "tenant_id" then
            tenant_id = value
          elseif name == "routing_key" then
            key = value
          elseif name == "correlation_id" then
            correlation_id = value
          elseif name == "id" then
            id = value
          elseif name == "timestamp" then
            timestamp = value
          elseif name == "source" then
            source = value
          else
            rest = true
          end
        elseif name == "metadata" and kind == "table" then
          metadata = metadata and merged(metadata, value) or value
        else
          rest = true
        end
      end
    end
    if rest then
      local routing_key, limit, coder
      routing_key, properties, limit, coder = read_rest(self, opts, where, level + 1)
      key, timeout, codec = routing_key or key, limit or timeout, coder or codec
    end
  end

  local op, made_id = hub.core:publish_fields(exchange, key, properties, timeout, codec, batch, event_type, data, source,
    tenant_id, correlation_id, metadata, id, timestamp)
  if not op and made_id.code == "full" and not hub.loop.sheds and hub:may_wait() then
    op, made_id = wait_for_room(hub, timeout, exchange, key, properties, codec, batch, event_type, data, source, tenant_id,
      correlation_id, metadata, id, timestamp)
  end
  if not op then return nil, made_id end
  return op, made_id, timeout, not (properties and properties.confirm == false)
end

--- The core's functions for the usual publishes of a view: one that answers with a ticket; one with an operation and the
-- event's id. Nothing back: go the long way. False, where all go that.
---@param hub eventbus.Hub
---@param defaults eventbus.ViewFields
---@param properties? table
---@return function|false, function|nil
function sender.usual(hub, defaults, properties)
  local loop, settings = hub.loop, hub.config
  if settings.codec or loop.uninterrupted or loop.background then return false end
  if properties and (properties.headers or properties.mandatory) then return false end
  return core.sender(hub.core, hub, defaults.source, defaults.tenant_id, defaults.correlation_id, defaults.metadata,
    settings.publish_timeout, defaults.confirm)
end

-- What is not as usual about the outcome: its time limit and what success is called, or nil, nil.
local function unusual(hub, timeout, wants_confirm)
  return timeout ~= hub.config.publish_timeout and timeout or nil, not wants_confirm and "sent" or nil
end

--- Publishes the long way: a ticket, or nil, err.
---@param self eventbus.Bus
function sender.send(self, exchange, event_type, data, opts, where, level)
  local op, id, timeout, wants_confirm = post(self, exchange, event_type, data, opts, where, level + 1, true)
  if not op then return nil, id end
  local hub = self._hub
  local made = ticket.new(hub, op, id, unusual(hub, timeout, wants_confirm))
  if hub.loop.background then hub.parking:turn_in_background() end
  if hub.core:due() and not hub.telling then hub:pump() end
  return made
end

--- Publishes, and waits for the outcome as ticket:wait does.
---@param self eventbus.Bus
function sender.publish(self, exchange, event_type, data, opts, where, level)
  local hub = self._hub
  if hub.telling or hub.loop.never_blocks then hub:check_may_wait() end
  local op, id, timeout, wants_confirm = nil, nil, hub.config.publish_timeout, true
  if self._usual_post then op, id = self._usual_post(exchange, event_type, data, opts) end
  if not op then
    op, id, timeout, wants_confirm = post(self, exchange, event_type, data, opts, where, level + 1)
    if not op then return nil, id end
  end
  if hub:confirmed(op, timeout) then return id end
  local outcome = ticket.outcome(hub, false, id, unusual(hub, timeout, wants_confirm))
  hub:expect(op, outcome)
  return outcome:wait()
end

return sender
