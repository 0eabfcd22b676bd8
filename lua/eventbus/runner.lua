--- The dispatcher: it gives deliveries to their subscriptions until told to stop: one after the other, or to a pool of
-- coroutines where several may be handled at once.
-- `run` ends in order: subscriptions are cancelled, what was not begun goes back to the queues, handlers, copies and
-- publishes that are under way end, and only then it returns.

local Error = require "eventbus.error"
local core = require "eventbus.core"
local options = require "eventbus.options"
local protect = require "eventbus.protect"
local ticket = require "eventbus.ticket"
local units = require "eventbus.units"

local runner = {}

local DELIVERY, now = core.DELIVERY, core.now
-- With the 3 s that bus:close may take, less than the 10 s that Docker waits before it kills.
local STOP_TIMEOUT = 6
local HOUSEKEEPING = 64   -- deliveries between two looks at timers and limits, when they come without a pause
local LAST_WORDS = 1      -- for handlers whose waits a second signal has ended, and for idle coroutines to end

---@class eventbus.RunOptions
---@field signals boolean|nil            stop on SIGTERM and SIGINT (default true, false in OpenResty); a second stops now
---@field timeout number|string|nil      stop after this time
---@field idle number|string|nil         stop when nothing came for this time
---@field stop_timeout number|string|nil how long the end may take; default 6 s
---@field kill_after number|string|nil   after a second signal the process ends itself after so long (whole seconds)
---@field tick function|nil               called between events, and while none comes, every `tick_interval`
---@field tick_interval number|string|nil default 0.1 s
local RUN = { signals = options.boolean, timeout = units.duration, idle = units.duration, stop_timeout = units.duration,
  kill_after = units.duration, tick = options["function"], tick_interval = units.duration }
local TICK_INTERVAL = 0.1

-- Whether it was one of the user's: an eager consumer takes its deliveries for somebody who waits.
local function dispatch(hub, id, delivery)
  local consumer, pool = hub.consumers[id], hub.pool
  if not consumer then
    delivery:reject(true)
    hub:cancel_again(id)
  elseif consumer.eager then
    consumer:handle(delivery)
    return false
  elseif pool then
    pool:offer(consumer, delivery)
  else
    consumer:handle(delivery)
  end
  return true
end

-- Everything that goes back to its queue now: what no handler has seen.
local function give_back(hub)
  local delivery = hub:shift()
  while delivery do
    delivery:reject(true)
    delivery = hub:shift()
  end
end

-- Handlers that are under way end, or their events go back.
local function drain_handlers(hub, deadline)
  local pool = hub.pool
  if not pool then return end
  local function none() return pool.busy == 0 end
  pool.awaited = true
  if not hub:await_that(none, deadline) and hub.stop_now then hub:await_that(none, now() + LAST_WORDS, true) end
  local left = pool:abandon()
  if left > 0 then
    hub.log("warning", ("%d handlers did not end in time; their events go back to their queues"):format(left))
  end
  pool:dismiss()
  hub:await_that(function() return pool.alive == 0 end, now() + LAST_WORDS, true)
  pool.awaited = false
end

