--- Bad input: a clear answer, nothing sent, nothing lost.

local eventbus = require "eventbus"
local http = require "eventbus.http"
local broker = require "spec.support.broker"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local core, json = eventbus.core, eventbus.json

local function quiet() end

local shared, url, vhost, bus

setup(function()
  shared = broker.shared()
  url, vhost = shared:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "badinput-spec", log = quiet })
  eventbus.assert(bus:declare { queues = { input = {} } })
end)
teardown(function() bus:close() end)

local function pump(condition, what, seconds)
  local deadline = core.now() + (seconds or 20)
  while not condition() do
    if core.now() > deadline then error("waited in vain until " .. what, 2) end
    eventbus.assert(bus:poll(0.05))
  end
end

local function refused(code, opts, within)
  local began = core.now()
  opts.log = quiet
  local other, err = eventbus.connect(opts)
  assert.is_nil(other)
  assert.are.equal(code, err.code, tostring(err))
  assert.is_true(core.now() - began < (within or 20), tostring(err))
  return err
end

describe("eventbus.connect", function()
  it("answers a wrong URL at once, and never shows the password", function()
    for _, text in ipairs { "http://host", "amqp://host:notaport", "amqp://user:s3cret@host:99999999", "amqp://h?frob=1",
      "" } do
      local err, quickest = nil, 20
      for _ = 1, 5 do
        local began = core.now()
        err = refused("invalid", { url = text })
        quickest = math.min(quickest, core.now() - began)
      end
      assert.is_true(quickest < 1, text)
      assert.is_nil(tostring(err):find("s3cret", 1, true))
    end
  end)

  it("answers wrong credentials at once, without trying again", function()
    local wrong = url:gsub("guest:guest@", "guest:wr0ng@")
    local err = refused("refused", { url = wrong })
    assert.is_nil(tostring(err):find("wr0ng", 1, true))
    refused("refused", { url = wrong, wait = true })
  end)

  it("tells of the '/' at the end of a URL, which names a vhost that nobody has", function()
    for _, ending in ipairs { "/", "/?heartbeat=3" } do
      local err = refused("not_found", { url = ("amqp://guest:guest@127.0.0.1:%d%s"):format(shared.port, ending) })
      assert.is_truthy(err.message:find("for the default vhost leave the '/' out, also before '?'", 1, true), err.message)
    end
  end)

  it("answers an unknown vhost, and one without permission", function()
    local err = refused("not_found", { url = shared:url_of("no-such-vhost") })
    assert.is_truthy(err.message:find("no-such-vhost", 1, true))
    assert.is_nil(err.message:find("'/'", 1, true))
    shared:user("stranger", "pw", false)
    err = refused("refused", { url = shared:url_of(vhost, "stranger", "pw") })
    assert.is_nil(tostring(err):find("pw@", 1, true))
  end)

  it("answers a broker that is down once each host was tried", function()
    local err = refused("connection", { url = "amqp://127.0.0.1:1,127.0.0.1:2" })
    assert.is_true(err.retryable)
    assert.is_truthy(err.message:find("127.0.0.1:1", 1, true))
    assert.is_truthy(err.message:find("127.0.0.1:2", 1, true))
    refused("connection", { url = "amqp://no-such-host.invalid" }, 30)
  end)

  it("waits for a broker that is down when told to", function()
    local began = core.now()
    refused("connection", { url = "amqp://127.0.0.1:1", wait = 0.7, reconnect_delay = 0.1 })
    assert.is_true(core.now() - began >= 0.69)
    local own = broker.new()
    own:kill()
    -- Started again by a process of its own, while we wait.
    local pipe = io.popen(("sleep 1; bin/eventbus-broker start '%s' --quiet >/dev/null 2>&1 &"):format(own.dir), "r")
    local late = eventbus.assert(eventbus.connect { url = own.url, wait = 60, log = quiet, reconnect_delay = 0.2 })
    assert.is_string((eventbus.assert(late:publish("", "x", {}))))
    late:close()
    pipe:close()
    own:stop()
  end)

  it("names the environment variable that is wrong", function()
    for name, value in pairs { RABBITMQ_URL = "http://x:s3cret@y", RABBITMQ_PREFETCH = "lots" } do
      local p = program.start("env", { program.lua(), "-e", [[print(select(2, require("eventbus").connect()))]] },
        { RABBITMQ_URL = url, [name] = value })
      assert.are.equal(0, p:wait(20))
      assert.is_truthy(p:output():find("invalid: environment variable " .. name, 1, true), p:output())
      assert.is_nil(p:output():find("s3cret", 1, true))
    end
  end)

  it("raises for unknown and wrong options at the caller's line", function()
    local function mistake(opts)
      local ok, message = pcall(function()
        local _ = eventbus.connect(opts)
      end)
      assert.is_false(ok)
      assert.is_truthy(message:match("^[^:]*badinput_spec%.lua:%d+: eventbus%.connect: "), message)
      return message
    end
    assert.is_truthy(mistake({ prefech = 1 }):find('did you mean "prefetch"', 1, true))
    assert.is_truthy(mistake({ prefetch = 0 }):find("65535", 1, true))
    assert.is_truthy(mistake({ retry = { cuont = 3 } }):find('did you mean "count"', 1, true))
    mistake(5)
  end)
end)

