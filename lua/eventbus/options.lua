--- Options: one schema per function, checked once, at the edge.
-- A schema maps each key to a rule. A rule takes a value and returns what is to be used, or nil and what was expected.
-- A mistake raises at the line of the user who made it; an unknown key names the nearest known one.

local nearest = require "eventbus.nearest"
local redact = require "eventbus.redact"
local units = require "eventbus.units"

local options = {}

---@alias eventbus.Rule fun(value: any): any, string?

local function of_type(name)
  return function(value)
    if type(value) == name then return value end
    return nil, "a " .. name
  end
end

options.boolean = of_type "boolean"
options.table = of_type "table"
options.string = of_type "string"
options["function"] = of_type "function"
options.any = function(value) return value end
options.duration = units.duration
options.size = units.size

--- Text that AMQP carries with a length of one byte.
function options.name(value)
  if type(value) == "string" and #value <= 255 then return value end
  return nil, type(value) == "string" and ("at most 255 bytes, this has %d"):format(#value) or "a string"
end

--- A whole number from low to high; 10.0 is taken as 10.
---@return eventbus.Rule
function options.integer(low, high)
  local expected = ("a whole number from %.0f to %.0f"):format(low, high)
  return function(value)
    if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then return nil, expected end
    return math.floor(value)
  end
end

--- A number from low to high.
---@return eventbus.Rule
function options.number(low, high)
  local expected = ("a number from %.14g to %.14g"):format(low, high)
  return function(value)
    if type(value) ~= "number" or not (value >= low and value <= high) then return nil, expected end
    return value
  end
end

--- One of some texts.
---@return eventbus.Rule
function options.choice(...)
  local choices = { ... }
  local expected = 'one of "' .. table.concat(choices, '", "') .. '"'
  return function(value)
    for _, choice in ipairs(choices) do
      if value == choice then return value end
    end
    return nil, expected .. (type(value) == "string" and nearest.hint(value, choices) or "")
  end
end

--- The first rule that takes the value.
---@return eventbus.Rule
function options.either(...)
  local rules = { ... }
  return function(value)
    local expected = {}
    for i, rule in ipairs(rules) do
      local result, why = rule(value)
      if result ~= nil then return result end
      expected[i] = why
    end
    return nil, table.concat(expected, ", or ")
  end
end

--- Exactly this value, for instance `false`.
---@return eventbus.Rule
function options.exactly(wanted)
  return function(value)
    if value == wanted then return value end
    return nil, tostring(wanted)
  end
end

--- A list, each item by one rule.
---@return eventbus.Rule
function options.list(rule, expected)
  return function(value)
    if type(value) ~= "table" or #value == 0 then return nil, expected end
    local result = {}
    for i, item in ipairs(value) do
      local taken = rule(item)
      if taken == nil then return nil, expected end
      result[i] = taken
    end
    return result
  end
end

--- A table with a schema of its own.
---@return eventbus.Rule
function options.shape(schema)
  return function(value)
    if type(value) ~= "table" then return nil, "a table" end
    local result, mistake = options.read(schema, value)
    if not result then return nil, mistake end
    return result
  end
end

local function keys_of(schema)
  local keys = {}
  for key in pairs(schema) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function shown(value)
  if type(value) == "string" then
    value = redact.urls(value)
    return ("%q"):format(#value > 60 and value:sub(1, 60) .. "..." or value)
  end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return "a " .. type(value)
end

--- The complaint about a key that is not in the schema.
---@param key any
---@param schema table
---@return string
function options.unknown(key, schema)
  return ("unknown option %s%s"):format(type(key) == "string" and ("%q"):format(key) or tostring(key),
    nearest.hint(key, keys_of(schema)))
end

local function complaint(key, value, expected)
  -- A nested shape has already said which of its keys is wrong.
  if type(value) == "table" and expected:find("^unknown option") or expected:find("^option ") then
    return ("option %q: %s"):format(key, expected)
  end
  return ("option %q: expected %s, got %s"):format(key, expected, shown(value))
end

-- By the order of the names: the same options have the same first mistake on every Lua, and those that a metatable
-- lends are found.
local function read_in_order(schema, given)
  local result = {}
  for key in pairs(given) do
    if not schema[key] then return nil, options.unknown(key, schema) end
  end
  for _, key in ipairs(keys_of(schema)) do
    local value = given[key]
    if value ~= nil then
      local taken, expected = schema[key](value)
      if taken == nil then return nil, complaint(key, value, expected) end
      result[key] = taken
    end
  end
  return result
end

--- The options as a plain table: what a metatable lends is one's own.
---@param schema table<string, eventbus.Rule>
---@param given table
---@return table
function options.own(schema, given)
  if getmetatable(given) == nil then return given end
  local result = {}
  for key, value in pairs(given) do result[key] = value end
  for key in pairs(schema) do
    if result[key] == nil then result[key] = given[key] end
  end
  return result
end

--- What the given options mean, or nil and the first mistake. Absent options stay absent. It costs what is given, not
-- what could be: publishes go through it.
---@param schema table<string, eventbus.Rule>
---@param given table
---@return table|nil, string|nil
function options.read(schema, given)
  if getmetatable(given) ~= nil then return read_in_order(schema, given) end
  local result = {}
  for key, value in next, given do
    local rule = schema[key]
    local taken = rule and rule(value)
    if taken == nil then return read_in_order(schema, given) end
    result[key] = taken
  end
  return result
end

--- The same, raising in the name of `where`, `level` callers up (2: whoever called the function that calls this).
---@param schema table<string, eventbus.Rule>
---@param given table|nil
---@param where string
---@param level? integer
---@return table
function options.check(schema, given, where, level)
  if given == nil then return {} end
  level = (level or 2) + 1
  if type(given) ~= "table" then
    error(("%s: options must be a table, got %s"):format(where, shown(given)), level)
  end
  local result, mistake = options.read(schema, given)
  if not result then error(where .. ": " .. mistake, level) end
  return result
end

--- Raises unless an argument has the type it must have.
---@param value any
---@param wanted string
---@param where string
---@param what string
---@param level? integer
function options.argument(value, wanted, where, what, level)
  if type(value) ~= wanted then
    error(("%s: %s must be a %s, got %s"):format(where, what, wanted, shown(value)), (level or 2) + 1)
  end
end

return options
