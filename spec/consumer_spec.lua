--- Subscriptions: dispatch, outcomes, settlement, the handler's context; against a real broker.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local wait_until = require("spec.support.wait").wait_until

local core = eventbus.core

local function quiet() end

local shared, url, vhost, bus
local made = 0

setup(function()
  shared = broker.shared()
  url, vhost = shared:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "consumer-spec", log = quiet })
end)
teardown(function() bus:close() end)

-- A new queue, bound to everything on `orders`.
local function queue(settings)
  made = made + 1
  local name = "work." .. made
  settings = settings or {}
  settings.bindings = { { exchange = "orders", routing_key = name .. ".#" } }
  eventbus.assert(bus:declare { exchanges = { orders = { type = "topic" } }, queues = { [name] = settings } })
  return name
end

local function publish(name, event_type, data, opts)
  opts = opts or {}
  opts.routing_key = name .. "." .. event_type
  return eventbus.assert(bus:publish("orders", event_type, data or {}, opts))
end

-- Polls until the condition holds.
local function pump(condition, what, seconds)
  local deadline = core.now() + (seconds or 20)
  while not condition() do
    if core.now() > deadline then error("waited in vain until " .. what, 2) end
    eventbus.assert(bus:poll(0.05))
  end
end

local function messages(name)
  local q = shared:queue(vhost, name)
  return q and q.messages
end

-- Acks are on their way while a confirm is, so not there at once.
local function empty(name)
  pump(function() return messages(name) == 0 end, name .. " is empty")
end

local function dead(name)
  local message
  pump(function()
    message = bus:get("deadletter." .. name)
    return message
  end, "there is a dead letter of " .. name)
  local headers, event = message:headers(), message:event()
  message:ack()
  return headers, event
end

