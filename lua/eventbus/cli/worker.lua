--- A worker: one process that consumes for one service until it is told to stop, and says what becomes of each event.
--
-- Told to reload, it cancels its subscriptions, lets running handlers and copies end, loads the script, and subscribes
-- again: no event is in flight while code changes, so none is lost or handled twice. What is wrong with the new script, or
-- in its way, is said, and the old one goes on.

local eventbus = require "eventbus"
local exit = require "eventbus.cli.exit"
local failure = require "eventbus.failure"
local merged = require "eventbus.merged"
local platform = require "eventbus.platform"
local uv = require "luv"

local worker = {}

-- A handler that is still busy this long after a second signal is ended with the process.
local KILL_AFTER = 2
local SIGINT = 2

-- What may be over in a while, and seconds between two looks whether it is.
local PASSING, PAUSE = { timeout = true, connection = true }, 0.5
local WITHDRAWAL = 2

---@class eventbus.cli.Worker
---@field log eventbus.cli.EventLog
---@field script eventbus.Script
local Worker = {}
Worker.__index = Worker

--- A worker for a script. Options: log, connect (options of eventbus.connect that beat the script's), topology (beats the
-- script's), adjust (function from a script's subscriptions to those to make), watch (an
-- eventbus.cli.Watch), supervised (a descriptor of a pipe whose end is the supervisor's).
---@param script table  { definition =, subscriptions = }; one that can be reloaded is an eventbus.Script
---@param options table
---@return eventbus.cli.Worker
function worker.new(script, options)
  return setmetatable({ script = script, log = options.log, connect = options.connect or {}, topology = options.topology,
    adjust = options.adjust or function(list) return list end, watch = options.watch, supervised = options.supervised,
    counts = {} }, Worker)
end

-- Calls a function with what the script says. An error of the library ends the command as it is; a mistake, which the
-- library raises as text, is the script's.
local function meant(self, f, ...)
  local ok, result, err = pcall(f, ...)
  if not ok and type(result) == "string" then exit.misuse(("%s: %s"):format(self.script.definition.name, result)) end
  if not ok then error(result, 0) end
  return result, err
end

-- Calls a function of the script's own.
local function call(script, field, bus)
  local f = script.definition[field]
  if not f then return end
  local ok, raised = pcall(f, bus)
  if ok then return end
  exit.fail(("%s: its function %s failed: %s"):format(script.definition.name, field, failure.text(raised)))
end

local function open(self)
  local definition = self.script.definition
  local options = merged({ source = definition.source or definition.name,
    log = function(level, text, fields) self.log:say(level, text, fields) end }, merged(definition.connect, self.connect))
  self.bus = eventbus.assert(meant(self, eventbus.connect, options))
end

local function finish(self, script)
  if self.started ~= script then return end
  self.started = nil
  call(script, "stop", self.bus)
end

-- Declares, starts and subscribes what a script says; raises what is in the way.
local function begin(self, script)
  local definition, names = script.definition, {}
  self.subscriptions = {}
  local view = self.bus:with { source = definition.source or definition.name }
  local ok, err = meant(self, self.bus.declare, self.bus, self.topology or definition.topology or platform.topology)
  if not ok then error(exit.of_error(err, "cannot declare the topology"), 0) end
  call(script, "start", view)
  self.started = script
  for i, wanted in ipairs(self.adjust(script.subscriptions)) do
    local options = merged({ on_settled = function(record) self:settled(record) end }, wanted.options)
    ok, err = meant(self, view.subscribe, view, wanted.queue, wanted.handlers, options)
    if not ok then error(exit.of_error(err, "cannot subscribe to " .. wanted.queue), 0) end
    self.subscriptions[i], names[i] = ok, wanted.queue
  end
  self.log:say("info", ("%s is ready: %s"):format(definition.name, table.concat(names, ", ")))
end

function Worker:settled(record)
  self.counts[record.outcome] = (self.counts[record.outcome] or 0) + 1
  self.log:settled(record)
  if self.log.broken then self:stop() end
end

--- Ends `run`, once the running handler has ended.
function Worker:stop()
  self.stopping = true
  self.bus:stop()
end

--- Reloads the script before the next event, unless its files do not compile.
function Worker:reload()
  self.reload_wanted = true
end

-- A handle that nobody waits for: a handler may run luv's loop to its end.
local function keep(self, handle)
  handle:unref()
  self.handles[#self.handles + 1] = handle
  return handle
end

-- From the first moment on, else a SIGHUP would end us.
local function listen_for_hangup(self)
  self.handles = {}
  keep(self, uv.new_signal()):start("sighup", function() self:reload() end)
end

-- Signals and the supervisor's pipe.
local function listen(self)
  -- While `run` runs it catches these itself.
  for _, name in ipairs { "sigterm", "sigint" } do
    keep(self, uv.new_signal()):start(name, function()
      self.signal = name
      self:stop()
    end)
  end
  if self.supervised then
    local pipe = keep(self, uv.new_pipe(false))
    pipe:open(self.supervised)
    pipe:read_start(function(_, data)
      if data then return end
      pipe:read_stop()
      self.log:say("error", "the supervisor has gone, stopping")
      self:stop()
    end)
  end
  self.awake = keep(self, uv.new_timer())
end

local function close_handles(self)
  for _, handle in ipairs(self.handles) do
    if not handle:is_closing() then handle:close() end
  end
  -- luv 1.44 crashes at the end of a state with handles that are half closed.
  uv.run("nowait")
end

-- Whether all that had begun before the subscriptions were cancelled has come to its end.
local function drained(self)
  for _, subscription in ipairs(self.subscriptions) do
    local stats = subscription:stats()
    if stats.running > 0 or stats.pending > 0 then return false end
  end
  return true
end

local function connected(self)
  return self.bus:stats().connections.control == "up"
end

-- Signals, and the end of the supervisor.
local function listen_in(self)
  -- luv looks at nothing while none of its handles counts.
  self.awake:ref()
  self.awake:start(0, 0, function() end)
  uv.run("nowait")
  self.awake:unref()
end

-- What happened outside of the bus.
local function look(self)
  listen_in(self)
  if self.watch and self.watch:changed(self.script) then self.reload_wanted = true end
  if self.stopping then return end
  -- Without a connection neither script could subscribe.
  if not (self.draining or self.reload_wanted) or not connected(self) then return end
  if self.draining then
    if not drained(self) then return end
    self.draining, self.swapping = false, true
    return self.bus:stop()
  end
  self.reload_wanted = false
  if not self.script.reload then return self.log:say("warning", "there is no script to reload") end
  local ok, mistake = self.script:compiles()
  if not ok then return self.log:say_lines("error", "not reloaded, the old script goes on: " .. mistake) end
  for _, subscription in ipairs(self.subscriptions) do subscription:cancel() end
  self.draining = true
end

-- Takes back what `begin` did before it failed. Without a broker nobody answers a cancel: it is asked for again.
local function withdraw(self, script)
  for _, subscription in ipairs(self.subscriptions) do subscription:cancel(WITHDRAWAL) end
  local ok, raised = pcall(finish, self, script)
  if not ok then self.log:say_lines("error", failure.text(raised)) end
end

-- Waits for the connection, for a moment at least; raises when it is given up. Nothing is subscribed.
local function await_connection(self)
  repeat
    local handled, err = self.bus:poll(PAUSE)
    if not handled then error(err, 0) end
    listen_in(self)
  until self.stopping or connected(self)
end

-- The old script goes on, as soon as there is a broker.
local function resume(self, script)
  while not self.stopping do
    local ok, raised = pcall(begin, self, script)
    if ok then return end
    withdraw(self, script)
    if not (exit.is_failure(raised) and PASSING[raised.cause_code]) then error(raised, 0) end
    self.log:say_lines("warning", "the old script waits: " .. failure.text(raised))
    await_connection(self)
  end
end

-- Nothing is in flight now.
local function swap(self)
  local old = self.script
  local new, mistake = old:reload()
  if self.watch then self.watch:note(new or old) end
  if new then
    local ok, raised = pcall(finish, self, old)
    if not ok then self.log:say_lines("error", failure.text(raised)) end
    ok, raised = pcall(begin, self, new)
    if ok then
      self.script = new
      return self.log:say("info", new.definition.name .. " has been reloaded")
    end
    mistake = failure.text(raised)
    withdraw(self, new)
    old:restore(new)
  end
  self.log:say_lines("error", "not reloaded, the old script goes on: " .. mistake)
  resume(self, old)
end

local function summary(self)
  local parts = {}
  for _, outcome in ipairs { "handled", "ignored", "retried", "dead_lettered", "dropped", "returned" } do
    local n = self.counts[outcome]
    if n then parts[#parts + 1] = n .. " " .. outcome:gsub("_", "-") end
  end
  return #parts > 0 and table.concat(parts, ", ") or "no events came"
end

--- Runs until SIGTERM, SIGINT or `stop`; raises when it cannot begin, or when the connection is lost for good.
---@return integer code  for the process
function Worker:run()
  listen_for_hangup(self)
  open(self)
  begin(self, self.script)
  listen(self)
  local ok, why
  repeat
    self.swapping = false
    ok, why = self.bus:run { kill_after = KILL_AFTER, tick = function() look(self) end }
    if why == "signal" then
      self.stopping = true
      self.signal = eventbus.core.trapped() == SIGINT and "sigint" or "sigterm"
    end
    if ok and self.swapping and not self.stopping then swap(self) end
  until not ok or not self.swapping or self.stopping
  local finished, raised = pcall(finish, self, self.script)
  self.bus:close()
  close_handles(self)
  self.log:say("info", ("%s has stopped: %s"):format(self.script.definition.name, summary(self)))
  if not ok then error(why, 0) end
  if not finished then error(raised, 0) end
  if self.log.broken then return exit.PIPE end
  return self.signal == "sigint" and exit.INTERRUPTED or exit.OK
end

return worker
