-- eventbus topology: what a broker someone changed by hand looks like, and what is done about it.

local eventbus = require "eventbus"
local json = require "eventbus.json"
local management = require "eventbus.management"
local plan = require "eventbus.cli.topology.plan"
local platform = require "eventbus.platform"
local diff = require "eventbus.topology.diff"
local topology = require "eventbus.topology"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local b

-- A virtual host with the platform in it: { url, vhost, api, env, bus }.
local function place(empty)
  b = broker.shared()
  local url, vhost = b:new_vhost()
  local self = { url = url, vhost = vhost, api = assert(management.new(b.management_url, eventbus.core.url(url))),
    env = { RABBITMQ_URL = url, RABBITMQ_MANAGEMENT_URL = b.management_url } }
  self.bus = eventbus.assert(eventbus.connect { url = url, source = "spec", log = false })
  if not empty then eventbus.assert(self.bus:declare(platform.topology)) end
  function self:run(...) return command.run({ "topology", ... }, { env = self.env }) end
  function self:leave()
    self.bus:close()
    b:delete_vhost(vhost)
  end
  return self
end

local function done(value, err) return assert(value, tostring(err)) end

local function file_of(text)
  local path = program.folder() .. "/topology.lua"
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

local function contains(text, part)
  assert.is_truthy(text:find(part, 1, true), ("%q is not in:\n%s"):format(part, text))
end

-- Hands on a broker, by the management API as a person would.
local hands = {}

function hands.delete(p, ...) done(p.api:delete(p.api:path(...))) end

function hands.exchange(p, name, definition) done(p.api:request("PUT", p.api:path("exchanges", name), definition)) end

function hands.queue(p, name, arguments, more)
  local body = { durable = true, auto_delete = false, arguments = arguments or {} }
  for key, value in pairs(more or {}) do body[key] = value end
  done(p.api:request("PUT", p.api:path("queues", name), body))
end

function hands.bind(p, source, kind, destination, key, arguments)
  done(p.api:request("POST", p.api:path("bindings", "e", source, kind, destination),
    { routing_key = key, arguments = arguments }))
end

function hands.unbind(p, source, destination, key)
  for _, each in ipairs(done(p.api:bindings())) do
    if each.source == source and each.destination == destination and each.routing_key == key then
      return hands.delete(p, "bindings", "e", source, each.destination_type == "queue" and "q" or "e", destination,
        each.properties_key)
    end
  end
  error("there is no such binding")
end

-- Another declaration under the same name, its bindings as they were.
function hands.queue_again(p, name, arguments, more)
  local before = done(p.api:get(p.api:path("queues", name) .. "/bindings"))
  hands.delete(p, "queues", name)
  hands.queue(p, name, arguments, more)
  for _, each in ipairs(before) do
    if each.source ~= "" then hands.bind(p, each.source, "q", name, each.routing_key, each.arguments) end
  end
end

