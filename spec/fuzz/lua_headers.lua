--- lua_headers: header tables, between AMQP and Lua. What arrives in a content header comes as a Lua table that can be sent
-- again as the same, unless it has a number that nobody may send; and so it is with a Lua table that is sent.

local check = require "spec.fuzz.lua.check"
local in_place = require "spec.fuzz.in_place"
local values = require "spec.fuzz.lua.values"

local function has_endless(value)
  if type(value) ~= "table" then return value ~= value or value == 1 / 0 or value == -1 / 0 end
  for _, member in next, value do
    if has_endless(member) then return true end
  end
  return false
end

local function sent(headers)
  local read, err = in_place.headers_sent(headers)
  if read then check.same(headers, read, "what was sent") else check.error(err, "invalid") end
  local arguments, why = in_place.arguments_sent(headers)
  -- In arguments a whole float is an integer.
  if not read then
    check.error(why, "invalid")
  else
    assert(arguments, why)
    check.same(arguments, in_place.arguments_sent(arguments), "what was an argument")
  end
  return read, err
end

return function(bytes)
  local headers = in_place.headers()
  if headers and not sent(headers) then assert(has_endless(headers), "what arrived cannot be sent") end
  local maker = values.maker(bytes)
  local made = maker:table(maker:below(4) == 0 and maker.mixed or maker.object)
  sent(made)
end
