--- lua_envelope: any body of a message, by envelope.decode. What is taken is an event, and is the same when it was written
-- and read again, by codecs too; or the error says what is wrong. A codec may do what it likes.

local check = require "spec.fuzz.lua.check"
local envelope = require "eventbus.envelope"
local events = require "spec.fuzz.lua.events"
local json = require "eventbus.json"

-- Only a program of libFuzzer has it.
local is_there, in_place = pcall(require, "spec.fuzz.in_place")

local function answering(...)
  local answer, n = { ... }, select("#", ...)
  local function f() return (table.unpack or unpack)(answer, 1, n) end
  return { encode = f, decode = f }
end
local function raising(what)
  local function f() error(what, 0) end
  return { encode = f, decode = f }
end

-- What they make of a payload is no JSON, and not a text.
local BROKEN = { answering(), answering(nil, "because"), answering(nil, "\27\255\0"), answering(nil, {}),
  answering(nil, { message = ("é"):rep(500) }), raising(), raising "x", raising { message = {} }, raising(print) }

local function by_codecs(body, event)
  local other, err = envelope.decode(body, { codec = json })
  if other then
    if other.data == nil then other.data = json.null end
    check.same(event, other, "by a codec it")
  else
    check.error(err, "malformed")
  end
  local bytes = envelope.encode(event)
  local coded
  coded, err = envelope.encode(event, { codec = json })
  if coded then assert(coded == bytes, "by a codec its text is another") else check.error(err, "invalid", "too_large") end
  for _, codec in ipairs(BROKEN) do
    other, err = envelope.decode(body, { codec = codec })
    -- Some codecs have nil for null.
    if not other then check.error(err, "malformed") else assert(event.data == json.null) end
    local made, why = envelope.encode(event, { codec = codec })
    assert(not made)
    check.error(why, "invalid", "too_large")
  end
end

-- What a codec writes is not believed.
local function as_payload(body)
  local event = { id = "x", type = "x", timestamp = "2024-01-15T10:30:00Z" }
  local bytes, err = envelope.encode(event, { codec = answering(body) })
  if not bytes then return check.error(err, "invalid") end
  local data, why = json.decode(body)
  -- Others have greater integers.
  if data == nil then return assert(why.message:find("beyond", 1, true), why.message) end
  check.same(check.given(envelope.decode(bytes)).data, data, "what a codec wrote")
end

return function(body)
  local event, err = envelope.decode(body)
  if is_there then
    local other, why = in_place.event()
    check.same(event, other, "in its place it")
    assert(tostring(err) == tostring(why), "in its place the error is another")
  end
  as_payload(body)
  if not event then return check.error(err, "malformed") end
  for _, field in ipairs { "id", "type", "timestamp" } do assert(type(event[field]) == "string" and event[field] ~= "") end
  if events.again(event) then by_codecs(body, event) end
end
