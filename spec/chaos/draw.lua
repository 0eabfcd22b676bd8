--- draw: numbers drawn from a seed, the same on every Lua.

local draw = {}

local Draw = {}
Draw.__index = Draw

function draw.new(seed)
  local self = setmetatable({ state = seed % 2147483646 + 1 }, Draw)
  for _ = 1, 10 do self:number() end
  return self
end

--- 0 to 1, without 1.
function Draw:number()
  self.state = self.state * 16807 % 2147483647
  return (self.state - 1) / 2147483646
end

function Draw:integer(low, high) return low + math.floor(self:number() * (high - low + 1)) end
function Draw:between(low, high) return low + self:number() * (high - low) end
function Draw:one_of(list) return list[self:integer(1, #list)] end

--- One of a list of things with a `weight`.
function Draw:weighted(list)
  local sum = 0
  for _, each in ipairs(list) do sum = sum + each.weight end
  local left = self:number() * sum
  for _, each in ipairs(list) do
    left = left - each.weight
    if left < 0 then return each end
  end
  return list[#list]
end

--- The same things in a drawn order.
function Draw:shuffled(list)
  local result = {}
  for i = 1, #list do result[i] = list[i] end
  for i = #result, 2, -1 do
    local j = self:integer(1, i)
    result[i], result[j] = result[j], result[i]
  end
  return result
end

return draw
