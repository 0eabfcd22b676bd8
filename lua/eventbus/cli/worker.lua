--- A worker: one process that consumes for one service: it connects, declares, subscribes and handles events until it is
-- told to stop, and says what becomes of each.

local eventbus = require "eventbus"
local platform = require "eventbus.platform"

local worker = {}

---@class eventbus.cli.Worker
---@field log eventbus.cli.EventLog
---@field script eventbus.Script
local Worker = {}
Worker.__index = Worker

--- A worker for a script. Options: log, connect (options of eventbus.connect that beat the script's), topology (beats the
-- script's), adjust (function from a script's subscriptions to those to make).
---@param script table  { definition =, subscriptions = }
---@param options table
---@return eventbus.cli.Worker
function worker.new(script, options)
  return setmetatable({ script = script, log = options.log, connect = options.connect or {}, topology = options.topology,
    adjust = options.adjust or function(list) return list end }, Worker)
end

local function joined(...)
  local result = {}
  for _, set in ipairs { ... } do
    for key, value in pairs(set) do result[key] = value end
  end
  return result
end

local function open(self)
  local definition = self.script.definition
  local options = joined({ source = definition.source or definition.name,
    log = function(level, text, fields) self.log:library(level, text, fields) end }, definition.connect or {}, self.connect)
  self.bus = eventbus.assert(eventbus.connect(options))
end

-- Declares, starts and subscribes what a script says; raises what is in the way.
local function begin(self, script)
  local definition, names = script.definition, {}
  local view = self.bus:with { source = definition.source or definition.name }
  eventbus.assert(self.bus:declare(self.topology or definition.topology or platform.topology))
  if definition.start then definition.start(view) end
  for i, wanted in ipairs(self.adjust(script.subscriptions)) do
    local options = joined({ on_settled = function(record) self:settled(record) end }, wanted.options)
    eventbus.assert(view:subscribe(wanted.queue, wanted.handlers, options))
    names[i] = wanted.queue
  end
  self.log:say("info", ("%s is ready: %s"):format(definition.name, table.concat(names, ", ")))
end

function Worker:settled(record)
  self.log:settled(record)
  if self.log.broken then self.bus:stop() end
end

--- Runs until SIGTERM or SIGINT; raises when it cannot begin, or when the connection is lost for good.
function Worker:run()
  open(self)
  begin(self, self.script)
  local ok, err = self.bus:run()
  local definition = self.script.definition
  if definition.stop then definition.stop(self.bus) end
  self.bus:close()
  self.log:say("info", definition.name .. " has stopped")
  if not ok then error(err, 0) end
end

return worker
