--- A program as a handler: the envelope on its stdin, what is known of the event in its environment, its exit code decides.
--
--   0   acknowledged          65  rejected, to the dead letters    (sysexits.h: EX_DATAERR)
--   75  retried, uncounted    any other, a signal, a timeout: failed, the retry policy decides    (75: EX_TEMPFAIL)
--
-- It runs in a process group of its own: when it is late, what it has started is ended with it. What it writes is logged
-- line by line; the end of its stderr is the error's text.
-- The call blocks until it has ended; the bus's own thread goes on meanwhile.

local core = require "eventbus.core"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local lines = require "eventbus.cli.lines"
local uv = require "luv"

local program = { RETRY = 75, REJECT = 65 }

local GRACE = 5000          -- milliseconds from SIGTERM to SIGKILL
local GRACE_STOP = 1000     -- when we are to stop now
local LAST_WORDS = 1000     -- for output that a child of its own holds open
local LOOK = 100            -- for a second signal
local LOOK_GROUP = 20       -- for the end of what it had started
local LONGEST_LINE = 8192
local LONGEST_ERROR = 1500

---@class eventbus.cli.Program
local Program = {}
Program.__index = Program

local function is_executable(path)
  local stat = uv.fs_stat(path)
  return stat ~= nil and stat.type == "file" and uv.fs_access(path, "X") == true
end

--- Can a command be started? As execvp looks for it.
---@param name string
---@return boolean
function program.exists(name)
  if name:find("/", 1, true) then return is_executable(name) end
  for folder in ((os.getenv "PATH" or "/usr/bin:/bin") .. ":"):gmatch("([^:]*):") do
    if is_executable((folder == "" and "." or folder) .. "/" .. name) then return true end
  end
  return false
end

--- A program. `timeout` in seconds, nil for none; `output(stream, line, event)` takes what it writes.
---@param command string[]
---@param options { timeout: number|nil, output: fun(stream: string, line: string, event: table) }
---@return eventbus.cli.Program
function program.new(command, options)
  return setmetatable({ command = command, timeout = options.timeout, output = options.output }, Program)
end

-- The environment.

local function text_of(value)
  if value == nil or value == json.null then return nil end
  if type(value) == "table" then value = json.encode(value, { sort_keys = true }) or "" end
  -- No variable can hold a zero byte.
  return (tostring(value):gsub("%z", ""))
end

local function variables(event, ctx)
  local set = {
    ID = event.id, TYPE = event.type, SOURCE = event.source, TIMESTAMP = event.timestamp, TENANT_ID = event.tenant_id,
    CORRELATION_ID = event.correlation_id, ATTEMPT = ctx.attempt, LAST_ATTEMPT = ctx.last_attempt, QUEUE = ctx.queue,
    EXCHANGE = ctx.exchange, ROUTING_KEY = ctx.routing_key, REDELIVERED = ctx.redelivered,
  }
  for name, value in pairs(ctx.headers) do set["HEADER_" .. name:upper():gsub("[^%w]", "_")] = value end
  local result = {}
  for name, value in pairs(set) do result["EVENTBUS_" .. name] = text_of(value) end
  return result
end

