--- A stream of publishes: a bounded number on their way, and their outcomes told in the order in which they were given.

local core = require "eventbus.core"
local pace = require "eventbus.pace"

local stream = {}

local now = core.now
local WINDOW = 1000
local STOP_TIMEOUT = 6

---@class eventbus.cli.Stream
---@field fatal eventbus.Error|nil  why no more can be published
local Stream = {}
Stream.__index = Stream

local Slot = {}
Slot.__index = Slot

function Slot:answered(ok, err)
  self.done, self.err = true, not ok and err or nil
end

-- What is wrong with one event; anything else is trouble for all.
local OF_ONE = { returned = true, nacked = true }

--- Options: rate, stop (function: false, true, or "now"), told (function(number, id, err): the outcome of each, in order).
---@param bus eventbus.Bus
---@param options table
---@return eventbus.cli.Stream
function stream.new(bus, options)
  return setmetatable({ hub = bus._hub, pace = pace.new(options.rate), stop = options.stop, told = options.told,
    slots = {}, first = 1, last = 0, calls = 0 }, Stream)
end

local function tell(self)
  while true do
    local slot = self.slots[self.first]
    if not slot or not slot.done then return end
    self.slots[self.first] = nil
    self.first = self.first + 1
    if slot.err and not OF_ONE[slot.err.code] then self.fatal = self.fatal or slot.err end
    self.told(slot.number, slot.id, slot.err)
  end
end

local function turn(self, at)
  self.hub:turn(math.min(at or math.huge, now() + 0.1))
  tell(self)
end

--- Publishes an event when there is room and it is its turn: true; false when nothing more can go, because of a signal or
-- of `fatal`; nil and an error: the event cannot be sent. The core's outbox bounds the bytes under way.
---@param number any  told with the outcome
---@param what { exchange: string, routing_key: string, event: table, properties: table|nil }
---@return boolean|nil, eventbus.Error|nil
function Stream:publish(number, what)
  local hub = self.hub
  self.calls = self.calls + 1
  if self.calls % 64 == 0 then
    hub:pump()
    tell(self)
  end
  while not self.fatal and not self.stop() do
    local t = now()
    local at = self.pace:next(t)
    if at > t then
      turn(self, at)
    elseif self.last - self.first + 1 >= WINDOW then
      turn(self)
    else
      local op, id = hub.core:publish_event(what.exchange, what.routing_key, what.event, what.properties,
        hub.config.publish_timeout)
      if op then
        local slot = setmetatable({ number = number, id = id }, Slot)
        self.last = self.last + 1
        self.slots[self.last] = slot
        hub:expect(op, slot)
        self.pace:step()
        return true
      end
      if id.code ~= "full" then return nil, id end
      if not hub:turn(now() + hub.config.publish_timeout) then self.fatal = id end
      tell(self)
    end
  end
  return false
end

--- Waits for the outcome of all that was sent; after a signal not for long. How many have none.
---@return integer
function Stream:finish()
  local deadline
  while self.first <= self.last do
    local stop = self.stop()
    if stop == "now" then break end
    if (stop or self.fatal) and not deadline then deadline = now() + STOP_TIMEOUT end
    if deadline and now() >= deadline then break end
    turn(self)
  end
  return self.last - self.first + 1
end

return stream
