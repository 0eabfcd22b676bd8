--- program: a child process of a test: its output in a file, its end awaited, nothing left behind.
---
---     local p = program.start("bot", { program.lua(), "examples/telegram_bot.lua" }, { RABBITMQ_URL = url })
---     p:output(); p:ended(); p:wait(seconds) -> exit code; p:stop() -> exit code; p:signal("INT")

package.path = package.path .. ";./examples/?.lua"
local children = require "demo.children"
local wait = require "spec.support.wait"

local program = {}
program.__index = program

program.quote = children.quote

local group

-- One group, and one reaper, for all tests of a run.
local function children_of_run()
  if not group then
    local pipe = assert(io.popen('mktemp -d "${TMPDIR:-/tmp}/eventbus-spec.XXXXXX"', "r"))
    local folder = pipe:read("*l")
    pipe:close()
    group = children.new(folder)
  end
  return group
end

local made = 0

--- A new folder for a test's files; removed when the run ends.
function program.folder()
  made = made + 1
  local folder = ("%s/%d"):format(children_of_run().folder, made)
  os.execute("mkdir -p " .. children.quote(folder))
  return folder
end

--- The interpreter of this Lua.
function program.lua()
  return os.getenv "EVENTBUS_LUA" or (_VERSION:lower():gsub(" ", ""))
end

function program.start(name, command, environment)
  made = made + 1
  local variables = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  for key, value in pairs(environment or {}) do variables[key] = value end
  local child = children_of_run():start(name .. "-" .. made, command, variables)
  return setmetatable({ child = child }, program)
end

--- All it has written so far, to stdout and stderr.
function program:output()
  local file = io.open(self.child.path, "rb")
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

function program:ended()
  return children.ended(self.child)
end

-- The bit of a signal in the masks of /proc/PID/status.
local PENDING = { INT = 0x2, TERM = 0x4000 }

-- Whether a signal that was sent to the process waits there still: one sent now would be the same.
local function not_taken(pid, bit)
  local file = io.open(("/proc/%s/status"):format(pid), "rb")
  if not file then return false end
  local text = file:read("*a") or ""  -- it has ended meanwhile
  file:close()
  -- One that is stopped takes nothing.
  if text:find "State:%s*T" then return false end
  local mask = tonumber(text:match "ShdPnd:%s*%x-(%x%x%x%x%x%x%x%x)\n" or "0", 16)
  return mask % (2 * bit) >= bit
end

--- Sends it. TERM and INT have been taken when it returns, if that takes no more than 20 s: so two of them are two.
function program:signal(name)
  children.signal(self.child, name)
  local bit = PENDING[name]
  if not bit then return end
  local deadline = wait.now() + 20
  while not_taken(self.child.pid, bit) and wait.now() < deadline do wait.sleep(0.01) end
end

--- Its exit code (128 + n after signal n), nil when it still runs after `seconds`.
function program:wait(seconds)
  return children.wait(self.child, seconds)
end

--- SIGTERM, then SIGKILL after 20 s; its exit code.
function program:stop()
  if not self.child.pipe then return self.child.code end
  self:signal "TERM"
  local code = self:wait(20)
  if code then return code end
  self:signal "KILL"
  self:wait(2)
  return 137
end

return program
