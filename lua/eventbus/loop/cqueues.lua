--- The loop of cqueues: waits yield to the controller of the running coroutine, handlers are coroutines of the controller
-- in which `bus:run` was called. Without one `bus:run` makes its own.

local condition = require "cqueues.condition"
local cqueues = require "cqueues"

local loop = { name = "cqueues" }

---@class eventbus.CqueuesLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name

function loop.new(bus)
  return setmetatable({ bus = bus, watched = { pollfd = bus:fd(), events = "r" } }, Loop)
end

function Loop:yieldable()
  local _, ours = cqueues.running()
  return ours
end

function Loop:wait(seconds)
  cqueues.poll(self.watched, seconds)
end

function Loop:suspend(sleeper)
  local signal = sleeper.signal
  if not signal then
    signal = condition.new()
    sleeper.signal = signal
  end
  cqueues.poll(signal)
end

function Loop:resume(sleeper)
  if sleeper.signal then sleeper.signal:signal() end
end

function Loop:spawn(f)
  cqueues.running():wrap(f)
end

function Loop:run(f)
  local controller = cqueues.new()
  controller:wrap(f)
  local ok, message, _, _, _, failed = controller:loop()
  if not ok then error(failed and debug.traceback(failed, tostring(message)) or tostring(message), 0) end
end

--- A poll that is under way ends; cqueues forgets the descriptor before the number is used again.
function Loop:close()
  cqueues.cancel(self.watched.pollfd)
end

return loop
