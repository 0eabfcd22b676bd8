--- The hub: what a bus, its views and its subscriptions share. It takes what comes up from the core and gives each item
-- to whom it belongs: an answer to its waiter, a delivery to the queue of the dispatcher, a notice to the log.
--
-- A waiter is any table with `answered(self, ok, value, more)`; it is answered once. Whoever waits does so in `await`,
-- and there answers are given out and timers run, but never a handler begun: what is delivered meanwhile stays queued.
-- Many coroutines may wait at once (parking.lua).
-- A consumer that is `eager` takes its deliveries itself, as they come: it never calls a function of the user's.

local Error = require "eventbus.error"
local core = require "eventbus.core"
local failure = require "eventbus.failure"
local log = require "eventbus.log"
local loops = require "eventbus.loops"
local mismatch = require "eventbus.mismatch"
local parking = require "eventbus.parking"
local pool = require "eventbus.pool"
local ticket = require "eventbus.ticket"
local timers = require "eventbus.timers"

local hub = {}

local ANSWER, DELIVERY, FAILED = core.ANSWER, core.DELIVERY, core.FAILED
local now, min = core.now, math.min
-- Beyond an operation's own deadline, which the core keeps: a wait that never ends would be a bug, not a hang.
local GRACE = 15
local LONGEST_REST = 3600
-- For whoever still waits for a bus that is closed.
local LEAVE = 1

---@class eventbus.Hub
local Hub = {}
Hub.__index = Hub

-- What waits for a topology operation.
local Call = {}
Call.__index = Call

function Call:answered(ok, value, more)
  self.done, self.ok, self.value, self.more = true, ok, value, more
end

-- Stands for a waiter that has given up.
local nobody = {}

function nobody:answered(ok, value)  -- luacheck: no self
  if ok and type(value) == "userdata" then value:reject(true) end
end

--- A hub over a new, unconnected core bus; nil, err when the core refuses the configuration.
---@param config eventbus.Config
---@return eventbus.Hub|nil, eventbus.Error|nil
function hub.open(config)
  local module = loops.choose(config.loop)
  local bus, err = core.open(config.core)
  if not bus then return nil, err end
  -- They may hold a password, and a dump of a bus would show it.
  config.url, config.core = nil, nil
  local self = setmetatable({
    core = bus,
    config = config,
    generation = core.generation(),  -- of the process that made it
    loop = loops.adapt(module, bus),
    pool = false,            -- of handlers' coroutines; false: handlers are called one by one, in the dispatcher
    waiting = {},            -- id of an operation → its waiter
    cancelled = {},          -- id of a subscription that ended and still got something → when to cancel it again
    early = {},              -- id → an answer that was taken before its waiter was known: see Hub:expect
    consumers = {},          -- id of a subscription → consumer
    queues = {},             -- name → normalised topology, of what was declared here and matters to a subscription: that
                             -- it is exclusive, or a quorum queue, or where its dead letters go
    policies = {},           -- "usual", "none" → the retry policy of subscriptions that say nothing of it, or no
    first = 1, last = 0,     -- of the deliveries that wait for the dispatcher
    ready = {},              -- position → delivery
    ready_for = {},          -- position → id of its consumer
    timers = timers.new(),
    handovers = {},          -- copies whose confirm is awaited: a set
    handover_count = 0,
    state = { control = "idle", publish = "idle" },
    failure = {},            -- connection → why it was given up
    blocked = {},            -- connection → why the broker does not take from it
    epoch = 0,               -- of the control connection: what was delivered on an earlier one comes again
    listeners = { config.on_notice },
    batch = ticket.batch(0), -- of asynchronous publishes, since the last flush
    lost = { err = {}, order = {}, first = 1, last = 0, forgotten = 0 },  -- those that failed: see ticket.lua
    awaited = false,         -- the waiter of the wait under way, in the midst of which a hook may wait
    telling = false,         -- a function of the user's runs in the midst of our work: it must not wait
  }, Hub)
  self.parking = parking.new(bus, self.loop, function(deadline, waiter) return self:turn(deadline, waiter) end,
    function() return not self.running and self:quiet() end)
  if not self.loop.main_turns then self:use_pool() end
  local write = log.new(config.log)
  self.log = function(level, text, fields)
    local before = self.telling
    self.telling = true
    write(level, text, fields)
    self.telling = before
  end
  return self
end

--- From now on handlers run in coroutines, so that several can be under way.
function Hub:use_pool()
  self.pool = self.pool or pool.new(self)
