--- A service: a table that names what consumes events, its queues and its handlers. `eventbus run` runs it.
--
--   { name = "search", queue = "search.products", handlers = { ["product.#"] = index }, options = { prefetch = 20 } }
--
-- With several queues, `queues` is a list of names that share `handlers` and `options`, or maps each name to its own
-- { handlers =, options = }, which come before the shared ones.

local merged = require "eventbus.merged"
local nearest = require "eventbus.nearest"

local service = {}

---@class eventbus.Service
---@field name string
---@field source string|nil            of the events it publishes; default: its name
---@field queue string|nil
---@field queues string[]|table<string, { handlers: table|function|nil, options: table|nil }>|nil
---@field handlers table<string, function>|function|nil
---@field options eventbus.SubscribeOptions|nil
---@field topology table|nil           declared before it subscribes; default: the platform's
---@field connect eventbus.ConnectOptions|nil
---@field start fun(bus: eventbus.Bus)|nil
---@field stop fun(bus: eventbus.Bus)|nil
local FIELDS = {
  name = { "string" }, source = { "string" }, queue = { "string" }, queues = { "table" },
  handlers = { "table", "function" }, options = { "table" }, topology = { "table" }, connect = { "table" },
  start = { "function" }, stop = { "function" },
}
local OF_QUEUE = { handlers = FIELDS.handlers, options = FIELDS.options }

local function check_fields(t, fields, where)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  for name, value in pairs(t) do
    local types = fields[name]
    if not types then
      return nil, ("%sunknown field %q%s"):format(where, tostring(name), nearest.hint(tostring(name), names))
    elseif type(value) ~= types[1] and type(value) ~= types[2] then
      return nil, ("%s%s must be a %s, is a %s"):format(where, name, table.concat(types, " or a "), type(value))
    end
  end
  return true
end

-- Shared fields with a queue's own over them.
local function joined(shared, own)
  if type(shared) ~= "table" or type(own) ~= "table" then return own or shared end
  return merged(shared, own)
end

local function add(list, definition, queue, own)
  local where = ("queue %q: "):format(tostring(queue))
  if type(queue) ~= "string" then return "queues: a queue's name must be a string, is a " .. type(queue) end
  if type(own) ~= "table" then return where .. "must be a table { handlers =, options = }, is a " .. type(own) end
  local ok, mistake = check_fields(own, OF_QUEUE, where)
  if not ok then return mistake end
  local handlers = joined(definition.handlers, own.handlers)
  if not handlers then return where .. "handlers are missing" end
  list[#list + 1] = { queue = queue, handlers = handlers, options = joined(definition.options, own.options) or {} }
end

--- What a service subscribes, in the order of its list or of the names; or nil and what is wrong with it.
---@param definition eventbus.Service
---@return { queue: string, handlers: table|function, options: table }[]|nil, string|nil
function service.check(definition)
  if type(definition) ~= "table" then return nil, "a service is a table, got a " .. type(definition) end
  local ok, mistake = check_fields(definition, FIELDS, "")
  if not ok then return nil, mistake end
  if not definition.name then return nil, "name is missing" end
  if definition.queue and definition.queues then return nil, "queue and queues: only one of them" end
  local queues, list = definition.queues or { definition.queue }, {}
  if next(queues) == nil then return nil, "queue or queues is missing" end
  for i, queue in ipairs(queues) do
    if queues[queue] ~= nil then return nil, ("queues names %q twice"):format(queue) end
    for j = 1, i - 1 do
      if queues[j] == queue then return nil, ("queues names %q twice"):format(queue) end
    end
    mistake = add(list, definition, queue, {})
    if mistake then return nil, mistake end
  end
  local names = {}
  for key in pairs(queues) do
    if type(key) ~= "number" then names[#names + 1] = key end
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    mistake = add(list, definition, name, queues[name])
    if mistake then return nil, mistake end
  end
  return list
end

--- The same, raising at the caller's line.
---@param definition eventbus.Service
---@return { queue: string, handlers: table|function, options: table }[]
function service.subscriptions(definition)
  local list, mistake = service.check(definition)
  if not list then error("service: " .. mistake, 2) end
  return list
end

--- The names of its queues; raises at the caller's line what is wrong with it.
---@param definition eventbus.Service
---@return string[]
function service.queues(definition)
  local list, mistake = service.check(definition)
  if not list then error("service: " .. mistake, 2) end
  local names = {}
  for i, subscription in ipairs(list) do names[i] = subscription.queue end
  return names
end

return service
