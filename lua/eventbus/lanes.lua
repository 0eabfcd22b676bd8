--- Lanes: which of a subscription's deliveries may begin. Those with the same key begin one after the other, in the order
-- they came; those without a key, and those of different keys, do not wait for each other. Pure.
-- It holds no more than the subscription's prefetch, for the broker delivers no more.

local lanes = {}

---@class eventbus.Lanes
---@field count integer  deliveries that have not begun
local Lanes = {}
Lanes.__index = Lanes

---@return eventbus.Lanes
function lanes.new()
  return setmetatable({ first = 1, last = 0, ready = {}, busy = {}, count = 0 }, Lanes)
end

local function push(self, entry)
  self.last = self.last + 1
  self.ready[self.last] = entry
end

--- Adds a delivery, with its event when that is known. A nil key: no order.
function Lanes:add(delivery, event, key)
  self.count = self.count + 1
  local entry = { delivery = delivery, event = event, key = key }
  if key == nil then return push(self, entry) end
  local lane = self.busy[key]
  if lane then
    lane.last = lane.last + 1
    lane[lane.last] = entry
  else
    self.busy[key] = { first = 1, last = 0 }
    push(self, entry)
  end
end

--- Whether one may begin now.
---@return boolean
function Lanes:may_begin()
  return self.first <= self.last
end

--- The next that may begin: { delivery, event, key }, or nil. When it has ended, say `done`.
function Lanes:take()
  local first = self.first
  if first > self.last then return nil end
  local entry = self.ready[first]
  self.ready[first] = nil
  if first == self.last then self.first, self.last = 1, 0 else self.first = first + 1 end
  self.count = self.count - 1
  return entry
end

--- What was taken has ended: the next of its key may begin.
function Lanes:done(entry)
  local lane = entry.key ~= nil and self.busy[entry.key]
  if not lane then return end
  local following = lane[lane.first]
  if following then
    lane[lane.first], lane.first = nil, lane.first + 1
    push(self, following)
  else
    self.busy[entry.key] = nil
  end
end

--- Forgets all that have not begun, and returns them in no particular order. The keys of those that run stay taken.
function Lanes:clear()
  local list, free = {}, {}
  for i = self.first, self.last do
    local entry = self.ready[i]
    list[#list + 1] = entry.delivery
    -- The head of its lane has not begun: nothing runs there.
    if entry.key ~= nil then free[#free + 1] = entry.key end
  end
  for _, lane in pairs(self.busy) do
    for i = lane.first, lane.last do list[#list + 1] = lane[i].delivery end
  end
  local busy = {}
  for key in pairs(self.busy) do busy[key] = { first = 1, last = 0 } end
  for _, key in ipairs(free) do busy[key] = nil end
  self.first, self.last, self.ready, self.busy, self.count = 1, 0, {}, busy, 0
  return list
end

return lanes
