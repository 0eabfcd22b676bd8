--- The loop of Prosody (0.12): whoever waits is in a coroutine, as util.async has them, and a handler may use
-- util.async too. Elsewhere, in most hooks and timers, a wait is a mistake, and publish_async is what publishes. A
-- coroutine of ours waits for the bus, so that what was published without waiting gets its answer.

local prosody = rawget(_G, "prosody")
if type(prosody) ~= "table" or not prosody.events then
  error("eventbus: the loop prosody is for Prosody's modules, and this is not Prosody", 0)
end
local async = require "util.async"
local server = require "net.server"
local timer = require "util.timer"

if not async.sleep or server.get_backend() ~= "epoll" then
  error("eventbus: the loop prosody needs Prosody 0.12 or later, and its network_backend epoll", 0)
end
-- A coroutine of util.async would not be found through the inner ones that a protected call takes there.
if _VERSION == "Lua 5.1" and not rawget(_G, "jit") then
  error("eventbus: the loop prosody needs Lua 5.2 or later, or LuaJIT", 0)
end

local loop = { name = "prosody" }

---@class eventbus.ProsodyLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name
Loop.never_blocks = true
Loop.signals = false     -- they are Prosody's

-- How often coroutines may wake each other before the rest of the server gets its turn.
local ROUNDS = 16
-- What may be under way when the server ends, a run of handlers too, has so long.
local LAST_WORDS = 9
local LOOK = 0.02

-- Those to tell when the server ends.
local loops = setmetatable({}, { __mode = "k" })
local ending, watched = false, false

local function all_have_left()
  for each in pairs(loops) do
    if each.background_runs then return false end
  end
  return true
end

local function watch()
  if watched then return end
  watched = true
  prosody.events.add_handler("server-stopping", function()
    ending = true
    for each in pairs(loops) do each.bus:poke() end
  end)
  -- Prosody fires this one in a coroutine.
  prosody.events.add_handler("server-cleanup", function()
    local looks = LAST_WORDS / LOOK
    while async.ready() and not all_have_left() and looks > 0 do
      async.sleep(LOOK)
      looks = looks - 1
    end
  end, 100)
end

function loop.new(bus)
  watch()
  local self = setmetatable({ bus = bus, ready = {}, turner = {}, background_runs = false, closed = false }, Loop)
  loops[self] = true
  return self
end

local isyieldable = coroutine.isyieldable or function() return true end

function Loop:yieldable()
  return async.ready() and isyieldable()
end

--- Whether the server is to end.
function Loop:exiting()
  return ending
end

local function go_on(self)
  if self.going_on then return end
  self.going_on = true
  for _ = 1, ROUNDS do
    local list = self.ready
    if not list[1] then break end
    self.ready = {}
    for _, sleeper in ipairs(list) do
      local done = sleeper.done
      sleeper.done = nil
      if done then done() end
    end
  end
  self.going_on, self.soon = false, false
  if self.ready[1] then self:go_on_soon() end
end

function Loop:go_on_soon()
  if self.soon or self.going_on then return end
  self.soon = true
  timer.add_task(0, function() go_on(self) end)
end

function Loop:suspend(sleeper)
  -- It may have been told before it slept.
  if not sleeper.told then
    local wait
    wait, sleeper.done = async.waiter()
    wait()
  end
  sleeper.told = false
end

function Loop:resume(sleeper)
  sleeper.told = true
  if not sleeper.done then return end
  self.ready[#self.ready + 1] = sleeper
  self:go_on_soon()
end

-- The turner goes on, and in the same callback all whom it wakes.
local function rung(self)
  self:resume(self.turner)
  go_on(self)
end

function Loop:wait(seconds)
  if self.closed then return end
  if not self.watching then self.watching = server.watchfd(self.bus:fd(), function() rung(self) end) end
  -- Without a connection there is no thread that would end the wait.
  local alarm = not self.bus:alarm(seconds) and timer.add_task(seconds, function() rung(self) end)
  self:suspend(self.turner)
  if alarm then timer.stop(alarm) end
end

function Loop:spawn(f)
  async.runner(f):run(true)
end

local function stop_watching(self)
  if self.watching then self.watching:close() end
  self.watching = nil
end

function Loop:background(f)
  self.background_runs = true
  async.runner(function()
    f()
    stop_watching(self)
    self.background_runs = false
  end):run(true)
end

function Loop:close()
  self.closed = true
  stop_watching(self)
  loops[self] = nil
  self:resume(self.turner)
end

return loop
