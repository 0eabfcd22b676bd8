--- Durations and sizes as people write them: 5, "5s", "500ms", "1m30s" in seconds; 1024, "64KiB", "16MB" in bytes.
-- Pure. What cannot be understood answers nil and what was expected, never a guess.

local units = {}

local SECONDS = { ns = 1e-9, us = 1e-6, ["µs"] = 1e-6, ms = 1e-3, s = 1, m = 60, h = 3600, d = 86400 }
local BYTES = { [""] = 1, b = 1, kb = 1e3, mb = 1e6, gb = 1e9, kib = 1024, mib = 1024 ^ 2, gib = 1024 ^ 3 }

local DURATION = 'a duration: seconds as a number, or text like "5s", "500ms", "1m30s", "2h"'
local SIZE = 'a size: bytes as a number, or text like "64KiB", "16MB"'

-- From here on amounts are floats: the integers of Lua 5.3 and later would wrap around at 2^63.
local LARGE = 2 ^ 53

local function is_amount(n)
  return n ~= nil and n == n and n >= 0 and n < math.huge
end

--- Seconds, or nil and what was expected. Text without a unit is seconds.
---@param value number|string
---@return number|nil seconds, string|nil expected
function units.duration(value)
  if type(value) == "number" then
    if is_amount(value) then return value end
    return nil, DURATION
  end
  if type(value) ~= "string" then return nil, DURATION end
  local text = value:match("^%s*(.-)%s*$")
  if text:match("^%d+%.?%d*$") then text = text .. "s" end
  local total, at = 0, 1
  while at <= #text do
    local number, unit, after = text:match("^(%d+%.?%d*)([^%d.]+)()", at)
    local factor = unit and SECONDS[unit]
    if not factor then return nil, DURATION end
    -- Divided where the unit is a whole part of a second: "500ms" is 0.5, not 0.50000000000000001.
    local n = tonumber(number)
    if n >= LARGE / factor or total >= LARGE then n = n + 0.0 end
    total = total + (factor < 1 and n / math.floor(1 / factor + 0.5) or n * factor)
    at = after
  end
  if text == "" or not is_amount(total) then return nil, DURATION end
  return total
end

--- Whole milliseconds of a number of seconds, rounded up: a wait is never shorter than asked. A float where no integer
-- holds them.
---@param seconds number
---@return integer
function units.milliseconds(seconds)
  return math.ceil(seconds * 1000.0 - 1e-6)
end

--- Bytes, or nil and what was expected.
---@param value number|string
---@return integer|nil bytes, string|nil expected
function units.size(value)
  local number, unit = value, ""
  if type(value) == "string" then
    number, unit = value:match("^%s*(%d+%.?%d*)%s*(%a*)%s*$")
    number = tonumber(number)
  end
  local factor = type(unit) == "string" and BYTES[unit:lower()]
  if type(number) ~= "number" or not factor or not is_amount(number) or number >= LARGE / factor then
    return nil, SIZE
  end
  return math.floor(number * factor)
end

--- Milliseconds as a person reads them: 1500 → "1.5s".
---@param ms number
---@return string
function units.show(ms)
  if ms < 1000 then return ("%dms"):format(ms) end
  local seconds = ms / 1000
  if seconds % 3600 == 0 then return ("%dh"):format(seconds / 3600) end
  if seconds % 60 == 0 then return ("%dm"):format(seconds / 60) end
  return ("%.14gs"):format(seconds)
end

return units
