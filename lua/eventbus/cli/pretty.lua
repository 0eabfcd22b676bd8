--- JSON for people: indented, names in order, short lists on one line. The values are those of eventbus.json.

local json = require "eventbus.json"

local pretty = {}

local WIDTH = 100

local function is_array(value)
  return getmetatable(value) == json.array_mt or #value > 0
end

local function keys_of(t, first)
  local rank, keys = {}, {}
  for i, key in ipairs(first or {}) do rank[key] = i end
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local x, y = rank[a] or math.huge, rank[b] or math.huge
    if x ~= y then return x < y end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function write(value, indent, first)
  local flat = assert(json.encode(value, { sort_keys = true }))
  if type(value) ~= "table" or next(value) == nil then return flat end
  local nested = false
  for _, item in pairs(value) do nested = nested or (type(item) == "table" and next(item) ~= nil) end
  if not nested and not first and #indent + #flat <= WIDTH then return flat end
  local inner, lines = indent .. "  ", {}
  if is_array(value) then
    for i, item in ipairs(value) do lines[i] = inner .. write(item, inner) end
    return "[\n" .. table.concat(lines, ",\n") .. "\n" .. indent .. "]"
  end
  for i, key in ipairs(keys_of(value, first)) do
    lines[i] = ("%s%s: %s"):format(inner, json.encode(tostring(key)), write(value[key], inner))
  end
  return "{\n" .. table.concat(lines, ",\n") .. "\n" .. indent .. "}"
end

-- As the envelope has them.
local ENVELOPE = { "id", "type", "source", "timestamp", "tenant_id", "correlation_id", "data", "metadata" }

--- The text of a value, without a newline at the end.
---@param value any
---@param first? string[]  names that come before the others, in this order
---@return string
function pretty.json(value, first) return write(value, "", first) end

--- The text of an envelope, its fields in the standard order.
---@param event table
---@return string
function pretty.envelope(event) return write(event, "", ENVELOPE) end

return pretty
