--- The blocking loop: a plain script, where the thread waits for the bus. Handlers that run at once, if a subscription has a
-- concurrency over 1, are coroutines of its own: whoever waits in one lets the others go on.
-- What an adapter is: docs/loops.md.

local protect = require "eventbus.protect"

local blocking = { name = "blocking" }

---@class eventbus.BlockingLoop: eventbus.Loop
local Blocking = {}
Blocking.__index = Blocking

-- The dispatcher, which is no coroutine of ours, waits for the bus while ours are parked.
Blocking.main_turns = true

function blocking.new(bus)
  return setmetatable({ bus = bus, ours = setmetatable({}, { __mode = "k" }), ready = {} }, Blocking)
end

local isyieldable = coroutine.isyieldable or function() return true end

--- Only in a coroutine that we started: what another one does with a yield of ours we cannot know.
function Blocking:yieldable()
  local co = protect.running()
  return co ~= nil and self.ours[co] ~= nil and isyieldable()
end

local function push(self, co)
  self.ready[#self.ready + 1] = co
end

function Blocking:spawn(f)
  local co = coroutine.create(f)
  self.ours[co] = "ready"
  push(self, co)
end

function Blocking:suspend(sleeper)
  local co = sleeper.coroutine
  self.ours[co] = "suspended"
  coroutine.yield()
end

function Blocking:resume(sleeper)
  local co = sleeper.coroutine
  if self.ours[co] == "suspended" then
    self.ours[co] = "ready"
    push(self, co)
  end
end

-- One round: what becomes ready meanwhile is for the next. When one raises, the others go on first.
local function go_on(self)
  local list, failed = self.ready, nil
  self.ready = {}
  for _, co in ipairs(list) do
    self.ours[co] = "running"
    local ok, err = coroutine.resume(co)
    if not ok then failed = failed or debug.traceback(co, tostring(err)) end
    -- It yielded of its own accord: the others first, then it again.
    if self.ours[co] == "running" and coroutine.status(co) == "suspended" then
      self.ours[co] = "ready"
      push(self, co)
    end
  end
  if failed then error(failed, 0) end
end

--- Lets coroutines go on that can; when none can, waits until the bus has something to take, a signal came, or `seconds`
-- have passed.
function Blocking:block(seconds)
  if self.ready[1] then
    go_on(self)
    if not self.ready[1] then return end
    seconds = 0
  end
  self.bus:wait(seconds)
end

return blocking
