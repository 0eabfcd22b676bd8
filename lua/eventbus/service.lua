--- A service in one file: a table that names it, its queues and handlers, and this to run it as a program.
--
--   local service = { name = "search", queue = "search.products", handlers = { ["product.#"] = index }, options = {} }
--   require("eventbus.service").main(service)
--   return service
--
-- `main` runs the service when the file is the program and does nothing when the file was loaded by another (a test, a
-- runner). A running service connects, declares its topology (the platform's, unless it brings its own), subscribes, prints
-- a line when it is ready and one per event, and ends on SIGTERM or SIGINT once running handlers are done.

local eventbus = require "eventbus"
local nearest = require "eventbus.nearest"
local platform = require "eventbus.platform"

local service = {}

local FIELDS = {
  name = "string", source = "string", queue = "string", queues = "table", handlers = "table", options = "table",
  topology = "table", connect = "table", start = "function", stop = "function",
}

--- Raises at the caller's line what is wrong with a service's table; returns its queues as a list.
---@param definition table
---@return string[]
function service.queues(definition)
  local names = {}
  for name in pairs(FIELDS) do names[#names + 1] = name end
  for name, value in pairs(definition) do
    if not FIELDS[name] then
      error(("service: unknown field %q%s"):format(tostring(name), nearest.hint(name, names)), 2)
    elseif type(value) ~= FIELDS[name] then
      error(("service: %s must be a %s, is a %s"):format(name, FIELDS[name], type(value)), 2)
    end
  end
  if not definition.name then error("service: name is missing", 2) end
  if not definition.handlers then error("service: handlers are missing", 2) end
  local queues = definition.queues or { definition.queue }
  if #queues == 0 then error("service: queue or queues is missing", 2) end
  return queues
end

local function say(...)
  local seconds = eventbus.core.wall()
  local stamp = os.date("%H:%M:%S", math.floor(seconds)) .. (".%03d"):format(math.floor(seconds * 1000) % 1000)
  io.stdout:write(stamp, "  ", table.concat({ ... }, "  "), "\n")
  io.stdout:flush()
end
service.say = say

local function first_line(text)
  return (tostring(text):match("^[^\n]*"))
end

-- What is known of the events being handled, by queue and id, until something has come of them.
local Observer = {}
Observer.__index = Observer

-- An event that a handler ignores leaves its entry behind.
local REMEMBERED = 10000

local function key_of(queue, id)
  return queue .. "\0" .. tostring(id)
end

function Observer:tell(queue, event_type, id, attempt, outcome)
  local key = key_of(queue, id)
  local began = self.begun[key]
  self.begun[key] = nil
  local spent = began and (eventbus.core.now() - began.at) * 1000 or 0
  say(queue, tostring(event_type), tostring(id), ("attempt %d"):format(began and began.attempt or attempt or 1),
    ("%.0f ms"):format(spent), outcome)
end

local function finished(self, queue, event, a, b, ...)
  -- A failure is told once the library has handed the event on.
  if a ~= false and type(a) ~= "table" and (a ~= nil or b == nil) then
    self:tell(queue, event.type, event.id, nil, "done")
  end
  return a, b, ...
end

-- The same handler, saying when it is done. It is called as it would be without us: an error passes through untouched.
function Observer:watch(handler, queue)
  return function(event, ctx)
    self.count = self.count + 1
    if self.count > REMEMBERED then self.begun, self.count = {}, 0 end
    self.begun[key_of(queue, event.id)] = { at = eventbus.core.now(), attempt = ctx.attempt }
    return finished(self, queue, event, handler(event, ctx))
  end
end

-- What the library says: of an event that was retried or dead-lettered a line like the others, else its warnings.
function Observer:log(level, text, fields)
  fields = fields or {}
  local told = fields.error and text .. ": " .. first_line(fields.error) or text
  if fields.queue and fields.attempt then
    self:tell(fields.queue, fields.type, fields.id, fields.attempt, told)
  elseif level == "warning" or level == "error" then
    say(level .. ": " .. told .. (fields.queue and " (" .. fields.queue .. ")" or ""))
  end
end

--- Connects, declares, subscribes and runs until stopped.
---@param definition table
function service.run(definition)
  local queues = service.queues(definition)
  local observer = setmetatable({ begun = {}, count = 0 }, Observer)
  local options = {
    source = definition.source or definition.name,
    log = function(level, text, fields) observer:log(level, text, fields) end,
  }
  for name, value in pairs(definition.connect or {}) do options[name] = value end
  local bus = eventbus.assert(eventbus.connect(options))
  eventbus.assert(bus:declare(definition.topology or platform.topology))
  if definition.start then definition.start(bus) end
  for _, queue in ipairs(queues) do
    local handlers = {}
    for pattern, handler in pairs(definition.handlers) do handlers[pattern] = observer:watch(handler, queue) end
    eventbus.assert(bus:subscribe(queue, handlers, definition.options))
  end
  say(definition.name .. " is ready: " .. table.concat(queues, ", "))
  local ok, err = bus:run()
  if definition.stop then definition.stop(bus) end
  bus:close()
  say(definition.name .. " has stopped")
  eventbus.assert(ok ~= nil or err == nil, err)
end

--- Runs the service if the calling file is the program that the interpreter was started with.
---@param definition table
function service.main(definition)
  local caller = debug.getinfo(2, "S")
  if not (arg and arg[0] and caller.what == "main" and caller.source == "@" .. arg[0]) then return end
  local ok, err = pcall(service.run, definition)
  if not ok then
    io.stderr:write(definition.name or "service", ": ", tostring(err), "\n")
    os.exit(1)
  end
end

return service
