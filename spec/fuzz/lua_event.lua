--- lua_event: any Lua values as an event, by envelope.encode. Its bytes are an event with the same fields; or the error says
-- which field cannot be sent.

local check = require "spec.fuzz.lua.check"
local envelope = require "eventbus.envelope"
local events = require "spec.fuzz.lua.events"
local json = require "eventbus.json"
local values = require "spec.fuzz.lua.values"

local FIELDS = { "id", "type", "source", "timestamp", "tenant_id", "correlation_id", "data", "metadata" }
local MADE = { id = true, timestamp = true }
local GOOD = { type = "order.created", timestamp = "2024-01-15T10:30:00Z" }

local function event_of(maker)
  local event = {}
  for _, field in ipairs(FIELDS) do
    local choice = maker:below(8)
    if choice == 0 then
      event[field] = GOOD[field]
    elseif choice < 4 then
      event[field] = maker:text()
    elseif choice == 4 then
      event[field] = ("x"):rep(maker:byte() + maker:byte())
    elseif choice < 7 or field == "data" then
      event[field] = maker:any()
    end
  end
  for _ = 1, maker:below(4) do event[maker:text()] = maker:any() end
  if maker:below(16) == 1 then event[maker:byte()] = maker:any() end
  return event
end

return function(bytes)
  local event = event_of(values.maker(bytes))
  local body, err = envelope.encode(event)
  if not body then return check.error(err, "invalid", "too_large") end
  local read = check.given(envelope.decode(body))
  for field, value in pairs(event) do
    if value == "" and MADE[field] then
      assert(#read[field] > 0)
    elseif field == "metadata" and value == json.null then
      assert(read.metadata == nil)
    else
      check.same(value, read[field], field)
    end
  end
  for field in pairs(read) do
    assert(event[field] ~= nil or MADE[field] or field == "data", "a field from nowhere")
  end
  assert(events.again(read), "what was sent once is not sent again")
end
