--- Parking: how the coroutines that wait for one bus share it. One of them, the turner, waits for the bus's descriptor; the
-- others are parked, and woken when their answer is there, when their time is over, or when the turner has left and
-- somebody must follow it. Where the caller cannot be suspended, the thread blocks as in a plain script.
--
-- The loop adapter (docs/loops.md) says how a coroutine waits and goes on. All deadlines are kept here.

local core = require "eventbus.core"
local protect = require "eventbus.protect"

local parking = {}

local now, huge, is_inner, running = core.now, math.huge, protect.is_inner, protect.running
-- A turner or heir that does not come back so long after its time was killed by its host: another takes its place.
local STALE = 1
-- Stands for the waiter of those who wait for any change.
local ANY = {}
-- The waiter of a turner that the loop runs in the background.
local BACKGROUND = {}

---@class eventbus.Sleeper
---@field coroutine thread|nil  the one to resume
---@field woken boolean         it is to go on
---@field deadline number

---@class eventbus.Parking
---@field turner eventbus.Sleeper|nil
---@field first eventbus.Sleeper|nil  of those parked
---@field earliest number             no parked one is due before this
local Parking = {}
Parking.__index = Parking

--- `turn` is one step of the hub, `idle` whether nothing is under way.
---@param bus any  the core's
---@param loop eventbus.Loop
---@param turn fun(deadline: number, waiter: table): boolean
---@param idle fun(): boolean
---@return eventbus.Parking
function parking.new(bus, loop, turn, idle)
  return setmetatable({
    bus = bus, loop = loop, turn = turn, idle = idle, by_waiter = {}, first = nil, last = nil, turner = nil, till = 0,
    earliest = huge,
    heir = nil, heir_till = 0, poked = false, in_background = false,
  }, Parking)
end

-- The parked, in the order they came.

local function link(self, s)
  local last = self.last
  s.before, s.after = last, nil
  if last then last.after = s else self.first = s end
  self.last = s
  s.linked = true
end

local function unlink(self, s)
  if not s.linked then return end
  local before, after = s.before, s.after
  if before then before.after = after else self.first = after end
  if after then after.before = before else self.last = before end
  s.before, s.after, s.linked = nil, nil, false
end

-- Several may wait for the same.

local function expect(self, s)
  s.also = self.by_waiter[s.waiter]
  self.by_waiter[s.waiter] = s
end

local function forget(self, s)
  local at = self.by_waiter[s.waiter]
  if at == s then
    self.by_waiter[s.waiter] = s.also
    return
  end
  while at do
    if at.also == s then
      at.also = s.also
      return
    end
    at = at.also
  end
end

-- Makes the turner look, though nothing came for it.
local function poke(self)
  self.poked = true
  self.bus:poke()
end

local function wake(self, s)
  if s.woken then return end
  s.woken = true
  if s == self.turner then return poke(self) end
  unlink(self, s)
  self.loop:resume(s)
end

--- What `waiter` waited for is there.
function Parking:answered(waiter)
  local s = self.by_waiter[waiter]
  self.by_waiter[waiter] = nil
  while s do
    local also = s.also
    s.also = nil
    wake(self, s)
    s = also
  end
end

--- Something happened that no waiter stands for: a delivery, a notice, the end of a handler.
function Parking:changed()
  if self.by_waiter[ANY] then self:answered(ANY) end
end

--- Everybody is to look: waits are over.
function Parking:wake_all()
  while self.first do
    local s = self.first
    forget(self, s)
    wake(self, s)
  end
  if self.turner then poke(self) end
end

--- Whoever empties the bus may take the turner's wake-up along, that of its alarm too: it is asked again.
function Parking:ask_again()
  if self.poked or (self.turner and now() >= self.till) then self.bus:poke() end
end

--- Wakes those whose time is over. Call it when `earliest` has passed.
function Parking:overdue(t)
  local earliest, s = huge, self.first
  while s do
    local after = s.after
    if s.deadline <= t then
      forget(self, s)
      wake(self, s)
    elseif s.deadline < earliest then
      earliest = s.deadline
    end
    s = after
  end
  self.earliest = earliest
end

--- A timer was set: the turner must not sleep beyond it.
function Parking:timer_set(at)
  if self.turner and at < self.till then poke(self) end
end

--- Somebody is done waiting. If it was the turner, another takes its place; if not, it may have emptied the bus.
function Parking:pass_on()
  if self.turner then return self:ask_again() end
  local s = self.first
  if not s or self.loop.background or self.loop.main_turns then return end
  if self.heir and now() < self.heir_till then return end
  self.heir, self.heir_till = s, now() + STALE
  forget(self, s)
  wake(self, s)
end

-- A host that is to end waits for our coroutine: it leaves when nobody needs it.
local function may_leave(self)
  local exiting = self.loop.exiting
  return exiting and not self.first and self.idle() and exiting(self.loop)
end

--- In a host that may kill coroutines: has one of ours, which lasts, be the turner.
function Parking:turn_in_background()
  local loop = self.loop
  if not loop.background or self.in_background then return end
  self.in_background = true
  local begun = loop:background(function()
    while self.turn(now() + 3600, BACKGROUND) and not may_leave(self) do end
    self.in_background = false
  end)
  if begun == false then self.in_background = false end
end

local function park(self, s)
  link(self, s)
  if s.deadline < self.earliest then
    self.earliest = s.deadline
    if self.turner and s.deadline < self.till then poke(self) end
  end
  self:ask_again()
  self.bus:kick()
  self:turn_in_background()
  self.loop:suspend(s)
  if self.heir == s then self.heir = nil end
  if not s.woken then
    unlink(self, s)
    forget(self, s)
  end
end

local function turn(self, s, seconds)
  self.turner, self.till = s, now() + seconds
  self.bus:kick()
  self.loop:wait(seconds, s)
  if not s.woken then forget(self, s) end
  -- It took too long, and another is the turner: what rings now rings for that one.
  if self.turner ~= s then return end
  self.turner, self.poked = nil, false
  -- Ends a ring that no item made: a signal's, or a poke.
  self.bus:wait(0)
end

--- Whether the caller can be suspended.
---@return boolean
function Parking:may_suspend()
  local loop = self.loop
  return (is_inner() and not loop.main_turns) or loop:yieldable()
end

--- Rests until there may be something new for `waiter` (nil: anything), for `seconds` at most. It is woken at `deadline`
-- if it does not look before.
---@param waiter table|nil
---@param deadline number
---@param seconds number
function Parking:rest(waiter, deadline, seconds)
  local loop = self.loop
  if not self:may_suspend() then
    if loop.block then loop:block(seconds) else self.bus:wait(seconds) end
    return self:ask_again()
  end
  local s = { waiter = waiter or ANY, deadline = deadline, coroutine = running(), woken = false }
  expect(self, s)
  if waiter ~= BACKGROUND and (loop.background or loop.main_turns or (self.turner and now() < self.till + STALE)) then
    park(self, s)
  else
    turn(self, s, seconds)
  end
end

return parking
