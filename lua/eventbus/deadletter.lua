--- The annotation of a message that is handed on: to a delay queue, or to the dead letters.
--
-- What arrived keeps its body, properties and headers. Taken out is only what would change where the copy goes or how
-- long it lives: the broker's x-death headers (it ignores a client's), CC and BCC, expiration, and user_id, which the
-- broker refuses from another user. Every text of ours has a limit, so that the header fits a frame. Pure.

local failure = require "eventbus.failure"

local deadletter = {}

local ATTEMPT = "x-eventbus-attempt"
local OURS = {
  attempt = ATTEMPT,
  reason = "x-eventbus-reason",
  error = "x-eventbus-error",
  code = "x-eventbus-error-code",
  frames = "x-eventbus-error-at",
  exchange = "x-eventbus-exchange",
  routing_key = "x-eventbus-routing-key",
  queue = "x-eventbus-queue",
  first_failure = "x-eventbus-first-failure",
  last_failure = "x-eventbus-last-failure",
  host = "x-eventbus-host",
  expiration = "x-eventbus-expiration",
  cc = "x-eventbus-cc",
  dropped = "x-eventbus-headers-dropped",
}
deadletter.HEADERS = OURS

-- How often it was replayed. No annotation: it stays with the event when that fails again.
local REPLAYS = "x-eventbus-replays"

local LIMITS = { error = 2048, code = 128, frames = 1024, host = 255 }
local LEAN_LIMITS = { error = 256, code = 64, frames = 0, host = 64 }
-- What stays when a header does not fit: who it is for, and how to follow it.
local ESSENTIAL = { tenant_id = true, traceparent = true }

local OF_BROKER = {
  ["x-death"] = true, ["x-first-death-exchange"] = true, ["x-first-death-queue"] = true,
  ["x-first-death-reason"] = true, ["x-last-death-exchange"] = true, ["x-last-death-queue"] = true,
  ["x-last-death-reason"] = true, ["x-delivery-count"] = true, ["x-acquired-count"] = true, CC = true, BCC = true,
}

-- Anyone can send any header: none of ours is as long as a frame.
local function text_of(header)
  return type(header) == "string" and #header <= 255 and header or nil
end

local function is_essential(name, value)
  return (ESSENTIAL[name] and text_of(value) ~= nil) or (name == REPLAYS and type(value) == "number")
end

local is_ours = {}
for _, name in pairs(OURS) do is_ours[name] = true end

local function count(value)
  return type(value) == "number" and value >= 1 and value % 1 == 0 and value < 2 ^ 31 and math.floor(value) or nil
end

--- Which attempt a delivery is: 1 unless our header says more. Nonsense in it counts as the first.
---@param value any  the header
---@return integer
function deadletter.attempt(value)
  return count(value) or 1
end

--- Why no whole copy of a message can be made: a code and what it says; nil when one can.
---@param delivery any
---@return string|nil code, string|nil message
function deadletter.unfit(delivery)
  if delivery:oversized() then return "too_large", "larger than max_body: its body was not fetched" end
  if delivery:malformed_headers() then return "malformed", "its headers are nested too deeply to be sent again" end
end

--- RFC 3339 in UTC with milliseconds.
---@param wall number  seconds since 1970
---@return string
function deadletter.time(wall)
  local whole = math.floor(wall)
  return ("%s.%03dZ"):format(os.date("!%Y-%m-%dT%H:%M:%S", whole), math.floor((wall - whole) * 1000))
end

--- Where a message first came from: what a copy of ours remembers, or else what the delivery says.
---@param headers table
---@param exchange string
---@param routing_key string
---@return string exchange, string routing_key
function deadletter.origin(headers, exchange, routing_key)
  local key = text_of(headers[OURS.routing_key])
  if key == nil then return exchange, routing_key end
  return text_of(headers[OURS.exchange]) or "", key
end

-- Dead letters that exist otherwise serve as well.
local function our_steps(destination)
  local name, dlq_ttl = "deadletter." .. destination.queue, destination.dlq_ttl
  return {
    { name = "exchange_declare", lenient = true, args = { exchange = "deadletter", type = "direct", durable = true } },
    { name = "queue_declare", lenient = true, args = { queue = name, durable = true,
      arguments = dlq_ttl > 0 and { ["x-message-ttl"] = dlq_ttl } or nil } },
    { name = "queue_bind", lenient = true,
      args = { queue = name, exchange = "deadletter", routing_key = destination.routing_key } },
  }
