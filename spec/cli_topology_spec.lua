-- eventbus topology: what a broker someone changed by hand looks like, and what is done about it.

local diff = require "eventbus.topology.diff"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local plan = require "eventbus.cli.topology.plan"
local platform = require "eventbus.platform"
local topology = require "eventbus.topology"
local command = require "spec.support.command"
local hands = require "spec.support.hands"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local done, file_of, place = hands.done, hands.file_of, hands.place

local function contains(text, part)
  assert.is_truthy(text:find(part, 1, true), ("%q is not in:\n%s"):format(part, text))
end

local function dead(name) return { ["x-dead-letter-exchange"] = "deadletter", ["x-dead-letter-routing-key"] = name } end

local function with(arguments, more)
  for key, value in pairs(more) do arguments[key] = value end
  return arguments
end

-- What a person did, and the line that names it.
local CHANGES = {
  { "deletes a binding", function(p) hands.unbind(p, "orders", "notification.orders", "order.*") end,
    "+ binding orders -> notification.orders (order.*)" },
  { "deletes a binding between exchanges", function(p) hands.unbind(p, "products", "analytics", "#") end,
    "+ binding products -> exchange analytics (#)" },
  { "adds a binding to a queue", function(p) hands.bind(p, "payments", "q", "crm.customers", "payment.failed") end,
    "- binding payments -> crm.customers (payment.failed)" },
  { "adds a binding to an exchange", function(p) hands.bind(p, "amq.topic", "e", "orders", "order.#") end,
    "- binding amq.topic -> exchange orders (order.#)" },
  { "adds a binding with arguments", function(p) hands.bind(p, "amq.headers", "q", "crm.orders", "", { vip = 1 }) end,
    "- binding amq.headers -> crm.orders {vip=1}" },
  { "deletes a queue", function(p) hands.delete(p, "queues", "deadletter.search.products") end,
    "+ queue deadletter.search.products", "+ binding deadletter -> deadletter.search.products (search.products.failed)" },
  { "deletes an exchange", function(p) hands.delete(p, "exchanges", "notifications") end,
    "+ exchange notifications", "+ binding notifications -> exchange analytics (#)",
    "+ binding notifications -> notification.outgoing (notification.email)",
    "+ binding notifications -> notification.outgoing (notification.push)",
    "+ binding notifications -> notification.outgoing (notification.sms)",
    "+ binding notifications -> telegram.notifications (notification.telegram)" },
  { "gives a queue another TTL", function(p)
    hands.queue_again(p, "order.processing", with(dead "order.processing.failed", { ["x-message-ttl"] = 60000 }))
  end, "~ queue order.processing: x-message-ttl is 60000 on the broker, wanted 86400000 (406)" },
  { "takes a queue's dead letters away", function(p) hands.queue_again(p, "warehouse.orders", {}) end,
    "~ queue warehouse.orders: x-dead-letter-exchange is none on the broker, wanted deadletter (406)",
    "~ queue warehouse.orders: x-dead-letter-routing-key is none on the broker, "
      .. "wanted warehouse.orders.failed (406)" },
  { "sends dead letters elsewhere", function(p)
    hands.queue_again(p, "notification.payments", with(dead "notification.payments.failed",
      { ["x-dead-letter-exchange"] = "amq.direct" }))
  end, "~ queue notification.payments: x-dead-letter-exchange is amq.direct on the broker, "
      .. "wanted deadletter (406)" },
  { "gives dead letters another key", function(p) hands.queue_again(p, "warehouse.stock", dead "stock.failed") end,
    "~ queue warehouse.stock: x-dead-letter-routing-key is stock.failed on the broker, "
      .. "wanted warehouse.stock.failed (406)" },
  { "limits a queue's length", function(p)
    hands.queue_again(p, "analytics.events", with(dead "analytics.events.failed", { ["x-max-length"] = 1000 }))
  end, "~ queue analytics.events: x-max-length is 1000 on the broker, wanted none (406)" },
  { "gives a queue priorities", function(p)
    hands.queue_again(p, "notification.customers", with(dead "notification.customers.failed", { ["x-max-priority"] = 5 }))
  end, "~ queue notification.customers: x-max-priority is 5 on the broker, wanted none (406)" },
  { "makes a queue a quorum queue", function(p)
    hands.queue_again(p, "crm.orders", with(dead "crm.orders.failed", { ["x-queue-type"] = "quorum" }))
  end, "~ queue crm.orders: x-queue-type is quorum on the broker, wanted classic (406)" },
  { "makes a queue transient", function(p)
    hands.queue_again(p, "search.products", dead "search.products.failed", { durable = false })
  end, "~ queue search.products: durable is false on the broker, wanted true (406)" },
  { "makes a queue auto-delete", function(p)
    hands.queue_again(p, "telegram.notifications", dead "telegram.notifications.failed", { auto_delete = true })
  end, "~ queue telegram.notifications: auto_delete is true on the broker, wanted false (406)" },
  { "marks a queue with an argument of the house", function(p)
    hands.queue_again(p, "crm.customers", with(dead "crm.customers.failed", { ["x-house"] = "blue" }))
  end, "~ queue crm.customers: x-house is blue on the broker, wanted none (the broker does not mind)" },
  { "changes an exchange's type", function(p) hands.exchange_again(p, "payments", { type = "direct", durable = true }) end,
    "~ exchange payments: type is direct on the broker, wanted topic (406)" },
  { "makes an exchange transient and auto-delete", function(p)
    hands.exchange_again(p, "customers", { type = "topic", durable = false, auto_delete = true })
  end, "~ exchange customers: durable is false on the broker, wanted true (406)",
    "~ exchange customers: auto_delete is true on the broker, wanted false (406)" },
  { "gives an exchange an alternate", function(p)
    hands.exchange_again(p, "products", { type = "topic", durable = true,
      arguments = { ["alternate-exchange"] = "amq.fanout" } })
  end, "~ exchange products: alternate-exchange is amq.fanout on the broker, wanted none (406)" },
  { "makes an exchange internal", function(p)
    hands.exchange_again(p, "analytics", { type = "fanout", durable = true, internal = true })
  end, "~ exchange analytics: internal is true on the broker, wanted false (406)" },
  { "adds a queue for a service", function(p)
    hands.queue(p, "notification.returns")
    hands.bind(p, "orders", "q", "notification.returns", "order.refunded")
  end, '- queue notification.returns: "orders" feeds it' },
  { "leaves a delay queue of a queue that is gone", function(p)
    hands.queue(p, "notification.old.retry.5000", { ["x-message-ttl"] = 5000, ["x-dead-letter-exchange"] = "",
      ["x-dead-letter-routing-key"] = "notification.old" })
  end, '- queue notification.old.retry.5000: its queue "notification.old" is gone' },
  { "declares a delay queue otherwise", function(p)
    hands.queue(p, "crm.customers.retry.5000", { ["x-message-ttl"] = 50000, ["x-dead-letter-exchange"] = "",
      ["x-dead-letter-routing-key"] = "crm.customers" })
  end, "~ queue crm.customers.retry.5000: x-message-ttl is 50000 on the broker, wanted 5000 (406)" },
  { "adds somebody else's queue", function(p)
    hands.queue(p, "billing.orders")
    hands.bind(p, "orders", "q", "billing.orders", "order.paid")
  end, '? queue billing.orders: is not the topology\'s: "orders" feeds it' },
  { "adds somebody else's exchange", function(p)
    hands.exchange(p, "audit", { type = "fanout", durable = true })
    hands.bind(p, "payments", "e", "audit", "#")
  end, '? exchange audit: is not the topology\'s: bound from "payments"' },
  { "sets a policy", function(p)
    done(p.api:request("PUT", p.api:path("policies", "short"), { pattern = "^notification\\.outgoing$",
      ["apply-to"] = "queues", definition = { ["max-length"] = 10 } }))
    wait_until(function() return hands.listed(p, "notification.outgoing").policy == "short" end, 20, "the policy holds")
  end, '? queue notification.outgoing: the policy "short" sets max-length to 10' },
}

