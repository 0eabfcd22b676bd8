--- The loop of copas, any version. Whoever waits must be in a thread of copas; elsewhere a call blocks. `bus:run` outside of
-- one runs the loop until it has ended.
--
-- Copas waits for sockets only, so a wait is a read of something that looks like one to LuaSocket's select: it has a
-- descriptor, and may say by `dirty` that it can be read without asking the system. Old versions know no timers: the
-- bus's own thread ends the wait in time.

local copas = require "copas"
local socket = require "socket"

local loop = { name = "copas" }

---@class eventbus.CopasLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name

-- A socket that never gets anything: the descriptor of those that wait to be woken.
local silent = (socket.udp4 or socket.udp)()

local Client = {}
Client.__index = Client

function Client:getfd() return self.fd or silent:getfd() end
function Client:dirty() return self.ready end
function Client:settimeout() return 1 end
-- Copas closes what a thread last waited for when the thread ends.
function Client:close() return 1 end

-- The first try finds nothing, so that copas waits. It tries again when select says so; of what must be woken that may
-- be its watchdog, every two minutes.
function Client:receive()
  if self.ready or (self.fd and self.tried) then return true end
  self.tried = true
  return nil, "timeout"
end

local function client(fd)
  return setmetatable({ fd = fd, ready = false, tried = false }, Client)
end

function loop.new(bus)
  return setmetatable({ bus = bus, waiting = nil, closed = false }, Loop)
end

local isyieldable = coroutine.isyieldable or function() return true end

function Loop:yieldable()
  local co, main = coroutine.running()
  return co ~= nil and not main and isyieldable()
end

-- Ends a wait under way.
local function let_go(self)
  if self.waiting then self.waiting.fd, self.waiting.ready = nil, true end
end

function Loop:wait(seconds)
  if self.closed then return end
  -- Without a connection there is no thread that would end it.
  if not self.bus:alarm(seconds) then return self.bus:wait(seconds) end
  let_go(self)  -- of one that was given up, because the loop stood still for long
  local mine = client(self.bus:fd())
  self.waiting = mine
  copas.receive(mine, 1)
  if self.waiting == mine then self.waiting = nil end
end

function Loop:suspend(sleeper)
  sleeper.client = client()
  copas.receive(sleeper.client, 1)
end

function Loop:resume(sleeper)
  if sleeper.client then sleeper.client.ready = true end
end

function Loop:spawn(f)
  copas.addthread(f)
end

function Loop:run(f)
  local ended = false
  copas.addthread(function()
    f()
    ended = true
  end)
  while not ended do copas.step() end
end

function Loop:close()
  self.closed = true
  let_go(self)
end

return loop