describe("bus:poll", function()
  it("handles at most as many events as it was told to, in order, and leaves the others to the next", function()
    local q, seen = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, function(event) seen[#seen + 1] = event.data.n end))
    for n = 1, 5 do publish(q, "x", { n = n }) end
    for n = 1, 5 do
      assert.are.equal(1, bus:poll(20, 1))
      assert.are.equal(n, seen[n])
    end
    assert.are.equal(0, bus:poll())
    assert.are.equal(5, #seen)
    sub:cancel()
  end)

  it("runs handlers in coroutines, too, without waiting", function()
    local q, count = queue(), 0
    local other = eventbus.assert(eventbus.connect { url = url, source = "consumer-spec", log = quiet })
    eventbus.assert(other:subscribe(q, function() count = count + 1 end, { concurrency = 4 }))
    for n = 1, 10 do publish(q, "x", { n = n }) end
    wait_until(function()
      eventbus.assert(other:poll())
      return count == 10
    end, 20, "all are handled")
    other:close()
  end)

  it("waits as long as it was told to, whatever else comes", function()
    local q = queue()
    local ticket = eventbus.assert(bus:publish_async("orders", "x", {}, { routing_key = q .. ".x" }))
    local began = core.now()
    assert.are.equal(0, bus:poll(0.3))
    assert.is_true(core.now() - began >= 0.3)
    assert.is_truthy(eventbus.assert(ticket:wait(20)))
  end)
end)

describe("a subscription", function()
  it("hands events to the handler of their type or pattern and acknowledges them", function()
    local q, seen = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, {
      ["order.created"] = function(event) seen[#seen + 1] = "exact " .. event.data.n end,
      ["order.*"] = function(event) seen[#seen + 1] = "star " .. event.type end,
    }))
    publish(q, "order.created", { n = 1 })
    publish(q, "order.paid", { n = 2 })
    pump(function() return #seen == 2 end, "both are handled")
    assert.are.same({ "exact 1", "star order.paid" }, seen)
    assert.are.equal(2, sub:stats().handled)
    sub:cancel()
    empty(q)
    assert.are.equal("cancelled", sub:stats().state)
  end)

  it("tells the handler where the event came from", function()
    local q, seen = queue(), nil
    local sub = eventbus.assert(bus:subscribe(q, function(event, ctx)
      seen = { ctx.queue, ctx.exchange, ctx.routing_key, ctx.redelivered, ctx.attempt, ctx.last_attempt,
        ctx.headers.color, ctx.properties.app_id, ctx.event == event, ctx.subscription ~= nil, ctx.nonsense == nil }
    end, { retry = { count = 1 } }))
    publish(q, "order.created", {}, { headers = { color = "red" } })
    pump(function() return seen end, "it is handled")
    assert.are.same({ q, "orders", q .. ".order.created", false, 1, false, "red", "consumer-spec", true, true, true }, seen)
    sub:cancel()
  end)

  it("has never more than prefetch events out", function()
    local q = queue()
    for i = 1, 20 do publish(q, "x", { i = i }) end
    local most = 0
    local count = 0
    local sub = eventbus.assert(bus:subscribe(q, function()
      count = count + 1
      most = math.max(most, bus:stats().core.control.unsettled)
    end, { prefetch = 3 }))
    pump(function() return count == 20 end, "all are handled")
    assert.is_true(most <= 3)
    sub:cancel()
  end)

  it("returns 'not_found' for a queue that does not exist, and leaves nothing behind", function()
    local sub, err = bus:subscribe("no-such-queue", quiet)
    assert.is_nil(sub)
    assert.are.equal("not_found", err.code)
    assert.is_nil(messages("no-such-queue.retry.5000"))
    assert.is_nil(messages("deadletter.no-such-queue"))
  end)

  it("gives back what was not begun when it is cancelled", function()
    local q, count = queue(), 0
    for _ = 1, 10 do publish(q, "x") end
    local sub
    sub = eventbus.assert(bus:subscribe(q, function()
      count = count + 1
      sub:cancel()
    end))
    pump(function() return sub:stats().state == "cancelled" end, "it is cancelled")
    bus:poll(0.2)
    assert.are.equal(1, count)
    pump(function() return messages(q) == 9 and shared:queue(vhost, q).messages_ready == 9 end, "nine are ready again")
  end)

  it("gives back at once what nobody has looked at when it is cancelled", function()
    local q = queue()
    for _ = 1, 10 do publish(q, "x") end
    local sub = eventbus.assert(bus:subscribe(q, quiet))
    -- They are here, and the dispatcher does not run.
    wait_until(function()
      bus._hub:pump()
      return bus._hub.last - bus._hub.first == 9
    end, 20, "all ten are delivered")
    sub:cancel()
    wait_until(function() return shared:queue(vhost, q).messages_ready == 10 end, 20, "all ten are ready again")
  end)

  it("takes an exclusive queue without leaving queues behind", function()
    made = made + 1
    local name = "private." .. made
    eventbus.assert(bus:declare { queues = { [name] = { exclusive = true, durable = false } } })
    local seen = 0
    local sub = eventbus.assert(bus:subscribe(name, function()
      seen = seen + 1
      error("always")
    end, { retry = { count = 1, delay = "50ms" } }))
    eventbus.assert(bus:publish("", "x", {}, { routing_key = name }))
    pump(function() return seen == 2 and sub:stats().dropped == 1 end, "it was tried twice and dropped")
    assert.is_nil(messages("deadletter." .. name))
    sub:cancel()
  end)
end)

describe("an outcome", function()
  local function outcome(handler, opts)
    local q = queue()
    opts = opts or {}
    if opts.retry == nil then opts.retry = false end
    local sub = eventbus.assert(bus:subscribe(q, handler, opts))
    publish(q, "order.created", { n = 1 })
    return q, sub
  end

  it("ignore acknowledges", function()
    local q, sub = outcome(function() (function() eventbus.ignore() end)() end)
    pump(function() return sub:stats().ignored == 1 end, "it is ignored")
    sub:cancel()
    empty(q)
  end)

  it("reject dead-letters at once, with the reason, also with retries left", function()
    local q, sub = outcome(function() eventbus.reject("no such customer") end, { retry = { count = 3 } })
    local headers, event = dead(q)
    assert.are.equal("rejected", headers["x-eventbus-reason"])
    assert.are.equal("no such customer", headers["x-eventbus-error"])
    assert.are.equal("orders", headers["x-eventbus-exchange"])
    assert.are.equal(q .. ".order.created", headers["x-eventbus-routing-key"])
    assert.are.equal(q, headers["x-eventbus-queue"])
    assert.are.equal(core.hostname(), headers["x-eventbus-host"])
    assert.are.equal(1, event.data.n)
    sub:cancel()
    empty(q)
  end)

  it("counts as one when it was caught and returned", function()
    local q, sub = outcome(function()
      local ok, raised = pcall(eventbus.reject, "caught")
      if not ok then return nil, raised end
    end)
    assert.are.equal("caught", dead(q)["x-eventbus-error"])
    sub:cancel()
    q, sub = outcome(function() return select(2, pcall(eventbus.ignore)) end)
    pump(function() return sub:stats().ignored == 1 end, "it is ignored")
    sub:cancel()
    empty(q)
  end)

  local raising = setmetatable({}, { __tostring = function() error("no text") end })
  local has_ffi, ffi = pcall(require, "ffi")  -- LuaJIT's
  for name, case in pairs {
    ["a string"] = { function() error("boom", 0) end, "boom" },
    ["a table"] = { function() error { code = "E42", message = "declined" } end, "E42: declined" },
    ["nil"] = { function() error(nil) end, "nil was raised, without a reason" },
    ["an object whose __tostring raises"] = { function() error(raising) end, "a table whose __tostring failed" },
    ["an error of the library"] = { function() error(eventbus.Error.new("timeout", "too slow")) end, "timeout: too slow" },
    ["a returned nil, err"] = { function() return nil, "not now" end, "not now" },
    ["a returned NULL, err"] = has_ffi and { function() return ffi.new "void*", "nothing" end, "nothing" } or nil,
    ["a returned false"] = { function() return false end, "the handler returned false" },
    ["a returned false, err"] = { function() return false, "why" end, "why" },
    ["a long text"] = { function() error(("x"):rep(100000), 0) end, ("x"):rep(2045) .. "..." },
    ["a stack overflow"] = { function() local function f() return 1 + f() end f() end, "overflow" },
  } do
    it("failure comes from " .. name, function()
      local q, sub = outcome(case[1])
      local headers = dead(q)
      assert.are.equal("failed", headers["x-eventbus-reason"])
      assert.is_truthy(headers["x-eventbus-error"]:find(case[2], 1, true), headers["x-eventbus-error"])
      if name == "a table" then assert.are.equal("E42", headers["x-eventbus-error-code"]) end
      if name == "a string" then
        assert.is_truthy(headers["x-eventbus-error-at"]:find("consumer_spec.lua", 1, true))
        assert.is_falsy(headers["x-eventbus-error-at"]:find("consumer.lua", 1, true))
      end
      assert.are.equal(1, sub:stats().failed)
      sub:cancel()
      empty(q)
    end)
  end

  it("is success for any other returned value", function()
    local handlers = { function() end, function() return true end, function() return 0 end, function() return {} end }
    for _, handler in ipairs(handlers) do
      local q, sub = outcome(handler)
      pump(function() return sub:stats().handled == 1 end, "it is handled")
      sub:cancel()
      empty(q)
    end
  end)
end)

describe("an event without a handler", function()
  it("is dead-lettered as unhandled", function()
    local q = queue()
    local sub = eventbus.assert(bus:subscribe(q, { ["order.created"] = quiet }))
    publish(q, "order.lost")
    local headers = dead(q)
    assert.are.equal("unhandled", headers["x-eventbus-reason"])
    assert.is_truthy(headers["x-eventbus-error"]:find("order.lost", 1, true))
    sub:cancel()
  end)

  it("is acknowledged, or given to a function, when told so", function()
    local q = queue()
    local sub = eventbus.assert(bus:subscribe(q, { ["order.created"] = quiet }, { unhandled = "ack" }))
    publish(q, "order.lost")
    pump(function() return sub:stats().unhandled == 1 end, "it came")
    sub:cancel()
    empty(q)
    local seen
    sub = eventbus.assert(bus:subscribe(q, { ["order.created"] = quiet },
      { unhandled = function(event) seen = event.type end }))
    publish(q, "order.lost")
    pump(function() return seen end, "it came")
    assert.are.equal("order.lost", seen)
    sub:cancel()
  end)
end)

describe("dead letters", function()
  it("go where the declared topology says", function()
    eventbus.assert(bus:declare { exchanges = { dlx = { type = "direct" } },
      queues = { graveyard = { bindings = { { exchange = "dlx", routing_key = "rip" } } } } })
    local q = queue { dead_letter = { exchange = "dlx", routing_key = "rip" } }
    local sub = eventbus.assert(bus:subscribe(q, function() error("x") end, { retry = false }))
    publish(q, "x")
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    assert.are.equal(1, messages("graveyard"))
    assert.is_nil(messages("deadletter." .. q))
    sub:cancel()
  end)

  it("that no queue takes leave the original in its queue", function()
    eventbus.assert(bus:declare { exchanges = { nowhere = { type = "direct" } } })
    local q = queue()
    local sub = eventbus.assert(bus:subscribe(q, function() error("x") end,
      { retry = false, dead_letter = { exchange = "nowhere", routing_key = "lost" } }))
    publish(q, "x")
    pump(function() return sub:stats().failed == 1 end, "it failed")
    bus:poll(0.3)
    assert.are.equal(0, sub:stats().dead_lettered)
    assert.are.equal(1, sub:stats().pending)
    assert.are.equal(1, messages(q))
    -- Once somebody binds a queue, the next try succeeds.
    eventbus.assert(bus:declare { queues = { found = { bindings = { { exchange = "nowhere", routing_key = "lost" } } } } })
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    assert.are.equal(1, messages("found"))
    sub:cancel()
    empty(q)
  end)

  it("survive the deletion of their queue: it is declared again", function()
    local q = queue()
    local sub = eventbus.assert(bus:subscribe(q, function() error("x") end, { retry = false }))
    shared:delete_queue(vhost, "deadletter." .. q)
    publish(q, "x")
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    assert.are.equal(1, messages("deadletter." .. q))
    assert.are.equal("86400000", shared:queue(vhost, "deadletter." .. q).arguments["x-message-ttl"])
    sub:cancel()
  end)

  it("keep body, properties and headers, and go back by replay", function()
    local q = queue()
    local body = '{"id":"evt_1","type":"order.created","source":"s","timestamp":"2024-01-15T10:30:00Z","tenant_id":"t",' ..
      '"data":{"big":12345678901,  "odd" : 1.0}, "extra":true}'
    local hub = bus._hub
    local waiter = { answered = function(self, ok, err) self.done, self.ok, self.err = true, ok, err end }
    assert(hub:post(waiter, "orders", q .. ".raw", body, { message_id = "evt_1", type = "order.created", priority = 4,
      correlation_id = "c", headers = { n = 5, f = 1.5, b = true, s = "x", list = { 1, 2 }, t = { k = "v" } } }))
    pump(function() return waiter.done end, "it is confirmed")
    local fail = true
    local seen
    local sub = eventbus.assert(bus:subscribe(q, function(event, ctx)
      seen = { attempt = ctx.attempt, body_data = event.data, headers = ctx.headers }
      if fail then error("not yet") end
    end, { retry = false }))
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    fail, seen = false, nil
    local message = eventbus.assert(bus:get("deadletter." .. q))
    assert.are.equal(body, message:body())
    assert.are.equal(4, message:properties().priority)
    assert.are.equal("c", message:properties().correlation_id)
    assert.are.same({ "orders", q .. ".raw" }, { message:origin() })
    eventbus.assert(message:replay { headers = { ["x-replays"] = 1 } })
    pump(function() return seen end, "it is handled")
    assert.are.equal(1, seen.attempt)
    assert.are.same({ n = 5, f = 1.5, b = true, s = "x", list = { 1, 2 }, t = { k = "v" }, ["x-replays"] = 1,
      ["x-eventbus-replays"] = 1 }, seen.headers)
    sub:cancel()
    empty("deadletter." .. q)
  end)
end)

describe("ctx:publish", function()
  it("carries tenant, correlation, cause and trace on", function()
    local q, out = queue(), queue()
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      eventbus.assert(ctx:publish("orders", "next", { n = 2 }, { routing_key = out, metadata = { version = "2" } }))
      local ticket = eventbus.assert(ctx:publish_async("orders", "next", {}, { routing_key = out, tenant_id = "other" }))
      eventbus.assert(ticket:wait())
    end))
    local id = publish(q, "first", {}, { tenant_id = "t", traceparent = "00-11-22-01" })
    pump(function() return sub:stats().handled == 1 end, "it is handled")
    local message = eventbus.assert(bus:get(out))
    local event = message:event()
    assert.are.equal("t", event.tenant_id)
    assert.are.equal(id, event.correlation_id)
    assert.are.same({ causation_id = id, version = "2" }, event.metadata)
    assert.are.equal("00-11-22-01", message:header("traceparent"))
    message:ack()
    message = eventbus.assert(bus:get(out))
    assert.are.equal("other", message:event().tenant_id)
    message:ack()
    publish(q, "first", {}, { correlation_id = "req_1" })
    pump(function() return sub:stats().handled == 2 end, "it is handled")
    message = eventbus.assert(bus:get(out))
    assert.are.equal("req_1", message:event().correlation_id)
    message:ack()
    sub:cancel()
  end)

  it("never begins another handler while it waits", function()
    local q, out = queue(), queue()
    local depth, deepest, count = 0, 0, 0
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      depth = depth + 1
      deepest = math.max(deepest, depth)
      eventbus.assert(ctx:publish("orders", "next", {}, { routing_key = out }))
      depth, count = depth - 1, count + 1
    end))
    for _ = 1, 30 do eventbus.assert(bus:publish_async("orders", "x", {}, { routing_key = q .. ".x" })) end
    pump(function() return count == 30 end, "all are handled")
    assert.are.equal(1, deepest)
    sub:cancel()
  end)

  it("keeps the order of what is delivered while it waits", function()
    local name, out = queue(), queue()
    local seen, sent = {}, {}
    local sub = eventbus.assert(bus:subscribe(name, function(event, ctx)
      seen[#seen + 1] = event.data.n
      sent[#sent + 1] = eventbus.assert(ctx:publish("orders", "done", {}, { routing_key = out .. ".done" }))
    end, { prefetch = 30 }))
    for n = 1, 200 do
      eventbus.assert(bus:publish_async("orders", "order.created", { n = n }, { routing_key = name .. ".x" }))
    end
    pump(function() return #sent == 200 end, "all are handled", 30)
    for n = 1, 200 do assert.are.equal(n, seen[n]) end
    empty(name)
    assert.are.equal(200, messages(out))
    sub:cancel()
  end)

  it("raises mistakes at the handler's line", function()
    local q, message = queue(), nil
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      message = select(2, pcall(function()
        local _ = ctx:publish("orders", "x", {}, { tenantid = 1 })
      end))
    end))
    publish(q, "x")
    pump(function() return message end, "it is handled")
    assert.is_truthy(message:match("^[^:]*consumer_spec%.lua:%d+: ctx:publish: unknown option"), message)
    sub:cancel()
  end)
end)