--- The orderly end of all subscriptions, until `deadline`.
---@param hub eventbus.Hub
---@param deadline number
function runner.drain(hub, deadline)
  local list = {}
  for _, consumer in pairs(hub.consumers) do list[#list + 1] = consumer end
  if #list > 0 and not hub.failure.control then hub:unsubscribe(list, deadline) end
  -- At once, for each subscription would look through those of all.
  for _, delivery in ipairs(hub:take_ready()) do delivery:give_back() end
  for _, consumer in ipairs(list) do consumer:ended() end
  hub.consumers = {}
  give_back(hub)
  drain_handlers(hub, deadline)
  if hub.handover_count > 0 then
    hub:await_that(function() return hub.handover_count == 0 or hub.failure.publish ~= nil end, deadline)
  end
  for handover in pairs(hub.handovers) do handover:abandon() end
  hub:await_that(function() return hub.core:unanswered() == 0 or hub.failure.publish ~= nil end, deadline)
  give_back(hub)
end

local function why_stop(hub, limits)
  if hub.stopping then return "stopped" end
  if hub.failure.control then return "failed" end
  if hub:signals() > 0 then return "signal" end
  if hub:exiting() then return "exiting" end
  local t = now()
  hub:due(t)
  if t >= limits.deadline then return "timeout" end
  if limits.idle then
    if hub.pool and hub.pool.busy > 0 then limits.last_event = t end
    if t - limits.last_event >= limits.idle then return "idle" end
  end
end

local function tick(limits)
  local t = now()
  if t < limits.tick_at then return end
  limits.tick_at = t + limits.tick_interval
  limits.tick()
end

-- Rests until there may be something for the dispatcher, or something is due. In a plain script, where nobody else can wait
-- meanwhile, confirms that nobody waits for do not end it (with TLS, where their thread rings, they do).
local function idle(hub, deadline)
  if hub.pool or not hub.loop.main_turns or hub.parking.first then return hub:rest(deadline) end
  local at = hub.timers:next()
  if hub.core:idle(at and at < deadline and at or deadline) == nil then hub:rest(deadline) end
end

-- The delivery whose turn it is, and the id of its consumer. Without one nil, and whether anything else was there.
local function look(hub)
  if hub.first <= hub.last then
    local delivery, id = hub:shift()
    if delivery then return delivery, id end
  end
  local kind, id, a, b, c = hub.core:next()  -- nil, true: publishes ended
  if kind == DELIVERY then return a, id end
  if kind then hub:take(kind, id, a, b, c) elseif not id then return nil, false end
  hub.parking:changed()
  return nil, true
end

-- The hot loop. Returns why it ended.
local function loop(hub, limits)
  local count, trapped = 0, core.trapped
  while true do
    local delivery, id = look(hub)
    if not delivery and not id then
      if limits.tick then tick(limits) end
      local why = why_stop(hub, limits)
      if why then return why end
      local till = limits.deadline
      if limits.idle then till = math.min(till, limits.last_event + limits.idle) end
      if limits.tick then till = math.min(till, limits.tick_at) end
      idle(hub, till)
    elseif delivery then
      local consumer = not hub.pool and hub.consumers[id]
      if consumer then consumer:handle(delivery) else dispatch(hub, id, delivery) end
      count = count + 1
      if limits.idle then limits.last_event = now() end
      if limits.tick then tick(limits) end
      if hub.stopping or (hub.trapping and trapped()) or count % HOUSEKEEPING == 0 then
        local why = why_stop(hub, limits)
        if why then return why end
      end
    end
  end
end

-- A handler may have asked for the end of the bus, which was put off until now: true, or false and what that raised.
local function close_as_asked(hub)
  if not hub.close_wanted then return true end
  return protect.pcall(runner.close, hub, hub.close_wanted)
end

local function run(hub, given)
  local t = now()
  local limits = { deadline = given.timeout and t + given.timeout or math.huge, idle = given.idle, last_event = t,
    tick = given.tick, tick_at = t, tick_interval = given.tick_interval or TICK_INTERVAL }
  local signals = given.signals
  if signals == nil then signals = hub.loop.signals ~= false end
  if signals then core.trap(hub.core, given.kill_after) end
  hub.trapping, hub.signals_seen = signals, 0
  hub.running, hub.stopping, hub.stop_now, hub.may_stop = protect.running() or true, false, false, true
  local ok, why = protect.pcall(loop, hub, limits)
  local err = hub.failure.control
  -- Handlers cannot raise through; `tick`, a debug hook, a signal handler of the host, or want of memory can.
  hub.stopping = true  -- none is to be begun
  local drained, mistake = protect.pcall(runner.drain, hub, now() + (given.stop_timeout or STOP_TIMEOUT))
  if ok and not drained then ok, why = false, mistake end
  if hub.trapping then core.untrap() end
  hub.running, hub.stopping, hub.trapping, hub.stop_now, hub.may_stop = false, false, false, false, false
  local closed, mistake_in_close = close_as_asked(hub)
  hub.parking:pass_on()
  if not ok then error(why, 0) end
  if not closed then error(mistake_in_close, 0) end
  if why == "failed" then return nil, err end
  return true, why
end

-- Outside of its loop: starts that, and runs in it.
local function run_in_loop(hub, given, level)
  local host = hub.loop
  if not host.run then
    error(("bus:run: call it in a coroutine of the loop (%s)"):format(host.name or "your adapter"), level + 1)
  end
  local ended, ok, a, b
  host:run(function()
    ok, a, b = protect.pcall(run, hub, given)
    ended = true
  end)
  if not ended then return nil, Error.new("closed", "the event loop ended before the run did") end
  if not ok then error(a, 0) end
  return a, b
end

--- Handles events until `bus:stop()`, a signal, or a limit. True and why: "stopped", "signal", "timeout", "idle",
-- or "exiting" when the host is to end;
-- nil, err when the connection was given up.
---@param hub eventbus.Hub
---@param opts? eventbus.RunOptions
---@param level integer
---@return true|nil, string|eventbus.Error
function runner.run(hub, opts, level)
  local given = options.check(RUN, opts, "bus:run", level)
  if hub.running then error("bus:run: it is running already, be it because this is one of its handlers", level) end
  if hub.closed then return nil, hub:closed_error() end
  if next(hub.consumers) == nil then
    hub.log("warning", "bus:run: nothing is subscribed (it ends all subscriptions when it ends: subscribe before each)")
  end
  local inside = hub.loop.main_turns or hub.parking:may_suspend()
  local ok, why = (inside and run or run_in_loop)(hub, given, level)
  return ok, why
end

local function handle_some(hub, deadline, most)
  local handled = 0
  while handled < most and not hub.close_wanted do
    local delivery, id = look(hub)
    if delivery then
      if dispatch(hub, id, delivery) then handled = handled + 1 end
    elseif not id then
      local t = now()
      hub:due(t)
      if handled > 0 or hub.failure.control or t >= deadline then
        -- Though nobody waits: handlers in coroutines get their turn, and a handler's child process learns that it is one.
        if hub.loop.main_turns and (hub.pool or handled == 0) then hub:rest(t) end
        break
      end
      idle(hub, deadline)
    end
  end
  return handled
end

--- Handles what is there, at most `most` events; waits up to `timeout` for the first. How many were handled, or nil, err.
---@param hub eventbus.Hub
---@param timeout number
---@param most integer
---@return integer|nil, eventbus.Error|nil
function runner.poll(hub, timeout, most, level)
  if hub.running then error("bus:poll: not inside a handler", level) end
  if hub.closed then return nil, hub:closed_error() end
  if not hub.loop.main_turns and not hub.parking:may_suspend() then
    error("bus:poll: call it in a coroutine of the loop", level)
  end
  hub.running, hub.stopping = protect.running() or true, false
  local ok, handled = protect.pcall(handle_some, hub, now() + timeout, most)
  hub.running = false
  local closed, mistake = close_as_asked(hub)
  hub.parking:pass_on()
  if not ok then error(handled, 0) end
  if not closed then error(mistake, 0) end
  if handled == 0 and hub.failure.control then return nil, hub.failure.control end
  return handled
end

-- Whether the caller is the dispatcher, or a handler.
local function inside_run(hub)
  local caller = protect.running()
  if not hub.parking:may_suspend() or hub.running == (caller or true) then return true end
  for worker in pairs(hub.pool and hub.pool.working or {}) do
    if worker.coroutine == caller then return true end
  end
  return false
end

local function ended(hub, connection)
  local state = hub.state[connection]
  return state == "closed" or state == "idle" or hub.failure[connection] ~= nil
end

--- Ends the bus in order within `seconds`: subscriptions, publishes under way, then the connections. In a handler it is
-- put off until the handler and the run are over; any other coroutine waits for that.
---@param hub eventbus.Hub
---@param seconds number
---@return true|nil, eventbus.Error|nil
function runner.close(hub, seconds)
  if hub.closed then return true end
  local deadline = now() + seconds
  if hub.running then
    hub.close_wanted = hub.close_wanted or seconds
    hub:stop()
    if not inside_run(hub) then
      hub:await_that(function() return hub.closed end, deadline + STOP_TIMEOUT)
    end
    return true
  end
  hub:check_may_wait()
  hub.close_wanted = nil
  runner.drain(hub, deadline)
  if hub.closed then return true end  -- by another coroutine, meanwhile
  hub.closed = true
  hub.core:shutdown(math.max(deadline - now(), 0.05))
  -- The core answers whatever is still under way, at the latest when its time is over.
  hub:await_that(function() return hub:quiet() end, deadline + 1)
  hub:abandon(hub:closed_error())
  -- To their end the connections may have something to tell.
  hub:await_that(function() return ended(hub, "control") and ended(hub, "publish") end, deadline)
  hub:clear_out()
  hub.core:close(math.max(deadline - now(), 0.05))
  hub.consumers, hub.ready, hub.first, hub.last = {}, {}, 1, 0
  local count, first = ticket.unnoticed(hub)
  if count == 0 then return true end
  hub.log("error", ("%d asynchronous publishes failed, and nobody asked for their outcome"):format(count),
    { first = tostring(first) })
  return nil, first
end

return runner
