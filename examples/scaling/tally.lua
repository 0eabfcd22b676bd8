-- tally: what workers have handled, event by event, from the lines they write: "handled TIME QUEUE KEY N".
--
--   local t = tally.new(list)      -- of children
--   t:read()                       -- t.different events so far, t.by[worker] and t.of[queue] of them, repetitions too
--   t:said(worker, line)           -- has it written that line?
--   t:order()                      -- repeated, disordered: N of a key is 1, 2, 3, ...
--
-- Only their own lines tell when an event was handled: a broker's count of a quorum queue is up to 5 s old.

local children = require "demo.children"

local tally = {}
tally.__index = tally

function tally.new(workers)
  local self = setmetatable({ workers = workers, list = {}, seen = {}, different = 0, last = 0 }, tally)
  self.by, self.of, self.words = {}, {}, {}
  for _, worker in ipairs(workers) do self.by[worker], self.words[worker] = 0, {} end
  return self
end

function tally:read()
  for _, worker in ipairs(self.workers) do
    for _, line in ipairs(children.lines(worker)) do
      local at, queue, key, n = line:match "^handled ([%d.]+) (%S+) (%S+) (%d+)$"
      if at then
        local index = #self.list + 1
        self.list[index] = { at = tonumber(at), worker = worker, queue = queue, key = key, n = tonumber(n), index = index }
        self.by[worker], self.of[queue] = self.by[worker] + 1, (self.of[queue] or 0) + 1
        self.last = math.max(self.last, tonumber(at))
        if not self.seen[key .. " " .. n] then self.different = self.different + 1 end
        self.seen[key .. " " .. n] = true
      else
        self.words[worker][line] = true
      end
    end
  end
  return self
end

function tally:said(worker, line)
  return self:read().words[worker][line]
end

-- Each event of a key is the next one. Another worker, which takes over, may begin with some that were handled before.
function tally:order()
  table.sort(self.list, function(a, b) return a.at < b.at or a.at == b.at and a.index < b.index end)
  local last, disordered = {}, 0
  for _, each in ipairs(self.list) do
    local before = last[each.key]
    local due = before and before.n + 1 or 1
    local again = before and before.worker ~= each.worker and each.n < due
    if each.n ~= due and not again then disordered = disordered + 1 end
    last[each.key] = each
  end
  return #self.list - self.different, disordered
end

return tally
