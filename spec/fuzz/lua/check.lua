--- What the fuzzing targets in Lua ask of an answer. Each check raises what is not so.

local Error = require "eventbus.error"
local json = require "eventbus.json"

local check = {}

-- "integer" and "float", where this Lua knows them apart.
local kind = rawget(math, "type") or function() return nil end

--- What people are shown: something, and nothing that a terminal would obey.
function check.text(text, what)
  assert(type(text) == "string" and #text > 0, what .. " is no text")
  assert(not text:find "[%z\1-\31\127]", what .. " has control characters")
  -- Messages travel, in headers and in JSON.
  assert(json.encode(text), what .. " is not UTF-8")
end

--- An error of the library, with one of these codes.
function check.error(err, ...)
  assert(Error.is(err), "not an error: " .. tostring(err))
  check.text(err.message, "its message")
  check.text(tostring(err), "its text")
  for _, code in ipairs { ... } do
    if err.code == code then return end
  end
  error(("not the code of that: %s: %s"):format(tostring(err.code), err.message))
end

--- The value of what cannot fail here. false is one.
function check.given(value, err)
  if value == nil then error(err, 0) end
  return value
end

local function same(a, b)
  if type(a) == "table" and type(b) == "table" then
    for key, value in next, a do
      if not same(value, rawget(b, key)) then return false end
    end
    for key in next, b do
      if rawget(a, key) == nil then return false end
    end
    return true
  end
  if a ~= a then return b ~= b end
  if type(a) == "number" and kind(a) then
    return kind(a) == kind(b) and a == b and (a ~= 0 or 1 / a == 1 / b)
  end
  return a == b
end

--- One value and another: the same members, integers and floats apart, -0.0 and 0.0 too.
function check.same(a, b, what)
  if not same(a, b) then error(what .. " is another") end
end

--- Of a Lua without integers: whole numbers that it cannot hold exactly are read, and refused when they are written.
function check.is_inexact(err)
  return not kind(0) and err.code == "invalid" and err.message:find("2^53", 1, true) ~= nil
end

return check
