--- predicate: any text as a --where. It is refused as a mistake of the command line, or answers for an event: yes, no, or
-- why neither. It always ends, leaves no hook behind, and changes nothing.
--
-- The input is the expression and, behind two zeros, the body of an event.

local check = require "spec.fuzz.lua.check"
local envelope = require "eventbus.envelope"
local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"
local predicate = require "eventbus.cli.predicate"

local is_there, in_place = pcall(require, "spec.fuzz.in_place")
local cover = is_there and in_place.cover or function() end

local NAMES = { "type", "id", "data", "headers", "event", "attempts" }
local EVENT = '{"id":"evt_1","type":"order.created","source":"oms","timestamp":"2024-01-15T10:30:00Z","tenant_id":"a",'
  .. '"correlation_id":"c","data":{"n":1,"text":"x","list":[1,2],"a":{"b":null}},"metadata":{"v":"1"}}'

-- Steps of Lua are counted by the predicate; those inside of one call of C are not (docs/security.md), nor is memory. A
-- fuzzer finds such calls, and could not tell their time from one without end: what can take long does not run here. The
-- predicate's own count is kept, and made small: an end that comes sooner is the same end.
local STEPS, LONGEST, TRIES = 2e4, 1e5, 1e6

local gsub = string.gsub

local function too_much() error("too much for the fuzzer", 0) end

local function rep(text, n, between)
  if (#tostring(text) + #tostring(between or "")) * (tonumber(n) or 0) > LONGEST then too_much() end
end

-- A pattern can take the length of the text to the power of its repetitions.
local function search(text, want, _, plain)
  if type(text) ~= "string" or type(want) ~= "string" or plain == true then return end
  local _, repeats = gsub(want, "[-*+?]", "")
  if (#text) ^ (repeats + 1) > TRIES then too_much() end
end

local function move(_, from, to)
  if (tonumber(to) or 0) - (tonumber(from) or 0) > LONGEST then too_much() end
end

local GUARDS = { { string, "rep", rep }, { string, "find", search }, { string, "match", search },
  { string, "gmatch", search }, { string, "gsub", search }, { table, "move", move } }

local sethook = debug.sethook
local hooked = false

local function sethook_small(f, mask, count)
  hooked = f ~= nil
  if not hooked then
    sethook()
    return cover()
  end
  assert(mask == "" and count >= 1 and count <= 1e7, "a predicate without an end")
  sethook(f, mask, STEPS)
end

-- Calls f with the guards in their places, which are others' too.
local function guarded(f)
  local originals = {}
  debug.sethook = sethook_small  -- luacheck: ignore
  for i, guard in ipairs(GUARDS) do
    local library, name, look = guard[1], guard[2], guard[3]
    local original = library[name]
    originals[i] = original
    library[name] = original and function(...)
      look(...)
      return original(...)
    end
  end
  local ok, why = pcall(f)
  debug.sethook = sethook  -- luacheck: ignore
  for i, guard in ipairs(GUARDS) do guard[1][guard[2]] = originals[i] end
  if not ok then error(why, 0) end
end

local function try(text, known, names)
  local ok, made = pcall(predicate.new, text, "--where", known)
  if not ok then
    assert(exit.is_failure(made), "raised, and no failure of the command: " .. tostring(made))
    assert(made.code == exit.USAGE and #made.message > 0 and #made.hint > 0)
    return
  end
  local answer, why = made:matches(names)
  if answer == nil then assert(type(why) == "string" and #why > 0) else assert(type(answer) == "boolean") end
  assert(not hooked, "a hook was left behind")
  assert(("x"):rep(2) == "xx" and tostring(1) == "1", "it has changed the library")
end

return function(input)
  local at = input:find("\0\0", 1, true)
  local text, body = input, EVENT
  if at then text, body = input:sub(1, at - 1), input:sub(at + 2) end
  local event, err = envelope.decode(body)
  if not event then
    check.error(err, "malformed")
    event = { data = json.null }
  end
  local names = { event = event, headers = { x = "y" }, attempts = 3 }
  for name, value in pairs(event) do names[name] = value end
  cover()
  guarded(function()
    try(text, nil, names)
    try(text, NAMES, names)
  end)
  sethook()
end