describe("bus:publish", function()
  local function refused_event(code, ...)
    local id, err = bus:publish(...)
    assert.is_nil(id)
    assert.are.equal(code, err.code, tostring(err))
    return err
  end

  before_each(function() bus:purge("input") end)
  after_each(function() assert.are.equal(0, shared:queue(vhost, "input").messages) end)

  it("names the place in a payload that cannot be sent", function()
    local cycle = {}
    cycle.self = { cycle }
    assert.is_truthy(refused_event("invalid", "", "input", cycle).message:find("data.self[1]", 1, true))
    assert.is_truthy(refused_event("invalid", "", "input", { a = { print } }).message:find("data.a[1]", 1, true))
    assert.is_truthy(refused_event("invalid", "", "input", { n = 0 / 0 }).message:find("data.n", 1, true))
    assert.is_truthy(refused_event("invalid", "", "input", { s = "\255\254" }).message:find("data.s", 1, true))
    local nested = {}
    for _ = 1, 5000 do nested = { nested } end
    assert.is_string(refused_event("invalid", "", "input", nested).message)
  end)

  it("names the place in headers that cannot be sent, in UTF-8 whatever their names are", function()
    for _, name in ipairs { "\255\254", ("x"):rep(63) .. "é", "\0", ("é"):rep(100) } do
      local headers = { [name] = { [name] = { [name] = { a = { print } } } } }
      local said = refused_event("invalid", "", "input", {}, { headers = headers }).message
      assert.is_truthy(said:find("headers.", 1, true), said)
      assert.is_truthy(json.encode(said))
    end
  end)

  it("refuses names over 255 bytes", function()
    local long = ("x"):rep(256)
    refused_event("too_large", "", "input", {}, { routing_key = nil, id = long })
    assert.is_truthy(refused_event("too_large", long, "input", {}).message:find("256", 1, true))
    assert.is_truthy(refused_event("too_large", "", long, {}).message:find("256", 1, true))
    refused_event("too_large", "", "input", {}, { routing_key = long })
    refused_event("too_large", "", "input", {}, { routing_key = long, priority = 1 })
  end)

  it("raises for mistakes at the caller's line", function()
    local function mistake(...)
      local args = { n = select("#", ...), ... }
      local ok, message = pcall(function()
        local _ = bus:publish(args[1], args[2], args[3], args[4])
      end)
      assert.is_false(ok)
      assert.is_truthy(message:match("^[^:]*badinput_spec%.lua:%d+: bus:publish: "), message)
      return message
    end
    assert.is_truthy(mistake("", "input", {}, { tenantid = "x" }):find('did you mean "tenant_id"', 1, true))
    assert.is_truthy(mistake("", "input", {}, { tenant_id = 5 }):find("expected a string, got 5", 1, true))
    assert.is_truthy(mistake("", "input", {}, { timeout = "soon" }):find("timeout", 1, true))
    mistake(nil, "input", {})
    mistake("", nil, {})
    mistake("", "input", {}, "tenant")
  end)
end)

