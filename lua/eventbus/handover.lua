--- A handover: an annotated copy of an event on its way to a delay queue or to the dead letters.
--
--   declaring → publishing → confirmed: the original is acknowledged
--        ↑          ↓ failed
--        └────── waiting (1 s, doubling to 30 s) → given_back: its channel is gone, or the bus is closed
--
-- spec/model/handover.pml has these states, and shows that nothing is lost between them.
-- The original stays unacknowledged until the broker has confirmed the copy, whatever happens: nothing is lost in
-- between. When its channel is lost the broker delivers it again, and the handover ends. Nothing here blocks.

local core = require "eventbus.core"
local deadletter = require "eventbus.deadletter"
local mismatch = require "eventbus.mismatch"

local handover = {}

local FIRST_WAIT, LONGEST_WAIT = 1, 30

---@class eventbus.Handover
---@field state "declaring"|"publishing"|"waiting"|"confirmed"|"given_back"
local Handover = {}
Handover.__index = Handover

local NONE = {}

-- What declares a destination. Made when it is needed: there may be thousands of destinations.
---@param destination eventbus.Destination
---@return table[]
function handover.steps(destination)
  return destination.steps and destination:steps() or NONE
end

---@class eventbus.Destination
---@field exchange string
---@field routing_key string
---@field steps nil|fun(destination: eventbus.Destination): table[]  what must have been declared; nil: it is not ours to
---@field declared boolean        it has been
---@field on_declared function|nil

--- Takes over a delivery. `done(ok)` is called once: true when the copy was confirmed.
---@param consumer eventbus.Subscription
---@param delivery any
---@param destination eventbus.Destination
---@param note eventbus.Annotation
---@param done function
function handover.start(consumer, delivery, destination, note, done)
  local hub = consumer._hub
  local self = setmetatable({
    state = "declaring",
    _hub = hub, consumer = consumer, delivery = delivery, destination = destination, note = note, on_done = done,
    body = delivery:body(), properties = delivery:properties(), headers = delivery:headers(),
    epoch = hub.epoch, losses = consumer._losses, tries = 0, lean = false,
    steps = destination.declared and NONE or handover.steps(destination), step = 1,
  }, Handover)
  hub.handovers[self] = true
  hub.handover_count = hub.handover_count + 1
  self:advance()
end

local function finish(self, confirmed)
  if not self._hub.handovers[self] then return end
  self._hub.handovers[self] = nil
  self._hub.handover_count = self._hub.handover_count - 1
  local delivery = self.delivery
  self.delivery = nil
  if confirmed then
    self.state = "confirmed"
    delivery:ack()
  else
    self.state = "given_back"
    delivery:reject(true)
  end
  self.on_done(confirmed)
end

--- The next step: a declaration that is missing, or else the copy.
function Handover:advance()
  local hub, destination = self._hub, self.destination
  local ok, err
  local step = self.steps[self.step]
  if step then
    self.state = "declaring"
    ok, err = hub:ask(self, step)
  else
    self.state = "publishing"
    ok, err = hub:post(self, destination.exchange, destination.routing_key, self.body,
      deadletter.annotate(self.properties, self.headers, self.note, self.lean))
  end
  if not ok then self:failed(err) end
end

function Handover:answered(ok, err)
  if not self._hub.handovers[self] then return end
  if self.state == "declaring" then
    if ok or self.consumer:tolerates(mismatch.explain(err), self.steps[self.step]) then
      self.step = self.step + 1
      if not self.steps[self.step] and self.destination.on_declared then self.destination.on_declared() end
      self:advance()
    else
      self:failed(err)
    end
  elseif ok then
    finish(self, true)
  else
    self:failed(err)
  end
end

function Handover:failed(err)
  if err.code == "closed" or err.code == "forked" then return finish(self, false) end
  if (err.code == "too_large" or err.code == "invalid") and not self.lean then
    self.lean = true
    return self:advance()
  end
  -- The queue or exchange is gone: declare it again, where that is ours to do.
  if err.code == "returned" or err.code == "not_found" then
    self.steps, self.step = handover.steps(self.destination), 1
  end
  local wait = math.min(FIRST_WAIT * 2 ^ self.tries, LONGEST_WAIT) * (1 + math.random() / 4)
  self.tries = self.tries + 1
  self.state = "waiting"
  self._hub.log(self.tries == 1 and "warning" or "error", "an event could not be handed over, it stays in its queue", {
    queue = self.consumer.queue, to = self.destination.routing_key, error = tostring(err), id = self.properties.message_id,
    next_try = ("%.1fs"):format(wait),
  })
  self._hub:at(core.now() + wait, self)
end

--- Time to try again.
function Handover:due()
  if not self._hub.handovers[self] then return end
  if self.epoch ~= self._hub.epoch or self.losses ~= self.consumer._losses then return finish(self, false) end
  self:advance()
end

--- Gives the original back.
function Handover:abandon()
  finish(self, false)
end

return handover
