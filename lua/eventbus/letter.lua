--- A dead letter, read: why it is there, where it came from, how old it is.
--
-- Whoever dead-lettered it: this library (x-eventbus-*), the broker itself (x-death), or somebody else, of whom no more is
-- known than the message shows. Ours count first: they know the reason, the broker only that something was rejected.
-- Nothing here changes or settles anything. https://www.rabbitmq.com/docs/dlx#effects

local core = require "eventbus.core"
local deadletter = require "eventbus.deadletter"

local letter = {}

local OURS = deadletter.HEADERS

---@class eventbus.Letter
---@field id string|nil
---@field type string|nil
---@field tenant string|nil
---@field event table|nil         nil when it is malformed: then `problem` says why
---@field problem eventbus.Error|nil
---@field data any                the event's payload
---@field metadata any
---@field correlation string|nil
---@field source string|nil
---@field headers table
---@field properties table
---@field body string
---@field size integer            bytes of the body
---@field reason string           "failed", "rejected", "malformed", "unhandled"; of the broker "rejected", "expired",
---                               "maxlen", "delivery_limit"; "unknown"
---@field error string|nil
---@field code string|nil         of that error
---@field attempts integer
---@field replays integer         how often it was replayed before
---@field queue string|nil        whose handler failed, or whose message the broker dead-lettered
---@field exchange string|nil     where it was first published; nil when that is not known
---@field routing_key string|nil
---@field host string|nil
---@field first_failure string|nil RFC 3339
---@field last_failure string|nil
---@field age number|nil          seconds since then
---@field redelivered boolean
---@field history table[]         the broker's x-death: { queue, reason, count, exchange, routing_keys, time }
local Letter = {}

-- Days since 1970 of a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

--- Seconds since 1970 of an RFC 3339 time, or nil.
---@param text any
---@return number|nil
function letter.seconds(text)
  if type(text) ~= "string" then return nil end
  local y, mo, d, h, mi, s, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d%.?%d*)(.*)$")
  if not y then return nil end
  local offset = 0
  if rest ~= "Z" and rest ~= "z" then
    local sign, oh, om = rest:match("^([+-])(%d%d):(%d%d)$")
    if not sign then return nil end
    offset = (oh * 3600 + om * 60) * (sign == "-" and -1 or 1)
  end
  return days(tonumber(y), tonumber(mo), tonumber(d)) * 86400 + h * 3600 + mi * 60 + tonumber(s) - offset
end

local function text(value)
  if type(value) == "string" and value ~= "" then return value end
end

local function whole(value)
  return type(value) == "number" and value >= 0 and value % 1 == 0 and value < 2 ^ 53 and math.floor(value) or nil
end

-- x-death as anyone may have sent it: only what has the right shape.
local function history_of(headers)
  local list = {}
  local deaths = headers["x-death"]
  if type(deaths) ~= "table" then return list end
  for i = 1, math.min(#deaths, 64) do
    local death = deaths[i]
    if type(death) == "table" then
      local keys = {}
      for _, key in ipairs(type(death["routing-keys"]) == "table" and death["routing-keys"] or {}) do
        if type(key) == "string" then keys[#keys + 1] = key end
      end
      local time = whole(death.time)
      list[#list + 1] = {
        queue = text(death.queue), reason = text(death.reason), count = whole(death.count), routing_keys = keys,
        exchange = type(death.exchange) == "string" and death.exchange or nil,
        time = time and deadletter.time(time), seconds = time,
      }
    end
  end
  return list
end

-- The queue whose message it was before the broker dead-lettered it the first time. Newest first, so the last of the list,
-- unless the broker says which.
local function first_death(self)
  local list = self.history
  local queue, reason = self.headers["x-first-death-queue"], self.headers["x-first-death-reason"]
  for i = #list, 1, -1 do
    if list[i].queue == queue and list[i].reason == reason then return list[i] end
  end
  return list[#list]
end

local function header(name)
  return function(self) return text(self.headers[name]) end
end

-- Each field is made when it is first asked for: a predicate over one header does not decode the event.
local FIELDS = {
  headers = function(self) return self._delivery:headers() end,
  properties = function(self) return self._delivery:properties() end,
  body = function(self) return self._delivery:body() end,
  size = function(self) return self._delivery:size() end,
  redelivered = function(self) return self._delivery:redelivered() end,
  event = function(self)
    local event, problem = self._delivery:event(self._codec)
    if not event then rawset(self, "problem", problem) end
    return event
  end,
  problem = function(self) return self.event == nil and rawget(self, "problem") or nil end,
  data = function(self) return self.event and self.event.data end,
  metadata = function(self) return self.event and self.event.metadata end,
  id = function(self) return self.event and self.event.id or self._delivery:message_id() end,
  type = function(self) return self.event and self.event.type or self._delivery:type() end,
  source = function(self) return self.event and self.event.source or self.properties.app_id end,
  correlation = function(self) return self.event and self.event.correlation_id or self.properties.correlation_id end,
  tenant = function(self) return self.event and self.event.tenant_id or text(self.headers.tenant_id) end,
  error = header(OURS.error),
  code = header(OURS.code),
  host = header(OURS.host),
  history = function(self) return history_of(self.headers) end,
  replays = function(self) return deadletter.replays(self.headers) end,
  reason = function(self)
    local newest = self.history[1]
    return text(self.headers[OURS.reason]) or (newest and newest.reason) or "unknown"
  end,
  attempts = function(self)
    local death = first_death(self)
    return self.headers[OURS.attempt] ~= nil and deadletter.attempt(self.headers[OURS.attempt])
      or death and death.count or 1
  end,
  queue = function(self)
    local death = first_death(self)
    return text(self.headers[OURS.queue]) or (death and death.queue)
  end,
  exchange = function(self) return (letter.origin(self)) end,
  routing_key = function(self) return (select(2, letter.origin(self))) end,
  first_failure = function(self)
    local death = self.history[#self.history]
    return text(self.headers[OURS.first_failure]) or (death and death.time)
  end,
  last_failure = function(self)
    local death = self.history[1]
    return text(self.headers[OURS.last_failure]) or (death and death.time)
  end,
  -- Nobody says when a foreign one failed; when it was published is the best that is known.
  age = function(self)
    local at = letter.seconds(self.last_failure) or whole(self.properties.timestamp)
      or letter.seconds(self.event and self.event.timestamp)
    return at and math.max(core.wall() - at, 0)
  end,
}

-- What a field is, for those who list them.
letter.NAMES = {}
for name in pairs(FIELDS) do letter.NAMES[#letter.NAMES + 1] = name end
table.sort(letter.NAMES)

function Letter.__index(self, name)
  local make = FIELDS[name]
  if not make then return nil end
  local value = make(self)
  rawset(self, name, value)
  return value
end

--- The letter in a delivery. What is read from it must be read before the delivery is settled.
---@param delivery any
---@param codec? eventbus.Codec
---@return eventbus.Letter
function letter.read(delivery, codec)
  return setmetatable({ _delivery = delivery, _codec = codec }, Letter)
end

--- Where it was first published; nil, nil when nobody wrote that down.
---@param self eventbus.Letter
---@return string|nil exchange, string|nil routing_key
function letter.origin(self)
  local exchange, key = deadletter.origin(self.headers, nil, nil)
  if key ~= nil then return exchange, key end
  local death = first_death(self)
  if death and death.exchange and death.routing_keys[1] then return death.exchange, death.routing_keys[1] end
  return nil, nil
end

return letter
