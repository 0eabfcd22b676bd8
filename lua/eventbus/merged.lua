--- merged: two tables as one.

--- The fields of both, the second's over the first's; no copy when there is only one of them.
---@param first table|nil
---@param second table|nil
---@return table|nil
return function(first, second)
  if not first or not second then return second or first end
  local result = {}
  for key, value in next, first do result[key] = value end
  for key, value in next, second do result[key] = value end
  return result
end
