--- An argument of a queue: which queue types have it, which values a broker takes, and whether a second declaration has to
-- repeat it. What is refused here is refused by the broker with a 406. Pure.

local argument = {}

local function integer(low, high)
  return function(value)
    if type(value) ~= "number" or value % 1 ~= 0 or (math.type and math.type(value) == "float") then
      return "a whole number"
    end
    if value < low then return ("%d or more"):format(low) end
    if high and value > high then return ("%d at most"):format(high) end
  end
end

local function text(value)
  if type(value) ~= "string" then return "a text" end
end

local function boolean(value)
  if type(value) ~= "boolean" then return "true or false" end
end

local function choice(...)
  local choices = { ... }
  return function(value)
    for _, each in ipairs(choices) do
      if value == each then return nil end
    end
    return "one of " .. table.concat(choices, ", ")
  end
end

local function anything() end

local C, Q, S = "classic", "quorum", "stream"

local function row(check, ...)
  local types = {}
  for _, kind in ipairs { ... } do types[kind] = true end
  return { check = check, types = types }
end

-- As RabbitMQ 3.10 to 4 agree; what they do not know they neither check nor compare.
local KNOWN = {
  ["x-message-ttl"] = row(integer(0), C, Q),
  ["x-expires"] = row(integer(1), C, Q),
  ["x-max-length"] = row(integer(0), C, Q),
  ["x-max-length-bytes"] = row(integer(0), C, Q, S),
  ["x-overflow"] = row(choice("drop-head", "reject-publish", "reject-publish-dlx"), C, Q),
  ["x-dead-letter-exchange"] = row(text, C, Q),
  ["x-dead-letter-routing-key"] = row(text, C, Q),
  ["x-dead-letter-strategy"] = row(choice("at-most-once", "at-least-once"), Q),
  ["x-single-active-consumer"] = row(boolean, C, Q),
  ["x-delivery-limit"] = row(anything, Q),
  ["x-queue-type"] = row(choice(C, Q, S), C, Q, S),
  ["x-max-priority"] = row(integer(0, 255), C),
  ["x-queue-mode"] = row(choice("default", "lazy"), C),
  ["x-queue-version"] = row(integer(1, 2), C),
  ["x-queue-master-locator"] = row(text, C),
  ["x-queue-leader-locator"] = row(text, Q, S),
  ["x-quorum-initial-group-size"] = row(integer(1), Q),
  ["x-max-in-memory-length"] = row(integer(0), Q),
  ["x-max-in-memory-bytes"] = row(integer(0), Q),
  ["x-max-age"] = row(text, S),
  ["x-initial-cluster-size"] = row(integer(1), S),
  ["x-stream-max-segment-size-bytes"] = row(integer(0), S),
}

--- Why a broker refuses an argument of a queue, or nil.
---@param kind string  the queue's type
---@param name string
---@param value any
---@return string|nil
function argument.problem(kind, name, value)
  local known = KNOWN[name]
  if not known then return nil end
  if next(known.types) ~= nil and not known.types[kind] and (kind == C or kind == Q or kind == S) then
    return ("a %s queue has no %s"):format(kind, name)
  end
  local wanted = known.check(value)
  if wanted then
    return ("%s must be %s, is %s"):format(name, wanted,
      type(value) == "string" and ("the text %q"):format(value) or argument.show(value))
  end
end

--- All reasons for which a broker refuses a queue's declaration, whatever it has already.
---@param queue table  normalised
---@return string[]
function argument.problems(queue)
  local list, names = {}, {}
  for name in pairs(queue.arguments) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do list[#list + 1] = argument.problem(queue.type, name, queue.arguments[name]) end
  if queue.arguments["x-dead-letter-routing-key"] ~= nil and queue.arguments["x-dead-letter-exchange"] == nil then
    list[#list + 1] = "x-dead-letter-routing-key needs x-dead-letter-exchange"
  end
  if queue.type ~= C and (not queue.durable or queue.exclusive or queue.auto_delete) then
    list[#list + 1] = ("a %s queue must be durable, and neither exclusive nor auto_delete"):format(queue.type)
  end
  return list
end

--- Does a broker compare this argument when a queue is declared again?
---@param kind string  type of the queue that is there
---@param name string
---@return boolean
function argument.compared(kind, name)
  local known = KNOWN[name]
  return known ~= nil and (known.types[kind] or false)
end

--- A value as people read it.
---@param value any
---@return string
function argument.show(value)
  if value == nil then return "none" end
  if type(value) == "number" and value % 1 == 0 and math.abs(value) < 2 ^ 53 then return ("%d"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do
    local item = value[key]
    parts[i] = ("%s=%s"):format(tostring(key), type(item) == "string" and ("%q"):format(item) or argument.show(item))
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- Are two values the same to a broker? 5 and 5.0 are, 5 and "5" are not.
---@return boolean
function argument.same(a, b)
  return type(a) == type(b) and argument.show(a) == argument.show(b)
end

return argument
