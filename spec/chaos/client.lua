--- client: a publisher or consumer process, started again under the same name and journal after it ended.

local journal = require "spec.chaos.journal"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local client = {}

local Client = {}
Client.__index = Client

--- `name` is for people; `words` follow the Lua interpreter; `journal` is the path of its journal.
function client.new(name, words, path, environment)
  local command = { program.lua() }
  for _, word in ipairs(words) do command[#command + 1] = word end
  return setmetatable({ name = name, command = command, journal = path, environment = environment, logs = {} }, Client)
end

function Client:start()
  self.process = program.start("chaos-" .. self.name:gsub("%W", "-"), self.command, self.environment)
  self.pid = self.process.child.pid
  self.logs[#self.logs + 1] = self.process.child.path
end

--- Waits until it is connected; raises with its output when that does not come.
function Client:ready(seconds)
  wait.wait_until(function()
    if self.process:ended() then error(("%s ended:\n%s"):format(self.name, self.process:output()), 0) end
    return self.process:output():match "ready"
  end, seconds, self.name .. " is ready")
end

function Client:kill()
  self.process:signal "KILL"
  self.process:wait(20)
end

--- SIGTERM; its exit code, nil when it still runs after `seconds`.
function Client:stop(seconds)
  self.process:signal "TERM"
  return self.process:wait(seconds)
end

-- Whether a handler is in the midst of an event, as the journal has it.
local function in_hand(self)
  self.reader = self.reader or journal.reader(self.journal)
  self.begun = self.begun or {}
  self.reader:read(function(kind, _, id) self.begun[id] = kind == "B" or nil end)
  return next(self.begun) ~= nil
end

--- kill -9 in the midst of a handler: the process is stopped, looked at, and goes on until it is caught in one.
--- False: it never was, and was killed anyway.
function Client:kill_in_handler()
  local caught
  for _ = 1, 200 do
    self.process:signal "STOP"
    caught = in_hand(self)
    if caught then break end
    self.process:signal "CONT"
    wait.sleep(0.005)
  end
  self:kill()
  return caught
end

return client
