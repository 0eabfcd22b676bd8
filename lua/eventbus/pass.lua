--- A pass: it takes messages off a queue, as many as were there when it began, and settles each by what was decided.
--
--   queue ─ get ─▶ looked at ─▶ not chosen ─▶ held, unacknowledged, and given back at the end: same order
--                      │
--                      ├─▶ removed ──────────────────────────────▶ acked
--                      └─▶ copy published (mandatory) ─ confirmed ▶ acked
--                               └ returned, nacked, no exchange ──▶ held, and said
--
-- A copy is confirmed before its original is acknowledged, and what is held stays the broker's: whatever ends the pass
-- (a signal, an error, kill -9, the broker) leaves each message in at least one place. What was confirmed and not yet
-- acknowledged then comes twice, with the same id.
--
-- Messages come through subscriptions, a bounded number ahead; when one is full of held messages another is opened. What
-- is held keeps no body: memory does not grow with the bodies of a queue. (Not through basic.get: a broker takes each
-- message back by itself then, in time that grows with their square.)

local Error = require "eventbus.error"
local core = require "eventbus.core"
local letter = require "eventbus.letter"
local pace = require "eventbus.pace"
local protect = require "eventbus.protect"

local pass = {}

local now = core.now

local AHEAD, MOST_AHEAD = 256, 8192  -- prefetch of the first subscription, and of later ones, doubling
local WINDOW = 500                  -- copies on their way
local BYTES = 16 * 1024 * 1024      -- of bodies, in each of the two
local SOURCES = 1000
local QUIET = 0.5                   -- without a message: time to ask whether there is any
local ZEROS = 3                     -- so often, and none came in between: there is none
local STARVED = 30                  -- without a message, though there are some
local MOST_HELD = 1000000           -- a few hundred bytes each
local STOP_TIMEOUT = 6              -- to confirm what is under way once it is to end
local BATCH = 64                    -- looked at before answers are taken again
local RESTARTS = 20                 -- after a lost channel, without one message done in between
local EXAMPLES = 3                  -- ids named with each kind of failure

-- A copy that fails in one of these ways failed for itself; the pass goes on. Any other way is trouble for all.
local OWN_FAULT = { returned = true, nacked = true, not_found = true, too_large = true, invalid = true, refused = true,
  unknown_origin = true, malformed = true }

---@class eventbus.PassResult
---@field queue string
---@field there integer     messages when it began
---@field looked integer    at so many it has looked
---@field chosen integer
---@field done integer      replayed, moved or removed, and acknowledged
---@field kept integer      chosen, and stayed in the queue
---@field failures { code: string, message: string, count: integer, ids: string[] }[]  why
---@field repeated integer  copies that were sent and whose original may come again
---@field left integer      of those that were there
---@field stopped boolean|nil  it was asked to end
---@field err eventbus.Error|nil  why it ended before the end

local Pass = {}
Pass.__index = Pass

-- Waiters.

-- A subscription of the pass.
local Source = {}
Source.__index = Source

function Source:handle(delivery)
  local p = self.pass
  if p.over then
    delivery:give_back()
    return
  end
  p.last = p.last + 1
  p.arrived[p.last] = { delivery = delivery, generation = p.generation, seq = p.seq, source = self }
  p.seq, p.taken, p.heard = p.seq + 1, p.taken + 1, now()
  p.hub.parking:changed()  -- the pass may be waiting in another coroutine than the dispatcher's
end

function Source:channel_lost()
  self.pass:lose(Error.new("connection", "the connection was lost again and again"))
end

function Source:noticed(notice)
  if notice.event == "cancelled" then self.pass:fail(notice.err) end
  if notice.event == "consumer_failed" then self.pass:lose(notice.err) end
end

function Source:ended() self.state = "cancelled" end

function Source:stats() return { queue = self.pass.queue, state = self.state } end

local Copy = {}
Copy.__index = Copy

function Copy:answered(ok, err)
  local p, item = self.pass, self.item
  if not p.sending[self] then return end
  p.sending[self] = nil
  p.in_flight, p.flying_bytes = p.in_flight - 1, p.flying_bytes - item.size
  if item.generation ~= p.generation then
    -- Its channel is gone: the broker delivers it again, and then it counts.
    if ok then p.result.repeated = p.result.repeated + 1 end
  elseif ok then
    p:done(item)
  else
    p:failed(item, err, self.exchange)
  end
