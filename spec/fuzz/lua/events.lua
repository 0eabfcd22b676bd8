--- An event, written and read again. Raises what is another then.

local check = require "spec.fuzz.lua.check"
local envelope = require "eventbus.envelope"
local json = require "eventbus.json"

local events = {}

-- Those that are properties of the message too, with AMQP's limit.
local LIMITED = { "type", "id", "source", "tenant_id", "correlation_id" }

local function is_too_long(event, err)
  if err.code ~= "too_large" then return false end
  for _, field in ipairs(LIMITED) do
    if type(event[field]) == "string" and #event[field] > 255 then return true end
  end
  return false
end

--- The bytes of an event that was read; nil when it may not be sent as it is.
function events.again(event)
  -- What is absent is sent as null.
  if event.data == nil then event.data = json.null end
  local bytes, err = envelope.encode(event)
  if not bytes then
    check.error(err, "too_large", "invalid")
    return assert(is_too_long(event, err) or check.is_inexact(err), err.message) and nil
  end
  check.same(event, check.given(envelope.decode(bytes)), "what was written")
  return bytes
end

return events
