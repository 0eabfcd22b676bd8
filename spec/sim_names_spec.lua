--- The tables of spec/sim/names.c, by which the simulation judges where an event must arrive, against a real broker.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"

local bus
setup(function()
  local url = broker.shared():new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "names-spec", log = false })
end)
teardown(function() bus:close() end)

local file = assert(io.open("spec/sim/names.c"))
local source = file:read("*a")
file:close()

-- The strings in the braces behind a name.
local function strings(name)
  local list, braces = {}, assert(source:match(name .. "[^=;]*= (%b{})"), name)
  for text in braces:gmatch('"([^"]*)"') do list[#list + 1] = text end
  return list
end

-- "color='red' size=2 x-match='any'", a name alone for a field without a value.
local function fields(text)
  local t = {}
  for name, value in text:gmatch("([%w-]+)(%S*)") do
    local word = value:match("^='(.*)'$")
    t[name] = word or (value == "" and eventbus.json.null) or tonumber(value:sub(2))
  end
  return t
end

local function declare(t) eventbus.assert(bus:declare(t, { timeout = 30 })) end

local function publish(exchange, options)
  options.timeout = 30
  eventbus.assert(bus:publish(exchange, "probe", {}, options))
end

local function arrived(queue) return eventbus.assert(bus:purge(queue)) end

-- One queue for each binding: which of them get an event, as a row of ones and zeros.
local function reached(n)
  local row = {}
  for i = 1, n do row[i] = tostring(arrived("b" .. i)) end
  return table.concat(row)
end

describe("names.c", function()
  local keys, patterns, rows = strings "keys", strings "patterns", strings "headers_match"
  local texts = {}
  for text in source:gmatch('{TABLE%([%w_]+%), "([^\n]*)"}') do texts[#texts + 1] = fields(text) end
  local events = #patterns[1]
  local arguments, headers = { {} }, { {} }
  for i, t in ipairs(texts) do table.insert(i < #rows and arguments or headers, t) end

  it("says of each pattern which keys it is for", function()
    local t = { exchanges = { topic = { type = "topic" } }, queues = {} }
    for i, key in ipairs(keys) do t.queues["b" .. i] = { bindings = { { exchange = "topic", routing_key = key } } } end
    declare(t)
    assert.are.equal(#keys, events + #patterns)
    for e = 1, events do
      local want = {}
      for i = 1, #keys do want[i] = i > events and patterns[i - events]:sub(e, e) or i == e and "1" or "0" end
      publish("topic", { routing_key = keys[e] })
      assert.are.equal(table.concat(want), reached(#keys), ("key %q"):format(keys[e]))
    end
  end)

  it("says of a binding's arguments which headers they are for", function()
    local t = { exchanges = { headers = { type = "headers" } }, queues = {} }
    for i, a in ipairs(arguments) do
      t.queues["h" .. i] = { bindings = { { exchange = "headers", routing_key = "k", arguments = a } } }
    end
    declare(t)
    assert.are.equal(#rows, #arguments)
    assert.are.equal(#rows[1], #headers)
    for e, h in ipairs(headers) do
      publish("headers", { routing_key = "k", headers = h })
      for i = 1, #arguments do
        assert.are.equal(tonumber(rows[i]:sub(e, e)), arrived("h" .. i), ("arguments %d, headers %d"):format(i, e))
      end
    end
  end)
end)

describe("an alternate exchange", function()
  it("gets what no binding is for, not what a binding leads nowhere; circles end", function()
    declare {
      exchanges = { first = { type = "topic", alternate_exchange = "rest" }, rest = { type = "fanout" },
        empty = { type = "direct" }, circle = { type = "fanout" } },
      queues = { rest = { bindings = { { exchange = "rest", routing_key = "" } } } },
      bindings = { { source = "first", destination = "empty", routing_key = "a.*" },
        { source = "first", destination = "circle", routing_key = "c" },
        { source = "circle", destination = "first", routing_key = "" } },
    }
    for key, count in pairs { b = 1, ["a.b"] = 0, c = 0 } do
      publish("first", { routing_key = key, mandatory = false })
      assert.are.equal(count, arrived("rest"), key)
    end
  end)
end)