end

-- How many are ready: none while nothing comes means the end; after a loss, how many to expect.
local Count = {}
Count.__index = Count

function Count:answered(ok, value)
  local p = self.pass
  p.counting = false
  if not ok then return p:fail(value) end
  if p.uncounted then
    p.uncounted, p.heard = false, now()
    p.budget = math.max(value.messages, p.result.there - p.result.done)
  elseif value.messages == 0 then
    -- Again and again, QUIET apart: what the broker has just sent may be on its way, and a busy one is slow.
    p.zeros = p.dry == p.taken and p.zeros + 1 or 1
    p.empty = p.zeros >= ZEROS
    p.dry, p.heard = p.taken, now()
  elseif now() - p.heard > STARVED then
    p:fail(Error.new("timeout", ("%d messages are ready and none comes: another consumer may be the only active one")
      :format(value.messages)))
  end
end

-- Settling.

function Pass:hold(item)
  item.delivery:slim()
  item.letter, item.copy = nil, nil
  item.source.held = item.source.held + 1
  self.held[#self.held + 1] = item
  if #self.held > MOST_HELD then
    self:fail(Error.new("full", ("%d messages are held that were not chosen; no more are looked at"):format(MOST_HELD)))
  end
end

function Pass:done(item)
  item.delivery:ack()
  self.result.done = self.result.done + 1
  self.restarts = 0
end

-- Chosen, and it stays.
function Pass:keep(item, err)
  local result = self.result
  result.kept = result.kept + 1
  local key = err.code .. "\0" .. err.message
  local failure = self.failure_of[key]
  if not failure then
    -- Messages with an id in them are as many as the letters.
    if #result.failures >= 100 then key = "more" end
    failure = self.failure_of[key] or { code = err.code, message = err.message, count = 0, ids = {} }
    if not self.failure_of[key] then result.failures[#result.failures + 1] = failure end
    self.failure_of[key] = failure
  end
  failure.count = failure.count + 1
  if #failure.ids < EXAMPLES then failure.ids[#failure.ids + 1] = item.id or "?" end
  self:hold(item)
end

function Pass:failed(item, err, exchange)
  if not OWN_FAULT[err.code] then
    self:hold(item)
    return self:fail(err)
  end
  if err.code == "not_found" or err.code == "refused" then self.missing[exchange] = err end
  self:keep(item, err)
end

--- Ends it in order, because of an error.
function Pass:fail(err)
  self.result.err = self.result.err or err
  self:finish_by(now() + STOP_TIMEOUT)
end

function Pass:finish_by(deadline)
  self.ending = math.min(self.ending or deadline, deadline)
end

-- Losses.

-- What was delivered and not acknowledged is back in its queue: see begin_again.
function Pass:lose(err)
  if self.lost or self.over then return end
  self.lost, self.generation = err, self.generation + 1
end

local function give_back_all(self)
  local list = self.held
  for copy in pairs(self.sending) do list[#list + 1] = copy.item end
  for i = self.first, self.last do list[#list + 1] = self.arrived[i] end
  self.sending, self.in_flight, self.flying_bytes = {}, 0, 0
  self.held, self.arrived, self.first, self.last = {}, {}, 1, 0
  table.sort(list, function(a, b) return a.seq < b.seq end)
  -- Of a lost channel the core drops it: the broker has it back already.
  for _, item in ipairs(list) do item.delivery:give_back() end
end

-- Subscriptions end first: what is given back would come again.
local function end_sources(self, deadline)
  if #self.sources == 0 then return end
  self.hub:unsubscribe(self.sources, deadline)
  self.sources = {}
end

-- From the head of the queue, where everything is back.
function Pass:begin_again()
  local result, err = self.result, self.lost
  for _ in pairs(self.sending) do result.repeated = result.repeated + 1 end
  end_sources(self, now() + STOP_TIMEOUT)
  give_back_all(self)
  self.lost, self.uncounted, self.empty, self.taken, self.zeros = nil, true, false, 0, 0
  self.failure_of, result.failures, result.kept = {}, {}, 0
  result.looked, result.chosen = result.done, result.done
  self.restarts = self.restarts + 1
  if self.restarts > RESTARTS then self:fail(err) end
end

-- Fetching.

function Pass:enough()
  local result, limit = self.result, self.limit
  if self.ending or self.empty or self.taken >= self.budget then return true end
  return limit ~= nil and result.chosen >= limit
end

local function prefetch_of(self)
  local most = math.min(AHEAD * 2 ^ #self.sources, MOST_AHEAD)
  if self.largest > 0 then most = math.min(most, math.max(math.floor(BYTES / self.largest), 1)) end
  if self.pace.rate then most = math.min(most, math.ceil(self.pace.rate * 2)) end
  if self.limit and not self.select then most = math.min(most, self.limit - self.result.chosen) end
  return math.max(most, 1)
end

-- The newest subscription has room: acknowledged ones are replaced. Full of held ones it is silent.
function Pass:ask()
  if self:enough() or self.uncounted then return end
  local newest = self.sources[#self.sources]
  if newest and newest.held < newest.prefetch then return end
  if #self.sources >= SOURCES then
    return self:fail(Error.new("full", "too many messages are held that were not chosen; no more are looked at"))
  end
  local source = setmetatable({ pass = self, held = 0, prefetch = prefetch_of(self), state = "active", eager = true },
    Source)
  self.heard = now()
  local args = { queue = self.queue, prefetch = source.prefetch }
  local ok, err = self.hub:subscribe(source, args, self.hub.config.timeout)
  if not ok then return self:fail(err) end
  self.sources[#self.sources + 1] = source
end

function Pass:count()
  if self.counting or self.ending then return end
  if not self.uncounted then
    if self.first <= self.last or self.in_flight > 0 then self.heard = now() end
    if self:enough() or now() - self.heard < QUIET then return end
  end
  local step = { name = "queue_declare", args = { queue = self.queue, passive = true, record = false } }
  local ok, err = self.hub:ask(setmetatable({ pass = self }, Count), step)
  if ok then
    self.counting = true
  elseif err.code ~= "full" then
    self:fail(err)
  end
end

-- Looking at one.

-- Whether it was chosen; nil: the pass ends.
function Pass:choose(item)
  local result = self.result
  item.letter = letter.read(item.delivery, self.hub.config.codec)
  item.size = item.delivery:size()
  item.id = item.letter.id
  if item.size > self.largest then self.largest = item.size end
  result.looked = result.looked + 1
  if self.select then
    local chosen, why = self.select(item.letter)
    if chosen == nil then
      result.looked = result.looked - 1
      self:fail(Error.new("invalid", ("message %d (%s): %s"):format(result.looked + 1, item.id or "without an id",
        tostring(why)), { message_id = item.id }))
      return nil
    end
    if not chosen then return false end
  end
  result.chosen = result.chosen + 1
  return true
end

-- A copy on its way. False: the outbox is full, later again.
function Pass:send(item, copy)
  local missing = self.missing[copy.exchange]
  if missing then
    self:keep(item, missing)
    return true
  end
  local waiter = setmetatable({ pass = self, item = item, exchange = copy.exchange }, Copy)
  self.sending[waiter] = true
  self.in_flight, self.flying_bytes = self.in_flight + 1, self.flying_bytes + item.size
  local ok, err = self.hub:post(waiter, copy.exchange, copy.routing_key, copy.body, copy.properties)
  if ok then return true end
  self.sending[waiter] = nil
  self.in_flight, self.flying_bytes = self.in_flight - 1, self.flying_bytes - item.size
  if err.code == "full" and self.in_flight > 0 then return false end
  self:failed(item, err, copy.exchange)
  return true
end

-- Settles a chosen one. False: not now.
function Pass:settle(item)
  if not item.verb then item.verb, item.copy = self.act(item.letter) end
  local verb = item.verb
  if verb == "send" then return self:send(item, item.copy) end
  if verb == "remove" then
    self:done(item)
  elseif verb == "keep" then
    self:keep(item, item.copy)
  else
    self:hold(item)
    if verb == "last" then self:finish_by(now() + STOP_TIMEOUT) end
  end
  return true
end

-- Deals with one that has arrived. False, and when to come again: not now.
function Pass:deal_with(item)
  if item.generation ~= self.generation then return true end
  local beyond = self.ending or self.taken - (self.last - self.first) > self.budget
    or (self.limit and self.result.chosen >= self.limit)
  if item.chosen == nil and not beyond then item.chosen = self:choose(item) end
  if not item.chosen or self.ending then
    self:hold(item)
    return true
  end
  if self.in_flight >= WINDOW or (self.in_flight > 0 and self.flying_bytes >= BYTES) then return false end
  local t = now()
  local at = self.pace:next(t)
  if at > t then return false, at end
  if not self:settle(item) then return false end
  self.pace:step()
  return true
end

-- Looks at some of what has arrived: whether it did anything, and when to come again.
function Pass:work()
  local any = false
  for _ = 1, BATCH do
    local item = self.arrived[self.first]
    if not item then break end
    local settled, at = self:deal_with(item)
    if not settled then return any, at end
    self.arrived[self.first] = nil
    self.first = self.first + 1
    any = true
  end
  return any
end

function Pass:is_over()
  if self.ending and now() >= self.ending then return true end
  if self.first <= self.last or self.in_flight > 0 then return false end
  return self.ending ~= nil or (self:enough() and not self.lost and not self.uncounted)
end

local function look_for_stop(self)
  local asked = self.stop and self.stop()
  if not asked then return end
  self.result.stopped = true
  self:finish_by(now() + (asked == "now" and 0 or STOP_TIMEOUT))
end

local function loop(self)
  local hub = self.hub
  while true do
    look_for_stop(self)
    local failure = hub.failure.control or hub.failure.publish
    if failure then self:fail(failure) end
    if self.lost and not self.ending then self:begin_again() end
    self:count()
    self:ask()
    local any, at = self:work()
    if self.progress then self.progress(self.result) end
    if self:is_over() then return end
    -- A signal and a pace wake nobody.
    if any then hub:pump() else hub:turn(math.min(at or math.huge, now() + 0.1)) end
  end
end

-- After a round trip the core knows whether any settlement came too late.
local function see_through(self, stale)
  local hub, result = self.hub, self.result
  if hub.state.control ~= "up" or hub.closed then return end
  hub:call("queue_declare", { queue = self.queue, passive = true, record = false }, STOP_TIMEOUT)
  if result.err or self.generation > 1 or hub.core:stats().control.stale <= stale then return end
  result.err = Error.new("stale", "the broker closed the channel in the midst of it: some may come twice")
end

---@class eventbus.PassOptions
---@field limit integer|nil     end after so many chosen ones
---@field rate number|nil       chosen ones a second
---@field stop nil|fun(): boolean|string|nil  true: end in order; "now": without waiting for confirms
---@field progress nil|fun(result: eventbus.PassResult)

--- One pass. `select(letter)` is true for a chosen one, false for others; nil and a text end the pass. `act(letter)` then
-- answers "send" and a copy { exchange, routing_key, body, properties }, "remove", "keep" and an error, "hold", or "last":
-- hold it and end. Blocks until the end. nil, err when it could not begin.
---@param hub eventbus.Hub
---@param queue string
---@param select nil|fun(letter: eventbus.Letter): boolean|nil, string|nil
---@param act fun(letter: eventbus.Letter): string, any
---@param options eventbus.PassOptions
---@return eventbus.PassResult|nil, eventbus.Error|nil
function pass.run(hub, queue, select, act, options)
  local info, err = hub:call("queue_declare", { queue = queue, passive = true, record = false })
  if not info then return nil, err end
  local self = setmetatable({
    hub = hub, queue = queue, select = select, act = act, limit = options.limit, stop = options.stop,
    progress = options.progress, pace = pace.new(options.rate), budget = info.messages, taken = 0, seq = 0,
    sources = {}, arrived = {}, first = 1, last = 0, held = {}, sending = {}, in_flight = 0, flying_bytes = 0,
    largest = 0, generation = 1, restarts = 0, heard = now(), missing = {}, failure_of = {},
    result = { queue = queue, there = info.messages, looked = 0, chosen = 0, done = 0, kept = 0, failures = {},
      repeated = 0 },
  }, Pass)
  local stale = hub.core:stats().control.stale
  local ok, raised = protect.pcall(loop, self)
  for _ in pairs(self.sending) do self.result.repeated = self.result.repeated + 1 end
  end_sources(self, now() + STOP_TIMEOUT)
  self.over = true
  give_back_all(self)
  if ok then see_through(self, stale) end
  hub.parking:pass_on()
  if not ok then error(raised, 0) end
  self.result.left = math.max(self.result.there - self.result.done, 0)
  return self.result
end

return pass
