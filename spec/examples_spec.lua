-- Each example as a user runs it: a process, a real broker, real HTTP peers.

local eventbus = require "eventbus"
local http = require "eventbus.http"
local json = require "eventbus.json"
local journal = require "eventbus.journal"
local platform = require "eventbus.platform"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local peer = require "spec.support.peer"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local node, url, vhost, bus, running

local function start(name, environment)
  local variables = { RABBITMQ_URL = url, RABBITMQ_RETRY_COUNT = "2", RABBITMQ_RETRY_DELAY = "200ms" }
  for key, value in pairs(environment or {}) do variables[key] = value end
  local p = program.start(name, command.words { "run", "examples/" .. name .. ".lua" }, variables)
  running[#running + 1] = p
  wait(function() return p:output():find(" is ready", 1, true), p:output() end, 10, name .. " is ready")
  return p
end

local function start_peer(answers)
  local p = peer.start(answers)
  running[#running + 1] = p
  return p
end

local function publish(type, data)
  return assert(bus:publish(platform.exchange_of(type), type, data, { tenant_id = "tenant_abc" }))
end

local function example(type)
  return platform.example(type).data
end

local function lines(path)
  local list = {}
  local file = io.open(path, "rb")
  if not file then return list end
  for line in file:lines() do list[#list + 1] = (json.decode(line)) end
  file:close()
  return list
end

local function wait_for_lines(path, n)
  return wait(function()
    local list = lines(path)
    return #list >= n and list, #list
  end, 10, ("%s has %d lines"):format(path, n))
end

local function dead_letter(queue)
  return wait(function() return bus:get(queue) end, 10, "a dead letter in " .. queue)
end

setup(function()
  node = broker.shared()
end)

before_each(function()
  running = {}
  url, vhost = node:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "oms-service" })
  eventbus.assert(bus:declare(platform.topology))
end)

after_each(function()
  for _, p in ipairs(running) do p:stop() end
  bus:close()
  node:delete_vhost(vhost)
end)

describe("each service", function()
  for _, name in ipairs { "telegram_bot", "notification", "search", "crm", "warehouse", "analytics", "order_processing" } do
    it(name .. " loads as a module without running", function()
      local service = assert(loadfile("examples/" .. name .. ".lua"))()
      assert.is_string(service.name)
      assert.is_table(service.handlers)
      for _, queue in ipairs(require("eventbus.service").queues(service)) do
        assert.truthy(platform.topology.queues[queue], queue)
      end
    end)

    it(name .. " runs, and stops on SIGTERM with exit code 0", function()
      local p = start(name)
      assert.equal(0, p:stop())
      assert.matches("has stopped", p:output())
    end)
  end

  it("says what is wrong when the broker refuses it", function()
    local p = program.start("crm", command.words { "run", "examples/crm.lua" },
      { RABBITMQ_URL = (url:gsub("guest:guest", "guest:wrong")) })
    assert.equal(3, p:wait(10))
    assert.matches("refused", p:output())
    assert.not_matches("wrong", p:output())
  end)
end)

describe("telegram_bot", function()
  it("posts the message to the chat, the id exact", function()
    local api = start_peer { { status = 200, body = '{"ok":true}' } }
    start("telegram_bot", { TELEGRAM_API = api.url, TELEGRAM_TOKEN = "1:secret" })
    publish("notification.telegram", { chat_id = -1001234567890, message = "Привіт \"світ\"\n" })
    local requests = wait(function()
      local list = api:requests()
      return #list > 0 and list
    end, 10, "a request")
    assert.equal("POST", requests[1].method)
    assert.equal("/bot1:secret/sendMessage", requests[1].path)
    assert.truthy(requests[1].body:find("-1001234567890", 1, true))
    assert.same({ chat_id = -1001234567890, text = "Привіт \"світ\"\n" }, (json.decode(requests[1].body)))
    wait(function() return node:queue(vhost, "telegram.notifications").messages == 0 end, 5, "it is acked")
  end)

  it("waits as long as a 429 says, without counting it as an attempt", function()
    local api = start_peer { { status = 429, body = '{"ok":false,"parameters":{"retry_after":1}}' }, { status = 200 } }
    local bot = start("telegram_bot", { TELEGRAM_API = api.url, RABBITMQ_RETRY_COUNT = "0" })
    local began = wait.now()
    publish("notification.telegram", example("notification.telegram"))
    wait(function() return bot:output():find("  done", 1, true) end, 10, "it is sent")
    assert.is_true(wait.now() - began >= 1)
    assert.equal(2, #api:requests())
    assert.matches("attempt 1  .*attempt 1  .*done", bot:output())
  end)

  it("rejects at once when the user has blocked the bot", function()
    local api = start_peer { { status = 403, body = '{"ok":false,"description":"Forbidden: bot was blocked by the user"}' } }
    start("telegram_bot", { TELEGRAM_API = api.url })
    local id = publish("notification.telegram", example("notification.telegram"))
    local letter = dead_letter("deadletter.telegram.notifications")
    assert.equal(id, letter:event().id)
    assert.equal("rejected", letter:header("x-eventbus-reason"))
    assert.matches("bot was blocked by the user", letter:header("x-eventbus-error"))
    letter:ack()
    assert.equal(1, #api:requests())
  end)

  it("tries again when Telegram is out of order, and dead-letters after the last attempt", function()
    local api = start_peer { { status = 502, body = "{}" } }
    start("telegram_bot", { TELEGRAM_API = api.url })
    publish("notification.telegram", example("notification.telegram"))
    local letter = dead_letter("deadletter.telegram.notifications")
    assert.equal(3, letter:header("x-eventbus-attempt"))
    assert.matches("Telegram answered 502", letter:header("x-eventbus-error"))
    letter:ack()
    assert.equal(3, #api:requests())
  end)

  it("sends a redelivered event once", function()
    local api = start_peer { { status = 200 } }
    local memory = program.folder() .. "/sent.jsonl"
    local environment = { TELEGRAM_API = api.url, TELEGRAM_JOURNAL = memory }
    local first = start("telegram_bot", environment)
    local id = publish("notification.telegram", example("notification.telegram"))
    wait_for_lines(memory, 1)
    assert.equal(0, first:stop())
    local second = start("telegram_bot", environment)
    assert(bus:publish("notifications", "notification.telegram", example("notification.telegram"),
      { id = id, tenant_id = "tenant_abc" }))
    local handled = id:gsub("%p", "%%%0") .. "  tenant_abc  %-  attempt 1  %d+ ms  done"
    wait(function() return second:output():find(handled) end, 10, "the copy is handled")
    assert.equal(1, #api:requests())
  end)

  it("speaks HTTPS, to a certificate it can trust only", function()
    assert(pcall(require, "ssl"), "lua-sec is missing; type: make deps")
    local tls = node.tls_dir
    local api = start_peer { { status = 200 }, tls = { certificate = tls .. "/server.pem", key = tls .. "/server.key" } }
    local distrusting = start("telegram_bot", { TELEGRAM_API = api.url, SSL_CERT_FILE = tls .. "/other-ca.pem" })
    publish("notification.telegram", example("notification.telegram"))
    wait(function() return distrusting:output():find("certificate verify failed", 1, true) end, 10, "it refuses")
    local letter = dead_letter("deadletter.telegram.notifications")
    letter:ack()
    assert.equal(0, #api:requests())
    distrusting:stop()
    start("telegram_bot", { TELEGRAM_API = api.url, SSL_CERT_FILE = tls .. "/ca.pem" })
    publish("notification.telegram", example("notification.telegram"))
    wait(function() return #api:requests() == 1 end, 10, "a request")
  end)
end)

describe("notification", function()
  it("renders each event for its customer, once", function()
    local outbox = program.folder() .. "/outbox.jsonl"
    start("notification", { NOTIFY_OUTBOX = outbox })
    local id = publish("order.created", example("order.created"))
    publish("payment.refund.completed", example("payment.refund.completed"))
    publish("customer.created", example("customer.created"))
    publish("notification.email", { template = "order.confirmed", recipient = "a@b.c", data = { order_id = "o1" } })
    publish("notification.sms", example("notification.sms"))
    publish("notification.push", example("notification.push"))
    assert(bus:publish("orders", "order.created", example("order.created"), { id = id, tenant_id = "tenant_abc" }))
    publish("order.cancelled", example("order.cancelled"))
    local sent = {}
    for _, line in ipairs(wait_for_lines(outbox, 7)) do
      sent[#sent + 1] = ("%s %s %s"):format(line.channel, line.to, line.text)
    end
    table.sort(sent)
    assert.same({
      "email a@b.c Your order o1 is confirmed.",
      "email cust_123 Thank you for your order ORD-2024-001: 1000 UAH.",
      "email customer of order_xyz Your order order_xyz is cancelled: customer changed their mind.",
      "email customer of pay_789 Your refund of 1000 has been paid out.",
      "email olena@example.com Welcome, Olena Kovalenko!",
      "push user_123 Your order ORD-2024-001 is on its way",
      "sms +380501234567 Your order ORD-2024-001 is on its way",
    }, sent)
  end)

  it("posts to an address, tries 5xx again and rejects 4xx", function()
    local mail = start_peer { { status = 503 }, { status = 200 }, { status = 400 } }
    start("notification", { NOTIFY_URL = mail.url .. "/send" })
    local first = publish("notification.sms", example("notification.sms"))
    wait(function() return #mail:requests() == 2 end, 10, "a second try")
    local second = publish("notification.sms", example("notification.sms"))
    local letter = dead_letter("deadletter.notification.outgoing")
    assert.equal(second, letter:event().id)
    letter:ack()
    local requests = mail:requests()
    assert.equal(3, #requests)
    assert.equal(first, json.decode(requests[2].body).id)
    assert.equal("/send", requests[1].path)
  end)
end)

describe("search", function()
  it("indexes products, their stock and prices, whatever comes first", function()
    local engine = start_peer { { status = 200 } }
    local index = program.folder() .. "/index.jsonl"
    start("search", { SEARCH_URL = engine.url .. "/products", SEARCH_INDEX = index })
    publish("product.stock.updated", { sku = "SKU001", quantity = 7 })
    wait_for_lines(index, 1)
    publish("product.created", { product_id = "prod_456", sku = "SKU001", name = "Clay teapot", price = 500.00 })
    publish("product.price.changed", { sku = "SKU001", old_price = 500.00, new_price = 450.00 })
    publish("product.updated", { product_id = "prod_456", changes = { name = "Teapot" } })
    publish("product.deleted", { product_id = "prod_456" })
    wait_for_lines(index, 5)
    local requests = engine:requests()
    assert.equal(4, #requests)
    assert.same({ product_id = "prod_456", sku = "SKU001", name = "Teapot", price = 450.00, quantity = 7 },
      (json.decode(requests[3].body)))
    assert.equal("PUT /products/_doc/prod_456", requests[3].method .. " " .. requests[3].path)
    assert.equal("DELETE /products/_doc/prod_456", requests[4].method .. " " .. requests[4].path)
  end)
end)

describe("crm", function()
  it("adds up what it learns of a customer, also across a restart", function()
    local path = program.folder() .. "/customers.jsonl"
    local first = start("crm", { CRM_FILE = path })
    publish("customer.created", example("customer.created"))
    publish("customer.tier.changed", example("customer.tier.changed"))
    publish("customer.points.earned", example("customer.points.earned"))
    wait_for_lines(path, 3)
    first:stop()
    local second = start("crm", { CRM_FILE = path })
    publish("customer.points.redeemed", example("customer.points.redeemed"))
    wait_for_lines(path, 4)
    publish("order.delivered", example("order.delivered"))
    wait(function() return second:output():find("Olena Kovalenko, gold, 50 points, 1 orders", 1, true) end, 10, "the sum")
  end)
end)

describe("warehouse", function()
  it("reserves stock, says when it runs low, and notes what to buy", function()
    local path = program.folder() .. "/stock.jsonl"
    local p = start("warehouse", { WAREHOUSE_FILE = path })
    publish("product.stock.updated", { sku = "SKU001", quantity = 5 })
    wait_for_lines(path, 1)
    publish("order.confirmed", { order_id = "o1", status = "confirmed", items = { { sku = "SKU001", quantity = 2 } } })
    wait(function() return p:output():find("to buy: SKU001", 1, true) end, 10, "the purchase")
    local whats = {}
    for _, line in ipairs(wait_for_lines(path, 3)) do whats[#whats + 1] = line.what end
    table.sort(whats)
    assert.same({ "counted", "reserved", "wanted" }, whats)
  end)

  it("dead-letters an order that cannot be met", function()
    start("warehouse")
    publish("order.confirmed", { order_id = "o1", status = "confirmed", items = { { sku = "NONE", quantity = 2 } } })
    local letter = dead_letter("deadletter.warehouse.orders")
    assert.matches("only 0 of NONE left", letter:header("x-eventbus-error"))
    letter:ack()
  end)
end)

describe("analytics", function()
  it("counts every one of the 29 events by type and tenant", function()
    local path = program.folder() .. "/events.jsonl"
    local p = start("analytics", { ANALYTICS_FILE = path })
    for _, event in ipairs(platform.catalogue) do publish(event.type, event.example) end
    publish("order.created", example("order.created"))
    wait_for_lines(path, 30)
    assert.equal(0, p:stop())
    assert.matches("tenant_abc  order.created  2\n", p:output(), 1, true)
    assert.matches("tenant_abc  payment.refund.completed  1\n", p:output(), 1, true)
  end)
end)

describe("order_processing", function()
  it("has an order shipped and says so, correlation carried on", function()
    local carrier = start_peer { { status = 201, body = '{"number":"2045"}' } }
    start("order_processing", { CARRIER_API = carrier.url })
    local id = assert(bus:publish("orders", "order.processing", { order_id = "o1" },
      { tenant_id = "tenant_abc", correlation_id = "req_1" }))
    local event
    wait(function()
      local delivery = bus:get("notification.orders")
      if not delivery then return false end
      local got = delivery:event()
      delivery:ack()
      if got.type == "order.shipped" then event = got end
      return event
    end, 10, "order.shipped")
    assert.same({ order_id = "o1", tracking = { carrier = "Nova Poshta", number = "2045" } }, event.data)
    assert.equal("tenant_abc", event.tenant_id)
    assert.equal("req_1", event.correlation_id)
    assert.is_true(platform.validate(event))
    assert.equal(id, carrier:requests()[1].headers["idempotency-key"])
  end)
end)

describe("oms", function()
  it("publishes an order's life, every payload as the catalogue says", function()
    local carrier = start_peer { { status = 201, body = '{"number":"2045"}' } }
    start("order_processing", { CARRIER_API = carrier.url })
    local oms = program.start("oms", { program.lua(), "examples/oms.lua", "order_7" }, { RABBITMQ_URL = url })
    running[#running + 1] = oms
    assert.equal(0, oms:wait(15), oms:output())
    local types = {}
    wait(function()
      local delivery = bus:get("analytics.events")
      if not delivery then return types["order.shipped"] and types["order.delivered"] end
      local event = delivery:event()
      delivery:ack()
      types[event.type] = true
      assert(platform.validate(event))
      assert.equal("tenant_abc", event.tenant_id)
      assert.equal("req_order_7", event.correlation_id)
    end, 10, "the order is shipped and delivered")
    for _, type in ipairs { "order.created", "order.paid", "payment.completed", "notification.telegram" } do
      assert.is_true(types[type])
    end
  end)
end)

describe("eventbus.journal", function()
  it("knows its ids and records again after a restart, and drops a line cut short", function()
    local path = program.folder() .. "/j.jsonl"
    local j = assert(journal.open(path))
    assert.is_false(j:has("a"))
    j:add("a", { n = 9007199254740993 })
    j:close()
    local file = assert(io.open(path, "ab"))
    file:write('{"id":"b","n":')
    file:close()
    local records = {}
    j = assert(journal.open(path, function(record) records[#records + 1] = record end))
    assert.is_true(j:has("a"))
    assert.is_false(j:has("b"))
    assert.equal(1, #records)
    j:add("c")
    j:close()
    j = assert(journal.open(path))
    assert.is_true(j:has("a") and j:has("c"))
    j:close()
  end)

  it("forgets the oldest ids beyond its bound", function()
    local j = assert(journal.open(nil, nil, { remember = 2 }))
    for _, id in ipairs { "a", "b", "c" } do j:add(id) end
    assert.same({ false, true, true }, { j:has "a", j:has "b", j:has "c" })
  end)

  it("refuses a file that is none", function()
    local path = program.folder() .. "/x"
    local file = assert(io.open(path, "wb"))
    file:write("hello\n")
    file:close()
    local j, err = journal.open(path)
    assert.is_nil(j)
    assert.matches("is not a journal", err)
  end)
end)

describe("eventbus.http", function()
  it("answers nil and the host for a peer that is not there", function()
    local p = start_peer()
    p:stop()
    local answer, err = http.post(p.url .. "/secret", {})
    assert.is_nil(answer)
    assert.matches("^127%.0%.0%.1:%d+: connection refused", err)
  end)

  it("gives up after its deadline", function()
    local server = assert(require("socket").bind("127.0.0.1", 0))
    local port = select(2, server:getsockname())
    local began = wait.now()
    local answer, err = http.request("GET", "http://127.0.0.1:" .. port .. "/", nil, { timeout = 0.3 })
    assert.is_nil(answer)
    assert.matches("timeout", err)
    assert.is_true(wait.now() - began < 3)
    server:close()
  end)
end)
