--- Timers: objects to be woken at a time, soonest first. Few of them live at once.
-- The clock is an argument.

local timers = {}

---@class eventbus.Timers
local Timers = {}
Timers.__index = Timers

---@return eventbus.Timers
function timers.new()
  return setmetatable({ list = {} }, Timers)
end

--- `object:due(now)` is called once, at `at` or later.
function Timers:add(at, object)
  local list = self.list
  local i = #list
  while i > 0 and list[i].at > at do
    list[i + 1] = list[i]
    i = i - 1
  end
  list[i + 1] = { at = at, object = object }
end

--- When the next is due, or nil.
---@return number|nil
function Timers:next()
  local first = self.list[1]
  return first and first.at
end

--- Wakes what is due.
function Timers:run(now)
  local list = self.list
  while list[1] and list[1].at <= now do
    table.remove(list, 1).object:due(now)
  end
end

--- Forgets all; returns the objects.
function Timers:clear()
  local objects = {}
  for i, timer in ipairs(self.list) do objects[i] = timer.object end
  self.list = {}
  return objects
end

return timers
