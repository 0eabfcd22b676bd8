--- The loop of Tarantool: whoever waits is a fiber, and all Lua there is in one. A fiber may be killed while it waits: so
-- one of ours, which lasts, waits for the bus, and everybody else for a condition. In a transaction nothing can wait, for a
-- yield would end it: publish_async is what publishes there.

local box = rawget(_G, "box")
if type(rawget(_G, "_TARANTOOL")) ~= "string" then
  error("eventbus: the loop tarantool is for Tarantool, and this is not it", 0)
end
local fiber = require "fiber"
local socket = require "socket"

local loop = { name = "tarantool" }

---@class eventbus.TarantoolLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name
Loop.never_blocks = true
Loop.signals = false     -- they are Tarantool's

-- What may be under way when the server ends, a run of handlers too, has so long; Tarantool itself sets no limit.
local LAST_WORDS = 9
local LOOK = 0.01

-- Those to tell when the server ends.
local loops = setmetatable({}, { __mode = "k" })
local ending, watched = false, false

local function all_have_left()
  for each in pairs(loops) do
    if each.background_runs then return false end
  end
  return true
end

local function on_shutdown()
  ending = true
  for each in pairs(loops) do each.bus:poke() end
  local till = fiber.clock() + LAST_WORDS
  while not all_have_left() and fiber.clock() < till do fiber.sleep(LOOK) end
end

function loop.new(bus)
  if not watched then
    watched = true
    box.ctl.on_shutdown(on_shutdown)
  end
  local self = setmetatable({ bus = bus, waiting = nil, background_runs = false, closed = false }, Loop)
  loops[self] = true
  return self
end

--- Before box.cfg there are no transactions.
function Loop:yieldable()
  local in_transaction = rawget(box, "is_in_txn")
  return not (in_transaction and in_transaction())
end

--- Whether the server is to end.
function Loop:exiting()
  return ending
end

function Loop:wait(seconds)
  if self.closed then return end
  self.waiting = fiber.self()
  socket.iowait(self.bus:fd(), "R", seconds)
  self.waiting = nil
end

function Loop:suspend(sleeper)
  local signal = sleeper.signal
  if not signal then
    signal = fiber.cond()
    sleeper.signal = signal
  end
  -- It may have been told before it slept.
  if not sleeper.told then signal:wait() end
  sleeper.told = false
end

function Loop:resume(sleeper)
  sleeper.told = true
  if sleeper.signal then sleeper.signal:signal() end
end

local function start(name, f)
  local one = fiber.new(f)
  one:name(name)
end

function Loop:spawn(f)
  start("eventbus.handler", f)
end

function Loop:background(f)
  self.background_runs = true
  start("eventbus", function()
    f()
    self.background_runs = false
  end)
end

--- The descriptor must not be closed under a fiber that watches it.
function Loop:close()
  self.closed = true
  while self.waiting do
    self.waiting:wakeup()
    fiber.sleep(0)
  end
  loops[self] = nil
end

return loop
