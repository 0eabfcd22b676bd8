--- The loop of HAProxy (2.6): tasks, actions and services wait; sample fetches and converters cannot, and there
-- publish_async is what publishes. A request's coroutine may be killed while it waits: so a task of ours, which lasts,
-- waits for the bus.
--
-- All that wakes a coroutine of HAProxy is a socket: each that waits reads one of its own, and a bell of ours is at the
-- other end. HAProxy stops a coroutine after 10,000 instructions wherever it is, and lets others go on: that would be in
-- the midst of our work, so it is put off there until the coroutine waits by itself.

local haproxy = rawget(_G, "core")
if type(haproxy) ~= "table" or type(haproxy.register_task) ~= "function" then
  error("eventbus: the loop haproxy is for HAProxy, and this is not it", 0)
end
local core = require "eventbus.core"
local log = require "eventbus.log"

local loop = { name = "haproxy" }

---@class eventbus.HaproxyLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name
Loop.never_blocks = true
Loop.signals = false     -- they are HAProxy's
Loop.sheds = true        -- requests must not queue up for room in the outbox

-- HAProxy closes a socket that is silent for so long: days.
local SILENCE = 2e6
-- Where there is no socket to be had: looks this often.
local POLL = 10
-- HAProxy does not tell when it begins to stop. Asked this often, in seconds.
local LOOK = 1
-- Bells that wait for the next who needs one, of each thread.
local MOST_KEPT = 256

local now = core.now
local write = log.new()

-- A socket belongs to the thread it was made in, and says so when another touches it: `mark`, which is closed, tells
-- in which we are.
local threads = {}
local buses = 0
local stopping, look_at = false, 0

local function thread_here()
  for _, thread in ipairs(threads) do
    if pcall(thread.mark.close, thread.mark) then return thread end
  end
  local mark = haproxy.tcp()
  mark:close()
  local thread = { mark = mark, kept = {} }
  threads[#threads + 1] = thread
  return thread
end

-- A connection to a path; `take` is called when it stands.
local function connect(path, take)
  local socket = haproxy.tcp()
  socket:settimeout(SILENCE)
  local ok, err = socket:connect("unix@" .. path)
  local taken, why = take()
  if ok and taken then return socket end
  socket:close()
  return nil, tostring(err or why)
end

local function new_ear()
  local bell = core.bell()
  local path, err = bell:listen()
  if not path then return nil, tostring(err) end
  local socket
  socket, err = connect(path, function() return bell:take() end)
  if not socket then return nil, err end
  if socket:receive(1) then return { bell = bell, socket = socket } end
  socket:close()
  return nil, "it has ended"
end

local complained = false

local function complain(err)
  if complained then return end
  complained = true
  write("warning", "no socket that could wake a coroutine, looks every 10 ms: " .. tostring(err))
end

-- HAProxy stays as long as there is a socket: those that nobody reads. Only the collector closes those of other threads.
local function drop_kept()
  threads = {}
  collectgarbage()
end

function loop.new(bus)
  buses = buses + 1
  return setmetatable({ bus = bus, socket = nil, closed = false }, Loop)
end

function Loop:uninterrupted()
  debug.sethook()
end

function Loop:yieldable()
  debug.sethook()
  return coroutine.isyieldable()
end

--- Whether HAProxy is to end, by a reload or a soft stop: known within a second.
function Loop:exiting()
  local t = now()
  if t < look_at or stopping then return stopping end
  look_at = t + LOOK
  stopping = tostring(haproxy.get_info().Stopping) == "1"
  if stopping then drop_kept() end
  return stopping
end

-- HAProxy 2.6 turns in circles over a socket whose other end has gone, and in the end aborts: it must be closed at once.
local function hang_up(self)
  if self.socket then self.socket:close() end
  self.socket = nil
end

function Loop:wait(seconds)
  if self.closed then return hang_up(self) end
  if seconds > LOOK then seconds = LOOK end
  local socket, err = self.socket, nil
  if not socket then
    local path
    path, err = self.bus:listen()
    if path then socket, err = connect(path, function() return self.bus:take_bell() end) end
    self.socket = socket
  end
  if not socket or not self.bus:alarm(seconds) then
    if not socket and not self.closed then complain(err) end
    haproxy.msleep(math.min(math.ceil(seconds * 1000), POLL))
  elseif not socket:receive(1) then
    hang_up(self)
  end
  debug.sethook()
end

-- Until it is told; true. False: its socket has ended.
local function listen(ear, sleeper)
  if sleeper.told then return true end
  sleeper.bell = ear.bell
  local byte = ear.socket:receive(1)
  sleeper.bell = nil
  return byte ~= nil
end

function Loop:suspend(sleeper)
  if not sleeper.told then
    local kept = thread_here().kept
    local ear, err = table.remove(kept), nil
    if not ear then ear, err = new_ear() end
    if not ear then
      complain(err)
      if not sleeper.told then haproxy.msleep(POLL) end
    elseif listen(ear, sleeper) and not stopping and buses > 0 and #kept < MOST_KEPT then
      kept[#kept + 1] = ear
    else
      ear.socket:close()
    end
  end
  sleeper.told = false
  debug.sethook()
end

function Loop:resume(sleeper)
  sleeper.told = true
  local bell = sleeper.bell
  sleeper.bell = nil
  if bell then bell:ring() end
end

function Loop:spawn(f)
  haproxy.register_task(function()
    debug.sethook()
    f()
  end)
end

function Loop:background(f)
  self:spawn(function()
    f()
    hang_up(self)
  end)
end

--- The other end of the socket ends with the descriptor, and so does the read under way.
function Loop:close()
  if self.closed then return end
  self.closed = true
  buses = buses - 1
  if buses == 0 then drop_kept() end
end

return loop
