--- A subscription: it hands each event of one queue to its handler, and settles it by what the handler did.
--
--   handled → ack          raised, or returned false or nil, err → retry policy, then dead letters
--   ignore  → ack          reject, malformed, unhandled          → dead letters
--
-- Each delivery is settled exactly once. A retry or dead letter is a confirmed copy first (handover.lua), then an ack.

local Error = require "eventbus.error"
local config = require "eventbus.config"
local context = require "eventbus.context"
local core = require "eventbus.core"
local deadletter = require "eventbus.deadletter"
local failure = require "eventbus.failure"
local handover = require "eventbus.handover"
local options = require "eventbus.options"
local outcome = require "eventbus.outcome"
local protect = require "eventbus.protect"
local retry = require "eventbus.retry"
local router = require "eventbus.router"
local units = require "eventbus.units"

local consumer = {}

local Context, is_outcome = context.class, outcome.is

---@class eventbus.SubscribeOptions
---@field prefetch integer|nil      unsettled events the broker may have out; default: the bus's
---@field concurrency integer|nil   events handled at once; default 1
---@field ordered_by nil|fun(event: eventbus.Event): any  events with the same key are handled one after the other
---@field retry table|false|nil     count, delay, delays, backoff, factor, max_delay, jitter; false: no retries
---@field unhandled "dead_letter"|"ack"|function|nil
---@field dead_letter { exchange: string, routing_key: string|nil }|false|nil
---@field consumer_tag string|nil
---@field exclusive boolean|nil
---@field priority integer|nil
---@field arguments table|nil
---@field codec table|nil
---@field timeout number|string|nil
---@field on_settled fun(record: eventbus.Settled)|nil
consumer.SCHEMA = {
  prefetch = config.rules.prefetch,
  concurrency = options.integer(1, 65535),
  ordered_by = options["function"],
  retry = retry.rule,
  unhandled = config.rules.unhandled,
  dead_letter = config.rules.dead_letter,
  consumer_tag = options.name,
  exclusive = options.boolean,
  priority = options.integer(-2147483648, 2147483647),
  arguments = options.table,
  codec = config.rules.codec,
  timeout = config.rules.timeout,
  on_settled = options["function"],
}

---@class eventbus.Subscription
---@field queue string
-- There may be thousands: a subscription's own table holds what is its own, its class what most are like.
local Consumer = { _state = "active", _losses = 0, _ack_unhandled = false, concurrency = 1, running = 0 }
Consumer.__index = Consumer

--- What became of one event. `outcome` is "handled", "ignored", "retried", "dead_lettered", "dropped" (rejected to the
-- broker, there are no dead letters) or "returned" (to its queue, because of a stop).
---@class eventbus.Settled
---@field queue string
---@field id string|nil
---@field type string|nil
---@field event table|nil     nil when the message was malformed
---@field attempt integer
---@field redelivered boolean
---@field outcome string
---@field seconds number|nil  how long its handler ran; nil when it had none
---@field reason string|nil   of a dead letter: "failed", "rejected", "malformed", "unhandled"; "oversized": over max_body
---@field error string|nil
---@field delay number|nil    of a retry: seconds

local NOTHING_YET = { handled = 0, failed = 0, retried = 0, dead_lettered = 0, rejected = 0, ignored = 0, malformed = 0,
  unhandled = 0, oversized = 0, dropped = 0, pending = 0 }
local COUNTS = { __index = NOTHING_YET }

-- Tells `on_settled`, if there is one. Called in the midst of other work: it must not wait.
local function tell(self, record, outcome_name)
  if not record then return end
  record.outcome = outcome_name
  local hub = self._hub
  local before = hub.telling
  hub.telling = true
  local ok, raised = pcall(self._on_settled, record)
  hub.telling = before
  if not ok then hub.log("error", "on_settled raised: " .. failure.text(raised)) end
end

-- Calling a handler.

local function on_error(value, co)
  if is_outcome(value) then return value end
  return { raised = value, frames = failure.frames(co and debug.traceback(co) or debug.traceback("", 2)) }