describe("a channel that the broker closes", function()
  it("ends the copies on their way, as the originals come again: they do not pile up", function()
    -- The broker takes it when a channel opens, and looks each minute, or when told to.
    finally(function() shared:eval("application:set_env(rabbit, consumer_timeout, 1800000)") end)
    shared:eval("application:set_env(rabbit, consumer_timeout, 300)")
    local q, calls = queue(), 0
    local nowhere = { exchange = "", routing_key = q .. ".nowhere" }
    local sub = eventbus.assert(bus:subscribe(q, function()
      calls = calls + 1
      error("no", 0)
    end, { retry = false, dead_letter = nowhere }))
    publish(q, "x")
    for n = 1, 2 do
      pump(function() return calls >= n end, "it has failed")
      local tick = 0
      pump(function()
        if core.now() - tick > 0.5 then
          tick = core.now()
          shared:eval("[P ! tick || P <- rabbit_channel:list_local()], ok")
        end
        return sub:stats().state == "resubscribing"
      end, "its ack is overdue")
      pump(function() return sub:stats().state == "active" end, "it is subscribed again")
    end
    pump(function() return calls >= 3 and sub:stats().pending == 1 end, "only the last copy is on its way", 20)
    assert.are.equal(1, bus:stats().handovers)
    shared:declare_queue(vhost, nowhere.routing_key)
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered", 20)
    assert.are.equal(1, messages(nowhere.routing_key))
    sub:cancel()
  end)

  it("takes what was delivered and not begun with it: that comes again, and is handled once", function()
    finally(function() shared:eval("application:set_env(rabbit, consumer_timeout, 1800000)") end)
    shared:eval("application:set_env(rabbit, consumer_timeout, 300)")
    local q, redelivered, states = queue(), {}, {}
    local sub
    local function wait_for(state)
      local deadline = core.now() + 20
      while sub:stats().state ~= state and core.now() < deadline do
        shared:eval("[P ! tick || P <- rabbit_channel:list_local()], ok")
        eventbus.assert(bus:queue_info(q))
      end
      states[#states + 1] = sub:stats().state
    end
    sub = eventbus.assert(bus:subscribe(q, {
      slow = function(_, ctx)
        if ctx.redelivered then return end
        wait_for "resubscribing"
        shared:eval("application:set_env(rabbit, consumer_timeout, 1800000)")
        wait_for "active"
      end,
      quick = function(_, ctx) redelivered[#redelivered + 1] = ctx.redelivered end,
    }, { prefetch = 2 }))
    publish(q, "slow")
    publish(q, "quick")
    pump(function() return #redelivered > 0 and messages(q) == 0 end, "both are handled", 20)
    assert.are.same({ "resubscribing", "active" }, states)
    assert.are.same({ true }, redelivered)
    sub:cancel()
  end)
end)

describe("a server's cancel", function()
  it("subscribes again when the queue was deleted: topology first", function()
    local q, seen, notices = queue(), 0, {}
    bus:on_notice(function(notice) notices[notice.event] = true end)
    local sub = eventbus.assert(bus:subscribe(q, function() seen = seen + 1 end))
    shared:delete_queue(vhost, q)
    pump(function() return notices.resubscribed end, "it is subscribed again", 20)
    publish(q, "x")
    pump(function() return seen == 1 end, "it is handled")
    assert.are.equal("active", sub:stats().state)
    sub:cancel()
  end)
end)

describe("a subscription whose cancel was lost", function()
  it("is cancelled again, and does not pull its queue round for ever", function()
    local q, seen = queue(), 0
    local sub = eventbus.assert(bus:subscribe(q, function() seen = seen + 1 end))
    bus._hub.consumers[sub.id] = nil  -- as after a cancel that found the outbox full
    publish(q, "x")
    pump(function() return shared:queue(vhost, q).consumers == 0 end, "the broker knows of no consumer")
    pump(function() return messages(q) == 1 end, "the event is back")
    assert.are.equal(0, seen)
  end)
end)

describe("the object of a finished delivery", function()
  it("becomes another delivery, which goes back to its queue when it is dropped", function()
    local q = queue()
    for n = 1, 2 do publish(q, "x", { n = n }) end
    pump(function() return messages(q) == 2 end, "both events are in the queue")
    local object = eventbus.assert(bus:get(q))._delivery
    assert.are.equal(1, object:event().data.n)
    assert.is_true(object:finish())
    for _, call in ipairs { "finish", "ack", "body" } do
      local ok, raised = pcall(object[call], object)
      assert.is_false(ok)
      assert.matches("settled already", raised)
    end
    local other = eventbus.assert(bus:get(q))._delivery
    assert.is_true(rawequal(object, other))
    assert.are.equal(2, other:event().data.n)
    object, other = nil, nil  -- luacheck: no unused
    local back
    pump(function()
      collectgarbage()
      back = bus:get(q)
      return back
    end, "the dropped event came again")
    assert.is_true(back:redelivered())
    assert.are.equal(2, back:event().data.n)
    back:ack()
    empty(q)
  end)
end)
