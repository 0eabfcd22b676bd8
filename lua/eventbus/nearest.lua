--- The nearest name: what "did you mean" suggests for a misspelt key, option or event.
-- Pure; the answer depends on the names alone, never on the order of a table.

local nearest = {}

--- Edits (insert, delete, replace, swap neighbours) that turn one text into the other.
---@param a string
---@param b string
---@return integer
function nearest.distance(a, b)
  local before, previous = nil, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local current = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + cost)
      if before and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      current[j] = best
    end
    before, previous = previous, current
  end
  return previous[#b]
end

--- The candidate that needs the fewest edits, or nil when none is near enough to be what was meant.
---@param name string
---@param candidates string[]
---@param limit? integer  edits allowed; default: a third of the name, at least 2
---@return string|nil
function nearest.find(name, candidates, limit)
  limit = limit or math.max(2, math.floor(#name / 3))
  local best, fewest
  for _, candidate in ipairs(candidates) do
    local edits = nearest.distance(name:lower(), candidate:lower())
    if edits <= limit and (not fewest or edits < fewest or (edits == fewest and candidate < best)) then
      best, fewest = candidate, edits
    end
  end
  return best
end

--- `; did you mean "x"?`, or the empty text: ready to append to a message.
---@param name any
---@param candidates string[]
---@return string
function nearest.hint(name, candidates)
  local found = nearest.find(tostring(name), candidates)
  return found and ('; did you mean "%s"?'):format(found) or ""
end

return nearest