end

local invoke
if select(2, xpcall(function(x) return x end, print, true)) then
  function invoke(handler, event, ctx)
    return xpcall(handler, on_error, event, ctx)
  end
else
  -- Lua 5.1's xpcall passes no arguments on, and no coroutine yields through it.
  function invoke(handler, event, ctx)
    return protect.xpcall(function() return handler(event, ctx) end, on_error)
  end
end

-- What a handler did, when it did not simply succeed: an outcome, or { raised =, frames = }.
local function verdict(ok, a, b)
  if not ok then
    if type(a) == "table" and (is_outcome(a) or a.frames) then return a end
    return { raised = a }
  end
  if is_outcome(a) then return a end
  if is_outcome(b) and not a then return b end
  if a == false then return { raised = b == nil and "the handler returned false" or b } end
  return { raised = b }
end

local function attempt_of(delivery)
  return deadletter.attempt(delivery:header(deadletter.HEADERS.attempt))
end

-- Where copies go.

local function delay_destination(self, ms)
  if ms <= 0 then
    return { exchange = "", routing_key = self.queue, declared = true }
  end
  return {
    exchange = "", routing_key = retry.queue_name(self.queue, ms),
    declared = self._policy:has(ms) or (self._asked_for and self._asked_for[ms]) or false,
    steps = function() return { retry.step_for(self.queue, ms, self._hub.queues[self.queue] or self._known) } end,
    on_declared = function()
      self._asked_for = self._asked_for or {}
      self._asked_for[ms] = true
    end,
  }
end

local function hand_over(self, delivery, destination, note, count, text, record)
  note.queue = self.queue
  note.host = core.hostname()
  note.now = deadletter.time(core.wall())
  note.headers_lost = delivery:malformed_headers()
  local exchange, key = delivery:exchange(), delivery:routing_key()
  if exchange == "" then exchange, key = deadletter.origin(delivery:headers(), exchange, key) end
  note.exchange, note.routing_key = exchange, key
  if not destination.routing_key then
    destination = { exchange = destination.exchange, routing_key = key, declared = true }
  end
  local counts, log = self._counts, self._hub.log
  local fields = { queue = self.queue, id = delivery:message_id(), type = delivery:type(), attempt = attempt_of(delivery),
    reason = note.reason, error = note.error }
  counts.pending = counts.pending + 1
  handover.start(self, delivery, destination, note, function(confirmed)
    counts.pending = counts.pending - 1
    if not confirmed then return tell(self, record, "returned") end
    counts[count] = counts[count] + 1
    if record then return tell(self, record, count) end
    log(count == "retried" and "info" or "warning", text, fields)
  end)
end

local function dead_letter(self, delivery, reason, text, failed, record)
  local note = { attempt = attempt_of(delivery), reason = reason, error = text,
    code = failed and failure.code(failed.raised), frames = failed and failed.frames }
  if record then record.reason, record.error = reason, text end
  if self._dead_letter then
    return hand_over(self, delivery, self._dead_letter, note, "dead_lettered", "dead-lettered", record)
  end
  self._hub.log("error", "rejected, this subscription has no dead letters of its own",
    { queue = self.queue, id = delivery:message_id(), reason = reason, error = text })
  self._counts.dropped = self._counts.dropped + 1
  delivery:reject(false)
  tell(self, record, "dropped")
end

local function send_back(self, delivery, ms, attempt, text, failed, record)
  local note = { attempt = attempt, error = text, code = failed and failure.code(failed.raised),
    frames = failed and failed.frames }
  if record then record.error, record.delay = text, ms / 1000 end
  hand_over(self, delivery, delay_destination(self, ms), note, "retried", "failed, will be retried in " .. units.show(ms),
    record)
end

-- Settling what did not succeed.

local function settle_failure(self, delivery, failed, record)
  local text = failure.text(failed.raised)
  local attempt = attempt_of(delivery)
  self._counts.failed = self._counts.failed + 1
  local ms = self._policy:delay_after(attempt)
  if ms then return send_back(self, delivery, ms, attempt + 1, text, failed, record) end
  dead_letter(self, delivery, "failed", text, failed, record)
