--- A pace: so many a second, evenly, without catching up in a burst after a pause.

local pace = {}

local EXPECTED = 'a rate: a number a second, or text like "5/s", "100/m", "0.5/s"'
local PER = { s = 1, m = 60, h = 3600 }
-- What a slow turn or a coarse clock may cost is made up for, up to this long.
local SLACK = 0.1

---@class eventbus.Pace
---@field rate number  a second
local Pace = {}
Pace.__index = Pace

--- So many a second, or nil and what was expected.
---@param value number|string
---@return number|nil rate, string|nil expected
function pace.rate(value)
  if type(value) == "string" then
    local number, unit = value:match("^%s*(%d*%.?%d+)%s*/?%s*(%a*)%s*$")
    local seconds = PER[unit == "" and "s" or unit]
    value = number and seconds and tonumber(number) / seconds
  end
  if type(value) ~= "number" or not (value > 0 and value < 1e9) then return nil, EXPECTED end
  return value
end

--- A pace of `rate` a second; nil sets no bounds.
---@param rate number|nil
---@return eventbus.Pace
function pace.new(rate)
  return setmetatable({ rate = rate, at = 0 }, Pace)
end

--- When the next may go, on the clock of `now`.
---@param now number
---@return number
function Pace:next(now)
  if not self.rate then return now end
  if self.at < now - SLACK then self.at = now - SLACK end
  return self.at
end

--- One goes.
function Pace:step()
  if self.rate then self.at = self.at + 1 / self.rate end
end

return pace
