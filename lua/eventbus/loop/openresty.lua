--- The loop of OpenResty, and of nginx with its Lua module. Whoever waits must be in a phase that can: rewrite, access,
-- content, a timer, ...; elsewhere a wait is a mistake, and publish_async is what publishes. A request's coroutine may be
-- killed while it waits: so a timer of the worker's, which lasts, waits for the bus, and everybody else for a semaphore.
--
-- nginx cannot watch the bus's descriptor. It reads a socket that the bus rings with it.

local ngx = rawget(_G, "ngx")
if type(ngx) ~= "table" then error("eventbus: the loop openresty is for nginx's Lua module, and this is not nginx", 0) end
local semaphore = require "ngx.semaphore"

local loop = { name = "openresty" }

---@class eventbus.OpenrestyLoop: eventbus.Loop
local Loop = {}
Loop.__index = Loop
Loop.name = loop.name
Loop.never_blocks = true
Loop.signals = false     -- they are nginx's
Loop.sheds = true        -- requests must not queue up for room in the outbox

local CAN_WAIT = {
  rewrite = true, server_rewrite = true, access = true, content = true, timer = true, preread = true, ssl_cert = true,
  ssl_session_fetch = true, ssl_client_hello = true,
}
-- A wait may end early. These only must end some time.
local LONG = 3600
-- The bus ends a wait in time; the socket's own timeout, which nginx logs as an error, is for a bus that does not.
local GRACE = 60
-- Where there is no timer or no socket to be had: looks this often.
local POLL = 0.01
local DAY = 86400

local get_phase, exiting = ngx.get_phase, ngx.worker.exiting

-- Of this worker: those to tell when it begins to exit.
local loops = setmetatable({}, { __mode = "k" })
local watched = false

-- nginx ends pending timers early when it begins to exit.
local function watch(premature)
  if premature then
    for each in pairs(loops) do each.bus:poke() end
  else
    watched = ngx.timer.at(DAY, watch) ~= nil
  end
end

function loop.new(bus)
  local self = setmetatable({ bus = bus, socket = nil, crowded = false, closed = false }, Loop)
  loops[self] = true
  return self
end

function Loop:yieldable()
  return CAN_WAIT[get_phase()] or false
end

--- Whether the worker is to end: by a reload, or nginx -s quit.
function Loop:exiting()
  return exiting()
end

local function connect(self)
  local path, mistake = self.bus:listen()
  if not path then return nil, tostring(mistake) end
  local socket = ngx.socket.tcp()
  local ok, err = socket:connect("unix:" .. path)
  -- Also when nobody has connected: it ends the listening.
  local taken, why = self.bus:take_bell()
  if ok and taken then
    self.socket = socket
    return true
  end
  return nil, err or tostring(why)
end

function Loop:wait(seconds)
  if self.closed then return end
  if not self.socket then
    local ok, err = connect(self)
    if not ok then
      if not self.closed then ngx.log(ngx.ERR, "eventbus: no socket for the bus to ring: ", err) end
      return ngx.sleep(math.max(math.min(seconds, POLL), 0.001))  -- it drops parts of a millisecond
    end
  end
  local timeout = self.bus:alarm(seconds) and seconds + GRACE or seconds
  self.socket:settimeout(math.ceil(timeout * 1000))
  local _, err = self.socket:receiveany(4096)
  if err and err ~= "timeout" then self.socket = nil end
end

function Loop:suspend(sleeper)
  local signal = sleeper.signal
  if not signal then
    signal = assert(semaphore.new())
    sleeper.signal = signal
  end
  signal:wait(self.crowded and POLL or LONG)
end

function Loop:resume(sleeper)
  if sleeper.signal then sleeper.signal:post() end
end

--- A light thread of the caller's timer: the pool, which begins them and uses them again, has few.
function Loop:spawn(f)
  ngx.thread.spawn(f)
end

--- False: in this phase there is no timer to be had, or nginx has too many.
function Loop:background(f)
  local phase = get_phase()
  if phase == "init" or phase == "exit_worker" then return false end
  if not watched then watched = ngx.timer.at(DAY, watch) ~= nil or exiting() end
  local ok, err = ngx.timer.at(0, function()
    f()
    self.socket = nil  -- it ends with its timer, and another may follow
  end)
  self.crowded = not ok
  if not ok then ngx.log(ngx.ERR, "eventbus: no timer to wait for the bus in: ", err) end
  return ok ~= nil
end

--- The socket ends with the descriptor, and so does the read under way.
function Loop:close()
  self.closed = true
  loops[self] = nil
end

return loop
