--- Checks a payload against the fields of a catalogue entry and tells all that is wrong with it, each with its path.
-- A JSON null counts as absent. Lua knows no difference between an empty object and an empty array; nor is one made here.

local payload = {}

local function is_null(value)
  return value == nil or type(value) == "userdata"
end

local function is_array(value)
  return type(value) == "table" and (next(value) == nil or #value > 0)
end

local function is_object(value)
  return type(value) == "table" and (next(value) == nil or #value == 0)
end

local function is_whole(value)
  return type(value) == "number" and value % 1 == 0
end

local IS = {
  string = function(value) return type(value) == "string" end,
  number = function(value) return type(value) == "number" end,
  boolean = function(value) return type(value) == "boolean" end,
  integer = is_whole, array = is_array, object = is_object,
}

local function name_of(value)
  if is_array(value) and next(value) ~= nil then return "array" end
  if type(value) == "table" then return "object" end
  return type(value)
end

local function describe(wanted)
  return (wanted:gsub("|", " or "))
end

local check_fields

local function check(path, value, wanted, fields, problems)
  local optional
  wanted, optional = wanted:match("^([^?]*)(%??)$")
  if is_null(value) then
    if optional == "" then
      problems[#problems + 1] = { path = path, problem = "missing",
        message = ("%s is missing (%s)"):format(path, describe(wanted)) }
    end
    return
  end
  for one in wanted:gmatch("[^|]+") do
    if IS[one](value) then
      if fields and one == "object" then check_fields(path, value, fields, problems) end
      if fields and one == "array" then
        for i, item in ipairs(value) do
          check(("%s[%d]"):format(path, i), item, "object", fields, problems)
        end
      end
      return
    end
  end
  problems[#problems + 1] = { path = path, problem = "wrong type",
    message = ("%s should be %s, is %s"):format(path, describe(wanted), name_of(value)) }
end

check_fields = function(path, value, fields, problems)
  for _, field in ipairs(fields) do
    check(path .. "." .. field[1], value[field[1]], field[2], field[3], problems)
  end
end

--- All that is wrong with `data`; empty when nothing is.
---@param data any
---@param fields table[]  of { name, type, fields }
---@return { path: string, problem: "missing"|"wrong type", message: string }[]
function payload.problems(data, fields)
  local problems = {}
  check("data", data, "object", fields, problems)
  return problems
end

return payload