describe("bus:subscribe", function()
  it("raises for mistakes at the caller's line", function()
    local function mistake(queue, handlers, opts)
      local ok, message = pcall(function()
        local _ = bus:subscribe(queue, handlers, opts)
      end)
      assert.is_false(ok)
      assert.is_truthy(message:match("^[^:]*badinput_spec%.lua:%d+: bus:subscribe: "), message)
      return message
    end
    assert.is_truthy(mistake("input", quiet, { prefech = 1 }):find('did you mean "prefetch"', 1, true))
    assert.is_truthy(mistake("input", { ["a.b"] = 5 }):find('"a.b"', 1, true))
    mistake("input", {})
    mistake("input", nil)
    mistake(5, quiet)
    mistake("", quiet)
    mistake("input", quiet, { prefetch = 0 })
    mistake("input", quiet, { unhandled = "drop" })
    mistake("input", quiet, { dead_letter = { exchnge = "x" } })
  end)

  it("refuses a name that leaves no room for its retry queues", function()
    local name = ("q"):rep(240)  -- for a short delay there is room, for each that a handler may ask for there is none
    eventbus.assert(bus:declare { queues = { [name] = {} } })
    local sub, err = bus:subscribe(name, quiet)
    assert.is_nil(sub)
    assert.are.equal("invalid", err.code)
    sub = eventbus.assert(bus:subscribe(name, quiet, { retry = false, dead_letter = false }))
    sub:cancel()
    bus:delete_queue(name)
  end)
end)

