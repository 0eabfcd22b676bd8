local topology = require "eventbus.topology"
local platform = require "eventbus.platform"

local function codes(findings)
  local list = {}
  for i, finding in ipairs(findings) do list[i] = finding.code end
  return table.concat(list, " ")
end

local function finding(findings, code)
  for _, one in ipairs(findings) do
    if one.code == code then return one end
  end
  error(("no finding %q among: %s"):format(code, codes(findings)), 2)
end

local function message_of(t, config)
  local result, message = topology.check(t, config)
  assert.is_nil(result)
  return message
end

describe("topology.normalise", function()
  it("gives final arguments and the dead letter of a queue", function()
    local t = topology.normalise {
      exchanges = { deadletter = { type = "direct" } },
      queues = {
        ["order.processing"] = {
          message_ttl = 86400000.0,
          dead_letter = { exchange = "deadletter", routing_key = "order.processing.failed" },
          arguments = { ["x-max-length"] = 5 },
        },
      },
    }
    local q = t.queues["order.processing"]
    assert.same({
      ["x-message-ttl"] = 86400000, ["x-dead-letter-exchange"] = "deadletter",
      ["x-dead-letter-routing-key"] = "order.processing.failed", ["x-max-length"] = 5,
    }, q.arguments)
    assert.equal("86400000", tostring(q.arguments["x-message-ttl"]))
    assert.same({ exchange = "deadletter", routing_key = "order.processing.failed" }, q.dead_letter)
    assert.is_true(q.durable)
    assert.equal("order.processing", q.name)
  end)

  it("reads the dead letter out of raw arguments, too", function()
    local t = topology.normalise { queues = { a = { arguments = { ["x-dead-letter-exchange"] = "" } } } }
    assert.same({ exchange = "" }, t.queues.a.dead_letter)
  end)

  it("changes nothing in the table it is given", function()
    local given = { queues = { a = { arguments = {}, message_ttl = 5 } }, defaults = { queue = { max_length = 3 } } }
    topology.normalise(given)
    assert.same({ queues = { a = { arguments = {}, message_ttl = 5 } }, defaults = { queue = { max_length = 3 } } }, given)
  end)

  it("takes its own result again", function()
    local t = topology.normalise { queues = { a = {} } }
    assert.equal(t, topology.normalise(t))
  end)

  it("takes thresholds of alerts per queue over those of the defaults, and declares none of them", function()
    local t = { defaults = { queue = { alerts = { depth = 100, consumers = 2 } } },
      queues = { a = { alerts = { depth = false, rate = 2.5 } }, b = {}, c = { dead_letters = true } } }
    local normal = topology.normalise(t)
    assert.same({ depth = false, consumers = 2, rate = 2.5 }, normal.queues.a.alerts)
    assert.same({ depth = 100, consumers = 2 }, normal.queues.b.alerts)
    assert.same({ depth = 100, consumers = false }, normal.queues.c.alerts)
    for _, step in ipairs(topology.plan(t)) do
      assert.is_nil(step.args.alerts)
    end
    assert.matches('queues%["a"%]%.alerts: unknown key "dept"; did you mean "depth"',
      message_of { queues = { a = { alerts = { dept = 1 } } } })
    assert.matches("alerts.rate: expected a number above 0 or false, got 0",
      message_of { queues = { a = { alerts = { rate = 0 } } } })
  end)

  it("lays defaults under each queue, and arguments key by key", function()
    local t = topology.normalise {
      defaults = { queue = { max_length = 10, arguments = { ["x-a"] = 1, ["x-b"] = 1 } } },
      queues = { a = { arguments = { ["x-b"] = 2 } }, b = { max_length = 20 } },
    }
    assert.same({ ["x-max-length"] = 10, ["x-a"] = 1, ["x-b"] = 2 }, t.queues.a.arguments)
    assert.equal(20, t.queues.b.arguments["x-max-length"])
  end)

  it("moves all queues to quorum by one default", function()
    local t = topology.normalise {
      defaults = { queue = { type = "quorum", delivery_limit = 20, dead_letter = { exchange = "dlx" } } },
      queues = { a = {}, dead = { dead_letter = false, dead_letters = true } },
    }
    assert.equal("quorum", t.queues.a.type)
    assert.same({
      ["x-queue-type"] = "quorum", ["x-delivery-limit"] = 20, ["x-dead-letter-exchange"] = "dlx",
      ["x-dead-letter-strategy"] = "at-least-once", ["x-overflow"] = "reject-publish",
    }, t.queues.a.arguments)
    assert.is_nil(t.queues.dead.dead_letter)
  end)

  it("lets a quorum queue neither without a limit nor without a dead-letter exchange", function()
    assert.matches("needs an explicit delivery_limit", message_of { queues = { a = { type = "quorum" } } })
    assert.matches("needs dead_letter", message_of { queues = { a = { type = "quorum", delivery_limit = 5 } } })
    assert.matches("only quorum queues have one", message_of { queues = { a = { delivery_limit = 5 } } })
    assert.matches("durable", message_of { queues = { a = { type = "quorum", durable = false } } })
  end)

  it("keeps dead letters as long as RABBITMQ_DLQ_TTL or the configuration says", function()
    local t = { queues = { dead = { dead_letters = true } } }
    if not os.getenv "RABBITMQ_DLQ_TTL" then
      assert.equal(86400000, topology.normalise(t).queues.dead.arguments["x-message-ttl"])
    end
    assert.equal(1000, topology.normalise(t, { dlq_ttl = 1000 }).queues.dead.arguments["x-message-ttl"])
    assert.is_nil(topology.normalise(t, { dlq_ttl = 0 }).queues.dead.arguments["x-message-ttl"])
    assert.matches("RABBITMQ_DLQ_TTL.*milliseconds.*%-1", message_of(t, { dlq_ttl = -1 }))
  end)

  local mistakes = {
    { "a misspelt section", { queue = {} }, 'topology: unknown key "queue"; did you mean "queues"?' },
    { "a misspelt field", { queues = { ["a.b"] = { mesage_ttl = 1 } } },
      'queues["a.b"]: unknown key "mesage_ttl"; did you mean "message_ttl"?' },
    { "a wrong type", { queues = { a = { durable = "yes" } } }, 'queues["a"].durable: expected boolean, got string' },
    { "a negative TTL", { queues = { a = { message_ttl = -1 } } },
      'queues["a"].message_ttl: expected a whole number of 0 or more, got -1' },
    { "half a millisecond", { queues = { a = { message_ttl = 0.5 } } }, "got 0.5" },
    { "an exchange without a type", { exchanges = { a = {} } }, 'exchanges["a"]: type is missing' },
    { "an unknown exchange type", { exchanges = { a = { type = "topik" } } }, 'did you mean "topic"?' },
    { "a binding without its exchange", { queues = { a = { bindings = { { routing_key = "x" } } } } },
      'queues["a"].bindings[1]: exchange is missing' },
    { "a single binding instead of a list", { queues = { a = { bindings = { exchange = "x" } } } }, "expected a list" },
    { "an exchange binding without a destination", { bindings = { { source = "a" } } },
      "bindings[1]: destination is missing" },
    { "a binding to the default exchange", { queues = { a = { bindings = { { exchange = "" } } } } }, "takes no bindings" },
    { "a name of 256 bytes", { queues = { [("q"):rep(256)] = {} } }, "256 bytes; AMQP allows 255" },
    { "a name that is a number", { queues = { {} } }, "queues[1]: the name must be a string" },
    { "a dead letter without an exchange", { queues = { a = { dead_letter = {} } } },
      'queues["a"].dead_letter: exchange is missing' },
    { "a field and an argument that differ",
      { queues = { a = { message_ttl = 1, arguments = { ["x-message-ttl"] = 2 } } } }, "says 2, the queue's own field 1" },
    { "no table at all", { queues = { a = 5 } }, 'queues["a"]: expected a table, got number' },
  }
  for _, case in ipairs(mistakes) do
    it("names the path of " .. case[1], function()
      local message = message_of(case[2])
      assert(message:find(case[3], 1, true), message)
    end)
  end

  it("raises at the caller's line", function()
    local ok, message = pcall(function() topology.normalise { queus = {} } end)
    assert.is_false(ok)
    assert.matches("topology_spec%.lua:%d+: topology: unknown key", tostring(message))
  end)
end)