end

local function settle_retry(self, delivery, wanted, record)
  local attempt = attempt_of(delivery)
  local text = wanted.reason or "the handler asked for a retry"
  local counted = wanted.counted ~= false
  if counted and attempt > self._policy.count then
    return dead_letter(self, delivery, "failed", text, nil, record)
  end
  local ms = wanted.after and self._policy:delay_near(wanted.after) or self._policy:delay_of(attempt)
  send_back(self, delivery, ms, counted and attempt + 1 or attempt, text, nil, record)
end

local function settle(self, delivery, what, record)
  -- A wait of the handler was cut short by a second signal, or by the end of the bus: not the event's fault.
  local hub = self._hub
  hub:signals()
  if hub.stop_now or hub.closed then
    delivery:reject(true)
    return tell(self, record, "returned")
  end
  if what.kind == "ignore" then
    self._counts.ignored = self._counts.ignored + 1
    delivery:ack()
    return tell(self, record, "ignored")
  elseif what.kind == "reject" then
    self._counts.rejected = self._counts.rejected + 1
    return dead_letter(self, delivery, "rejected", what.reason or "rejected by the handler", nil, record)
  elseif what.kind == "retry" then
    return settle_retry(self, delivery, what, record)
  end
  settle_failure(self, delivery, what, record)
end

