--- lua_json: any text, by json.decode. What is read is written, and read again as the same; or the error says what is wrong.

local check = require "spec.fuzz.lua.check"
local json = require "eventbus.json"

local CHOICES = { {}, { big = "string" }, { mark_arrays = false }, { max_depth = 3 } }
local SORTED = { sort_keys = true }

local function again(value, options)
  local text, err = json.encode(value)
  if not text then
    check.error(err, "invalid")
    return assert(check.is_inexact(err), "what was read is not written")
  end
  check.same(value, check.given(json.decode(text, options)), "what was written")
  -- The marks of lists are in their texts: [] and {}.
  local sorted = check.given(json.encode(value, SORTED))
  local twice = check.given(json.decode(sorted, options))
  check.same(value, twice, "what was written in order")
  assert(json.encode(twice, SORTED) == sorted, "its text is another")
end

-- Lists carry the mark where it is wanted, and no other table does. (An empty one is told by its text.)
local function check_marks(value, marks)
  if type(value) ~= "table" then return end
  local is_list = rawget(value, 1) ~= nil
  if next(value) ~= nil then assert((getmetatable(value) ~= nil) == (is_list and marks), "a mark is wrong") end
  for _, member in next, value do check_marks(member, marks) end
end

return function(text)
  local plain
  for i, options in ipairs(CHOICES) do
    local value, err = json.decode(text, options)
    if value == nil then
      check.error(err, "malformed")
    else
      check_marks(value, options.mark_arrays ~= false)
      again(value, options)
    end
    if i == 1 then plain = value end
    if plain ~= nil and value ~= nil then check.same(plain, value, "with other options it") end
  end
end
