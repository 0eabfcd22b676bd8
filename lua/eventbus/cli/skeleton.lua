--- A skeleton: the files of a new consumer, a script and its spec, which run as they are. Pure: texts only.

local json = require "eventbus.json"
local platform = require "eventbus.platform"

local skeleton = {}

local SCRIPT = [==[
-- @NAME@: says hello to each @EVENT@. Say here what it is for.
--
--   eventbus run @NAME@.lua --reload
--   eventbus run @NAME@.lua --dry-run     what it would declare and consume

service "@NAME@"
@TOPOLOGY@
queue("@QUEUE@", { prefetch = 10, retry = { count = 3, delay = "5s" } })

-- An event can come twice: whatever this does, it must be fine to do it again. It fails by raising, or by returning
-- nil, err, and is then tried again; what will never work is rejected.
on("@EVENT@", function(event)
  if not event.data.@FIELD@ then reject("@FIELD@ is missing") end
  print("  @EVENT@ " .. tostring(event.data.@FIELD@))
  return true
end)
]==]

local TOPOLOGY = [==[

topology {
  exchanges = { @EXCHANGE@ = { type = "@TYPE@" } },
  queues = { ["@QUEUE@"] = { bindings = { { exchange = "@EXCHANGE@", routing_key = "@KEY@" } } } },
}
]==]

local SPEC = [==[
-- Run it with busted, in the folder of @NAME@.lua.

local json = require "eventbus.json"
local script = require "eventbus.script"

local service = script.load "@NAME@.lua"
local handle = service.handlers["@EVENT@"]

local EVENT = [[@EXAMPLE@]]

describe("@NAME@", function()
  it("handles @EVENT@", function()
    assert.is_true(handle((json.decode(EVENT))))
  end)

  it("rejects one without @FIELD@", function()
    local event = json.decode(EVENT)
    event.data.@FIELD@ = nil
    local ok, outcome = pcall(handle, event)
    assert.is_false(ok)
    assert.are.equal("reject", outcome.kind)
  end)
end)
]==]

local function fill(text, values)
  return (text:gsub("@(%u+)@", function(name) return values[name] end))
end

-- A field that every payload of the event has.
local function required_field(event)
  local names = {}
  for name in pairs(event.example) do
    if name:find("^[%a_][%w_]*$") then names[#names + 1] = name end
  end
  table.sort(names, function(a, b)
    local id_a, id_b = a:find("_id$") ~= nil, b:find("_id$") ~= nil
    if id_a ~= id_b then return id_a end
    return a < b
  end)
  return names[1]
end

--- The texts of a script and of its spec. `queue` nil: a queue of its own, which the script declares.
---@param name string
---@param event_type string
---@param queue string|nil
---@return string|nil script, string spec_or_mistake
function skeleton.texts(name, event_type, queue)
  local event, mistake = platform.event(event_type)
  if not event then return nil, mistake end
  local values = { NAME = name, EVENT = event_type, QUEUE = queue or name, EXCHANGE = event.exchange,
    TYPE = platform.topology.exchanges[event.exchange].type, KEY = event.routing_key, FIELD = required_field(event),
    EXAMPLE = json.encode(platform.example(event_type), { sort_keys = true }), TOPOLOGY = "" }
  if not queue then values.TOPOLOGY = fill(TOPOLOGY, values) end
  return fill(SCRIPT, values), fill(SPEC, values)
end

return skeleton