local function named(out)
  local list = {}
  for line in out:gmatch("[^\n]+") do
    if line:match("^[%+%-~!%?] ") then list[#list + 1] = line end
  end
  table.sort(list)
  return list
end

local function lines_of(changes)
  local list = {}
  for _, change in ipairs(changes) do
    for i = 3, #change do list[#list + 1] = change[i] end
  end
  table.sort(list)
  return list
end

-- What the command writes a line to, in a pipe.
local plain = { style = function(_, _, text) return text end }

describe("eventbus topology plan", function()
  local p

  setup(function() p = place() end)
  teardown(function() p:leave() end)
  after_each(function() hands.mend(p) end)

  it("finds no difference where there is none, and exits with 0", function()
    local r = p:run("plan")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "no difference")
    assert.are.equal("", r.err)
  end)

  describe("names what a person", function()
    for _, change in ipairs(CHANGES) do
      it(change[1], function()
        change[2](p)
        local lines = {}
        for _, d in ipairs(diff.compare(topology.normalise(platform.topology), done(p.api:state()))) do
          lines[#lines + 1] = plan.line(plain, d)
        end
        table.sort(lines)
        assert.are.same(lines_of { change }, lines)
      end)
    end
  end)

  it("names all of it together", function()
    for _, change in ipairs(CHANGES) do change[2](p) end
    local r = p:run("plan")
    assert.are.same(lines_of(CHANGES), named(r.out))
    assert.are.equal(1, r.code)
    local parsed = assert(json.decode(p:run("plan", "--json").out))
    assert.are.equal(#lines_of(CHANGES), #parsed.differences)
    assert.are.equal(16, parsed.counts.conflicts)
  end)

  it("exits with 0 when there is nothing but what is not the topology's", function()
    hands.queue(p, "billing.orders")
    hands.bind(p, "orders", "q", "billing.orders", "order.paid")
    local r = p:run("plan")
    assert.are.equal(0, r.code)
    contains(r.out, "no difference (1 not counted)")
  end)

  it("calls all that it does not name stale when the topology is all of the virtual host", function()
    hands.queue(p, "billing.orders")
    hands.bind(p, "orders", "q", "billing.orders", "order.paid")
    hands.exchange(p, "audit", { type = "fanout", durable = true })
    local r = p:run("plan", "--whole-vhost")
    assert.are.same({ "- exchange audit: the topology does not name it",
      "- queue billing.orders: the topology does not name it" }, named(r.out))
    assert.are.equal(1, r.code)
  end)

  it("names RABBITMQ_DLQ_TTL when that is what differs", function()
    p.env.RABBITMQ_DLQ_TTL = "1000"
    local r = p:run("plan")
    p.env.RABBITMQ_DLQ_TTL = nil
    assert.are.equal(1, r.code)
    contains(r.out, "~ queue deadletter.orders: x-message-ttl is 86400000 on the broker, wanted 1000 (406): "
      .. "RABBITMQ_DLQ_TTL")
  end)

  it("says how to get the management API when there is none, and exits with 3", function()
    local r = p:run("plan", "--management", "http://127.0.0.1:1")
    assert.are.equal(3, r.code)
    assert.are.equal("", r.out)
    contains(r.err, "rabbitmq-plugins enable rabbitmq_management")
  end)

  it("names a mistake in the topology's file, and one in RABBITMQ_DLQ_TTL, and exits with 2", function()
    local r = p:run("plan", "--topology", file_of "return { queus = {} }")
    assert.are.equal(2, r.code)
    contains(r.err, 'did you mean "queues"?')
    r = command.run({ "topology", "plan" }, { env = { RABBITMQ_URL = p.url, RABBITMQ_DLQ_TTL = "a day" } })
    assert.are.equal(2, r.code)
    contains(r.err, "RABBITMQ_DLQ_TTL: expected milliseconds")
  end)
end)

describe("eventbus topology apply", function()
  local p

  setup(function() p = place(true) end)
  teardown(function() p:leave() end)

  it("creates what is missing and says so; again, it creates nothing", function()
    local e, q, n = hands.sizes()
    local r = p:run("apply", "--dry-run")
    assert.are.equal(1, r.code)
    assert.are.equal(0, #done(p.api:queues()))
    r = p:run("apply")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "+ queue search.products")
    contains(r.out, ("%d created; there before: 0 exchanges, 0 queues, 0 bindings"):format(e + q + n))
    r = p:run("apply")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, ("0 created; there before: %d exchanges, %d queues, %d bindings"):format(e, q, n))
    assert.are.equal(0, p:run("plan").code)
    hands.unbind(p, "orders", "notification.orders", "order.*")
    assert.are.same({ { entity = "binding", name = "orders -> notification.orders (order.*)" } },
      assert(json.decode(p:run("apply", "--json").out)).created)
  end)

  it("declares nothing when the broker would refuse a part, and says what to do", function()
    local path = file_of [[return { queues = { first = {}, ["search.products"] = { message_ttl = 5 } } }]]
    local r = p:run("apply", "--topology", path)
    assert.are.equal(1, r.code)
    contains(r.out, "~ queue search.products: x-message-ttl is none on the broker, wanted 5 (406)")
    contains(r.err, "cannot be declared; nothing was")
    contains(r.err, "eventbus topology export --policies")
    assert.is_nil(p.broker:queue(p.vhost, "first"))
  end)

  it("works over AMQP alone, says what it cannot see, and what a 406 is about", function()
    local path = file_of [[return { queues = { ["over.amqp"] = {}, ["search.products"] = { passive = true } } }]]
    local r = p:run("apply", "--topology", path, "--management", "http://127.0.0.1:1")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "+ queue over.amqp")
    contains(r.out, "1 created; there before: 0 exchanges, 1 queues, bindings unknown")
    contains(r.err, "looking over AMQP alone")
    path = file_of [[return { queues = { ["search.products"] = { message_ttl = 5 } } }]]
    r = p:run("apply", "--topology", path, "--management", "http://127.0.0.1:1")
    assert.are.equal(1, r.code)
    contains(r.err, 'queue "search.products" exists otherwise: x-message-ttl is none on the broker')
    contains(r.err, "A queue or exchange keeps what it was declared with")
  end)
end)