end

--- Where the dead letters of a queue go: a destination, or false for nowhere; and whether it is ours to declare.
---@param queue string
---@param known table|nil   the queue's normalised topology, if it is known
---@param option { exchange: string|nil, routing_key: string|nil }|false|nil  what the subscription says
---@param config { dead_letter: table|false|nil, dlq_ttl: integer }           the bus's
---@return eventbus.Destination|false, boolean
function deadletter.destination(queue, known, option, config)
  if option == nil and known and known.dead_letter then
    return { exchange = known.dead_letter.exchange, routing_key = known.dead_letter.routing_key, declared = true }, false
  end
  if option == nil then option = config.dead_letter end
  if option == false or (option == nil and known and known.exclusive) then return false, false end
  if option then
    return { exchange = option.exchange or "deadletter", routing_key = option.routing_key or queue .. ".failed",
      declared = true }, false
  end
  return { exchange = "deadletter", routing_key = queue .. ".failed", declared = true, steps = our_steps, queue = queue,
    dlq_ttl = config.dlq_ttl }, true
end

---@class eventbus.Annotation
---@field attempt integer     of the copy
---@field queue string
---@field exchange string     the original one
---@field routing_key string
---@field now string          RFC 3339
---@field host string
---@field reason string|nil   "rejected", "failed", "malformed", "unhandled"; nil in a retry
---@field error string|nil
---@field code string|nil
---@field frames string|nil
---@field headers_lost boolean|nil  the original's are nested too deeply to be read

--- Properties of the copy: those of the original, headers included.
---@param properties table  as a delivery gives them
---@param headers table
---@param note eventbus.Annotation
---@param lean? boolean     the full one did not fit: drop foreign headers, cut harder
---@return table properties
function deadletter.annotate(properties, headers, note, lean)
  local limits = lean and LEAN_LIMITS or LIMITS
  -- A copy that was made of a copy lacks what that lacked.
  local out, dropped = {}, count(headers[OURS.dropped]) or 0
  for name, value in pairs(headers) do
    if is_ours[name] or (lean and not is_essential(name, value)) then
      if not is_ours[name] then dropped = dropped + 1 end
    elseif not OF_BROKER[name] then
      out[name] = value
    end
  end
  out[OURS.attempt] = note.attempt > 1 and note.attempt or nil
  out[OURS.reason] = note.reason
  out[OURS.error] = note.error and failure.cut(note.error, limits.error)
  out[OURS.code] = note.code and failure.cut(note.code, limits.code)
  out[OURS.frames] = note.frames and limits.frames > 0 and failure.cut(note.frames, limits.frames) or nil
  out[OURS.exchange] = note.exchange
  out[OURS.routing_key] = note.routing_key
  out[OURS.queue] = note.queue
  out[OURS.host] = failure.cut(note.host, limits.host)
  out[OURS.first_failure] = text_of(headers[OURS.first_failure]) or note.now
  out[OURS.last_failure] = note.now
  if not lean then out[OURS.cc] = headers.CC or headers[OURS.cc] end
  out[OURS.expiration] = properties.expiration or text_of(headers[OURS.expiration])
  if note.headers_lost then
    out[OURS.dropped] = "all"
  elseif dropped > 0 then
    out[OURS.dropped] = dropped
  end

  local copy = {}
  for key, value in pairs(properties) do copy[key] = value end
  copy.expiration, copy.user_id = nil, nil
  copy.headers = out
  copy.mandatory = true
  copy.persistent = true
  return copy
end

--- The headers as they were before any annotation: what a replay sends.
---@param headers table
---@return table
function deadletter.strip(headers)
  local out = {}
  for name, value in pairs(headers) do
    if not is_ours[name] and not OF_BROKER[name] then out[name] = value end
  end
  return out
end

--- How often a dead letter was replayed before. Nonsense in the header counts as never.
---@param headers table
---@return integer
function deadletter.replays(headers)
  return count(headers[REPLAYS]) or 0
end

--- Properties of a replay: those of the event before it failed, headers included, and one replay more. It is mandatory:
-- where no queue takes it, it comes back instead of being gone.
---@param properties table  as a delivery gives them; changed
---@param headers table
---@return table properties
function deadletter.replayed(properties, headers)
  properties.headers = deadletter.strip(headers)
  properties.headers[REPLAYS] = deadletter.replays(headers) + 1
  properties.mandatory, properties.user_id, properties.expiration = true, nil, nil
  return properties
end

return deadletter