local function settle_unreadable(self, delivery, err, record)
  local counts = self._counts
  if not delivery:oversized() then
    counts.malformed = counts.malformed + 1
    return dead_letter(self, delivery, "malformed", err.message, { raised = err }, record)
  end
  counts.oversized = counts.oversized + 1
  if record then record.reason, record.error = "oversized", err.message end
  local fields = { queue = self.queue, id = delivery:message_id(), bytes = delivery:size() }
  local known = self._hub.queues[self.queue]
  if known and known.dead_letter then
    -- There is no body to copy; the broker has it, and dead-letters it itself.
    self._hub.log("error", "an event over max_body was rejected, to the broker's dead letters", fields)
    delivery:reject(false)
    return tell(self, record, "dead_lettered")
  end
  self._hub.log("error", "an event over max_body stays in its queue, and takes a place of the prefetch: raise max_body",
    fields)
  self._held = self._held or {}
  self._held[#self._held + 1] = { delivery = delivery, record = record }
end

-- What will be told of a delivery: read now, because it is gone once it is settled. Nil when nobody asks.
local function record_of(self, delivery, event)
  if not self._on_settled then return nil end
  return { queue = self.queue, event = event or nil, id = event and event.id or delivery:message_id(),
    type = event and event.type or delivery:type(), attempt = attempt_of(delivery), redelivered = delivery:redelivered() }
end

--- The event of a delivery; nil when it cannot be read, and then it is settled.
function Consumer:read(delivery)
  local event, err = delivery:event(self._codec)
  if event then return event end
  settle_unreadable(self, delivery, err, record_of(self, delivery))
end

--- Settles a delivery as if its handler had failed: { raised =, frames = }.
function Consumer:fail(delivery, event, failed)
  settle_failure(self, delivery, failed, record_of(self, delivery, event))
end

--- The handler of a worker was abandoned, and its event is back in its queue.
function Consumer:abandoned(worker)
  if worker.record then tell(self, worker.record, "returned") end
end

--- Handles one delivery: the dispatcher's call, or a worker's of the pool. The event is read here unless it has been.
function Consumer:handle(delivery, event, worker)
  if not event then
    local err
    event, err = delivery:event(self._codec)
    if not event then return settle_unreadable(self, delivery, err, record_of(self, delivery)) end
  end
  local record
  if self._on_settled then record = record_of(self, delivery, event) end
  local handler = self._found[event.type]
  if not handler then
    handler = self._router:find(event.type) or self._unhandled
    self._found = self._router.found
    if not handler then
      self._counts.unhandled = self._counts.unhandled + 1
      if self._ack_unhandled then
        delivery:ack()
        return tell(self, record, "ignored")
      end
      return dead_letter(self, delivery, "unhandled", ("no handler for %q"):format(failure.cut(event.type, 255)), nil,
        record)
    end
  end
  local ctx = setmetatable({ event = event, subscription = self, _delivery = delivery }, Context)
  if worker then worker.ctx, worker.record = ctx, record end
  local began = record and core.now()
  local ok, a, b = invoke(handler, event, ctx)
  if record then record.seconds = core.now() - began end
  if worker then
    worker.ctx, worker.record = nil, nil
    if self._hub.loop.uninterrupted then self._hub.loop:uninterrupted() end
    -- It took too long: its event has gone back to the queue.
    if worker.abandoned then return end
  end
  ctx._delivery = false
  -- A NULL of LuaJIT's ffi is nil, and true.
  if ok and (a == nil and b == nil or a == true or a and (a ~= nil or b == nil) and not is_outcome(a)) then
    local counts = self._counts
    counts.handled = counts.handled + 1
    delivery:finish()  -- nobody else has it: the context has let go
    if record then tell(self, record, "handled") end
    return
  end
  return settle(self, delivery, verdict(ok, a, b), record)
end

-- Life.

local TTL_MATTERS = { ["x-message-ttl"] = true, ["x-expires"] = true, ["x-dead-letter-exchange"] = true,
  ["x-dead-letter-routing-key"] = true }

--- Whether a queue that exists otherwise than we would declare it serves as well. Dead letters: any. A delay queue: when
-- it waits as long and leads back.
function Consumer:tolerates(err, step)
  if not err or err.code ~= "precondition_failed" or not err.argument then return false end
  if step.lenient then return true end
  return step.name == "queue_declare" and not TTL_MATTERS[err.argument]
end

--- What was delivered comes again.
function Consumer:channel_lost()
  self._held = nil
  if self.lanes then self.lanes:clear() end
  self._losses = self._losses + 1
end

--- No more will come; what has not begun goes back.
function Consumer:ended()
  self._state = "cancelled"
  local held = self._held or {}
  self._held = nil
  for _, each in ipairs(held) do
    each.delivery:give_back()
    tell(self, each.record, "returned")
  end
  for _, delivery in ipairs(self.lanes and self.lanes:clear() or {}) do delivery:give_back() end
  for _, delivery in ipairs(self._hub:take_ready(self.id)) do delivery:give_back() end
end

function Consumer:noticed(notice)
  if notice.event == "cancelled" or notice.event == "consumer_failed" then
    -- The broker closed the channel: it does so when an ack has been due for long. After a cancel there is none to lose.
    if notice.event == "consumer_failed" and self._state == "active" then
      self:channel_lost()
      self._hub:take_ready(self.id)
    end
    self._state = "resubscribing"
  elseif notice.event == "resubscribed" then
    self._state = "active"
  end
end

--- Ends the subscription: the broker delivers no more, and what was delivered and not begun goes back to the queue.
-- Waits for the broker's answer, `timeout` at most (default: the bus's).
---@param timeout? number|string
---@return true
function Consumer:cancel(timeout)
  if self._state == "cancelled" then return true end
  local seconds = self._hub.config.timeout
  if timeout ~= nil then
    local expected
    seconds, expected = units.duration(timeout)
    if not seconds then error("subscription:cancel: expected " .. expected, 2) end
  end
  self._hub:unsubscribe({ self }, core.now() + seconds)
  self:ended()
  return true
end

--- Counters since the start: handled, failed (attempts), retried, dead_lettered, rejected, ignored, malformed, unhandled,
-- oversized, dropped; pending: copies whose confirm is awaited now; running: handlers at work, where several may be;
-- waiting: events not begun for want of one; state.
---@return table
function Consumer:stats()
  local result = { queue = self.queue, state = self._state, running = self.running,
    waiting = self.lanes and self.lanes.count or 0 }
  for name in pairs(NOTHING_YET) do result[name] = self._counts[name] end
  return result
