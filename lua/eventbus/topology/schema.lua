--- What a topology table may say, and its meaning in a broker's terms.
-- `schema.read(t, config)` returns the normalised form or raises a Mistake that names the path in the table; it
-- changes nothing in `t` and keeps no reference into it.

local nearest = require "eventbus.nearest"

local schema = {}

local Mistake = { __tostring = function(self) return self.message end }
schema.Mistake = Mistake

local DAY_MS = 86400000

local TOP = { exchanges = "table", queues = "table", bindings = "table", defaults = "table" }
local DEFAULTS = { queue = "table", exchange = "table" }
local EXCHANGE = {
  type = "string", durable = "boolean", auto_delete = "boolean", internal = "boolean", passive = "boolean",
  alternate_exchange = "string", arguments = "table",
}
local QUEUE = {
  type = "string", durable = "boolean", exclusive = "boolean", auto_delete = "boolean", passive = "boolean",
  message_ttl = "count", expires = "count", max_length = "count", max_length_bytes = "count", overflow = "string",
  max_priority = "count", max_age = "string", single_active_consumer = "boolean", delivery_limit = "count or false",
  dead_letter = "table or false", dead_letters = "boolean", bindings = "table", arguments = "table", alerts = "table",
}
-- For those who watch; the broker never hears of them.
local ALERTS = { depth = "count or false", unacked = "count or false", consumers = "count or false",
  rate = "number or false" }
local DEAD_LETTER = { exchange = "string", routing_key = "string", strategy = "string" }
local QUEUE_BINDING = { exchange = "string", routing_key = "string", arguments = "table", intended = "boolean" }
local BINDING = { source = "string", destination = "string", routing_key = "string", arguments = "table",
  intended = "boolean" }

local EXCHANGE_TYPES = { "direct", "fanout", "headers", "topic" }
local QUEUE_TYPES = { "classic", "quorum", "stream" }
local OVERFLOWS = { "drop-head", "reject-publish", "reject-publish-dlx" }
local STRATEGIES = { "at-least-once", "at-most-once" }

-- Queue fields that are one argument each in the broker's language.
local ARGUMENT_OF = {
  message_ttl = "x-message-ttl", expires = "x-expires", max_length = "x-max-length",
  max_length_bytes = "x-max-length-bytes", overflow = "x-overflow", max_priority = "x-max-priority",
  max_age = "x-max-age", single_active_consumer = "x-single-active-consumer", delivery_limit = "x-delivery-limit",
}

local function fail(path, message, ...)
  local text = select("#", ...) > 0 and message:format(...) or message
  local place = path == "topology" and path or "topology: " .. path
  error(setmetatable({ path = path, message = place .. ": " .. text }, Mistake), 0)
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end
schema.sorted_keys = sorted_keys

local function entry(path, key)
  return type(key) == "string" and ("%s[%q]"):format(path, key) or ("%s[%s]"):format(path, tostring(key))
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, item in pairs(value) do result[key] = copy(item) end
  return result
end

-- 86400000.0 must reach the broker as an integer.
local function whole(value)
  if type(value) == "number" and math.tointeger then return math.tointeger(value) or value end
  return value
end

local function is_count(value)
  return type(value) == "number" and value >= 0 and value % 1 == 0 and value < 2 ^ 53
end

local function has_type(value, wanted)
  if wanted == "count" then return is_count(value) end
  if wanted == "count or false" then return value == false or is_count(value) end
  if wanted == "number or false" then
    return value == false or type(value) == "number" and value > 0 and value < math.huge
  end
  if wanted == "table or false" then return value == false or type(value) == "table" end
  return type(value) == wanted
end

local function check_fields(path, t, fields)
  if type(t) ~= "table" then fail(path, "expected a table, got %s", type(t)) end
  for _, key in ipairs(sorted_keys(t)) do
    local wanted = fields[key]
    if not wanted then
      fail(path, "unknown key %q%s", tostring(key), nearest.hint(key, sorted_keys(fields)))
    elseif not has_type(t[key], wanted) then
      local shown = type(t[key]) == "number" and tostring(t[key]) or type(t[key])
      fail(path .. "." .. key, "expected %s, got %s",
        (wanted:gsub("count", "a whole number of 0 or more"):gsub("^number", "a number above 0")), shown)
    end
  end
end

local function check_choice(path, value, choices)
  for _, choice in ipairs(choices) do
    if value == choice then return end
  end
  fail(path, "%q is none of %s%s", value, table.concat(choices, ", "), nearest.hint(value, choices))
end

local function check_short(path, text)
  if #text > 255 then fail(path, "%d bytes; AMQP allows 255", #text) end
end

local function check_name(path, name)
  if type(name) ~= "string" then fail(path, "the name must be a string, got %s", type(name)) end
  if name == "" then fail(path, "the name is empty") end
  check_short(path, name)
end

local function check_arguments(path, arguments)
  for _, key in ipairs(sorted_keys(arguments)) do
    if type(key) ~= "string" then fail(path, "argument names must be strings, got %s", tostring(key)) end
    check_short(entry(path, key), key)
  end
