--- The loop of libuv: luv, and Neovim's vim.loop (vim.uv). Whoever waits must be in a coroutine; elsewhere, in a callback
-- or before the loop runs, a call blocks the thread. `bus:run` outside of a coroutine runs the loop until it has ended.

local vim = rawget(_G, "vim")
local uv = vim and (vim.uv or vim.loop) or require "luv"

local loop = { name = "luv" }

---@class eventbus.LuvLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name

function loop.new(bus)
  return setmetatable({ bus = bus, ready = {}, queued = {}, waiting = nil, closed = false }, Loop)
end

local isyieldable = coroutine.isyieldable or function() return true end

function Loop:yieldable()
  local co, main = coroutine.running()
  return co ~= nil and not main and isyieldable()
end

-- Nobody is to go on: the loop may sleep, or end.
local function rest(self)
  if self.ready[1] or self.resuming or not self.idle then return end
  self.idle:stop()
  if not self.closed then return end
  self.idle:close()
  self.idle = nil
end

-- In a callback of libuv an error ends the process, or is shown by Neovim; the others must go on first.
local function go_on(self)
  local list, failed = self.ready, nil
  self.ready, self.resuming = {}, true
  for _, co in ipairs(list) do
    self.queued[co] = nil
    local ok, err = coroutine.resume(co)
    if not ok then failed = failed or debug.traceback(co, tostring(err)) end
  end
  self.resuming = false
  rest(self)
  if failed then error(failed, 0) end
end

-- A coroutine goes on in the loop's next round, never inside the call that woke it; and once, when two have woken it: it
-- waits for something else after that.
local function soon(self, co)
  if self.queued[co] then return end
  self.queued[co] = true
  self.idle = self.idle or uv.new_idle()
  self.ready[#self.ready + 1] = co
  if not self.ready[2] then self.idle:start(function() go_on(self) end) end
end

local function watched(self)
  if not self.poll then
    self.poll, self.timer = uv.new_poll(self.bus:fd()), uv.new_timer()
  end
end

local function stop_waiting(self)
  local co = self.waiting
  if not co then return end
  self.waiting = nil
  self.poll:stop()
  self.timer:stop()
  soon(self, co)
end

function Loop:wait(seconds, sleeper)
  if self.closed then return end
  watched(self)
  stop_waiting(self)  -- one that was given up, because the loop stood still for long
  self.waiting = sleeper.coroutine
  local function woken() stop_waiting(self) end
  self.poll:start("r", woken)
  self.timer:start(math.ceil(seconds * 1000), 0, woken)
  coroutine.yield()
end

function Loop:suspend()
  coroutine.yield()
end

function Loop:resume(sleeper)
  soon(self, sleeper.coroutine)
end

function Loop:spawn(f)
  soon(self, coroutine.create(f))
end

function Loop:run(f)
  if vim or uv.loop_mode() then error("bus:run: in a running loop it must be called in a coroutine", 0) end
  local ended = false
  soon(self, coroutine.create(function()
    f()
    ended = true
  end))
  while not ended and uv.run("once") do end
end

function Loop:close()
  if self.closed then return end
  self.closed = true
  stop_waiting(self)
  for _, name in ipairs { "poll", "timer" } do
    if self[name] then self[name]:close() end
  end
  rest(self)
  -- libuv frees a handle in the loop's next round; when none is to come, a program's end would find it half closed.
  if not vim and not uv.loop_mode() then uv.run("nowait") end
end

return loop
