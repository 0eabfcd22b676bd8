--- A script: one Lua file that is a service, without any boilerplate. It returns a service's table (eventbus.service), or
-- calls functions that it finds among its globals:
--
--   service "telegram-bot"
--   queue("telegram.notifications", { prefetch = 10 })
--   on("notification.telegram", function(event, ctx) ... end)
--
-- `on` belongs to the queue named last, or to all queues when none was named before. `source`, `topology`, `connect` and
-- `options` take the value of that field, `start` and `stop` a function. `eventbus`, `reject`, `retry` and `ignore` are
-- there too. A script's globals are its own; modules beside its file are found by `require`.

local service = require "eventbus.service"

local script = {}

---@class eventbus.Script
---@field path string
---@field definition eventbus.Service
---@field files string[]    the script and the modules it loaded from its folder
---@field refused string[]|nil  those of the one that could not take its place
local Script = {}
Script.__index = Script

local CALLS = "service, queue, on, source, options, topology, connect, start, stop"

-- What a script says by calling functions.
local function new_calls()
  return { any = false, queues = {}, order = {}, handlers = {} }
end

local function once(calls, field, value, wanted, called)
  called = called or field
  if type(value) ~= wanted then error(("%s: expected a %s, got a %s"):format(called, wanted, type(value)), 3) end
  if calls[field] ~= nil then error(called .. " was called before", 3) end
  calls.any, calls[field] = true, value
end

