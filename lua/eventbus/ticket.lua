--- A ticket: the outcome of one publish, now or later.

local Error = require "eventbus.error"
local core = require "eventbus.core"
local units = require "eventbus.units"

local ticket = {}

local now = core.now
local GRACE = 15

---@class eventbus.Ticket
---@field id string  the event's id
local Ticket = {}
Ticket.__index = Ticket
ticket.class = Ticket

-- Tickets are made on the hot path, by bus.lua: { id, _hub, _batch, done = false, _err = false }.

function Ticket:answered(ok, err)
  self.done = true
  local batch = self._batch
  if batch then batch.pending = batch.pending - 1 end
  if not ok then
    self._err = err
    if batch then
      batch.failed = batch.failed + 1
      batch.first = batch.first or err
    end
  end
end

local function result(self)
  local err = self._err
  if not err then return self.id end
  -- Told: what remains in `failed` is what nobody asked for.
  local batch = self._batch
  if batch and not self._told then
    self._told = true
    batch.told = (batch.told or 0) + 1
  end
  return nil, err
end

--- Waits for the outcome: the event's id when the broker has confirmed it, or nil, err. Without a timeout it waits as
-- long as the publish may take; after one has passed the answer is 'timeout' and the publish is still under way.
---@param timeout? number|string
---@return string|nil id, eventbus.Error|nil err
function Ticket:wait(timeout)
  if self.done then return result(self) end
  local seconds = self._hub.config.publish_timeout + GRACE
  if timeout ~= nil then
    local expected
    seconds, expected = units.duration(timeout)
    if not seconds then error("ticket:wait: expected " .. expected, 2) end
  elseif self._timeout then
    seconds = self._timeout + GRACE
  end
  if self._hub:await(self, now() + seconds) then return result(self) end
  return nil, self._hub:overdue("the publish, which is still under way,")
end

local STATE = { returned = "returned", nacked = "nacked" }

--- The outcome so far, without waiting: "pending", "confirmed", or "returned", "nacked", "failed" with the error.
---@return "pending"|"confirmed"|"returned"|"nacked"|"failed" state, eventbus.Error|nil err
function Ticket:state()
  if not self.done then self._hub:pump() end
  if not self.done then return "pending" end
  local id, err = result(self)
  if id then return "confirmed" end
  return STATE[err.code] or "failed", err
end

--- Waits until all that was published before is answered: true, or nil and the first error, whose `failed` says how many.
---@param hub eventbus.Hub
---@param timeout? number|string
function ticket.flush(hub, timeout, level)
  local seconds = hub.config.publish_timeout + GRACE
  if timeout ~= nil then
    local expected
    seconds, expected = units.duration(timeout)
    if not seconds then error("bus:flush: expected " .. expected, (level or 1) + 1) end
  end
  local batch = hub.batch
  -- What is published from here on belongs to the next flush.
  hub.batch = { pending = 0, failed = 0, before = batch }
  local deadline = now() + seconds
  local at = batch
  while at do
    local counted = at
    if at.pending > 0 and not hub:await_that(function() return counted.pending == 0 end, deadline) then
      return nil, Error.new("timeout", ("%d publishes are still unanswered"):format(at.pending))
    end
    at = at.before
  end
  -- Only now: a flush that timed out has told of none.
  local failed, first = 0, nil
  at = batch
  while at do
    failed = failed + at.failed
    first = first or at.first
    at.failed = 0
    at = at.before
  end
  batch.before, hub.batch.before = nil, nil
  if failed == 0 then return true end
  return nil, Error.new(first.code, failed == 1 and first.message or
    ("%d publishes failed, the first: %s"):format(failed, first.message), { failed = failed, cause = first })
end

--- How many publishes failed without anybody having asked; and the first error.
---@param hub eventbus.Hub
---@return integer count, eventbus.Error|nil first
function ticket.unnoticed(hub)
  local count, first, at = 0, nil, hub.batch
  while at do
    local left = at.failed - (at.told or 0)
    if left > 0 then count, first = count + left, first or at.first end
    at = at.before
  end
  return count, first
end

return ticket
