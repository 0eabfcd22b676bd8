--- Publishing without a confirm, against a real broker: faster for the broker, and nothing is promised.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local core = require "eventbus.core"

local url, bus, notices

setup(function()
  url = broker.shared():new_vhost()
  notices = {}
  bus = eventbus.assert(eventbus.connect { url = url, source = "unconfirmed-spec", log = false,
    on_notice = function(notice) notices[#notices + 1] = notice end })
  eventbus.assert(bus:declare { exchanges = { orders = { type = "topic" } },
    queues = { all = { bindings = { { exchange = "orders", routing_key = "#" } } } } })
end)
teardown(function() bus:close() end)
before_each(function() bus:purge "all" end)

-- Nobody tells when it is there: the queue is looked at until it holds so many.
local function arrived(count)
  local deadline = core.now() + 20
  repeat
    local info = eventbus.assert(bus:queue_info "all")
    if info.messages >= count then return info.messages end
    eventbus.assert(bus:poll(0.01))
  until core.now() > deadline
  error(("%d events have not arrived"):format(count))
end

local function published(name) return bus:stats().core.publish[name] end

describe("a publish with confirm = false", function()
  it("returns the id once it is sent, and arrives", function()
    local before = published "sent"
    local id = eventbus.assert(bus:publish("orders", "order.created", { n = 1 }, { confirm = false, tenant_id = "t" }))
    arrived(1)
    local message = eventbus.assert(bus:get "all")
    assert.are.equal(id, message:event().id)
    assert.are.equal("t", message:event().tenant_id)
    message:ack()
    assert.are.equal(before + 1, published "sent")
  end)

  it("has a ticket that says 'sent', one that is confirmed says 'confirmed'", function()
    local sent = eventbus.assert(bus:publish_async("orders", "order.created", {}, { confirm = false }))
    local confirmed = eventbus.assert(bus:publish_async("orders", "order.created", {}))
    assert.is_true(bus:flush())
    assert.are.equal("sent", (sent:state()))
    assert.are.equal("confirmed", (confirmed:state()))
    assert.are.equal(2, arrived(2))
  end)

  it("is what a view made so publishes, unless told otherwise", function()
    local telemetry = bus:with { confirm = false, headers = { kind = "metric" } }
    local sent, confirmed = published "sent", published "confirmed"
    for _ = 1, 10 do eventbus.assert(telemetry:publish_async("orders", "load", { percent = 7 })) end
    eventbus.assert(telemetry:publish("orders", "load", {}, { confirm = true }))
    eventbus.assert(telemetry:with { confirm = true }:publish("orders", "load", {}))
    assert.is_true(bus:flush())
    assert.are.equal(sent + 10, published "sent")
    assert.are.equal(confirmed + 2, published "confirmed")
    assert.are.equal(12, arrived(12))
    local message = eventbus.assert(bus:get "all")
    assert.are.equal("metric", message:header "kind")
    message:ack()
  end)

  it("is there after a close in order, however many were sent just before", function()
    local other = eventbus.assert(eventbus.connect { url = url, source = "unconfirmed-spec", log = false })
    local telemetry = other:with { confirm = false }
    for i = 1, 5000 do eventbus.assert(telemetry:publish_async("orders", "load", { i = i })) end
    assert.is_true(other:close(30))
    assert.are.equal(5000, arrived(5000))
  end)

  it("cannot be mandatory", function()
    local here = debug.getinfo(1, "S").short_src
    for _, mistake in ipairs {
      function() bus:publish("orders", "x", {}, { confirm = false, mandatory = true }) end,
      function() bus:with { mandatory = true }:publish_async("orders", "x", {}, { confirm = false }) end,
      function() bus:with { confirm = false }:publish("orders", "x", {}, { mandatory = true }) end,
      function() bus:with { confirm = false, mandatory = true } end,
    } do
      local ok, why = pcall(mistake)
      assert.is_false(ok)
      assert.are.equal(here, why:match "^(.-):%d+: ")
      assert.is_truthy(why:find("cannot be mandatory without a confirm", 1, true))
    end
  end)

  it("is lost when its exchange is missing: a notice says so, those confirmed stay, and later ones arrive", function()
    notices = {}
    local telemetry = bus:with { confirm = false }
    eventbus.assert(telemetry:publish("no-such-exchange", "load", {}))
    local confirmed = eventbus.assert(bus:publish("orders", "order.created", {}))
    local deadline, lost = core.now() + 20, nil
    while not lost and core.now() < deadline do
      eventbus.assert(bus:poll(0.01))
      for _, notice in ipairs(notices) do lost = lost or notice.event == "unconfirmed_lost" and notice end
    end
    assert.are.equal("publish", lost.connection)
    assert.are.equal("not_found", lost.err.code)
    assert.is_truthy(lost.err.message:find("no-such-exchange", 1, true))
    local later = eventbus.assert(telemetry:publish("orders", "load", {}))
    arrived(2)
    for _, id in ipairs { confirmed, later } do
      local message = eventbus.assert(bus:get "all")
      assert.are.equal(id, message:event().id)
      message:ack()
    end
  end)

  it("is refused before a close in order is over, and the notice is heard", function()
    local heard, logged
    local other = eventbus.assert(eventbus.connect { url = url, source = "unconfirmed-spec",
      log = function(level, text) if text:find "without a confirm" then logged = level end end,
      on_notice = function(notice) if notice.event == "unconfirmed_lost" then heard = notice.err end end })
    eventbus.assert(other:with { confirm = false }:publish("no-such-exchange", "load", {}))
    assert.is_true(other:close(20))
    assert.are.equal("not_found", heard.code)
    assert.are.equal("error", logged)
  end)

  it("fails at once where the broker allows one channel, and those with a confirm go on", function()
    local narrow = url .. "?channel_max=1"
    local other = eventbus.assert(eventbus.connect { url = narrow, source = "unconfirmed-spec", log = false })
    local id, err = other:with { confirm = false }:publish("orders", "load", {})
    assert.is_nil(id)
    assert.are.equal("not_allowed", err.code)
    assert.is_truthy(err.message:find("only 1 channels", 1, true))
    eventbus.assert(other:publish("orders", "order.created", {}))
    assert.is_true(other:close(20))
  end)

  it("is not what a handler's ctx publishes, unless that asks for it", function()
    local sent, confirmed = published "sent", published "confirmed"
    eventbus.assert(bus:declare { queues = { trigger = {} } })
    eventbus.assert(bus:publish("", "go", {}, { routing_key = "trigger" }))
    local done
    local subscription = eventbus.assert(bus:with { confirm = false }:subscribe("trigger", function(_, ctx)
      eventbus.assert(ctx:publish("orders", "follows", {}))
      eventbus.assert(ctx:publish("orders", "measured", {}, { confirm = false }))
      done = true
    end, { retry = false, dead_letter = false }))
    local deadline = core.now() + 20
    while not done and core.now() < deadline do eventbus.assert(bus:poll(0.1)) end
    subscription:cancel()
    assert.are.equal(sent + 1, published "sent")
    assert.are.equal(confirmed + 2, published "confirmed")
  end)

  it("fails when nothing could be sent in time", function()
    local stuck = eventbus.assert(eventbus.connect { url = "amqp://127.0.0.1:1", lazy = true, log = false })
    local id, err = stuck:with { confirm = false }:publish("orders", "load", {}, { timeout = 0.1 })
    assert.is_nil(id)
    assert.are.equal("timeout", err.code)
    stuck:close(0)
  end)
end)
