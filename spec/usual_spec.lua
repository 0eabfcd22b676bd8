--- The usual way to publish (lua_sender.c), which most events go, and the long way (sender.lua) of all that has more to it:
-- a user cannot tell which it was.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local core = require "eventbus.core"
local garbage = require "spec.support.garbage"

local unpack = table.unpack or unpack

local url, bus

setup(function()
  url = broker.shared():new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "usual-spec", log = false })
  eventbus.assert(bus:declare { exchanges = { orders = { type = "topic" } },
    queues = { all = { bindings = { { exchange = "orders", routing_key = "#" } } } } })
end)
teardown(function() bus:close() end)
before_each(function() bus:purge "all" end)

-- Goes the long way, whatever is in it: the usual takes plain tables only.
local function long(opts) return setmetatable(opts, {}) end

-- Without a confirm it may not be there yet.
local function arrived()
  local deadline, message = core.now() + 20
  repeat message = bus:get "all" until message or core.now() > deadline
  assert(message, "nothing has arrived")
  local seen = { body = message:body(), key = message:routing_key(), properties = message:properties(),
    headers = message:headers() }
  message:ack()
  return seen
end

-- What comes of the same publish, both ways.
local function both(view, event_type, data, opts)
  local results = {}
  for _, way in ipairs { function(o) return o end, long } do
    for _, name in ipairs { "publish", "publish_async" } do
      local copy = {}
      for key, value in pairs(opts) do copy[key] = value end
      eventbus.assert(view[name](view, "orders", event_type, data, way(copy)))
      eventbus.assert(bus:flush())
      results[#results + 1] = arrived()
    end
  end
  return results
end

local FIXED = { id = "evt_1", timestamp = "2024-01-15T10:30:00Z" }

local function fixed(opts)
  for key, value in pairs(FIXED) do opts[key] = value end
  return opts
end

local VIEWS = {
  ["the bus"] = function() return bus end,
  ["a view with a tenant, a source and a correlation"] = function()
    return bus:with { tenant_id = "t", source = "other", correlation_id = "c" }
  end,
  ["a view with metadata"] = function() return bus:with { metadata = { view = true } } end,
  ["a view without confirms"] = function() return bus:with { confirm = false } end,
  ["a view with headers"] = function() return bus:with { headers = { h = 1 } } end,
}

local OPTIONS = {
  ["nothing else"] = {},
  ["a tenant"] = { tenant_id = "u" },
  ["an empty tenant"] = { tenant_id = "" },
  ["a routing key"] = { routing_key = "a.b" },
  ["an empty routing key"] = { routing_key = "" },
  ["all strings"] = { tenant_id = "u", routing_key = "k", correlation_id = "d", source = "s" },
  ["metadata"] = { metadata = { a = 1 } },
  ["all that goes the usual way"] = { tenant_id = "u", routing_key = "k", correlation_id = "d", source = "s",
    metadata = { a = 1 } },
  ["a property"] = { tenant_id = "u", expiration = 60 },
  ["a priority"] = { tenant_id = "u", priority = 3 },
  ["the least priority"] = { priority = 0 },
  ["the highest priority"] = { priority = 255 },
  ["a transient event"] = { persistent = false },
  ["flags as they are anyway"] = { persistent = true, mandatory = false },
  ["text that JSON escapes"] = { tenant_id = 'a"b\\c\n', source = "Київ" },
}

describe("an event published the usual way", function()
  for view_name, view in pairs(VIEWS) do
    for name, opts in pairs(OPTIONS) do
      it(("is the one of the long way: %s, %s"):format(view_name, name), function()
        local results = both(view(), "order.created", { n = 1, list = { 1, 2.5, "x" }, deep = { a = {} } }, fixed(opts))
        for i = 2, #results do assert.are.same(results[1], results[i]) end
        assert.is_truthy(results[1].body:find('"id":"evt_1"', 1, true))
      end)
    end
  end

  it("comes back when no queue takes it and it is mandatory", function()
    for _, way in ipairs { function(o) return o end, long } do
      local id, err = bus:publish("", "nobody", {}, way { mandatory = true })
      assert.is_nil(id)
      assert.are.equal("returned", err.code)
      local ticket = eventbus.assert(bus:publish_async("", "nobody", {}, way { mandatory = true }))
      assert.are.equal("returned", select(2, ticket:wait()).code)
      assert.is_nil((bus:flush()))
      eventbus.assert(bus:publish("", "nobody", {}, way { mandatory = false }))
    end
  end)

  it("has an id and a time of its own", function()
    local ticket = eventbus.assert(bus:publish_async("orders", "a", {}))
    local id = eventbus.assert(ticket:wait())
    assert.is_truthy(id:match "^evt_%x+%-%x+%-7%x+%-%x+%-%x+$")
    assert.are.equal(id, ticket.id)
    local body = arrived().body
    assert.is_truthy(body:find(id, 1, true))
    assert.is_truthy(body:match '"timestamp":"%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"')
  end)
end)

describe("a mistake, or an error, is told as the long way tells it:", function()
  local function same_error(what, ...)
    for _, name in ipairs { "publish", "publish_async" } do
      local raised = {}
      local n, args = select("#", ...), { ... }
      local function try(view)
        local ok, a, b = pcall(function()
          local id, err = view[name](view, unpack(args, 1, n))
          return id, err
        end)
        raised[#raised + 1] = ok and (tostring(a) .. " " .. tostring(b)) or tostring(a)
      end
      try(bus)
      -- A view that never goes the usual way.
      local other = bus:with { headers = { x = 1 } }
      assert.is_falsy(other._usual_send)
      try(other)
      assert.are.equal(raised[2], raised[1], name)
      assert.is_truthy(raised[1]:find(what, 1, true), raised[1])
    end
  end

  it("an exchange that is a number", function() same_error("usual_spec.lua", 1, "x", {}) end)
  it("no type", function() same_error("usual_spec.lua", "orders") end)
  it("an empty type", function() same_error("type: missing", "orders", "", {}) end)
  it("a type that is no UTF-8", function() same_error("type: invalid UTF-8", "orders", "\255", {}) end)
  it("options that are no table", function() same_error("usual_spec.lua", "orders", "x", {}, 5) end)
  it("an unknown option", function() same_error("tenant", "orders", "x", {}, { tenant = "t" }) end)
  it("a name that is a number", function() same_error("usual_spec.lua", "orders", "x", {}, { "t" }) end)
  it("a tenant that is a number", function() same_error("tenant_id", "orders", "x", {}, { tenant_id = 1 }) end)
  it("a priority that is too high", function() same_error("priority", "orders", "x", {}, { priority = 256 }) end)
  it("a priority that is none", function() same_error("priority", "orders", "x", {}, { priority = 1.5 }) end)
  it("neither confirm nor silence", function()
    same_error("only a confirm tells", "orders", "x", {}, { confirm = false, mandatory = true })
  end)
  it("a flag that is text", function() same_error("persistent", "orders", "x", {}, { persistent = "yes" }) end)
  it("metadata that is a list", function() same_error("metadata", "orders", "x", {}, { metadata = { 1 } }) end)
  it("a value that JSON has not", function() same_error("data.f: a function", "orders", "x", { f = print }) end)
  it("a cycle", function()
    local cycle = {}
    cycle.a = cycle
    same_error("cycle", "orders", "x", cycle)
  end)
  it("a timestamp that is none", function() same_error("RFC 3339", "orders", "x", {}, { timestamp = "now" }) end)
  it("an id of 300 bytes", function() same_error("255", "orders", "x", {}, { id = ("i"):rep(300) }) end)
  it("a routing key of 300 bytes", function() same_error("255", "orders", "x", {}, { routing_key = ("k"):rep(300) }) end)
end)

describe("an event that takes more room than there is", function()
  it("is refused over max_body, and the next goes out", function()
    local small = eventbus.assert(eventbus.connect { url = url, log = false, max_body = 1000 })
    local ticket, err = small:publish_async("orders", "x", { text = ("x"):rep(2000) })
    assert.is_nil(ticket)
    assert.are.equal("too_large", err.code)
    assert.is_truthy(eventbus.assert(small:publish_async("orders", "x", {})):wait())
    assert.is_true(small:close())
  end)

  it("waits for room in a full outbox, again and again", function()
    local small = eventbus.assert(eventbus.connect { url = url, log = false, outbox = 3 })
    for i = 1, 500 do eventbus.assert(small:publish_async("orders", "x", { i = i })) end
    eventbus.assert(small:flush(20))
    assert.are.equal(500, bus:queue_info("all").messages)
    assert.is_true(small:close())
  end)
end)

describe("a ticket", function()
  it("of an event without a confirm says 'sent', and of one with it 'confirmed'", function()
    local view = bus:with { confirm = false }
    for _, each in ipairs { { bus, nil, "confirmed" }, { bus, false, "sent" }, { bus, true, "confirmed" },
      { view, nil, "sent" }, { view, true, "confirmed" } } do
      for _, way in ipairs { function(o) return o end, long } do
        local ticket = eventbus.assert(each[1]:publish_async("orders", "x", {}, way { confirm = each[2] }))
        eventbus.assert(ticket:wait())
        assert.are.equal(each[3], (ticket:state()))
      end
    end
  end)

  it("is text that names its event", function()
    local ticket = eventbus.assert(bus:publish_async("orders", "x", {}, { id = "evt_9" }))
    assert.are.equal("eventbus ticket (evt_9)", tostring(ticket))
    assert.is_nil(ticket.other)
    assert.is_false((pcall(ticket.wait, {})))
  end)

  it("says the same whenever it is asked", function()
    local returned = eventbus.assert(bus:publish_async("", "nobody", {}, { mandatory = true }))
    for _ = 1, 3 do
      assert.are.equal("returned", select(2, returned:wait()).code)
      assert.are.equal("returned", (returned:state()))
    end
    assert.is_nil((bus:flush()))
    local fine = eventbus.assert(bus:publish_async("orders", "x", {}))
    for _ = 1, 3 do assert.are.equal(fine.id, fine:wait()) end
  end)

  it("tells of a failure though a finalizer, or a hook, looks at it in the midst of a look", function()
    local ticket, inner = eventbus.assert(bus:publish_async("no-such", "x", {})), nil
    local tickets = core.tickets
    local open = tickets.open
    -- Where Lua may collect, the first look has begun and nothing is kept yet.
    function tickets.open(...)
      local hub, op, id, unconfirmed = open(...)
      tickets.open = open
      inner = select(2, ticket:wait()).code
      return hub, op, id, unconfirmed
    end
    for _ = 1, 2 do assert.are.equal("not_found", select(2, ticket:wait()).code) end
    assert.are.equal("not_found", inner)
    assert.is_nil((bus:flush()))
  end)

  it("is told of by a flush after the close", function()
    for _, server in ipairs { url, "amqp://127.0.0.1:1" } do
      local other = eventbus.assert(eventbus.connect { url = server, lazy = true, log = false })
      local ticket = eventbus.assert(other:publish_async("no-such", "x", {}))
      assert.is_nil((other:close(0.5)))
      assert.is_nil((other:flush(1)))
      assert.is_nil((ticket:wait()))
      assert.is_true(other:flush(1))
    end
  end)

  it("is all that an unanswered publish leaves in Lua #memory", function()
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    local tickets = {}
    for i = 1, 1000 do tickets[i] = 0 end
    local data, opts = { n = 1 }, { tenant_id = "t" }
    local list = collectgarbage "count" - before
    for i = 1, 1000 do tickets[i] = bus:publish_async("orders", "x", data, opts) end
    local each = (collectgarbage "count" - before - list) * 1024 / 1000
    collectgarbage "restart"
    eventbus.assert(bus:flush())
    assert.is_true(each < 250, each .. " bytes")
    for _, ticket in ipairs(tickets) do assert.are.equal("confirmed", (ticket:state())) end
  end)
end)

-- A text of its own, which is gone when its last value is.
local texts = 0
local function fresh(text)
  texts = texts + 1
  return text .. texts
end

-- Each step of the collector is a whole cycle: what nobody has is finalised at the next allocation.
local function at_once(f)
  collectgarbage()
  collectgarbage "stop"
  garbage(f)
  if _VERSION == "Lua 5.4" then collectgarbage("incremental", 100, 1000, 30) else collectgarbage("setstepmul", 1000000) end
  collectgarbage "restart"
end

-- Cycles of the collector begin soon after one another.
local function often()
  if _VERSION == "Lua 5.4" then collectgarbage("incremental", 110, 100, 13) else collectgarbage("setpause", 110) end
end

local function usually()
  if _VERSION ~= "Lua 5.4" then collectgarbage("setpause", 200) end
  if _VERSION == "Lua 5.4" then collectgarbage("incremental", 200, 100, 13) else collectgarbage("setstepmul", 200) end
end

-- Empties tables, and uses the memory of what was in them for something else.
local function emptying(...)
  local tables = { ... }
  return function()
    for _, each in ipairs(tables) do
      for key in pairs(each) do each[key] = nil end
    end
    collectgarbage()
    collectgarbage()
    local other = {}
    for i = 1, 100 do other[i] = fresh "other" end
    return other
  end
end

describe("what a finalizer empties in the midst of a publish", function()
  -- A trace collects where it pleases, which may be before each publish; those that there are run on with the compiler off.
  local jit = rawget(_G, "jit")
  if jit then
    setup(function()
      jit.off()
      jit.flush()
    end)
    teardown(jit.on)
  end

  -- Where just the collector finds it differs from Lua to Lua: before the options are read, or after, but not between.
  it("is published as it was, or as it is", function()
    local as_they_were = 0
    for round = 1, 100 do
      local type_, id = fresh "type.", fresh "id"
      local opts = { id = id .. "!", source = fresh "s", tenant_id = fresh "t", routing_key = "k",
        metadata = { [fresh "a"] = 1 } }
      local data = { [fresh "b"] = { fresh "c" } }
      at_once(emptying(opts, data))
      local ok, ticket = pcall(bus.publish_async, bus, "orders", type_, data, opts)
      usually()
      assert.is_true(ok, ticket)
      eventbus.assert(eventbus.assert(ticket):wait())
      local seen = arrived()
      assert.are.equal(type_, seen.properties.type)
      if ticket.id == id .. "!" then
        as_they_were = as_they_were + 1
        assert.are.equal("k", seen.key)
        -- The texts themselves, kept for a comparison, would be alive.
        assert.is_truthy(seen.properties.app_id:find "^s%d+$")
        assert.is_truthy(seen.headers.tenant_id:find "^t%d+$")
      else
        assert.are.equal(type_, seen.key)
        assert.are.equal("usual-spec", seen.properties.app_id)
        assert.is_nil(seen.headers.tenant_id)
      end
      if round % 2 == 0 then collectgarbage() end
    end
    -- Lua 5.1 itself collects before it calls.
    assert.is_true(as_they_were > 10 or _VERSION == "Lua 5.1" and not rawget(_G, "jit"), as_they_were)
  end)

  it("leaves publish_event what it needs", function()
    local nowhere = assert(core.open { url = "amqp://127.0.0.1:1" })
    for _ = 1, 50 do
      local id = fresh "id"
      local event = { id = id .. "!", type = fresh "type", source = fresh "s", tenant_id = fresh "t", data = { 1 } }
      at_once(emptying(event))
      local ok, op, told = pcall(nowhere.publish_event, nowhere, "", "k", event, nil, 30)
      usually()
      assert.is_true(ok, op)
      if op then assert.are.equal(id .. "!", told) else assert.are.equal("type: missing", told.message) end
    end
    nowhere:close(0)
  end)
end)

describe("core.sender", function()
  it("does nothing when the bus was closed, be it by a finalizer in its midst", function()
    for round = 1, 40 do
      local nowhere = assert(core.open { url = "amqp://127.0.0.1:1", outbox = 1000000, outbox_bytes = 1e12 })
      local send, post = core.sender(nowhere, {}, "source", nil, nil, nil, 30)
      local way, closed, count = round % 2 == 0 and send or post, false, 0
      often()
      collectgarbage()  -- which also says when it begins again
      garbage(function()
        closed = true
        nowhere:close(0)
      end)
      local data = { text = ("x"):rep(round * 10) }
      local made
      repeat
        data.other = fresh(("y"):rep(1000))
        made = way("orders", "x", data, nil)
        count = count + 1
        if count % 100 == 0 then while nowhere:next() do end end
      until not made or count == 100000
      usually()
      assert.is_true(closed, "the collector ran")
      assert.is_nil(made)
      assert.is_nil((send("orders", "x", data, nil)))
      assert.is_nil((post("orders", "x", data, nil)))
    end
  end)

  it("takes the options that are usual, and no others", function()
    local nowhere = assert(core.open { url = "amqp://127.0.0.1:1" })
    local send, post = core.sender(nowhere, {}, "source", nil, nil, nil, 30)
    local _, with_metadata = core.sender(nowhere, {}, "source", nil, nil, { a = 1 }, 30)
    local function takes(opts)
      local sent, posted = send("", "x", {}, opts), post("", "x", {}, opts)
      assert.are.equal(sent ~= nil, posted ~= nil)
      return sent ~= nil
    end
    for name, opts in pairs { none = {}, id = { id = "i" }, source = { source = "s" }, tenant_id = { tenant_id = "t" },
      timestamp = { timestamp = "2024-01-15T10:30:00Z" }, routing_key = { routing_key = "k" },
      correlation_id = { correlation_id = "c" }, metadata = { metadata = {} }, persistent = { persistent = false },
      mandatory = { mandatory = true }, confirm = { confirm = false }, priority = { priority = 255 },
      whole = { priority = 3.0 } } do
      assert.is_true(takes(opts), name)
    end
    for name, opts in pairs { contradiction = { confirm = false, mandatory = true }, high = { priority = 256 },
      low = { priority = -1 }, part = { priority = 1.5 }, nan = { priority = 0 / 0 }, text = { priority = "3" },
      timeout = { timeout = 1 }, headers = { headers = {} }, expiration = { expiration = 60 }, codec = { codec = {} },
      traceparent = { traceparent = "00" }, unknown = { tenant = "t" }, number = { "t" }, wrong = { tenant_id = 1 } } do
      assert.is_false(takes(opts), name)
    end
    assert.is_false(takes(setmetatable({}, {})))
    assert.is_truthy(with_metadata("", "x", {}, nil))
    assert.is_nil((with_metadata("", "x", {}, { metadata = {} })))
    nowhere:close(0)
  end)

  it("has answers taken now and then, but for a publish that waits", function()
    local nowhere = assert(core.open { url = "amqp://127.0.0.1:1" })
    local send, post = core.sender(nowhere, {}, "source", nil, nil, nil, 30)
    local sent = 0
    while send("", "x", {}, nil) do sent = sent + 1 end
    assert.are.equal(128, sent)
    assert.is_true(nowhere:due())
    assert.is_truthy(post("", "x", {}, nil))
    while nowhere:next() do end
    assert.is_false(nowhere:due())
    assert.is_truthy(send("", "x", {}, nil))
    nowhere:close(0)
  end)

  it("wants a bus and its hub, and what else is missing is nil", function()
    for _, wrong in ipairs { false, 1, io.stdout, {} } do assert.is_false((pcall(core.sender, wrong, {}))) end
    local nowhere = assert(core.open { url = "amqp://127.0.0.1:1" })
    local send, post = core.sender(nowhere, {}, "source", nil, nil, nil, 30)
    -- What it looks at meanwhile is not taken for an argument.
    assert.is_truthy(post("", "few"))
    assert.is_truthy(post("", "few", {}))
    assert.is_truthy(send("", "few", {}))
    assert.is_nil((send()))
    assert.is_nil((post("")))
    assert.is_false((pcall(core.sender, nowhere, 1)))
    nowhere:close(0)
    assert.is_false((pcall(core.tickets.open, io.stdout)))
  end)
end)
