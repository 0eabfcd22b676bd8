local platform = require "eventbus.platform"
local topology = require "eventbus.topology"
local wait = require "spec.support.wait"

-- The owner's tables: exchange, type.
local EVENTS = {
  orders = { "order.created", "order.confirmed", "order.paid", "order.processing", "order.shipped", "order.delivered",
    "order.cancelled", "order.refunded" },
  products = { "product.created", "product.updated", "product.deleted", "product.stock.updated", "product.stock.low",
    "product.stock.out", "product.price.changed" },
  customers = { "customer.created", "customer.updated", "customer.segment.changed", "customer.tier.changed",
    "customer.points.earned", "customer.points.redeemed" },
  payments = { "payment.initiated", "payment.completed", "payment.failed", "payment.refund.completed" },
  notifications = { "notification.email", "notification.sms", "notification.push", "notification.telegram" },
}

-- What the owner's "Service Subscriptions" mean, per event: the queues that are to get it.
local function expected_queues(type)
  local queues = { ["analytics.events"] = true }
  local function add(name) queues[name] = true end
  if type:match("^order%.") then add "notification.orders" end
  if type:match("^payment%.") then add "notification.payments" end
  if type:match("^product%.") then add "search.products" end
  if type:match("^product%.stock%.") then add "warehouse.stock" end
  if type:match("^customer%.") then add "crm.customers" end
  if type == "customer.created" then add "notification.customers" end
  if type == "order.confirmed" then add "warehouse.orders" end
  if type == "order.delivered" then add "crm.orders" end
  if type == "order.processing" then add "order.processing" end
  if type == "notification.telegram" then
    add "telegram.notifications"
  elseif type:match("^notification%.") then
    add "notification.outgoing"
  end
  local names = {}
  for name in pairs(queues) do names[#names + 1] = name end
  table.sort(names)
  return names
end

describe("platform.catalogue", function()
  it("has the 29 events, each on its exchange and with its own name as the key", function()
    assert.equal(29, #platform.catalogue)
    local count = 0
    for exchange, types in pairs(EVENTS) do
      for _, type in ipairs(types) do
        count = count + 1
        assert.equal(exchange, platform.exchange_of(type))
        assert.equal(type, platform.event(type).routing_key)
      end
    end
    assert.equal(29, count)
  end)

  it("gives the owner's order.created as its example, word for word", function()
    assert.same({
      id = "evt_123456789", type = "order.created", source = "oms-service", timestamp = "2024-01-15T10:30:00Z",
      tenant_id = "tenant_abc",
      data = {
        order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
        items = { { product_id = "prod_456", sku = "SKU001", quantity = 2, price = 500.00 } },
        total = 1000.00, currency = "UAH", status = "pending",
      },
    }, platform.example("order.created"))
  end)

  it("names the nearest event for an unknown one", function()
    local exchange, message = platform.exchange_of("order.creatd")
    assert.is_nil(exchange)
    assert.matches('did you mean "order.created"', message, 1, true)
  end)
end)

describe("platform.validate", function()
  for _, event in ipairs(platform.catalogue) do
    it("accepts the example of " .. event.type, function()
      assert.is_true(platform.validate(platform.example(event.type)))
    end)
  end

  local function problems(type, data)
    local ok, list = platform.validate { type = type, data = data }
    assert.is_nil(ok)
    local messages = {}
    for i, problem in ipairs(list) do messages[i] = problem.message end
    return messages
  end

  it("tells all that is missing or wrong, with its path", function()
    local data = platform.example("order.created").data
    data.order_id, data.total, data.items[1].quantity, data.items[2] = nil, "1000", 1.5, "x"
    assert.same({
      "data.order_id is missing (string)", "data.items[1].quantity should be integer, is number",
      "data.items[2] should be object, is string", "data.total should be number, is string",
    }, problems("order.created", data))
  end)

  it("takes no data at all for missing data", function()
    assert.same({ "data is missing (object)" }, problems("order.paid", nil))
    assert.same({ "data should be object, is string" }, problems("order.paid", "x"))
  end)

  it("takes a JSON null for absent", function()
    local null = require("eventbus.json").null
    assert.same({ "data.order_id is missing (string)" }, problems("order.processing", { order_id = null }))
    assert.is_true(platform.validate { type = "customer.created",
      data = { customer_id = "c", name = "n", email = null } })
  end)

  it("takes chat ids beyond 32 bits and channel names", function()
    assert.is_true(platform.validate { type = "notification.telegram", data = { chat_id = -1001234567890, message = "m" } })
    assert.is_true(platform.validate { type = "notification.telegram", data = { chat_id = "@shop", message = "m" } })
    assert.same({ "data.chat_id should be integer or string, is boolean" },
      problems("notification.telegram", { chat_id = true, message = "m" }))
  end)

  it("answers an unknown type with the nearest", function()
    assert.matches('did you mean "order.paid"', problems("order.payd", {})[1], 1, true)
  end)
end)

describe("platform.topology", function()
  it("has the seven exchanges with their types", function()
    local types = {}
    for name, exchange in pairs(platform.topology.exchanges) do types[name] = exchange.type end
    assert.same({ orders = "topic", products = "topic", customers = "topic", payments = "topic",
      notifications = "topic", analytics = "fanout", deadletter = "direct" }, types)
  end)

  it("declares order.processing with the owner's options", function()
    local q = topology.normalise(platform.topology).queues["order.processing"]
    assert.is_true(q.durable)
    assert.is_false(q.auto_delete or q.exclusive)
    assert.same({ ["x-dead-letter-exchange"] = "deadletter", ["x-dead-letter-routing-key"] = "order.processing.failed",
      ["x-message-ttl"] = 86400000 }, q.arguments)
  end)

  it("has a queue for each dead letter, and deadletter.orders for order.processing", function()
    for _, service in ipairs(platform.services) do
      for name, queue in pairs(service.queues) do
        assert.same({ queue.dead_letters or "deadletter." .. name },
          topology.route(platform.topology, "deadletter", name .. ".failed"))
      end
    end
    assert.same({ "deadletter.orders" }, topology.route(platform.topology, "deadletter", "order.processing.failed"))
  end)

  it("routes what nobody publishes yet to who asked for it", function()
    local route = topology.route
    assert.same({ "analytics.events", "crm.orders", "notification.orders" },
      route(platform.topology, "orders", "order.completed"))
    assert.same({ "analytics.events", "warehouse.stock" }, route(platform.topology, "products", "inventory.low"))
    assert.same({ "analytics.events", "search.reindex" }, route(platform.topology, "products", "search.reindex"))
  end)
end)

describe("platform.queue_for", function()
  it("is the owner's notification.order.created", function()
    local t = platform.queue_for("notification", "order.created")
    assert.same({}, topology.lint(t, { platform.event("order.created") }))
    assert.same({ "notification.order.created" }, topology.route(t, "orders", "order.created"))
    assert.same({ "deadletter.notification.order.created" },
      topology.route(t, "deadletter", "notification.order.created.failed"))
  end)
end)

describe("the platform on a real broker", function()
  local eventbus, broker, bus, vhost

  setup(function()
    eventbus = require "eventbus"
    broker = require("spec.support.broker").shared()
    local url
    url, vhost = broker:new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, source = "oms-service" })
    eventbus.assert(bus:declare(platform.topology))
  end)

  teardown(function()
    if bus then bus:close() end
  end)

  local function drain(queue)
    local got = {}
    while true do
      local delivery, err = bus:get(queue)
      if not delivery then
        assert(err == nil, tostring(err))
        return got
      end
      local event = assert(delivery:event())
      got[#got + 1] = event.type
      assert(delivery:ack())
    end
  end

  it("is declared a second time without complaint", function()
    assert(bus:declare(platform.topology))
  end)

  it("has every queue with exactly its arguments", function()
    for name, queue in pairs(topology.normalise(platform.topology).queues) do
      local found = assert(broker:queue(vhost, name), name)
      local expected = {}
      for argument, value in pairs(queue.arguments) do expected[argument] = tostring(value) end
      assert.same(expected, found.arguments)
      assert.is_true(found.durable)
    end
  end)

  for _, event in ipairs(platform.catalogue) do
    it("routes " .. event.type, function()
      local example = platform.example(event.type)
      assert(bus:publish(event.exchange, event.type, example.data, { tenant_id = "tenant_abc" }))
      -- A classic queue's confirm means it is there: what is not, never comes.
      local reached = {}
      for name, queue in pairs(topology.normalise(platform.topology).queues) do
        for _, type in ipairs(drain(name)) do
          assert.equal(event.type, type)
          assert.is_false(queue.dead_letters)
          reached[#reached + 1] = name
        end
      end
      table.sort(reached)
      assert.same(expected_queues(event.type), reached)
      assert.same(reached, topology.route(platform.topology, event.exchange, event.routing_key))
    end)
  end

  it("keeps dead letters of each queue in its own dead-letter queue", function()
    for _, service in ipairs(platform.services) do
      for name, queue in pairs(service.queues) do
        local target = queue.dead_letters or "deadletter." .. name
        local event = platform.example("order.created")
        assert(bus:publish("deadletter", "order.created", event.data, { routing_key = name .. ".failed" }))
        wait(function() return broker:queue(vhost, target).messages == 1 end, 30, target .. " has it")
        assert.same({ "order.created" }, drain(target))
      end
    end
  end)
end)
