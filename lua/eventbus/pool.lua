--- A pool: the coroutines in which handlers run when several may be under way. A worker takes one delivery after the other
-- of one subscription, each subscription has at most `concurrency` of them at work, and idle ones are used again. What has
-- not begun waits in the subscription's lanes.

local failure = require "eventbus.failure"
local lanes = require "eventbus.lanes"
local protect = require "eventbus.protect"

local pool = {}

---@class eventbus.Pool
---@field busy integer   workers at work
---@field alive integer  workers there are, but for those that were abandoned
---@field awaited boolean somebody waits for the end of all
local Pool = {}
Pool.__index = Pool

---@param hub eventbus.Hub
---@return eventbus.Pool
function pool.new(hub)
  return setmetatable({ hub = hub, loop = hub.loop, busy = 0, alive = 0, awaited = false, working = {}, idle = {} }, Pool)
end

-- All that may begin now of the worker's subscription.
local function serve(self, worker)
  local hub, consumer = self.hub, worker.consumer
  local waiting = consumer.lanes
  local entry = not worker.abandoned and not hub:halting() and waiting:take()
  while entry do
    consumer:handle(entry.delivery, entry.event, worker)
    waiting:done(entry)
    if worker.abandoned then return end
    entry = not hub:halting() and waiting:take()
  end
end

local function rest(self, worker)
  local consumer = worker.consumer
  consumer.running = consumer.running - 1
  self.busy = self.busy - 1
  self.working[worker] = nil
  worker.consumer, worker.woken = nil, false
  self.idle[#self.idle + 1] = worker
  if self.awaited then self.hub.parking:changed() end
  repeat self.loop:suspend(worker) until worker.woken
end

local function work(self, worker)
  worker.coroutine = protect.running()
  repeat
    serve(self, worker)
    if worker.abandoned then return end
    rest(self, worker)
  until worker.ending
  self.alive = self.alive - 1
  if self.awaited then self.hub.parking:changed() end
end

local function begin(self, consumer)
  consumer.running = consumer.running + 1
  self.busy = self.busy + 1
  local worker = table.remove(self.idle)
  if worker then
    worker.consumer, worker.woken = consumer, true
    self.working[worker] = true
    self.loop:resume(worker)
  else
    worker = { consumer = consumer, woken = false }
    self.alive = self.alive + 1
    self.working[worker] = true
    self.loop:spawn(function() work(self, worker) end)
  end
end

local NO_KEY = { raised = "ordered_by returned NaN, which is no key" }

local function on_error(raised, co)
  return { raised = raised, frames = failure.frames(co and debug.traceback(co) or debug.traceback("", 2)) }
end

-- The key of an event: nil for none; or nothing and what was wrong.
local function key_of(self, consumer, event)
  local hub = self.hub
  local before = hub.telling
  hub.telling = true
  local ok, key = xpcall(function() return consumer.ordered_by(event) end, on_error)
  hub.telling = before
  if not ok then return nil, key end
  if key ~= key then return nil, NO_KEY end
  return key
end

--- Takes a delivery for a subscription: it begins when a worker is free for it.
---@param consumer eventbus.Subscription
---@param delivery any
function Pool:offer(consumer, delivery)
  local event, key
  if consumer.ordered_by then
    local wrong
    event = consumer:read(delivery)
    if not event then return end
    key, wrong = key_of(self, consumer, event)
    if wrong then return consumer:fail(delivery, event, wrong) end
  end
  consumer.lanes = consumer.lanes or lanes.new()
  consumer.lanes:add(delivery, event, key)
  if consumer.running < consumer.concurrency and consumer.lanes:may_begin() then begin(self, consumer) end
end

--- Handlers that did not end in time: their events go back to their queues, and what comes of them no longer counts.
-- How many there were.
---@return integer
function Pool:abandon()
  local count = 0
  for worker in pairs(self.working) do
    worker.abandoned = true
    self.alive = self.alive - 1
    worker.consumer.running = worker.consumer.running - 1
    local ctx = worker.ctx
    if ctx then
      count = count + 1
      local delivery = ctx._delivery
      ctx._delivery = false
      delivery:reject(true)
      worker.consumer:abandoned(worker)
    end
  end
  self.working, self.busy = {}, 0
  return count
end

--- Tells the idle workers to end.
function Pool:dismiss()
  local idle = self.idle
  self.idle = {}
  for _, worker in ipairs(idle) do
    worker.ending, worker.woken = true, true
    self.loop:resume(worker)
  end
end

return pool