local function environment(event, ctx)
  local set, list = variables(event, ctx), {}
  for name, value in pairs(uv.os_environ()) do
    if not name:find("^EVENTBUS_") then list[#list + 1] = name .. "=" .. value end
  end
  for name, value in pairs(set) do list[#list + 1] = name .. "=" .. value end
  return list
end

-- One run.

local Run = {}
Run.__index = Run

local function read_lines(self, pipe, stream)
  self.open = self.open + 1
  lines.read(pipe, LONGEST_LINE, function(text)
    if stream == "stderr" then self.said = (self.said .. text .. "\n"):sub(-4 * LONGEST_ERROR) end
    self.output(stream, text, self.event)
  end, function()
    pipe:read_stop()
    self.open = self.open - 1
  end)
end

local function timer(self, ms, again, act)
  local made = uv.new_timer()
  made:start(ms, again, act)
  self.handles[#self.handles + 1] = made
end

-- Ends it and what it has started. Whoever asks first gives the reason; the shortest grace counts.
local function end_it(self, why, grace)
  if self[why] or self.killed or (self.code ~= nil and not self.why) then return end
  self[why], self.why = true, self.why or why
  uv.kill(-self.pid, "sigterm")
  timer(self, grace, 0, function()
    if self.killed then return end
    self.killed = true
    uv.kill(-self.pid, "sigkill")
  end)
end

-- Its group outlives it while others are in it. Gone, its number may be somebody else's.
local function await_group(self)
  timer(self, LOOK_GROUP, LOOK_GROUP, function() end)
  while not self.killed and uv.kill(-self.pid, 0) do uv.run("once") end
  self.killed = true
end

local function spawn(self, command, env, stdin, stdout, stderr)
  local args = {}
  for i = 2, #command do args[i - 1] = command[i] end
  local handle, pid = uv.spawn(command[1], { args = args, env = env, stdio = { stdin, stdout, stderr }, detached = true },
    function(code, signal) self.code, self.signal = code, signal end)
  if not handle then return nil, pid end
  self.pid = pid
  self.handles[#self.handles + 1] = handle
  return true
end

local function close(self)
  for _, handle in ipairs(self.handles) do
    if not handle:is_closing() then handle:close() end
  end
  uv.run("nowait")
end

-- Turns luv's loop until it has ended, all that it had started when it was made to, and its output is read.
local function await(self)
  while self.code == nil do uv.run("once") end
  if self.why then await_group(self) end
  local late = false
  timer(self, LAST_WORDS, 0, function() late = true end)
  while self.open > 0 and not late do uv.run("once") end
end

-- The last lines of stderr, whole ones.
local function last_words(said)
  local text = said:gsub("%s+$", "")
  if #text > LONGEST_ERROR then text = text:sub(-LONGEST_ERROR):gsub("^[^\n]*\n", "", 1) end
  return text
end

local function verdict(self, timeout)
  local words = last_words(self.said)
  local tail = words ~= "" and ": " .. words or ""
  if self.why == "timeout" then return nil, ("it took longer than %g s"):format(timeout) .. tail end
  if self.why == "stop" then return nil, "stopped by a second signal" end
  if self.signal ~= 0 then return nil, ("ended by signal %d"):format(self.signal) .. tail end
  if self.code == 0 then return true end
  if self.code == program.REJECT then eventbus.reject(words ~= "" and words or "exit code 65") end
  if self.code == program.RETRY then
    eventbus.retry { counted = false, reason = words ~= "" and words or "exit code 75" }
  end
  return nil, ("exit code %d"):format(self.code) .. tail
end

--- Handles an event: a subscription's handler.
---@param event table
---@param ctx eventbus.Context
function Program:handle(event, ctx)
  local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local run = setmetatable({ event = event, output = self.output, said = "", open = 0,
    handles = { stdin, stdout, stderr } }, Run)
  local ok, err = spawn(run, self.command, environment(event, ctx), stdin, stdout, stderr)
  if not ok then
    close(run)
    return nil, ("cannot start %s: %s"):format(self.command[1], tostring(err))
  end
  read_lines(run, stdout, "stdout")
  read_lines(run, stderr, "stderr")
  -- A program may end without having read it.
  stdin:write(ctx.body, function()
    if not stdin:is_closing() then stdin:close() end
  end)
  if self.timeout then
    timer(run, math.max(1, math.floor(self.timeout * 1000)), 0, function() end_it(run, "timeout", GRACE) end)
  end
  timer(run, LOOK, LOOK, function()
    local _, count = core.trapped()
    if count and count >= 2 then end_it(run, "stop", GRACE_STOP) end
  end)
  await(run)
  close(run)
  return verdict(run, self.timeout)
end

return program
