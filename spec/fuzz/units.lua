--- units: any text as a duration and as a size: a finite number, or what was expected.

local check = require "spec.fuzz.lua.check"
local units = require "eventbus.units"

local is_there, in_place = pcall(require, "spec.fuzz.in_place")

return function(text)
  if is_there then in_place.cover() end
  for _, name in ipairs { "duration", "size" } do
    local value, expected = units[name](text)
    if value == nil then
      check.text(expected, "what was expected")
    else
      assert(value == value and value >= 0 and value < math.huge, name .. " is no amount")
    end
  end
  debug.sethook()
end