describe("a message that is no event", function()
  local GOOD = '{"id":"e","type":"t","source":"s","timestamp":"2024-01-15T10:30:00Z","data":null}'

  local function send(body, properties)
    local waiter = { answered = function(self, ok, err) self.done, self.ok, self.err = true, ok, err end }
    properties = properties or {}
    assert(bus._hub:post(waiter, "", "input", body, properties))
    pump(function() return waiter.done end, "it is confirmed")
    assert.is_true(waiter.ok, tostring(waiter.err))
  end

  it("is dead-lettered as malformed, body untouched, and the next is handled", function()
    local handled = 0
    local sub = eventbus.assert(bus:subscribe("input", function() handled = handled + 1 end))
    local cases = {
      { "", "empty body" }, { "not json", "" }, { '{"id":1}', "id" }, { "[]", "" }, { "null", "" },
      { (GOOD:gsub('"type":"t",', "")), "type" }, { (GOOD:gsub("2024%-01%-15T10:30:00Z", "yesterday")), "timestamp" },
      { GOOD .. "x", "" }, { "\255\254", "" }, { ("["):rep(100000), "" },
      { GOOD, "content type", { content_type = "text/plain" } },
      { GOOD, "content type 'text/'", { content_type = "text/\255plain" } },
    }
    for i, case in ipairs(cases) do
      send(case[1], case[3])
      local message
      pump(function()
        message = bus:get("deadletter.input")
        return message
      end, "case " .. i .. " is dead-lettered")
      assert.are.equal("malformed", message:header("x-eventbus-reason"))
      local said = message:header("x-eventbus-error")
      assert.is_truthy(said:find(case[2], 1, true), i .. ": " .. said)
      assert.is_truthy(json.encode(said), i .. " is not UTF-8")
      assert.are.equal(case[1], message:body())
      message:ack()
    end
    assert.are.equal(0, handled)
    send(GOOD)
    pump(function() return handled == 1 end, "a good one is handled")
    assert.are.equal(#cases, sub:stats().malformed)
    sub:cancel()
  end)

  it("that is too large stays in its queue unless the broker has dead letters for it", function()
    local said = {}
    local small = eventbus.assert(eventbus.connect { url = url, max_body = 1000, log = function(level, text)
      said[#said + 1] = level .. ": " .. text
    end })
    eventbus.assert(small:declare {
      exchanges = { big_dlx = { type = "fanout" } },
      queues = { big = {}, big_dead = { bindings = { { exchange = "big_dlx" } } },
        covered = { dead_letter = { exchange = "big_dlx" } } },
    })
    local text, handled = ("x"):rep(5000), 0
    local sub = eventbus.assert(small:subscribe("big", function() handled = handled + 1 end))
    eventbus.assert(bus:publish("", "big", { text = text }))
    eventbus.assert(small:publish("", "big", {}))
    wait_until(function()
      small:poll(0.05)
      return handled == 1 and shared:queue(vhost, "big").messages_unacknowledged == 1
    end, 30, "one is handled, one is held")
    assert.are.equal(1, sub:stats().oversized)
    assert.is_truthy(table.concat(said, "\n"):find("error: an event over max_body stays in its queue", 1, true))
    sub:cancel()
    eventbus.assert(small:subscribe("covered", quiet))
    eventbus.assert(bus:publish("", "covered", { text = text }))
    wait_until(function()
      small:poll(0.05)
      return shared:queue(vhost, "big_dead").messages == 1
    end, 30, "the broker has dead-lettered it")
    small:close()
    pump(function() return shared:queue(vhost, "big").messages_ready == 1 end, "it is given back")
  end)

  it("with a header near the frame's size is dead-lettered with a shorter one", function()
    local sub = eventbus.assert(bus:subscribe("input", function() error("x") end, { retry = false }))
    send(GOOD, { headers = { huge = ("h"):rep(130800), tenant_id = "t" } })
    local message
    pump(function()
      message = bus:get("deadletter.input")
      return message
    end, "it is dead-lettered")
    assert.is_true(message:header("huge") == nil)
    assert.are.equal("t", message:header("tenant_id"))
    assert.are.equal(1, message:header("x-eventbus-headers-dropped"))
    assert.are.equal(GOOD, message:body())
    message:ack()
    sub:cancel()
  end)
end)

describe("headers nested deeper than is kept", function()
  local BODY = '{"id":"e","type":"t","source":"s","timestamp":"2024-01-15T10:30:00Z","data":null}'

  -- This library does not send such: the broker's own API does.
  local function send_nested(queue)
    local nested = { leaf = true }
    for _ = 1, 31 do nested = { nested = nested } end
    local answer = assert(http.post(("%s/api/exchanges/%s/amq.default/publish"):format(shared.management_url, vhost), {
      routing_key = queue, payload = BODY, payload_encoding = "string",
      properties = { headers = { deep = nested, tenant_id = "t" } },
    }))
    assert.are.same({ 200, true }, { answer.status, answer.json and answer.json.routed })
  end

  it("make an event malformed, and its dead letter says that they are gone", function()
    local sub = eventbus.assert(bus:subscribe("input", quiet))
    send_nested "input"
    local message
    pump(function()
      message = bus:get("deadletter.input")
      return message
    end, "it is dead-lettered")
    assert.are.equal("malformed", message:header("x-eventbus-reason"))
    assert.are.equal("all", message:header("x-eventbus-headers-dropped"))
    assert.are.equal(BODY, message:body())
    message:ack()
    sub:cancel()
  end)

  it("are not replayed without them: the message stays", function()
    send_nested "input"
    local message = eventbus.assert(bus:get("input"))
    local ok, err = message:replay()
    assert.is_nil(ok)
    assert.are.equal("malformed", err.code)
    assert.is_true(message:ack())
    pump(function() return shared:queue(vhost, "input").messages == 0 end, "it is gone")
  end)
end)

describe("a message over max_body that was taken by hand", function()
  it("is not replayed without its body: it stays", function()
    eventbus.assert(bus:publish("", "input", { text = ("x"):rep(5000) }))
    local small = eventbus.assert(eventbus.connect { url = url, max_body = 1000, log = false })
    local message = eventbus.assert(small:get("input"))
    assert.is_nil(message:body())
    local ok, err = message:replay { routing_key = "elsewhere" }
    assert.is_nil(ok)
    assert.are.equal("too_large", err.code)
    assert.is_true(message:reject(true))
    small:close()
    assert.are.equal(1, bus:purge("input"))
  end)
end)

describe("eventbus.assert", function()
  it("raises the error itself, and passes everything else on", function()
    local err = eventbus.Error.new("timeout", "late")
    local ok, raised = pcall(eventbus.assert, nil, err)
    assert.is_false(ok)
    assert.are.equal(err, raised)
    assert.are.equal("timeout: late", tostring(raised))
    assert.is_true(raised.retryable)
    assert.is_true(eventbus.is_error(raised))
    assert.is_false(eventbus.is_error("timeout"))
    assert.are.same({ 1, nil, 3 }, { eventbus.assert(1, nil, 3) })
    ok, raised = pcall(eventbus.assert, false)
    assert.is_false(ok)
    assert.are.equal("assertion failed!", raised)
    assert.has_error(function() eventbus.Error.new("no-such-code", "x") end)
  end)
end)
