--- The dispatcher: it gives deliveries to their subscriptions, one after the other, until told to stop.
-- `run` ends in order: subscriptions are cancelled, what was not begun goes back to the queues, copies and publishes that
-- are under way are confirmed, and only then it returns.

local core = require "eventbus.core"
local options = require "eventbus.options"
local ticket = require "eventbus.ticket"
local units = require "eventbus.units"

local runner = {}

local DELIVERY, now = core.DELIVERY, core.now
-- With the 3 s that bus:close may take, less than the 10 s that Docker waits before it kills.
local STOP_TIMEOUT = 6
local HOUSEKEEPING = 64   -- deliveries between two looks at timers and limits, when they come without a pause

---@class eventbus.RunOptions
---@field signals boolean|nil            stop on SIGTERM and SIGINT (default true); a second one stops now
---@field timeout number|string|nil      stop after this time
---@field idle number|string|nil         stop when nothing came for this time
---@field stop_timeout number|string|nil how long the end may take; default 6 s
local RUN = { signals = options.boolean, timeout = units.duration, idle = units.duration, stop_timeout = units.duration }

local function dispatch(hub, id, delivery)
  local consumer = hub.consumers[id]
  if consumer then
    consumer:handle(delivery)
  else
    delivery:reject(true)
    hub:cancel_again(id)
  end
end

-- Everything that goes back to its queue now: what no handler has seen.
local function give_back(hub)
  local delivery = hub:shift()
  while delivery do
    delivery:reject(true)
    delivery = hub:shift()
  end
end

--- The orderly end of all subscriptions, until `deadline`.
---@param hub eventbus.Hub
---@param deadline number
function runner.drain(hub, deadline)
  local list = {}
  for _, consumer in pairs(hub.consumers) do list[#list + 1] = consumer end
  if #list > 0 and not hub.failure.control then hub:unsubscribe(list, deadline) end
  for _, consumer in ipairs(list) do consumer:ended() end
  hub.consumers = {}
  give_back(hub)
  while hub.handover_count > 0 and not hub.failure.publish do
    if not hub:turn(deadline) then break end
  end
  for handover in pairs(hub.handovers) do handover:abandon() end
  local batch = hub.batch
  while batch do
    while batch.pending > 0 and not hub.failure.publish do
      if not hub:turn(deadline) then break end
    end
    batch = batch.before
  end
  give_back(hub)
end

local function why_stop(hub, limits)
  if hub.stopping then return "stopped" end
  if hub.failure.control then return "failed" end
  if hub.trapping then
    local _, count = core.trapped()
    if count then
      hub.stop_now = hub.stop_now or count >= 2
      return "signal"
    end
  end
  local t = now()
  hub.timers:run(t)
  if t >= limits.deadline then return "timeout" end
  if limits.idle and t - limits.last_event >= limits.idle then return "idle" end
end

-- The hot loop. Returns why it ended.
local function loop(hub, limits)
  local bus, count = hub.core, 0
  local next_item, trapped = bus.next, core.trapped
  while true do
    local delivery, id = hub:shift()
    if not delivery then
      local kind, a, b, c
      kind, id, a, b, c = next_item(bus)
      if kind == DELIVERY then
        delivery = a
      elseif kind then
        hub:take(kind, id, a, b, c)
      else
        local why = why_stop(hub, limits)
        if why then return why end
        local till = limits.deadline
        if limits.idle then till = math.min(till, limits.last_event + limits.idle) end
        hub:rest(till)
      end
    end
    if delivery then
      dispatch(hub, id, delivery)
      count = count + 1
      if limits.idle then limits.last_event = now() end
      if hub.stopping or (hub.trapping and trapped()) or count % HOUSEKEEPING == 0 then
        local why = why_stop(hub, limits)
        if why then return why end
      end
    end
  end
end

--- Handles events until `bus:stop()`, a signal, or a limit. True and why: "stopped", "signal", "timeout" or "idle";
-- nil, err when the connection was given up.
---@param hub eventbus.Hub
---@param opts? eventbus.RunOptions
---@param level integer
---@return true|nil, string|eventbus.Error
function runner.run(hub, opts, level)
  local given = options.check(RUN, opts, "bus:run", level)
  if hub.running then error("bus:run: it is running already, this is one of its handlers", level) end
  if hub.closed then return nil, hub:closed_error() end
  if next(hub.consumers) == nil then
    hub.log("warning", "bus:run: nothing is subscribed (it ends all subscriptions when it ends: subscribe before each)")
  end
  local t = now()
  local limits = { deadline = given.timeout and t + given.timeout or math.huge, idle = given.idle, last_event = t }
  if given.signals ~= false then core.trap(hub.core) end
  hub.trapping = given.signals ~= false
  hub.running, hub.stopping, hub.stop_now = true, false, false
  local ok, why = pcall(loop, hub, limits)
  local err = hub.failure.control
  if ok then runner.drain(hub, now() + (given.stop_timeout or STOP_TIMEOUT)) end
  if hub.trapping then core.untrap() end
  hub.running, hub.stopping, hub.trapping, hub.stop_now = false, false, false, false
  -- Handlers cannot raise through; a debug hook, a signal handler of the host, or want of memory can.
  if not ok then error(why, 0) end
  if hub.close_wanted then runner.close(hub, hub.close_wanted) end
  if why == "failed" then return nil, err end
  return true, why
end

local function handle_some(hub, deadline, at_once, most)
  local handled = 0
  while handled < most and not hub.close_wanted do
    local delivery, id = hub:shift()
    if delivery then
      dispatch(hub, id, delivery)
      handled = handled + 1
    elseif not hub:pump() then
      hub.timers:run(now())
      if handled > 0 or hub.failure.control or now() >= deadline then break end
      hub:rest(deadline)
    elseif hub.first > hub.last and at_once then
      break
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
  hub.running = true
  local ok, handled = pcall(handle_some, hub, now() + timeout, timeout == 0, most)
  hub.running = false
  if not ok then error(handled, 0) end
  if hub.close_wanted then runner.close(hub, hub.close_wanted) end
  if handled == 0 and hub.failure.control then return nil, hub.failure.control end
  return handled
end

--- Ends the bus in order within `seconds`: subscriptions, publishes under way, then the connections. In a handler it is
-- put off until the handler and the run are over.
---@param hub eventbus.Hub
---@param seconds number
---@return true|nil, eventbus.Error|nil
function runner.close(hub, seconds)
  if hub.closed then return true end
  if hub.running then
    hub.close_wanted, hub.stopping = seconds, true
    return true
  end
  hub:check_may_wait()
  hub.close_wanted = nil
  local deadline = now() + seconds
  runner.drain(hub, deadline)
  hub.closed = true
  hub.core:shutdown(math.max(deadline - now(), 0.05))
  -- The core answers whatever is still under way, at the latest when its time is over.
  while next(hub.waiting) ~= nil and hub:turn(deadline + 1) do end
  hub:abandon(hub:closed_error())
  hub.core:close(math.max(deadline - now(), 0.05))
  hub.consumers, hub.ready, hub.first, hub.last = {}, {}, 1, 0
  local count, first = ticket.unnoticed(hub)
  if count == 0 then return true end
  hub.log("error", ("%d asynchronous publishes failed, and nobody asked for their outcome"):format(count),
    { first = tostring(first) })
  return nil, first
end

return runner
