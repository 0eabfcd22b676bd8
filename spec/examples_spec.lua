-- Each example as a user runs it: a process, a real broker. What each of the six services does: example_<name>_spec.lua.

local platform = require "eventbus.platform"
local program = require "spec.support.program"
local services = require "spec.support.services"
local wait = require "spec.support.wait"

local s

before_each(function() s = services.new() end)
after_each(function() s:stop() end)

describe("each service", function()
  for _, name in ipairs { "telegram_bot", "notification", "search", "crm", "warehouse", "analytics", "order_processing" } do
    it(name .. " loads as a module without running, runs, and stops on SIGTERM with exit code 0", function()
      local service = assert(loadfile("examples/" .. name .. ".lua"))()
      assert.is_string(service.name)
      assert.is_table(service.handlers)
      for _, queue in ipairs(require("eventbus.service").queues(service)) do
        assert.truthy(platform.topology.queues[queue], queue)
      end
      local p = s:start(name)
      assert.equal(0, p:stop(), p:output())
      assert.matches("has stopped", p:output())
    end)
  end

  it("says what is wrong when the broker refuses it", function()
    local p = s:spawn("crm", { RABBITMQ_URL = (s.url:gsub("guest:guest", "guest:wrong")) })
    assert.equal(3, p:wait(20))
    assert.matches("refused", p:output())
    assert.not_matches("wrong", p:output())
  end)
end)

describe("order_processing", function()
  it("has an order shipped and says so, correlation carried on", function()
    local carrier = s:peer { { status = 201, body = '{"number":"2045"}' } }
    s:start("order_processing", { CARRIER_API = carrier.url })
    local id = s:publish("order.processing", { order_id = "o1" }, { correlation_id = "req_1" })
    local event
    wait(function()
      local delivery = s.bus:get("notification.orders")
      if not delivery then return false end
      local got = delivery:event()
      delivery:ack()
      if got.type == "order.shipped" then event = got end
      return event
    end, 20, "order.shipped")
    assert.same({ order_id = "o1", tracking = { carrier = "Nova Poshta", number = "2045" } }, event.data)
    assert.equal("tenant_abc", event.tenant_id)
    assert.equal("req_1", event.correlation_id)
    assert.is_true(platform.validate(event))
    assert.equal(id, carrier:requests()[1].headers["idempotency-key"])
    assert.equal(id .. ":shipped", event.id)
  end)
end)

describe("oms", function()
  it("publishes an order's life, every payload as the catalogue says", function()
    local carrier = s:peer { { status = 201, body = '{"number":"2045"}' } }
    s:start("order_processing", { CARRIER_API = carrier.url })
    local oms = program.start("oms", { program.lua(), "examples/oms.lua", "order_7" }, { RABBITMQ_URL = s.url })
    s.running[#s.running + 1] = oms
    assert.equal(0, oms:wait(30), oms:output())
    local types = {}
    wait(function()
      local delivery = s.bus:get("analytics.events")
      if not delivery then return types["order.shipped"] and types["order.delivered"] end
      local event = delivery:event()
      delivery:ack()
      types[event.type] = true
      assert(platform.validate(event))
      assert.equal("tenant_abc", event.tenant_id)
      assert.equal("req_order_7", event.correlation_id)
    end, 20, "the order is shipped and delivered")
    for _, type in ipairs { "order.created", "order.paid", "payment.completed", "notification.telegram" } do
      assert.is_true(types[type])
    end
  end)
end)