end

local function check_list(path, list)
  for _, key in ipairs(sorted_keys(list)) do
    if type(key) ~= "number" or key % 1 ~= 0 or key < 1 or key > #list then
      fail(path, "expected a list { {...}, {...} }, got the key %s", tostring(key))
    end
  end
end

-- `own` over `default`; tables of arguments and of alerts are joined key by key.
local function merged(default, own)
  local result = copy(default or {})
  for key, value in pairs(own) do
    if (key == "arguments" or key == "alerts") and type(result[key]) == "table" then
      for name, item in pairs(value) do result[key][name] = copy(item) end
    else
      result[key] = copy(value)
    end
  end
  return result
end

local function set_argument(path, arguments, name, value)
  value = whole(value)
  if arguments[name] ~= nil and arguments[name] ~= value then
    fail(path, "arguments[%q] says %s, the queue's own field %s", name, tostring(arguments[name]), tostring(value))
  end
  arguments[name] = value
end

local function read_exchange(path, name, given, default)
  check_name(path, name)
  check_fields(path, given, EXCHANGE)
  local e = merged(default, given)
  if not e.type then fail(path, "type is missing; one of %s", table.concat(EXCHANGE_TYPES, ", ")) end
  if not e.type:find("^x%-") then check_choice(path .. ".type", e.type, EXCHANGE_TYPES) end
  local arguments = e.arguments or {}
  check_arguments(path .. ".arguments", arguments)
  if e.alternate_exchange then set_argument(path, arguments, "alternate-exchange", e.alternate_exchange) end
  return {
    name = name, type = e.type, durable = e.durable ~= false, auto_delete = e.auto_delete or false,
    internal = e.internal or false, passive = e.passive or false, arguments = arguments,
  }
end

local function set_dead_letter(path, d, arguments)
  check_fields(path, d, DEAD_LETTER)
  if not d.exchange then fail(path, 'exchange is missing ("" is the default exchange)') end
  check_short(path .. ".exchange", d.exchange)
  check_short(path .. ".routing_key", d.routing_key or "")
  set_argument(path, arguments, "x-dead-letter-exchange", d.exchange)
  if d.routing_key then set_argument(path, arguments, "x-dead-letter-routing-key", d.routing_key) end
  if d.strategy then
    check_choice(path .. ".strategy", d.strategy, STRATEGIES)
    set_argument(path, arguments, "x-dead-letter-strategy", d.strategy)
  end
end

local function dead_letter_of(arguments)
  local exchange = arguments["x-dead-letter-exchange"]
  if exchange == nil then return nil end
  return {
    exchange = exchange, routing_key = arguments["x-dead-letter-routing-key"],
    strategy = arguments["x-dead-letter-strategy"],
  }
end

-- A quorum queue gives up on a message after its delivery limit (20 unasked, since RabbitMQ 4) and drops it when
-- there is no dead-letter exchange. So both must be said; `false` says "none, on purpose".
local function complete_quorum(path, q, arguments)
  if q.durable == false or q.exclusive or q.auto_delete then
    fail(path, "a quorum queue is durable, not exclusive and not auto_delete")
  end
  if q.max_priority then fail(path .. ".max_priority", "quorum queues have no priorities") end
  if q.delivery_limit == nil and arguments["x-delivery-limit"] == nil then
    fail(path, "a quorum queue needs an explicit delivery_limit (false: the broker's own)")
  end
  if q.dead_letter == nil and arguments["x-dead-letter-exchange"] == nil then
    fail(path, "a quorum queue needs dead_letter: past the limit the broker drops a message that has nowhere to go " ..
      "(dead_letter = false: it may)")
  end
  if arguments["x-dead-letter-exchange"] and arguments["x-dead-letter-strategy"] == nil
    and (arguments["x-overflow"] == nil or arguments["x-overflow"] == "reject-publish") then
    arguments["x-dead-letter-strategy"] = "at-least-once"
    arguments["x-overflow"] = "reject-publish"
  end
end

-- A stream keeps what was read, and gives nobody's events to others: most of what a queue has means nothing to it.
local function check_stream(path, q, arguments)
  if q.durable == false or q.exclusive or q.auto_delete then
    fail(path, "a stream is durable, not exclusive and not auto_delete")
  end
  for _, field in ipairs { "message_ttl", "expires", "max_length", "overflow", "max_priority", "dead_letter",
    "single_active_consumer" } do
    if q[field] then fail(path .. "." .. field, "a stream has none: it is bounded by max_age and max_length_bytes") end
  end
  local age = arguments["x-max-age"]
  if age ~= nil and not tostring(age):match "^[1-9]%d*[YMDhms]$" then
    fail(path .. ".max_age", '%q is not a number and one of Y, M, D, h, m, s, as in "7D"', tostring(age))
  end
end