function hands.exchange_again(p, name, definition)
  local before = {}
  for _, each in ipairs(done(p.api:bindings())) do
    if each.source == name or (each.destination_type == "exchange" and each.destination == name) then
      before[#before + 1] = each
    end
  end
  hands.delete(p, "exchanges", name)
  hands.exchange(p, name, definition)
  for _, each in ipairs(before) do
    hands.bind(p, each.source, each.destination_type == "queue" and "q" or "e", each.destination, each.routing_key)
  end
end

-- Everything as it was.
function hands.mend(p)
  local normal = topology.normalise(platform.topology)
  for _, d in ipairs(diff.compare(normal, done(p.api:state()))) do
    if d.action == "note" and d.argument then
      p.api:delete(p.api:path("policies", "short"))
      wait_until(function()
        return type(p.api:get(p.api:path("queues", "notification.outgoing")).policy) ~= "string"
      end, 20, "the policy is gone")
    elseif d.binding and d.action == "stale" then
      -- It may have gone with its queue or exchange.
      pcall(hands.unbind, p, d.binding.source, d.binding.destination, d.binding.routing_key)
    elseif d.action ~= "create" then
      p.api:delete(p.api:path(d.entity .. "s", d.name))
    end
  end
  done(p.bus:declare(platform.topology))
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
    "~ queue warehouse.orders: x-dead-letter-routing-key is none on the broker, wanted warehouse.orders.failed (406)" },
  { "sends dead letters elsewhere", function(p)
    hands.queue_again(p, "notification.payments", with(dead "notification.payments.failed",
      { ["x-dead-letter-exchange"] = "amq.direct" }))
  end, "~ queue notification.payments: x-dead-letter-exchange is amq.direct on the broker, wanted deadletter (406)" },
  { "gives dead letters another key", function(p) hands.queue_again(p, "warehouse.stock", dead "stock.failed") end,
    "~ queue warehouse.stock: x-dead-letter-routing-key is stock.failed on the broker, wanted warehouse.stock.failed (406)" },
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
    wait_until(function()
      return p.api:get(p.api:path("queues", "notification.outgoing")).policy == "short"
    end, 20, "the policy holds")
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
    assert.are.same({ "- binding orders -> billing.orders (order.paid)",
      "- exchange audit: the topology does not name it", "- queue billing.orders: the topology does not name it" },
      named(r.out))
    assert.are.equal(1, r.code)
  end)

  it("names RABBITMQ_DLQ_TTL when that is what differs", function()
    p.env.RABBITMQ_DLQ_TTL = "1000"
    local r = p:run("plan")
    p.env.RABBITMQ_DLQ_TTL = nil
    assert.are.equal(1, r.code)
    contains(r.out, "~ queue deadletter.orders: x-message-ttl is 86400000 on the broker, wanted 1000 (406): RABBITMQ_DLQ_TTL")
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
    local r = p:run("apply", "--dry-run")
    assert.are.equal(1, r.code)
    assert.are.equal(0, #done(p.api:queues()))
    r = p:run("apply")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "+ queue search.products")
    contains(r.out, "64 created; there before: 0 exchanges, 0 queues, 0 bindings")
    r = p:run("apply")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "0 created; there before: 7 exchanges, 24 queues, 33 bindings")
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
    assert.is_nil(b:queue(p.vhost, "first"))
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
        .. "timeout 60 script -qec 'sh %s/line' /dev/null"):format(p.url, b.management_url, package.path, package.cpath, folder)
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
    wait_until(function() return p.api:get(p.api:path("queues", "notification.full")).messages == 1 end, 20,
      "the statistics know of the message")
    local r = p:run("prune", "--yes")
    assert.are.equal(1, r.code)
    contains(r.out, "removed: binding amq.topic -> crm.customers (a.#)")
    contains(r.out, "removed: queue notification.empty")
    contains(r.out, "kept: queue notification.full holds 1 messages (--force removes it)")
    assert.are.equal(1, b:queue(p.vhost, "notification.full").messages)
    r = p:run("prune", "--yes", "--force")
    assert.are.equal(0, r.code, r.err)
    assert.is_nil(b:queue(p.vhost, "notification.full"))
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
    assert.are.equal(1, b:queue(p.vhost, "notification.late").messages)
  end)

  it("removes nothing else of the virtual host, unless the topology is all of it", function()
    hands.queue(p, "billing.orders")
    hands.bind(p, "orders", "q", "billing.orders", "order.paid")
    hands.exchange(p, "audit", { type = "fanout", durable = true })
    assert.are.equal(0, p:run("prune", "--yes").code)
    assert.is_truthy(b:queue(p.vhost, "billing.orders"))
    local r = p:run("prune", "--yes", "--whole-vhost")
    assert.are.equal(0, r.code, r.err)
    contains(r.out, "removed: queue billing.orders")
    contains(r.out, "removed: exchange audit")
    assert.is_nil(b:queue(p.vhost, "billing.orders"))
  end)
end)

