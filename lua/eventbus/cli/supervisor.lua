--- A supervisor: it starts worker processes, starts them again when they end, passes signals on, and writes what they write.
-- It has no bus and no connection of its own. A worker in a crash loop is started ever more seldom, and that is said.
--
--   SIGTERM, SIGINT   the workers finish what they handle and end; a second one: now
--   SIGHUP            the workers reload their scripts
--
-- Each worker holds one end of a pipe: when the supervisor goes, however it goes, its workers see that and stop.

local exit = require "eventbus.cli.exit"
local lines = require "eventbus.cli.lines"
local uv = require "luv"

local supervisor = {}

local FIRST_DELAY, LONGEST_DELAY = 500, 30000   -- milliseconds
local SHORT_LIFE = 10000                        -- one that lived longer has not crashed at its start
local LOOP = 5                                  -- so many short lives in a row are a crash loop
local KILL_AFTER = 3000                         -- from the second signal to kill -9
local LONGEST_LINE = 65536
local SIGTERM = 15
-- What a worker has still to write once all have ended.
local LAST_WORDS = 1000

---@class eventbus.cli.Supervisor
local Supervisor = {}
Supervisor.__index = Supervisor

---@class eventbus.cli.Job
---@field name string       of the worker, before its lines
---@field command string[]
---@field environment table<string, string>