end

local LEVEL = {
  up = "info", down = "warning", attempt_failed = "warning", failed = "error", blocked = "warning", unblocked = "info",
  cancelled = "warning", resubscribed = "info", consumer_failed = "error", topology_failed = "error", closed = "debug",
  unconfirmed_lost = "error",
}

local SAYS = {
  up = "connected", down = "connection lost", attempt_failed = "cannot connect, will try again",
  failed = "cannot connect, gave up", blocked = "the broker is short of memory or disk and takes no more",
  unblocked = "the broker takes again", cancelled = "the broker cancelled a subscription, will subscribe again",
  resubscribed = "subscribed again", consumer_failed = "cannot subscribe again, will keep trying",
  topology_failed = "the topology could not be restored after a reconnect", closed = "connection closed",
  unconfirmed_lost = "the broker closed the channel of publishes without a confirm, some of them are lost",
}

local function note(self, notice)
  local connection, event = notice.connection, notice.event
  if event == "up" or event == "closed" then
    self.state[connection] = event
    self.failure[connection] = nil
  elseif event == "down" or event == "failed" then
    self.state[connection] = event
    self.blocked[connection] = nil
    if event == "failed" then self.failure[connection] = notice.err end
  elseif event == "attempt_failed" then
    self.attempt_failed = notice.err
  elseif event == "blocked" then
    self.blocked[connection] = notice.err and notice.err.message or "resource alarm"
  elseif event == "unblocked" then
    self.blocked[connection] = nil
  end
  if connection == "control" and event == "down" then
    -- What was delivered and not begun comes again.
    self.ready, self.ready_for, self.first, self.last = {}, {}, 1, 0
    self.epoch = self.epoch + 1
    for _, consumer in pairs(self.consumers) do consumer:channel_lost() end
  end
  local consumer = notice.consumer and self.consumers[notice.consumer]
  if consumer then consumer:noticed(notice) end
end

local function tell(self, notice)
  local consumer = notice.consumer and self.consumers[notice.consumer]
  local level = LEVEL[notice.event] or "info"
  -- Whoever was told of the trouble is told of its end.
  if notice.event == "up" or notice.event == "resubscribed" then
    level = self.troubled and "warning" or "info"
    self.troubled = nil
  elseif level ~= "info" and level ~= "debug" then
    self.troubled = true
  end
  self.log(level, SAYS[notice.event] or notice.event, {
    connection = notice.connection, queue = consumer and consumer.queue,
    error = notice.err and tostring(notice.err),
  })
  local before = self.telling
  self.telling = true
  for _, listener in ipairs(self.listeners) do
    local ok, raised = pcall(listener, notice)
    if not ok then self.log("error", "on_notice raised: " .. failure.text(raised)) end
  end
  self.telling = before
end

local function take(self, kind, id, a, b, c)
  if kind == ANSWER then
    local waiter = self.waiting[id]
    if waiter then
      self.waiting[id] = nil
      waiter:answered(a, b, c)
      local lot = self.parking
      if lot.by_waiter[waiter] then lot:answered(waiter) end
    else
      self.early[id] = { a, b, c }
    end
  elseif kind == DELIVERY then
    local consumer = self.consumers[id]
    if consumer and consumer.eager then return consumer:handle(a) end
    local last = self.last + 1
    self.last, self.ready[last], self.ready_for[last] = last, a, id
  elseif kind == FAILED then
    ticket.failed(self, id, a)
  else
    note(self, id)
    tell(self, id)
  end
end
Hub.take = take

--- Names the waiter of an operation just begun. A finalizer that ran since, and waited for something of its own, may have
-- taken the answer already.
function Hub:expect(id, waiter)
  -- In this order: a debug hook may wait in between.
  self.waiting[id] = waiter
  local answer = self.early[id]
  if not answer then return end
  self.early[id], self.waiting[id] = nil, nil
  waiter:answered(answer[1], answer[2], answer[3])
end

--- Takes all that is there, without waiting; whether there was anything.
---@return boolean
function Hub:pump()
  if self.loop.uninterrupted then self.loop:uninterrupted() end
  local bus, any = self.core, false
  local kind, id, a, b, c = bus:next()
  while kind do
    any = true
    take(self, kind, id, a, b, c)
    kind, id, a, b, c = bus:next()
  end
  any = any or id  -- publishes ended, though nobody is told: there is room
  local lot = self.parking
  if any then lot:changed() end
  if lot.poked or lot.turner then lot:ask_again() end
  return any