describe("eventbus topology lint", function()
  local function lint(...) return command.run { "topology", "lint", ... } end

  it("finds nothing wrong with the platform", function()
    local r = lint "--strict"
    assert.are.equal(0, r.code)
    contains(r.out, "nothing found")
  end)

  it("finds every trap in the owner's tables, taken by their letter", function()
    local r = lint("--topology", "spec/support/owner_topology.lua")
    assert.are.equal(1, r.code)
    for _, trap in ipairs {
      'deadletter.orders: is bound with "order.*.failed" to "deadletter", a direct exchange',
      'bind "order.processing.failed"',
      'order.processing: dead-letters to "deadletter" with "order.processing.failed", where no queue is bound',
      '"customer.*" from "customers" misses "customer.segment.changed"',
      '"payment.*" from "payments" misses "payment.refund.completed"',
      '"product.*" from "products" misses "product.stock.updated", "product.stock.low"',
      '"order.completed" from "orders" matches no event; nearest: "order.delivered"',
      '"inventory.*" from "products" matches no event; nearest: "product.stock.updated"',
      "no event is published to it and no exchange is bound to it",
      "notification.email: reaches no queue",
    } do contains(r.out, trap) end
    local said = assert(json.decode(lint("--topology", "spec/support/owner_topology.lua", "--json").out))
    assert.are.equal(2, said.errors)
    assert.are.equal(18, said.warnings)
    assert.are.equal(20, #said.findings)
  end)

  it("exits with 0 for warnings, with 1 under --strict", function()
    local path = file_of [[return { queues = { a = { type = "quorum", delivery_limit = 5, dead_letter = false } } }]]
    local r = lint("--topology", path)
    assert.are.equal(0, r.code)
    contains(r.out, "a: is a quorum queue with a delivery limit of 5 and no dead-letter exchange")
    assert.are.equal(1, lint("--topology", path, "--strict").code)
  end)

  it("knows that a part of a topology has no queue for every event", function()
    local path = file_of [[return { exchanges = { orders = { type = "topic" } },
      queues = { mine = { bindings = { { exchange = "orders", routing_key = "order.paid" } } } } }]]
    contains(lint("--topology", path).out, "order.created: reaches no queue")
    contains(lint("--topology", path, "--part").out, "nothing found")
  end)

  it("takes the events of the file's own catalogue", function()
    local path = file_of [[return { catalogue = { { type = "a.b", exchange = "e", routing_key = "a.b" } },
      topology = { exchanges = { e = { type = "topic" } }, queues = { q = { bindings = {
        { exchange = "e", routing_key = "a.c" } } } } } }]]
    contains(lint("--topology", path).out, '"a.c" from "e" matches no event; nearest: "a.b"')
  end)

  it("reports a topology that cannot be meant as an error, and a file that is missing as misuse", function()
    local r = lint("--topology", file_of "return { queus = {} }", "--json")
    assert.are.equal(1, r.code)
    assert.are.equal("invalid", assert(json.decode(r.out)).findings[1].code)
    r = lint("--topology", "nowhere.lua")
    assert.are.equal(2, r.code)
    contains(r.err, "nowhere.lua")
  end)
end)

describe("eventbus topology graph", function()
  local function graph(...) return command.run({ "topology", "graph", ... }) end

  local function drawn(text)
    local folder = program.folder()
    local file = assert(io.open(folder .. "/in.dot", "w"))
    file:write(text)
    file:close()
    local pipe = io.popen(("dot -Tplain %s/in.dot 2>&1; echo rc=$?"):format(folder))
    local out = pipe:read("*a")
    pipe:close()
    return out
  end

  it("draws every exchange, queue, binding, dead letter and retry for Graphviz", function()
    local r = graph()
    assert.are.equal(0, r.code, r.err)
    local out = drawn(r.out)
    contains(out, "rc=0")
    local nodes, edges = 0, 0
    for line in out:gmatch("[^\n]+") do
      if line:match("^node ") then nodes = nodes + 1 end
      if line:match("^edge ") then edges = edges + 1 end
    end
    assert.are.equal(7 + 24, nodes)
    -- Three pairs have several keys in one edge; twelve queues dead-letter, and are retried.
    assert.are.equal(33 - 4 + 12 + 12, edges)
    contains(r.out, "retry 3 × 5s")
    assert.is_nil(graph("--no-retries").out:find("retry", 1, true))
  end)

  it("draws names with quotes, backslashes and other scripts", function()
    local path = file_of [=[return { exchanges = { ['a"b\\c'] = { type = "fanout" }, ["замовлення"] = { type = "topic" } },
      queues = { ["<q>&#;\n"] = { bindings = { { exchange = 'a"b\\c' }, { exchange = "замовлення", routing_key = '"#' } } } } }]=]
    contains(drawn(graph("--topology", path).out), "rc=0")
    local mermaid = graph("--topology", path, "--format", "mermaid").out
    contains(mermaid, '["#60;q#62;#38;#35;;<br>"]')
    contains(mermaid, '(["a#34;b\\c<br>fanout"])')
  end)

  it("writes SVG and Mermaid to a file by its ending, whole", function()
    local folder = program.folder()
    assert.are.equal(0, graph("-o", folder .. "/t.svg").code)
    local svg = io.open(folder .. "/t.svg"):read("*a")
    contains(svg, "</svg>")
    contains(svg, "telegram.notifications")
    assert.are.equal(0, graph("-o", folder .. "/t.mmd").code)
    local mermaid = io.open(folder .. "/t.mmd"):read("*a")
    contains(mermaid, "flowchart LR")
    contains(mermaid, '-->|"order.*"|')
    local r = graph("-o", folder .. "/t.gif")
    assert.are.equal(2, r.code)
    contains(r.err, "say --format dot, svg or mermaid")
  end)

  it("says which package draws SVG when it is missing", function()
    local folder = program.folder()
    os.execute(("mkdir %s/bin; ln -s \"$(command -v sh)\" %s/bin/sh"):format(folder, folder))
    local lua = io.popen("command -v " .. program.lua()):read("*l")
    local pipe = io.popen(("PATH=%s/bin LUA_PATH='%s' LUA_CPATH='%s' %s bin/eventbus topology graph --format svg 2>&1; echo rc=$?")
      :format(folder, package.path, package.cpath, lua))
    local out = pipe:read("*a")
    pipe:close()
    contains(out, "apt-get install graphviz")
    contains(out, "rc=1")
  end)

  it("leaves the old file as it was when the disk is full", function()
    local folder = program.folder()
    local path = folder .. "/t.dot"
    local file = assert(io.open(path, "w"))
    file:write("old")
    file:close()
    -- A limit on the size of files is a full disk that any user may have.
    local pipe = io.popen(("trap '' XFSZ; ulimit -f 1; LUA_PATH='%s' LUA_CPATH='%s' %s bin/eventbus topology graph -o %s 2>&1; "
      .. "echo rc=$?"):format(package.path, package.cpath, program.lua(), path))
    local out = pipe:read("*a")
    pipe:close()
    contains(out, "cannot write " .. path .. ": File too large")
    contains(out, "rc=1")
    assert.are.equal("old", io.open(path):read("*a"))
    assert.are.equal("t.dot", io.popen("ls " .. folder):read("*a"):gsub("%s+$", ""))
  end)
end)

describe("eventbus topology export", function()
  local p

  before_each(function() p = place(true) end)
  after_each(function() p:leave() end)

  it("is imported by rabbitmqctl, and then plan finds no difference", function()
    local path = program.folder() .. "/definitions.json"
    local r = p:run("export", "-o", path)
    assert.are.equal(0, r.code, r.err)
    local out, ok = b:ctl("import_definitions", path)
    assert.is_true(ok, out)
    r = p:run("plan")
    contains(r.out, "no difference")
    assert.are.equal(0, r.code)
  end)

  it("with --policies declares without what policies say, and the policies work", function()
    local path = program.folder() .. "/definitions.json"
    assert.are.equal(0, p:run("export", "--policies", "-o", path).code)
    local out, ok = b:ctl("import_definitions", path)
    assert.is_true(ok, out)
    assert.are.same({}, b:queue(p.vhost, "search.products").arguments)
    -- A message that is rejected goes where the policy says.
    eventbus.assert(p.bus:publish("products", "product.created", { sku = "SKU001" }))
    local message = wait_until(function() return p.bus:get("search.products") end, 10, "the event is in its queue")
    message:reject(false)
    wait_until(function() return b:queue(p.vhost, "deadletter.search.products").messages == 1 end, 10,
      "the dead letter is in its queue")
    assert.are.equal(86400000, p.api:get(p.api:path("queues", "deadletter.search.products"))
      .effective_policy_definition["message-ttl"])
  end)

  it("takes everything that policies can say, and nothing else", function()
    local file = file_of [[return { exchanges = { e = { type = "topic", alternate_exchange = "amq.fanout" } }, queues = {
      ["a.b+c"] = { max_length = 5, max_priority = 3, single_active_consumer = true },
      q = { type = "quorum", delivery_limit = 7, dead_letter = { exchange = "e" } } } }]]
    local made = assert(json.decode(p:run("export", "--policies", "--topology", file).out))
    assert.are.same({ ["x-max-priority"] = 3, ["x-single-active-consumer"] = true }, made.queues[1].arguments)
    assert.are.same({ ["x-queue-type"] = "quorum" }, made.queues[2].arguments)
    assert.are.same({}, made.exchanges[1].arguments)
    local by = {}
    for _, policy in ipairs(made.policies) do by[policy.name] = policy end
    assert.are.equal("^a\\.b\\+c$", by["a.b+c"].pattern)
    assert.are.same({ ["max-length"] = 5 }, by["a.b+c"].definition)
    assert.are.same({ ["delivery-limit"] = 7, ["dead-letter-exchange"] = "e", ["dead-letter-strategy"] = "at-least-once",
      overflow = "reject-publish" }, by.q.definition)
    assert.are.same({ ["alternate-exchange"] = "amq.fanout" }, by.e.definition)
    assert.are.equal("exchanges", by.e["apply-to"])
  end)
end)
