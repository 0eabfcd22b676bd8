--- A ticket: the outcome of one publish, now or later.
-- Tickets are the core's (lua_ticket.h), small and made by the million; what is found out when somebody looks at one is an
-- outcome, which the ticket then keeps.

local Error = require "eventbus.error"
local core = require "eventbus.core"
local units = require "eventbus.units"

local ticket = {}

local now, setmetatable, tickets = core.now, setmetatable, core.tickets
local GRACE = 15
-- Failures whose tickets have not been looked at. Beyond that many the oldest are forgotten.
local KEPT = 20000

-- `op` has that of an asynchronous publish: the core tells of its failure only, and it asks when it is looked at. That of
-- another is a waiter from the start.
local Outcome = { done = false, err = false, success = "confirmed" }
Outcome.__index = Outcome

--- That of a publish just begun.
---@param hub eventbus.Hub
---@param op integer|false
---@param id string          of the event
---@param timeout? number    seconds; default: publish_timeout
---@param success? string    what it is called; default: "confirmed"
function ticket.outcome(hub, op, id, timeout, success)
  return setmetatable({ hub = hub, op = op, id = id, timeout = timeout, success = success }, Outcome)
end

--- A batch of asynchronous publishes, between two flushes: `from` is the operation before its first. The hub has the newest,
-- which leads to those `before` that no flush has told of yet, and in `lost` the failures, by operation.
---@param from integer
function ticket.batch(from, before)
  return { from = from, failed = 0, told = 0, before = before }
end

local function batch_of(hub, op)
  local at = hub.batch
  while at and op <= at.from do at = at.before end
  return at
end

-- Counts a failure for the flush it belongs to.
local function count_failure(hub, op, err)
  local batch = batch_of(hub, op)
  if batch then
    batch.failed = batch.failed + 1
    batch.first = batch.first or err
  end
end

--- An asynchronous publish failed, and nobody waits for it now.
function ticket.failed(hub, op, err)
  count_failure(hub, op, err)
  local lost = hub.lost
  local last = lost.last + 1
  lost.last, lost.order[last], lost.err[op] = last, op, err
  if last - lost.first < KEPT then return end
  local oldest = lost.order[lost.first]
  lost.order[lost.first], lost.first = nil, lost.first + 1
  if lost.err[oldest] then
    lost.err[oldest] = nil
    if oldest > lost.forgotten then lost.forgotten = oldest end
  end
end

--- Nothing will answer any more: all that are under way have failed.
function ticket.abandon(hub, err)
  local op, watched = hub.core:forget()
  while op do
    if not watched then ticket.failed(hub, op, err) end
    op, watched = hub.core:forget()
  end
end

function Outcome:answered(ok, err)
  self.done = true
  if ok then return end
  self.err = err
  if self.op then count_failure(self.hub, self.op, err) end
end

-- Looks whether the publish has ended. If not and `watch`, the ticket becomes a waiter.
local function look(self, watch)
  local hub, op = self.hub, self.op
  if not op or self.watched then return end
  local lost = hub.lost
  local err = lost.err[op]
  if not err then
    local bus = hub.core
    local pending
    if watch then pending = bus:watch(op) else pending = bus:pending(op) end
    if pending then
      if watch then
        self.watched = true
        hub:expect(op, self)
      end
      return
    end
    if pending == nil and not hub.closed then
      err = hub:closed_error()
    elseif op <= lost.forgotten then
      err = Error.new("unknown", ("%d publishes have failed since and nobody asked: what became of this one was not kept")
        :format(KEPT))
    end
  end
  lost.err[op] = nil
  self.done, self.err = true, err or false
end

local function result(self)
  local err = self.err
  if not err then return self.id end
  -- Told: what remains in `failed` is what nobody asked for.
  if self.op and not self.told then
    self.told = true
    local batch = batch_of(self.hub, self.op)
    if batch then batch.told = batch.told + 1 end
  end
  return nil, err
end

function Outcome:wait(timeout, level)
  if not self.done then look(self, true) end
  if self.done then return result(self) end
  local seconds = self.hub.config.publish_timeout + GRACE
  if timeout ~= nil then
    local expected
    seconds, expected = units.duration(timeout)
    if not seconds then error("ticket:wait: expected " .. expected, level + 1) end
  elseif self.timeout then
    seconds = self.timeout + GRACE
  end
  if self.hub:await(self, now() + seconds) then return result(self) end
  return nil, self.hub:overdue("the publish, which is still under way,")
end

local STATE = { returned = "returned", nacked = "nacked" }

function Outcome:state()
  if not self.done then
    self.hub:pump()
    look(self)
  end
  if not self.done then return "pending" end
  local id, err = result(self)
  if id then return self.success end
  return STATE[err.code] or "failed", err
end

---@class eventbus.Ticket
---@field id string  the event's id
local Ticket = tickets.methods

-- What a ticket keeps; made when it is first looked at.
local function outcome_of(self)
  local kept, op, id, unconfirmed = tickets.open(self)
  if not op then return kept end
  return tickets.keep(self, ticket.outcome(kept, op, id, nil, unconfirmed and "sent" or nil))
end

--- The ticket of an asynchronous publish just begun; the arguments are those of its outcome.
---@return eventbus.Ticket
function ticket.new(hub, op, id, timeout, success)
  local made = tickets.new(hub, op, id)
  if timeout or success then tickets.keep(made, ticket.outcome(hub, op, id, timeout, success)) end
  return made
end

--- Waits for the outcome: the event's id when the broker has confirmed it (if it wants no confirm: when it is sent), or
-- nil, err. Without a timeout it waits as long as the publish may take; after one has passed the answer is 'timeout' and the
-- publish is still under way.
---@param timeout? number|string
---@return string|nil id, eventbus.Error|nil err
function Ticket:wait(timeout)
  local id, err = outcome_of(self):wait(timeout, 2)
  return id, err
end

--- The outcome so far, without waiting: "pending", "confirmed" ("sent", if it wants no confirm), or "returned", "nacked",
-- "failed" with the error.
---@return "pending"|"confirmed"|"sent"|"returned"|"nacked"|"failed" state, eventbus.Error|nil err
function Ticket:state()
  return outcome_of(self):state()
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
  local bus, upto, following = hub.core, hub.core:newest(), hub.batch
  -- What is published from here on belongs to the next flush.
  if upto > following.from then
    following = ticket.batch(upto, following)
    hub.batch = following
  end
  -- Its own list: another flush, of another coroutine, may end first and take what it has told out of the chain.
  local batches, at = {}, following.before
  while at do batches[#batches + 1], at = at, at.before end
  if not hub:await_that(function() return bus:unanswered(upto) == 0 end, now() + seconds) then
    return nil, Error.new("timeout", ("%d publishes are still unanswered"):format(bus:unanswered(upto)))
  end
  local failed, first = 0, nil
  for _, batch in ipairs(batches) do
    failed = failed + batch.failed
    first = batch.first or first
  end
  -- Only now: a flush that timed out has told of none.
  following.before = nil
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
    local left = at.failed - at.told
    if left > 0 then count, first = count + left, at.first end
    at = at.before
  end
  return count, first
end

return ticket