end

--- Takes out what was delivered to a consumer, or to any, and not begun: a list.
---@param id? integer
---@return any[]
function Hub:take_ready(id)
  local ready, ready_for, last, taken = {}, {}, 0, {}
  for i = self.first, self.last do
    if id == nil or self.ready_for[i] == id then
      taken[#taken + 1] = self.ready[i]
    else
      last = last + 1
      ready[last], ready_for[last] = self.ready[i], self.ready_for[i]
    end
  end
  self.ready, self.ready_for, self.first, self.last = ready, ready_for, 1, last
  return taken
end

-- A child process has the parent's bus, but neither its threads nor any right to its connections: nothing will come.
local function forked(self)
  local err = Error.new("forked", "the bus belongs to the parent process; connect again after a fork")
  self.failure.control, self.failure.publish = err, err
  self.timers:clear()
  self.handovers, self.handover_count = {}, 0
  self.ready, self.ready_for, self.first, self.last = {}, {}, 1, 0
  self:abandon(err)
end

--- The delivery that has waited longest for the dispatcher, and the id of its consumer; nil when none waits.
function Hub:shift()
  local first = self.first
  if first > self.last then return nil end
  -- The parent handles them; a child, forked by a handler perhaps, must not do so a second time.
  if core.generation() ~= self.generation then return forked(self) end
  local delivery, id = self.ready[first], self.ready_for[first]
  self.ready[first], self.ready_for[first] = nil, nil
  if first == self.last then self.first, self.last = 1, 0 else self.first = first + 1 end
  return delivery, id
end

--- Runs what is due. Whether anything was.
---@param t number
---@return boolean
function Hub:due(t)
  local lot, at = self.parking, self.timers:next()
  if t >= lot.earliest then lot:overdue(t) end
  if not at or at > t then return false end
  self.timers:run(t)
  lot:changed()
  return true
end

--- Wakes an object (`due(now)`) at a time.
function Hub:at(at, object)
  self.timers:add(at, object)
  self.parking:timer_set(at)
end

--- Waits until there is something to take, at most until `deadline`. Returns at once when a timer is due.
---@param deadline number  on core.now's clock
---@param waiter? table    of the caller; nil: it waits for anything
function Hub:rest(deadline, waiter)
  if core.generation() ~= self.generation then return forked(self) end
  local at, earliest, till = self.timers:next(), self.parking.earliest, deadline
  if at and at < till then till = at end
  if earliest < till then till = earliest end
  local seconds = till - now()
  if seconds < 0 then seconds = 0 end
  -- Coroutines must get their turn, though the caller has no time to lose.
  if seconds > 0 or self.pool then
    self.parking:rest(waiter, deadline, seconds < LONGEST_REST and seconds or LONGEST_REST)
  end
end

--- Under `bus:run`: the number of signals that came. The first stops the run, a second ends every wait.
---@return integer
function Hub:signals()
  if not self.trapping then return 0 end
  local _, count = core.trapped()
  count = count or 0
  if count > (self.signals_seen or 0) then
    self.signals_seen = count
    if count >= 2 then
      self.stop_now = true
      self.parking:wake_all()
    else
      self.parking:changed()
    end
  end
  return count
end

--- Whether the host is about to end, so that `bus:run` must.
---@return boolean
function Hub:exiting()
  local ask = self.loop.exiting
  return ask and ask(self.loop) or false
end

--- Whether no other event is to be begun: the run is to end, or this is a child of the process whose events they are.
---@return boolean
function Hub:halting()
  return self.stopping or self.stop_now or (self.trapping and core.trapped() ~= nil)
    or core.generation() ~= self.generation or self:exiting()
end

--- Makes `bus:run` end.
function Hub:stop()
  self.stopping = true
  self.parking:changed()
end

--- Whether the caller may wait at all, be it by blocking the thread.
---@return boolean
function Hub:may_wait()
  return not self.telling and (not self.loop.never_blocks or self.parking:may_suspend())
end

--- Raises where nobody may wait: before anything is begun whose end nobody would see.
function Hub:check_may_wait()
  if self.telling then error("eventbus: a function for log, on_notice or ordered_by must not wait", 0) end
  if self.loop.never_blocks and not self.parking:may_suspend() then
    error("eventbus: this call would wait, and here nothing can; publish with publish_async, without waiting", 0)
  end
end

--- One step of any wait: what is there, what is due, or else a rest. False once the wait is over: the deadline has passed,
-- a second signal came, the bus is closed.
---@param deadline number
---@param waiter? table
---@param regardless? boolean  of a second signal
---@return boolean
function Hub:turn(deadline, waiter, regardless)
  if self.telling or self.loop.never_blocks then self:check_may_wait() end
  local any = self:pump()
  local t = now()
  if self:due(t) or any then return true end
  if t >= deadline or self.ended then return false end
  -- A child waits for nothing: a wait that rests no time would spin until its deadline.
  if core.generation() ~= self.generation then
    forked(self)
    return false
  end
  self:signals()
  if self.loop.exiting and not self.exit_seen and self:exiting() then
    self.exit_seen = true  -- the dispatcher learns of it once
    self.parking:changed()
  end
  if self.stop_now and not regardless then return false end
  -- By a hook's wait: what woke us may be taken, too.
  if waiter and waiter.done then return true end
  self:rest(deadline, waiter)
  return true
end

--- Waits until the waiter's `done` is true. False: the wait was over first.
---@param waiter table
---@param deadline number
---@return boolean
function Hub:await(waiter, deadline)
  -- A debug hook may wait in the midst of another's wait, and take its answer along: that one must not sleep then.
  local outer = self.awaited
  self.awaited = waiter
  while not waiter.done do
    if not self:turn(deadline, waiter) then break end
  end
  self.awaited = outer and not outer.done and outer
  if outer and outer.done and self.loop.main_turns and not self.pool then self.core:poke() end
  if self.parking.first then self.parking:pass_on() end
  return waiter.done or false
end

--- Waits for the confirm of a publish just handed over where this takes nobody's turn: in a plain script without handlers
-- in coroutines. Deliveries that come meanwhile keep their place. Whatever else comes first ends it: false, and the publish
-- is to be awaited as any other. The way of most publishes that wait; all of it is in C.
---@param op integer
---@param seconds number
---@return boolean
function Hub:confirmed(op, seconds)
  if not self.loop.main_turns or self.pool or self.parking.first or self.telling
    or self.trapping and core.trapped() then return false end
  local at = self.timers:next()
  if at then seconds = min(seconds, at - now()) end
  -- A debug hook may have published, waited, and taken this answer along, up to the moment of the call.
  return seconds > 0 and self.core:confirmed(op, seconds, self.early)
end

--- Waits until a condition holds that no single answer decides. False: the wait was over first.
---@param condition fun(): boolean
---@param deadline number
---@param regardless? boolean  of a second signal
---@return boolean
function Hub:await_that(condition, deadline, regardless)
  while not condition() do
    if not self:turn(deadline, nil, regardless) then break end
  end
  if self.parking.first then self.parking:pass_on() end
  return condition()
end

--- Why a wait ended without an answer.
function Hub:overdue(what)
  if self.stop_now then return Error.new("closed", "stopped by a second signal") end
  return Error.new("timeout", what .. " was not answered in time")
end

function Hub:closed_error()
  return Error.new("closed", "the bus is closed")
end

-- Hands an operation to the core; while the outbox is full, waits for room.
local function submit(self, waiter, deadline, method, ...)
  self:check_may_wait()
  while true do
    local id, err = method(self.core, ...)
    if id then
      waiter.id = id
      self:expect(id, waiter)
      return true
    end
    if err.code ~= "full" or not self:turn(deadline) then
      self.parking:pass_on()
      return nil, err
    end
  end
end

local function finish(self, call, what, deadline)
  if not self:await(call, deadline) then
    self.waiting[call.id] = nobody
    return nil, self:overdue(what)
  end
  if call.ok then return call.value or true end
  return nil, mismatch.explain(call.value)
end

-- Its result, or nil, err; and what the answer has more.
local function operate(self, name, args, timeout)
  local call = setmetatable({ done = false }, Call)
  local deadline = now() + timeout
  local result, err = submit(self, call, deadline, self.core.rpc, name, args, timeout)
  if result then result, err = finish(self, call, name, deadline + GRACE) end
  return result, err, call
end

--- One topology operation: its result (true when there is none), or nil, err.
---@param name string
---@param args table
---@param timeout? number
function Hub:call(name, args, timeout)
  local result, err = operate(self, name, args, timeout or self.config.timeout)
  return result, err
end

--- basic.get: a delivery, false when the queue is empty, or nil, err.
function Hub:get(queue)
  local result, err, call = operate(self, "get", { queue = queue }, self.config.timeout)
  if not result then return nil, err end
  return call.value or false, call.more
end

--- Many operations at once: all are sent, then all answers awaited. True, or nil, the error of the first in order that
-- failed, and its position. `tolerate(err, step)` may wave an error through.
---@param steps { name: string, args: table }[]
---@param timeout? number
---@param tolerate? fun(err: eventbus.Error, step: table): boolean
function Hub:call_all(steps, timeout, tolerate)
  timeout = timeout or self.config.timeout
  local deadline, calls, failed = now() + timeout, {}, nil
  for i, step in ipairs(steps) do
    local call = setmetatable({ done = false }, Call)
    local ok, err = submit(self, call, deadline, self.core.rpc, step.name, step.args, timeout)
    if not ok then
      failed = err
      break
    end
    calls[i] = call
  end
  for i, call in ipairs(calls) do
    local ok, err = finish(self, call, steps[i].name, deadline + GRACE)
    if not ok and not (tolerate and tolerate(err, steps[i])) then return nil, err, i end
  end
  if failed then return nil, failed, #calls + 1 end
  return true
end

--- Starts a consumer: true, or nil, err. Its deliveries carry `consumer.id`.
function Hub:subscribe(consumer, args, timeout)
  local call = setmetatable({ done = false }, Call)
  local deadline = now() + timeout
  local ok, err = submit(self, call, deadline, self.core.subscribe, args, timeout)
  if not ok then return nil, err end
  consumer.id = call.id
  self.consumers[call.id] = consumer
  local result
  result, err = finish(self, call, "subscribe", deadline + GRACE)
  if result then return true end
  self.consumers[call.id] = nil
  return nil, err
end

--- Asks the broker to stop delivering to some consumers; what is on its way still comes. Waits for the answers.
---@param list table[]
---@param deadline number
function Hub:unsubscribe(list, deadline)
  local calls = {}
  for _, consumer in ipairs(list) do
    local call = setmetatable({ done = false }, Call)
    if submit(self, call, deadline, self.core.cancel, consumer.id, math.max(deadline - now(), 0.001)) then
      calls[#calls + 1] = call
    end
  end
  for _, call in ipairs(calls) do
    if not self:await(call, deadline) then self.waiting[call.id] = nobody end
  end
  for _, consumer in ipairs(list) do self.consumers[consumer.id] = nil end
end

--- A delivery came for a subscription that has ended: its cancel is still on its way, or was never sent because the outbox
-- was full. It is asked for again, once a second at most, so that the broker does not go on delivering for ever.
---@param id integer  of the consumer
function Hub:cancel_again(id)
  local t = now()
  if (self.cancelled[id] or 0) > t then return end
  self.cancelled[id] = t + 1
  local op = self.core:cancel(id, self.config.timeout)
  if op then self:expect(op, nobody) end
end

--- Hands a publish over whose answer goes to `waiter`; true, or nil, err. Never waits.
function Hub:post(waiter, exchange, routing_key, body, properties)
  local id, err = self.core:publish(exchange, routing_key, body, properties, self.config.publish_timeout)
  if not id then return nil, err end
  self:expect(id, waiter)
  return true
end

--- A topology operation whose answer goes to `waiter`; true, or nil, err. Never waits.
function Hub:ask(waiter, step)
  local id, err = self.core:rpc(step.name, step.args, self.config.timeout)
  if not id then return nil, err end
  self:expect(id, waiter)
  return true
end

--- Nothing will answer any more: every waiter is told so.
function Hub:abandon(err)
  local waiting = self.waiting
  self.waiting = {}
  for _, waiter in pairs(waiting) do
    waiter:answered(nil, err)
    self.parking:answered(waiter)
  end
  ticket.abandon(self, err)
  self.parking:changed()
end

--- Ends every wait and the loop's part: nobody may wait for the descriptor when it is closed.
function Hub:clear_out()
  local lot = self.parking
  self.ended = true
  lot:wake_all()
  if self.loop.close then return self.loop:close() end
  local quit = now() + LEAVE
  while lot.turner and lot:may_suspend() and now() < quit do lot:rest(nil, quit, LEAVE) end
end

--- Whether no operation is under way.
---@return boolean
function Hub:quiet()
  return next(self.waiting) == nil and self.core:unanswered() == 0
end

Hub.now = now

return hub