describe("topology.plan", function()
  it("declares before it binds, in the same order each time", function()
    local steps = topology.plan {
      queues = { b = { bindings = { { exchange = "y", routing_key = "k" } } }, a = { message_ttl = 5 } },
      exchanges = { y = { type = "topic" }, x = { type = "fanout" } },
      bindings = { { source = "y", destination = "x", routing_key = "#" } },
    }
    assert.same({
      { name = "exchange_declare", args = { exchange = "x", type = "fanout", durable = true, auto_delete = false,
        internal = false, passive = false } },
      { name = "exchange_declare", args = { exchange = "y", type = "topic", durable = true, auto_delete = false,
        internal = false, passive = false } },
      { name = "queue_declare", args = { queue = "a", durable = true, exclusive = false, auto_delete = false,
        passive = false, arguments = { ["x-message-ttl"] = 5 } } },
      { name = "queue_declare", args = { queue = "b", durable = true, exclusive = false, auto_delete = false,
        passive = false } },
      { name = "queue_bind", args = { queue = "b", exchange = "y", routing_key = "k" } },
      { name = "exchange_bind", args = { destination = "x", source = "y", routing_key = "#" } },
    }, steps)
  end)
end)

describe("topology.route", function()
  it("follows exchanges, even in a circle, and alternate exchanges", function()
    local t = {
      exchanges = { a = { type = "topic", alternate_exchange = "rest" }, b = { type = "fanout" },
        rest = { type = "fanout" } },
      queues = { q1 = { bindings = { { exchange = "a", routing_key = "x.*" } } },
        q2 = { bindings = { { exchange = "b" } } }, q3 = { bindings = { { exchange = "rest" } } } },
      bindings = { { source = "a", destination = "b", routing_key = "x.y" }, { source = "b", destination = "a" } },
    }
    assert.same({ "q1", "q2" }, topology.route(t, "a", "x.y"))
    assert.same({ "q1" }, topology.route(t, "a", "x.z"))
    assert.same({ "q3" }, topology.route(t, "a", "other"))
    assert.same({ "q1" }, topology.route(t, "", "q1"))
    assert.same({}, topology.route(t, "", "nobody"))
  end)
end)