local function functions_of(calls)
  local env = {}
  function env.service(name) once(calls, "name", name, "string", "service") end
  for field, wanted in pairs { source = "string", options = "table", topology = "table", connect = "table",
    start = "function", stop = "function" } do
    env[field] = function(value) once(calls, field, value, wanted) end
  end
  function env.queue(name, options)
    if type(name) ~= "string" then error("queue: expected its name, got a " .. type(name), 2) end
    if options ~= nil and type(options) ~= "table" then
      error("queue: options must be a table, got a " .. type(options), 2)
    end
    if calls.queues[name] then error(("queue: %q was named before"):format(name), 2) end
    calls.any, calls.last = true, { handlers = {}, options = options }
    calls.queues[name] = calls.last
    calls.order[#calls.order + 1] = name
  end
  function env.on(event_type, handler)
    if type(event_type) ~= "string" then error("on: expected an event type, got a " .. type(event_type), 2) end
    if type(handler) ~= "function" then
      error(("on(%q): expected a function, got a %s"):format(event_type, type(handler)), 2)
    end
    local handlers = (calls.last or calls).handlers
    if handlers[event_type] then error(("on(%q): it has a handler already"):format(event_type), 2) end
    calls.any, handlers[event_type] = true, handler
  end
  return env
end

local function definition_of(calls)
  local definition = { handlers = calls.handlers }
  for _, field in ipairs { "name", "source", "options", "topology", "connect", "start", "stop" } do
    definition[field] = calls[field]
  end
  if #calls.order == 1 then
    -- As one would write it as a table.
    definition.queue = calls.order[1]
    local own = calls.queues[definition.queue]
    for event_type, handler in pairs(own.handlers) do definition.handlers[event_type] = handler end
    if own.options then
      definition.options = definition.options or {}
      for key, value in pairs(own.options) do definition.options[key] = value end
    end
  elseif #calls.order > 1 then
    definition.queues = calls.queues
  end
  return definition
end

-- The folder's modules. One searcher serves the script that is current: a process runs one.

local current

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

local function search(name)
  if not current then return nil end
  for _, ending in ipairs { ".lua", "/init.lua" } do
    local path = current.folder .. name:gsub("%.", "/") .. ending
    if exists(path) then
      local chunk, err = loadfile(path)
      if not chunk then error(err, 0) end
      current:note(path, name)
      return chunk, path
    end
  end
end

local function install()
  local searchers = package.searchers or package.loaders
  for _, searcher in ipairs(searchers) do
    if searcher == search then return end
  end
  -- After the preloaded ones, before the path: a script's own modules win.
  table.insert(searchers, 2, search)
end

function Script:note(path, module)
  if not self.known[path] then
    self.known[path] = true
    self.files[#self.files + 1] = path
  end
  if module then self.modules[#self.modules + 1] = module end
end

-- A chunk over an environment, on every Lua.
local function compile(path, env)
  if not exists(path) then return nil, "cannot open " .. path .. ": there is no such file" end
  if rawget(_G, "setfenv") then
    local chunk, err = loadfile(path)
    return chunk and setfenv(chunk, env), err
  end
  return loadfile(path, "bt", env)
end

local function traced(value)
  if type(value) ~= "string" then return value end
  return debug.traceback(value, 2)
end

local function message_of(raised)
  local text = require("eventbus.failure").text(raised)
  -- The traceback down to the script's own lines: what called it is ours.
  local kept = {}
  for line in text:gmatch("[^\n]+") do
    if line:find("[C]: in function 'xpcall'", 1, true) then break end
    if not line:find("eventbus/script.lua", 1, true) and not line:find("[C]: in function 'error'", 1, true) then
      kept[#kept + 1] = line
    end
  end
  if kept[#kept] == "stack traceback:" then kept[#kept] = nil end
  return table.concat(kept, "\n")
end

local function read(self)
  local calls = new_calls()
  local env = functions_of(calls)
  local eventbus = require "eventbus"
  env.eventbus, env.reject, env.retry, env.ignore = eventbus, eventbus.reject, eventbus.retry, eventbus.ignore
  setmetatable(env, { __index = _G })
  local chunk, err = compile(self.path, env)
  if not chunk then return nil, err end
  local ok, result = xpcall(chunk, traced)
  if not ok then return nil, message_of(result) end
  if type(result) == "table" then
    if calls.any then return nil, self.path .. ": it returns a table and calls functions: it must do one of them" end
    return result
  elseif result ~= nil then
    return nil, ("%s: it returned a %s, not a service's table"):format(self.path, type(result))
  elseif not calls.any then
    return nil, ("%s: it neither returns a service's table nor calls functions (%s)"):format(self.path, CALLS)
  end
  return definition_of(calls)
end

-- The next `require` of its modules loads them from their files.
local function forget(self)
  for _, name in ipairs(self.modules) do package.loaded[name] = nil end
end

--- Loads a script: an object with its definition and its files, or nil, what is wrong with it, and its files.
---@param path string
---@return eventbus.Script|nil, string|nil, string[]|nil
function script.open(path)
  local self = setmetatable({ path = path, folder = path:match("^(.*/)[^/]*$") or "./", files = {}, known = {},
    modules = {} }, Script)
  self:note(path)
  install()
  local before = current
  current = self
  local definition, mistake = read(self)
  if definition then
    local list
    list, mistake = service.check(definition)
    if list then
      self.definition, self.subscriptions = definition, list
      return self
    end
    mistake = path .. ": " .. mistake
  end
  forget(self)
  current = before
  return nil, mistake, self.files
end

--- The service that a script is; raises what is wrong with it. For tests: its handlers are plain functions.
---@param path string
---@return eventbus.Service
function script.load(path)
  local opened, mistake = script.open(path)
  if not opened then error(mistake, 2) end
  return opened.definition
end

--- Does every file of the script compile? nil and the first mistake otherwise. Runs nothing. A module that is gone may be
-- needed no more.
---@return true|nil, string|nil
function Script:compiles()
  for _, path in ipairs(self.files) do
    if path == self.path or exists(path) then
      local chunk, err = loadfile(path)
      if not chunk then return nil, err end
    end
  end
  return true
end

--- The script as its files are now: its modules are loaded anew. When it cannot be loaded the old ones are back.
---@return eventbus.Script|nil, string|nil
function Script:reload()
  self.loaded = {}
  for _, name in ipairs(self.modules) do self.loaded[name] = package.loaded[name] end
  forget(self)
  local new, mistake, files = script.open(self.path)
  if new then return new end
  self:restore()
  self.refused = files
  return nil, mistake
end

--- Takes back a `reload`: the modules are again those of this script.
---@param new? eventbus.Script  what reload gave
function Script:restore(new)
  if new then forget(new) end
  self.refused = new and new.files
  for name, module in pairs(self.loaded) do package.loaded[name] = module end
  current = self
end

return script