end

local function prepare(self, timeout)
  local ok, err = self._hub:call("queue_declare", { queue = self.queue, passive = true, record = false }, timeout)
  if not ok then return nil, err end
  local steps = {}
  local function add(destination)
    for _, step in ipairs(handover.steps(destination)) do steps[#steps + 1] = step end
  end
  for _, ms in ipairs(self._policy:delays()) do add(delay_destination(self, ms)) end
  if self._dead_letter then add(self._dead_letter) end
  return self._hub:call_all(steps, timeout, function(e, step) return self:tolerates(e, step) end)
end

local function check_names(self)
  local longest = #self.queue
  -- Not only the policy's: a handler may ask for any delay.
  if self._policy.count > 0 then longest = #retry.queue_name(self.queue, retry.LONGEST_MS) end
  if self._dead_letter then longest = math.max(longest, #self._dead_letter.exchange + #self.queue + 1) end
  if longest <= 255 then return true end
  return nil, Error.new("invalid", ("the queue's name has %d bytes; with the endings of its retry and dead-letter queues " ..
    "it would pass AMQP's 255"):format(#self.queue))
end

-- The policy of most subscriptions is the bus's: they share it.
local function policy_of(hub, given)
  if given then return retry.policy(given, hub.config.retry) end
  local name = given == nil and "usual" or "none"
  local mistake
  if not hub.policies[name] then hub.policies[name], mistake = retry.policy(given, hub.config.retry) end
  return hub.policies[name], mistake
end

-- What a handler publishes follows from an event that is not to be lost: without a confirm only when it says so itself.
local function confirmed(bus)
  if bus._defaults.confirm == false then return bus:with { confirm = true } end
  return bus
end

--- A subscription of a bus (or a view of one) to a queue that exists.
---@param bus eventbus.Bus
---@param queue string
---@param handlers table<string, function>|function
---@param opts? eventbus.SubscribeOptions
---@param level integer  of the user, for mistakes
---@return eventbus.Subscription|nil, eventbus.Error|nil
function consumer.subscribe(bus, queue, handlers, opts, level)
  local where = "bus:subscribe"
  options.argument(queue, "string", where, "the queue", level)
  if queue == "" then error(where .. ": the queue's name is empty", level) end
  local given = options.check(consumer.SCHEMA, opts, where, level)
  local routes, mistake = router.new(handlers)
  if not routes then error(where .. ": " .. mistake, level) end
  local hub = bus._hub
  local defaults = hub.config
  local policy
  policy, mistake = policy_of(hub, given.retry)
  if not policy then error(where .. ": " .. mistake, level) end
  local unhandled = given.unhandled or defaults.unhandled

  local self = setmetatable({
    queue = queue, _bus = confirmed(bus), _hub = hub, _router = routes, _found = routes.found, _policy = policy,
    _known = hub.queues[queue],  -- it may be deleted, and made anew by others
    _dead_letter = deadletter.destination(queue, hub.queues[queue], given.dead_letter, defaults),
    _counts = setmetatable({}, COUNTS),
  }, Consumer)
  local less_common = { _codec = given.codec or defaults.codec, _on_settled = given.on_settled,
    concurrency = given.concurrency, ordered_by = given.ordered_by,
    _unhandled = type(unhandled) == "function" and unhandled or nil, _ack_unhandled = unhandled == "ack" or nil }
  for key, value in pairs(less_common) do self[key] = value end
  local timeout = given.timeout or defaults.timeout
  local ok, err = check_names(self)
  if ok then ok, err = prepare(self, timeout) end
  if ok then
    if self.concurrency > 1 then hub:use_pool() end
    local prefetch = math.max(given.prefetch or defaults.prefetch, self.concurrency)
    ok, err = hub:subscribe(self, { queue = queue, prefetch = prefetch,
      consumer_tag = given.consumer_tag, exclusive = given.exclusive, priority = given.priority,
      arguments = given.arguments }, timeout)
  end
  if not ok then return nil, err end
  return self
end

return consumer