--- A supervisor of some jobs. Options: log (also for what the workers write), prefix (the worker's name before its lines),
-- err (writes a line that a worker wrote to stderr).
---@param jobs eventbus.cli.Job[]
---@param options table
---@return eventbus.cli.Supervisor
function supervisor.new(jobs, options)
  local self = setmetatable({ log = options.log, prefix = options.prefix, err = options.err,
    workers = {}, code = exit.OK, signals = 0 }, Supervisor)
  for i, job in ipairs(jobs) do self.workers[i] = { job = job, name = job.name, failures = 0, starts = 0 } end
  return self
end

local function environment_of(job)
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if job.environment[name] == nil then list[#list + 1] = name .. "=" .. value end
  end
  for name, value in pairs(job.environment) do list[#list + 1] = name .. "=" .. value end
  return list
end

-- Hands on the complete lines of a stream.
local function pipe_lines(self, worker, write)
  local pipe = uv.new_pipe(false)
  local prefix = self.prefix and ("[%s] "):format(worker.name) or ""
  self.open_pipes = (self.open_pipes or 0) + 1
  return pipe, function()
    lines.read(pipe, LONGEST_LINE, function(text)
      if text ~= "" then worker.last_line = text end
      write(prefix .. text)
    end, function()
      pipe:close()
      self.open_pipes = self.open_pipes - 1
      self:check_end()
    end)
  end
end

local start

local function restart_in(self, worker, ms)
  worker.timer = worker.timer or uv.new_timer()
  worker.timer:start(math.floor(ms), 0, function() start(self, worker) end)
end

local function how(code, signal)
  if signal ~= 0 then return "was ended by signal " .. signal end
  return "ended with exit code " .. code
end

-- It has ended although nobody had asked it to.
local function crashed(self, worker, code, signal)
  local lived = uv.now() - worker.began
  worker.failures = lived < SHORT_LIFE and worker.failures + 1 or 1
  local delay = math.min(FIRST_DELAY * 2 ^ (worker.failures - 1), LONGEST_DELAY)
  local text = ("%s (pid %d) %s; it is started again in %g s"):format(worker.name, worker.pid, how(code, signal),
    delay / 1000)
  if worker.failures >= LOOP then
    text = ("%s is in a crash loop: %d times in a row it has ended soon after its start; this time it %s. It is tried again "
      .. "in %g s, or on SIGHUP. Its last line: %s"):format(worker.name, worker.failures, how(code, signal), delay / 1000,
      worker.last_line or "(none)")
  end
  self.log:say("error", text)
  restart_in(self, worker, delay)
end

local function ended(self, worker, code, signal)
  worker.handle:close()
  worker.control:close()
  worker.handle, worker.running = nil, false
  if self.stopping then
    -- SIGTERM ends one that had yet to begin.
    if (signal ~= 0 and signal ~= SIGTERM) or (code ~= exit.OK and code ~= exit.INTERRUPTED) then
      self.log:say("warning", ("%s (pid %d) %s"):format(worker.name, worker.pid, how(code, signal)))
      if self.code == exit.OK or self.code == exit.INTERRUPTED then self.code = exit.FAILED end
    end
    return self:check_end()
  end
  -- What it said about the command line or its script is on stderr.
  if code == exit.USAGE and worker.starts == 1 then
    self.code = exit.USAGE
    return self:stop()
  elseif code == exit.PIPE then
    self.code = exit.PIPE
    return self:stop()
  end
  crashed(self, worker, code, signal)
end

function start(self, worker)
  local job = worker.job
  local out, read_out = pipe_lines(self, worker, function(line)
    self.log:raw(line)
    if self.log.broken and not self.stopping then
      self.code = exit.PIPE
      self:stop()
    end
  end)
  local err, read_err = pipe_lines(self, worker, self.err)
  local control = uv.new_pipe(false)
  local args = {}
  for i = 2, #job.command do args[i - 1] = job.command[i] end
  local handle, pid
  -- A session of its own: Ctrl-C is ours to pass on, once.
  handle, pid = uv.spawn(job.command[1], { args = args, env = environment_of(job), detached = true,
    stdio = { nil, out, err, control } }, function(code, signal) ended(self, worker, code, signal) end)
  worker.began, worker.starts = uv.now(), worker.starts + 1
  if not handle then
    for _, pipe in ipairs { out, err, control } do pipe:close() end
    self.open_pipes = self.open_pipes - 2
    self.log:say("error", ("cannot start %s: %s"):format(worker.name, tostring(pid)))
    return restart_in(self, worker, LONGEST_DELAY)
  end
  worker.handle, worker.pid, worker.control, worker.running = handle, pid, control, true
  read_out()
  read_err()
  self.log:say("info", ("%s is started, pid %d"):format(worker.name, pid))
end

local function each_running(self, f)
  local count = 0
  for _, worker in ipairs(self.workers) do
    if worker.running then
      count = count + 1
      f(worker)
    end
  end
  return count
end

--- Ends the loop once all workers are gone and have been heard.
function Supervisor:check_end()
  if not self.stopping or each_running(self, function() end) > 0 then return end
  if self.open_pipes == 0 then return uv.stop() end
  -- A process that a worker has left behind may hold its output open.
  if not self.last_words then
    self.last_words = uv.new_timer()
    self.last_words:start(LAST_WORDS, 0, function() uv.stop() end)
  end
end

--- Lets the workers end what they handle.
function Supervisor:stop()
  self.stopping = true
  for _, worker in ipairs(self.workers) do
    if worker.timer then worker.timer:stop() end
  end
  local count = each_running(self, function(worker) worker.handle:kill("sigterm") end)
  if count > 0 then
    self.log:say("info", ("stopping, %d worker%s to finish; a second signal stops now"):format(count,
      count == 1 and " has" or "s have"))
  end
  self:check_end()
end

local function stop_now(self)
  self.log:say("warning", "stopping now")
  each_running(self, function(worker) worker.handle:kill("sigterm") end)
  self.killer = uv.new_timer()
  self.killer:start(KILL_AFTER, 0, function()
    each_running(self, function(worker) worker.handle:kill("sigkill") end)
  end)
end

local function on_stop_signal(self, name)
  self.signals = self.signals + 1
  if name == "sigint" and self.code == exit.OK then self.code = exit.INTERRUPTED end
  if not self.stopping then return self:stop() end
  if not self.killer then stop_now(self) end
end

local function on_hangup(self)
  if self.stopping then return end
  each_running(self, function(worker) worker.handle:kill("sighup") end)
  for _, worker in ipairs(self.workers) do
    if not worker.running and worker.timer and worker.timer:is_active() then
      worker.failures = 0
      worker.timer:stop()
      start(self, worker)
    end
  end
end

--- Runs until a signal, or until a worker says that the command line is wrong; the exit code.
---@return integer
function Supervisor:run()
  for name, act in pairs { sigterm = on_stop_signal, sigint = on_stop_signal, sighup = on_hangup } do
    local signal = uv.new_signal()
    signal:start(name, function() act(self, name) end)
  end
  for _, worker in ipairs(self.workers) do start(self, worker) end
  uv.run()
  return self.code
end

return supervisor
