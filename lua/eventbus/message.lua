--- A message taken from a queue by hand (`bus:get`): read it, then settle it, or send it where it came from.
-- Unsettled it stays with this bus; when it is collected or the bus is closed it goes back to its queue.

local Error = require "eventbus.error"
local deadletter = require "eventbus.deadletter"
local options = require "eventbus.options"

local message = {}

---@class eventbus.Message
---@field queue string  it was taken from
---@field left integer  how many messages the queue still had
local Message = {}
Message.__index = Message

---@param hub eventbus.Hub
function message.new(hub, delivery, queue, left)
  return setmetatable({ queue = queue, left = left, _hub = hub, _delivery = delivery }, Message)
end

--- The event, or nil and an error of code "malformed" or "too_large".
---@return table|nil, eventbus.Error|nil
function Message:event() return self._delivery:event(self._hub.config.codec) end
---@return string|nil  nil when it is larger than max_body
function Message:body() return self._delivery:body() end
---@return table
function Message:headers() return self._delivery:headers() end
---@return any
function Message:header(name) return self._delivery:header(name) end
---@return table
function Message:properties() return self._delivery:properties() end
---@return string
function Message:exchange() return self._delivery:exchange() end
---@return string
function Message:routing_key() return self._delivery:routing_key() end
---@return boolean
function Message:redelivered() return self._delivery:redelivered() end
---@return string|nil
function Message:message_id() return self._delivery:message_id() end
---@return string|nil
function Message:type() return self._delivery:type() end

--- Where it was first published: in a dead letter of ours not the same as exchange() and routing_key().
---@return string exchange, string routing_key
function Message:origin()
  return deadletter.origin(self:headers(), self:exchange(), self:routing_key())
end

--- Takes it off the queue.
---@return true|nil, eventbus.Error|nil
function Message:ack() return self._delivery:ack() end

--- Back to the queue (true), or to the broker's dead-lettering if the queue has one, else gone (false).
---@param requeue boolean
---@return true|nil, eventbus.Error|nil
function Message:reject(requeue)
  options.argument(requeue, "boolean", "message:reject", "requeue", 2)
  return self._delivery:reject(requeue)
end

local REPLAY = { exchange = options.name, routing_key = options.name, headers = options.table }

local Waiter = {}
Waiter.__index = Waiter

function Waiter:answered(ok, err) self.done, self.ok, self.err = true, ok, err end

--- Publishes it as it is, our annotations removed and one replay more counted, to where it came from (or to the exchange
-- and key given), waits for the confirm, then acknowledges it. An interruption in between leaves it in both places,
-- never in none. What did not arrive whole is not sent again: "too_large", or "malformed" when its headers were lost.
---@param opts? { exchange: string, routing_key: string, headers: table }  headers are added
---@return true|nil, eventbus.Error|nil
function Message:replay(opts)
  local given = options.check(REPLAY, opts, "message:replay")
  self._hub:check_may_wait()
  local code, why = deadletter.unfit(self._delivery)
  if code then return nil, Error.new(code, why) end
  local exchange, key = self:origin()
  local properties = deadletter.replayed(self:properties(), self:headers())
  for name, value in pairs(given.headers or {}) do properties.headers[name] = value end
  local waiter, hub = setmetatable({ done = false }, Waiter), self._hub
  local ok, err = hub:post(waiter, given.exchange or exchange, given.routing_key or key, self:body(), properties)
  if ok and not hub:await(waiter, hub.now() + hub.config.publish_timeout + 15) then
    ok, err = nil, hub:overdue("the replay")
  elseif ok then
    ok, err = waiter.ok, waiter.err
  end
  if not ok then return nil, err end
  return self:ack()
end

return message