describe("eventbus topology prune", function()
  local p

  setup(function() p = place() end)
  teardown(function() p:leave() end)
  after_each(function() hands.mend(p) end)

  local function stale_queue(name)
    hands.queue(p, name)
    hands.bind(p, "orders", "q", name, "order.refunded")
  end

  it("says that nothing is stale", function()
    local r = p:run("prune", "--yes")
    assert.are.equal(0, r.code)
    contains(r.out, "nothing is stale")
  end)

  it("shows first, and removes nothing when nobody is there to agree", function()
    hands.bind(p, "payments", "q", "crm.customers", "payment.failed")
    for _, options in ipairs { { "prune" }, { "prune", "--dry-run" } } do
      local r = p:run((table.unpack or unpack)(options))
      assert.are.equal(options[2] and 0 or 1, r.code)
      contains(r.out, "- binding payments -> crm.customers (payment.failed)")
    end
    contains(p:run("plan").out, "1 stale")
  end)

  it("asks on a terminal, and takes anything but yes for no", function()
    hands.bind(p, "payments", "q", "crm.customers", "payment.failed")
    local function answer(text)
      local folder = program.folder()
      local file = assert(io.open(folder .. "/line", "w"))
      local words = command.words { "topology", "prune" }
      file:write("exec ", table.concat(words, " "))
      file:close()
      local line = ("RABBITMQ_URL='%s' RABBITMQ_MANAGEMENT_URL='%s' LUA_PATH='%s' LUA_CPATH='%s' "
        .. "timeout 60 script -qec 'sh %s/line' /dev/null"):format(p.url, p.env.RABBITMQ_MANAGEMENT_URL, package.path,
          package.cpath, folder)
      local pipe = assert(io.popen(("(sleep 1; printf '%s\\n'; sleep 1) | %s"):format(text, line), "r"))
      local out = pipe:read("*a")
      pipe:close()
      return out
    end
    contains(answer "n", "Remove these 1? [y/N]")
    contains(p:run("plan").out, "1 stale")
    contains(answer "y", "removed: binding payments -> crm.customers (payment.failed)")
    assert.are.equal(0, p:run("plan").code)
  end)

  it("removes bindings, queues and exchanges, and keeps queues with messages", function()
    hands.bind(p, "amq.topic", "q", "crm.customers", "a.#")
    stale_queue "notification.empty"
    stale_queue "notification.full"
    eventbus.assert(p.bus:publish("", "kept", {}, { routing_key = "notification.full" }))
    wait_until(function() return hands.listed(p, "notification.full").messages == 1 end, 20,
      "the statistics know of the message")
    local r = p:run("prune", "--yes")
    assert.are.equal(1, r.code)
    contains(r.out, "removed: binding amq.topic -> crm.customers (a.#)")
    contains(r.out, "removed: queue notification.empty")
    contains(r.out, "kept: queue notification.full holds 1 messages (--force removes it)")
    assert.are.equal(1, p.broker:queue(p.vhost, "notification.full").messages)
    r = p:run("prune", "--yes", "--force")
    assert.are.equal(0, r.code, r.err)
    assert.is_nil(p.broker:queue(p.vhost, "notification.full"))
    assert.are.equal(0, p:run("plan").code)
  end)

  it("keeps a queue with messages that its statistics do not tell of yet", function()
    stale_queue "notification.late"
    -- What the command is told lags behind the broker by seconds: it must not be what decides.
    eventbus.assert(p.bus:publish("", "kept", {}, { routing_key = "notification.late" }))
    local r = p:run("prune", "--yes", "--json")
    assert.are.equal(1, r.code)
    local said = assert(json.decode(r.out))
    assert.are.same(json.array {}, said.removed)
    assert.are.equal("notification.late", said.kept[1].name)
    assert.are.equal(1, p.broker:queue(p.vhost, "notification.late").messages)
  end)

  it("removes nothing else of the virtual host, unless the topology is all of it", function()
    hands.queue(p, "billing.orders")
    hands.bind(p, "orders", "q", "billing.orders", "order.paid")
    hands.exchange(p, "audit", { type = "fanout", durable = true })
    assert.are.equal(0, p:run("prune", "--yes").code)
    assert.is_truthy(p.broker:queue(p.vhost, "billing.orders"))
    eventbus.assert(p.bus:publish("orders", "order.paid", {}))
    -- A queue that stays goes on getting its events.
    assert.are.equal(1, p:run("prune", "--yes", "--whole-vhost").code)
    eventbus.assert(p.bus:publish("orders", "order.paid", {}))
    assert.are.equal(2, p.broker:queue(p.vhost, "billing.orders").messages)
    -- Seen first: a 0 may be of before them.
    wait_until(function() return hands.listed(p, "billing.orders").messages == 2 end, 20, "the statistics know of both")
    eventbus.assert(p.bus:purge("billing.orders"))
    wait_until(function() return hands.listed(p, "billing.orders").messages == 0 end, 20,
      "the statistics know that it is empty")
    hands.exchange(p, "audit", { type = "fanout", durable = true })
    local r = p:run("prune", "--yes", "--whole-vhost")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "removed: queue billing.orders")
    contains(r.out, "removed: exchange audit")
    assert.is_nil(p.broker:queue(p.vhost, "billing.orders"))
  end)
end)
