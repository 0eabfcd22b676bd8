--- lua_value: any Lua value, by json.encode. What can be said in JSON is, and is read again as the same; anything else is
-- an error that names its place.

local check = require "spec.fuzz.lua.check"
local json = require "eventbus.json"
local values = require "spec.fuzz.lua.values"

local whole_numbers = rawget(math, "type") ~= nil
-- Strict about surrogates since 5.4.
local is_utf8 = _VERSION == "Lua 5.4" and require("utf8").len

local function is_sendable_number(v)
  if v ~= v or v == 1 / 0 or v == -1 / 0 then return false end
  return whole_numbers or v % 1 ~= 0 or v <= 2 ^ 53 and v >= -2 ^ 53 or v >= 2 ^ 64 or v <= -2 ^ 64
end

local is_sendable

local function is_sendable_table(value, room, above)
  if above[value] or room == 0 then return false end
  above[value] = true
  local members, names = 0, 0
  for key, member in next, value do
    members = members + 1
    if type(key) == "string" and is_utf8(key) then names = names + 1 end
    if not is_sendable(member, room - 1, above) then return false end
  end
  above[value] = nil
  if names == members and (names == 0 or getmetatable(value) ~= json.array_mt) then return true end
  for i = 1, members do
    if rawget(value, i) == nil then return false end
  end
  return true
end

-- What JSON can say, told by another way than the encoder's.
function is_sendable(value, room, above)
  local kind = type(value)
  if kind == "table" then return is_sendable_table(value, room, above) end
  if kind == "number" then return is_sendable_number(value) end
  if kind == "string" then return is_utf8(value) ~= nil end
  return kind == "boolean" or value == json.null
end

return function(bytes)
  local maker = values.maker(bytes)
  local choice, depth = maker:below(4), maker:byte() * 4
  local options = { sort_keys = choice % 2 == 1, max_depth = choice >= 2 and 1 + depth or nil }
  local value = maker:any()
  local text, err = json.encode(value, options)
  if is_utf8 then
    local wanted = is_sendable(value, options.max_depth or 128, {})
    assert((text ~= nil) == wanted, wanted and "it is refused: " .. tostring(err) or "it is not refused")
  end
  if not text then
    check.error(err, "invalid")
    assert(json.encode(err.path), "its path is not UTF-8")
    return
  end
  check.same(value, check.given(json.decode(text, { max_depth = 1024 })), "what was written")
  assert(json.encode(value, options) == text, "its text is another the next time")
end