local function read_queue(path, name, given, default, config)
  check_name(path, name)
  check_fields(path, given, QUEUE)
  local q = merged(default, given)
  local arguments = q.arguments or {}
  check_arguments(path .. ".arguments", arguments)
  local alerts = q.alerts or {}
  check_fields(path .. ".alerts", alerts, ALERTS)
  -- Nobody consumes dead letters, whatever the defaults want of other queues.
  if q.dead_letters and (given.alerts or {}).consumers == nil then alerts.consumers = false end
  if q.message_ttl == nil and q.dead_letters and arguments["x-message-ttl"] == nil and config.dlq_ttl > 0 then
    q.message_ttl = config.dlq_ttl
  end
  for field, argument in pairs(ARGUMENT_OF) do
    if q[field] ~= nil and q[field] ~= false then set_argument(path, arguments, argument, q[field]) end
  end
  if q.overflow then check_choice(path .. ".overflow", q.overflow, OVERFLOWS) end
  local kind = q.type or arguments["x-queue-type"] or "classic"
  if q.type then check_choice(path .. ".type", q.type, QUEUE_TYPES) end
  if kind == "quorum" or kind == "stream" then set_argument(path, arguments, "x-queue-type", kind) end
  if kind ~= "stream" and q.max_age then
    fail(path .. ".max_age", "only streams have one; a %s queue refuses it", kind)
  end
  if kind ~= "quorum" and q.delivery_limit then
    fail(path .. ".delivery_limit", "only quorum queues have one; a %s queue ignores it", kind)
  end
  if q.dead_letter then set_dead_letter(path .. ".dead_letter", q.dead_letter, arguments) end
  if kind == "quorum" then complete_quorum(path, q, arguments) end
  if kind == "stream" then check_stream(path, q, arguments) end
  return {
    name = name, type = kind, durable = q.durable ~= false, exclusive = q.exclusive or false,
    auto_delete = q.auto_delete or false, passive = q.passive or false, arguments = arguments,
    dead_letter = dead_letter_of(arguments), dead_letters = q.dead_letters or false, alerts = alerts,
  }
end

local function read_binding(path, given, fields)
  check_fields(path, given, fields)
  for _, key in ipairs { "exchange", "source", "destination" } do
    if fields[key] then
      if not given[key] then fail(path, "%s is missing", key) end
      if given[key] == "" then
        fail(path .. "." .. key, "the default exchange takes no bindings: it reaches every queue by its name")
      end
      check_short(path .. "." .. key, given[key])
    end
  end
  check_short(path .. ".routing_key", given.routing_key or "")
  check_arguments(path .. ".arguments", given.arguments or {})
end

local function binding(kind, source, destination, given, path)
  return {
    kind = kind, source = source, destination = destination, routing_key = given.routing_key or "",
    arguments = copy(given.arguments or {}), intended = given.intended or false, path = path,
  }
end

local function dlq_ttl(config)
  local ttl = config and config.dlq_ttl
  if ttl == nil then
    local set = os.getenv("RABBITMQ_DLQ_TTL")
    ttl = set and set ~= "" and tonumber(set) or set
    if ttl == nil or ttl == "" then ttl = DAY_MS end
  end
  if not is_count(ttl) then
    fail("RABBITMQ_DLQ_TTL", "expected milliseconds, 0 or more, got %q", tostring(ttl))
  end
  return whole(ttl)
end

--- The normalised form of a topology table; raises a `schema.Mistake` for what is wrong in it.
---@param t table
---@param config? { dlq_ttl: integer }  milliseconds, 0 for ever; default RABBITMQ_DLQ_TTL, else a day
---@return table
function schema.read(t, config)
  check_fields("topology", t, TOP)
  local settings = { dlq_ttl = dlq_ttl(config) }
  local defaults = t.defaults or {}
  check_fields("defaults", defaults, DEFAULTS)
  check_fields("defaults.queue", defaults.queue or {}, QUEUE)
  check_fields("defaults.exchange", defaults.exchange or {}, EXCHANGE)

  local result = { exchanges = {}, queues = {}, bindings = {} }
  for _, name in ipairs(sorted_keys(t.exchanges or {})) do
    result.exchanges[name] = read_exchange(entry("exchanges", name), name, t.exchanges[name], defaults.exchange)
  end
  for _, name in ipairs(sorted_keys(t.queues or {})) do
    local path, given = entry("queues", name), t.queues[name]
    result.queues[name] = read_queue(path, name, given, defaults.queue, settings)
    check_list(path .. ".bindings", given.bindings or {})
    for i, one in ipairs(given.bindings or {}) do
      local at = entry(path .. ".bindings", i)
      read_binding(at, one, QUEUE_BINDING)
      table.insert(result.bindings, binding("queue", one.exchange, name, one, at))
    end
  end
  check_list("bindings", t.bindings or {})
  for i, one in ipairs(t.bindings or {}) do
    local at = entry("bindings", i)
    read_binding(at, one, BINDING)
    table.insert(result.bindings, binding("exchange", one.source, one.destination, one, at))
  end
  return result
end

return schema