describe("topology.lint", function()
  it("finds nothing wrong with the platform", function()
    assert.same({}, topology.lint(platform.topology, platform.catalogue))
  end)

  local raw = require "spec.support.owner_topology"

  it("finds the traps in the owner's tables, taken by their letter", function()
    local findings = topology.lint(raw, platform.catalogue)
    local by = {}
    for _, f in ipairs(findings) do by[#by + 1] = f.code .. " " .. f.subject end
    table.sort(by)
    assert.same({
      "dead-letter-unroutable order.processing",
      "event-unrouted customer.points.earned", "event-unrouted customer.points.redeemed",
      "event-unrouted customer.segment.changed", "event-unrouted customer.tier.changed",
      "event-unrouted notification.email", "event-unrouted notification.push", "event-unrouted notification.sms",
      "event-unrouted payment.refund.completed",
      "event-unrouted product.price.changed", "event-unrouted product.stock.low",
      "event-unrouted product.stock.out", "event-unrouted product.stock.updated",
      "matches-nothing crm", "matches-nothing warehouse", "nothing-arrives analytics",
      "pattern-misses crm", "pattern-misses notification", "pattern-misses search",
      "wildcard-on-direct deadletter.orders",
    }, by)
    assert.matches('bind "order.processing.failed"', finding(findings, "wildcard-on-direct").message, 1, true)
    assert.matches('nearest: "order.delivered"', finding(findings, "matches-nothing").message, 1, true)
    assert.equal("error", findings[1].severity)
  end)

  it("names the stock events for inventory.*", function()
    local text = ""
    for _, f in ipairs(topology.lint(raw, platform.catalogue)) do
      if f.subject == "warehouse" and f.code == "matches-nothing" then text = f.message end
    end
    assert.matches('"product.stock.updated", "product.stock.low", "product.stock.out"', text, 1, true)
  end)

  it("suggests # for a lone * on a topic exchange", function()
    local findings = topology.lint({ exchanges = { orders = { type = "topic" } },
      queues = { a = { bindings = { { exchange = "orders", routing_key = "*" } } } } },
      { { type = "order.created", exchange = "orders", routing_key = "order.created" } })
    assert.matches('"#" takes all events', finding(findings, "matches-nothing").message, 1, true)
  end)

  it("says nothing about a binding that is intended", function()
    local findings = topology.lint({ exchanges = { orders = { type = "topic" } },
      queues = { a = { bindings = { { exchange = "orders", routing_key = "later.*", intended = true },
        { exchange = "orders", routing_key = "#" } } } } },
      { { type = "order.created", exchange = "orders", routing_key = "order.created" } })
    assert.same({}, findings)
  end)

  local dlx = { deadletter = { type = "direct" } }
  local cases = {
    { "unknown-exchange", { queues = { a = { bindings = { { exchange = "ordrs" } } } },
      exchanges = { orders = { type = "fanout" } } }, 'did you mean "orders"?' },
    { "unknown-exchange", { queues = { a = { dead_letter = { exchange = "nowhere" } } } }, "dead-letters to" },
    { "quorum-without-dlx", { queues = { a = { type = "quorum", delivery_limit = 5, dead_letter = false } } },
      "a delivery limit of 5" },
    { "quorum-without-dlx", { queues = { a = { type = "quorum", delivery_limit = false, dead_letter = false } } }, "20" },
    { "expires-delay-queue", { queues = { work = {}, ["work.retry.5000"] = { message_ttl = 5000, expires = 60000,
      dead_letter = { exchange = "", routing_key = "work" } } } }, "publishing does not count as use" },
    { "expires", { queues = { a = { expires = 60000 } } }, "without a consumer" },
    { "dead-letter-unroutable", { exchanges = dlx, queues = { a = {
      dead_letter = { exchange = "deadletter", routing_key = "a.faild" } } } }, "dead letters vanish" },
    { "dead-letter-unroutable", { queues = { a = { dead_letter = { exchange = "", routing_key = "b" } } } }, '"b"' },
    { "dead-letter-unused", { exchanges = dlx, queues = {
      a = { dead_letter = { exchange = "deadletter", routing_key = "a.failed" } },
      dead = { dead_letters = true, bindings = { { exchange = "deadletter", routing_key = "a.failed" },
        { exchange = "deadletter", routing_key = "a.failde" } } } } }, 'did you mean "a.failed"?' },
    { "dead-letter-loop", { queues = { a = { dead_letter = { exchange = "", routing_key = "a" } } } }, "into itself" },
    { "internal-exchange", { exchanges = { dlx = { type = "fanout", internal = true } }, queues = {
      a = { dead_letter = { exchange = "dlx" } }, dead = { bindings = { { exchange = "dlx" } } } } }, "internal" },
    { "refused", { queues = { b = {}, a = {
      dead_letter = { exchange = "", routing_key = "b", strategy = "at-least-once" } } } },
      "a classic queue has no x-dead-letter-strategy" },
    { "refused", { queues = { a = { dead_letters = true, arguments = { ["x-message-ttl"] = "5" } } } },
      "x-message-ttl must be a whole number, is the text" },
    { "strategy-ignored", { queues = { b = {}, a = { type = "quorum", delivery_limit = 5, overflow = "drop-head",
      dead_letter = { exchange = "", routing_key = "b", strategy = "at-least-once" } } } }, "at-most-once" },
    { "ttl-without-dlx", { queues = { a = { message_ttl = 5 } } }, "what expires is gone" },
    { "key-on-fanout", { exchanges = { f = { type = "fanout" } },
      queues = { a = { bindings = { { exchange = "f", routing_key = "order.created" } } } } }, "ignores keys" },
    { "transient", { queues = { a = { durable = false } } }, "lost at a restart" },
    { "duplicate-binding", { exchanges = { f = { type = "fanout" } },
      queues = { a = { bindings = { { exchange = "f" }, { exchange = "f" } } } } }, "twice" },
    { "invalid", { queus = {} }, 'did you mean "queues"?' },
  }
  for _, case in ipairs(cases) do
    it(("reports %s: %s"):format(case[1], case[3]), function()
      local findings = topology.lint(case[2])
      assert.equal(case[1], codes(findings))
      assert(findings[1].message:find(case[3], 1, true), findings[1].message)
    end)
  end
end)
