-- What differs between a topology and a broker: by itself, and against the broker's own answers.

local argument = require "eventbus.topology.argument"
local diff = require "eventbus.topology.diff"
local eventbus = require "eventbus"
local management = require "eventbus.management"
local topology = require "eventbus.topology"
local broker = require "spec.support.broker"

local function state(given)
  return { exchanges = given.exchanges or {}, queues = given.queues or {}, bindings = given.bindings or {},
    default_queue_type = given.default_queue_type }
end

local function queue(name, more)
  local result = { name = name, durable = true, auto_delete = false, exclusive = false, type = "classic", arguments = {} }
  for key, value in pairs(more or {}) do result[key] = value end
  return result
end

local function exchange(name, kind, more)
  local result = { name = name, type = kind, durable = true, auto_delete = false, internal = false, arguments = {} }
  for key, value in pairs(more or {}) do result[key] = value end
  return result
end

local function bound(source, destination, key, kind)
  return { source = source, destination = destination, destination_type = kind or "queue", routing_key = key or "",
    arguments = {}, properties_key = key or "~" }
end

local function lines(t, given, options)
  local list = {}
  for _, d in ipairs(diff.compare(topology.normalise(t, { dlq_ttl = 0 }), state(given), options)) do
    list[#list + 1] = table.concat({ d.action, d.entity, d.name, d.argument or d.message }, " ")
  end
  return list
end

describe("topology.diff", function()
  local t = {
    exchanges = { orders = { type = "topic" }, dead = { type = "direct" } },
    queues = {
      ["mail.orders"] = { dead_letter = { exchange = "dead", routing_key = "x" },
        bindings = { { exchange = "orders", routing_key = "order.#" } } },
    },
  }
  local there = {
    exchanges = { exchange("orders", "topic"), exchange("dead", "direct"), exchange("", "direct"),
      exchange("amq.topic", "topic") },
    queues = { queue("mail.orders", { arguments = { ["x-dead-letter-exchange"] = "dead",
      ["x-dead-letter-routing-key"] = "x" } }) },
    bindings = { bound("", "mail.orders", "mail.orders"), bound("orders", "mail.orders", "order.#") },
  }
  local function with(kind, ...)
    local copy = {}
    for key, list in pairs(there) do
      copy[key] = {}
      for i, item in ipairs(list) do copy[key][i] = item end
    end
    for _, item in ipairs { ... } do table.insert(copy[kind], item) end
    return copy
  end

  it("finds none where there is none", function()
    assert.same({}, lines(t, there))
    assert.same({}, lines(t, there, { whole = true }))
  end)

  it("names what is missing, in the order of making it", function()
    assert.same({ "create exchange dead", "create exchange orders", "create queue mail.orders",
      "create binding orders -> mail.orders (order.#)" }, lines(t, {}))
  end)

  it("takes 5 and 5.0 for the same, 5 and \"5\" not", function()
    assert.is_true(argument.same(5, 5.0))
    assert.is_false(argument.same(5, "5"))
    assert.is_true(argument.same({ a = 1, b = { "x" } }, { b = { "x" }, a = 1.0 }))
    assert.is_false(argument.same({ a = 1 }, { a = "1" }))
  end)

  it("calls a binding towards its queues stale, and one from its exchanges to another's queue not", function()
    assert.same({ "stale binding orders -> mail.orders (order.*)" },
      lines(t, with("bindings", bound("orders", "mail.orders", "order.*"))))
    assert.same({ "stale binding amq.topic -> exchange orders (#)" },
      lines(t, with("bindings", bound("amq.topic", "orders", "#", "exchange"))))
    local other = with("queues", queue("other.orders"))
    table.insert(other.bindings, bound("orders", "other.orders", "#"))
    assert.same({ 'note queue other.orders is not the topology\'s: "orders" feeds it' }, lines(t, other))
    assert.same({ "stale queue other.orders the topology does not name it" }, lines(t, other, { whole = true }))
  end)

  it("tells bindings apart by their arguments", function()
    local b = bound("orders", "mail.orders", "order.#")
    b.arguments = { ["x-match"] = "all" }
    assert.same({ "stale binding orders -> mail.orders (order.#) {x-match=\"all\"}" }, lines(t, with("bindings", b)))
  end)

  it("calls a queue of its own first word stale when its exchanges feed it, or its main queue is gone", function()
    local fed = with("queues", queue("mail.returns"))
    table.insert(fed.bindings, bound("orders", "mail.returns", "#"))
    assert.same({ 'stale queue mail.returns "orders" feeds it' }, lines(t, fed))
    assert.same({}, lines(t, with("queues", queue("mail.requests"))))
    assert.same({ 'stale queue mail.old.retry.5000 its queue "mail.old" is gone' },
      lines(t, with("queues", queue("mail.old.retry.5000"))))
    assert.same({ 'note queue other.retry.5000 is not the topology\'s: its queue "other" is gone' },
      lines(t, with("queues", queue("other.retry.5000"))))
  end)

  it("takes neither delay queues nor dead-letter queues of its queues for stale", function()
    local delays = { ["x-message-ttl"] = 5000, ["x-dead-letter-exchange"] = "",
      ["x-dead-letter-routing-key"] = "mail.orders" }
    local more = with("queues", queue("mail.orders.retry.5000", { arguments = delays }), queue("deadletter.mail.orders"))
    table.insert(more.bindings, bound("dead", "deadletter.mail.orders", "mail.orders.failed"))
    assert.same({}, lines(t, more))
    assert.same({}, lines(t, more, { whole = true }))
  end)

  it("sees a delay queue that somebody declared otherwise than its consumer will", function()
    local wrong = { ["x-message-ttl"] = 1, ["x-dead-letter-exchange"] = "", ["x-dead-letter-routing-key"] = "mail.orders" }
    assert.same({ "differs queue mail.orders.retry.5000 x-message-ttl" },
      lines(t, with("queues", queue("mail.orders.retry.5000", { arguments = wrong }))))
  end)

  it("leaves alone what comes and goes by itself", function()
    local tail = with("queues", queue("amq.gen-x", { exclusive = true }), queue("mail.tail", { auto_delete = true }))
    table.insert(tail.bindings, bound("orders", "amq.gen-x", "#"))
    table.insert(tail.bindings, bound("orders", "mail.tail", "#"))
    assert.same({}, lines(t, tail))
    assert.same({}, lines(t, tail, { whole = true }))
  end)

  it("notes what a policy sets, and takes it for no mismatch", function()
    local given = with("queues")
    given.queues[1] = queue("mail.orders", { arguments = given.queues[1].arguments, policy = "short",
      effective_policy_definition = { ["message-ttl"] = 1000 } })
    assert.same({ "note queue mail.orders message-ttl" }, lines(t, given))
  end)

  it("knows that a queue without a type is of the virtual host's default type", function()
    local given = { queues = { queue("a", { type = "quorum", arguments = { ["x-queue-type"] = "quorum" } }) } }
    assert.same({ "differs queue a x-queue-type" }, lines({ queues = { a = {} } }, given))
    given.default_queue_type = "quorum"
    assert.same({}, lines({ queues = { a = {} } }, given))
  end)

  it("refuses a passive entity that is not there", function()
    assert.same({ "refused exchange x is passive (somebody else's) and not there",
      "refused queue q is passive (somebody else's) and not there" },
      lines({ exchanges = { x = { type = "topic", passive = true } }, queues = { q = { passive = true } } }, {}))
  end)
end)

-- Each of these is declared, then every other is asked for under its name: what the broker says is what was foreseen.
local QUEUES = {
  {}, { durable = false }, { auto_delete = true }, { durable = false, auto_delete = true },
  { message_ttl = 5 }, { message_ttl = 6 }, { expires = 600000 }, { max_length = 5 }, { max_length_bytes = 5 },
  { overflow = "reject-publish" }, { overflow = "drop-head" }, { max_priority = 5 }, { max_priority = 6 },
  { single_active_consumer = true }, { single_active_consumer = false },
  { dead_letter = { exchange = "a" } }, { dead_letter = { exchange = "b" } },
  { dead_letter = { exchange = "a", routing_key = "k" } }, { dead_letter = { exchange = "", routing_key = "k" } },
  { arguments = { ["x-queue-type"] = "classic" } }, { arguments = { ["x-queue-mode"] = "lazy" } },
  { arguments = { ["x-queue-version"] = 2 } }, { arguments = { ["x-queue-master-locator"] = "min-masters" } },
  { arguments = { ["x-unknown"] = 1 } }, { arguments = { ["x-unknown"] = 2 } },
  { type = "quorum", delivery_limit = 5, dead_letter = false },
  { type = "quorum", delivery_limit = 6, dead_letter = { exchange = "a" } },
  { type = "quorum", delivery_limit = false, dead_letter = false, arguments = { ["x-quorum-initial-group-size"] = 1 } },
  { arguments = { ["x-queue-type"] = "stream", ["x-max-age"] = "1D" } },
  -- Refused whatever is there.
  { arguments = { ["x-message-ttl"] = "5" } }, { arguments = { ["x-message-ttl"] = -1 } },
  { arguments = { ["x-message-ttl"] = 1.5 } }, { arguments = { ["x-expires"] = 0 } },
  { arguments = { ["x-max-length"] = "5" } }, { arguments = { ["x-max-priority"] = 256 } },
  { arguments = { ["x-overflow"] = "drop" } }, { arguments = { ["x-dead-letter-routing-key"] = "k" } },
  { arguments = { ["x-dead-letter-exchange"] = 5 } }, { arguments = { ["x-dead-letter-strategy"] = "at-least-once" } },
  { arguments = { ["x-delivery-limit"] = 5 } }, { arguments = { ["x-queue-mode"] = "fast" } },
  { arguments = { ["x-queue-version"] = 3 } }, { arguments = { ["x-single-active-consumer"] = "yes" } },
  { arguments = { ["x-queue-type"] = "quorums" } }, { arguments = { ["x-max-age"] = "1D" } },
  { arguments = { ["x-queue-leader-locator"] = "balanced" } }, { arguments = { ["x-quorum-initial-group-size"] = 3 } },
  { type = "quorum", delivery_limit = 5, dead_letter = false, arguments = { ["x-max-priority"] = 5 } },
  { type = "quorum", delivery_limit = 5, dead_letter = false, arguments = { ["x-queue-mode"] = "lazy" } },
}

local EXCHANGES = {
  { type = "topic" }, { type = "direct" }, { type = "fanout" }, { type = "headers" },
  { type = "topic", durable = false }, { type = "topic", auto_delete = true }, { type = "topic", internal = true },
  { type = "topic", alternate_exchange = "a" }, { type = "topic", alternate_exchange = "b" },
  { type = "topic", arguments = { ["x-unknown"] = 1 } }, { type = "topic", arguments = { ["x-unknown"] = 2 } },
}

describe("what topology.diff foresees is what the broker says", function()
  local b, bus, api, vhost

  setup(function()
    b = broker.shared()
    local url
    url, vhost = b:new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, source = "spec", log = false })
    api = assert(management.new(b.management_url, eventbus.core.url(url)))
  end)

  teardown(function()
    bus:close()
    b:delete_vhost(vhost)
  end)

  -- Foreseen conflicts by argument, and what happens.
  local function check(entity, name, definition, state_now)
    local wanted = topology.normalise({ [entity .. "s"] = { [name] = definition } }, { dlq_ttl = 0 })
    local foreseen, arguments = false, {}
    for _, d in ipairs(diff.compare(wanted, state_now)) do
      if d.name == name and d.conflict then
        foreseen = true
        arguments[d.argument or "refused"] = true
      end
    end
    local ok, err = bus:declare(wanted)
    local what = ("%s %s"):format(name, argument.show(definition))
    assert.are.equal(foreseen, not ok, ("%s: foreseen %s, the broker says %s"):format(what, tostring(foreseen),
      ok and "yes" or tostring(err)))
    if not ok then
      assert.are.equal("precondition_failed", err.code, what)
      assert.is_true(arguments[err.argument] or arguments.refused or false, ("%s: foreseen for %s, the broker says %s")
        :format(what, argument.show(arguments), tostring(err)))
    end
    return ok
  end

  it("for each kind of queue that is not there", function()
    local before = assert(api:state())
    for i, definition in ipairs(QUEUES) do check("queue", ("spec.%d"):format(i), definition, before) end
  end)

  it("for each kind of queue over each other", function()
    local now, made = assert(api:state()), 0
    for i in ipairs(QUEUES) do
      local name, there = ("spec.%d"):format(i), false
      for _, q in ipairs(now.queues) do there = there or q.name == name end
      if there then
        made = made + 1
        for j, definition in ipairs(QUEUES) do
          -- Of those that are refused anyway, the broker is asked about every fifth.
          if j <= 29 or (i + j) % 5 == 0 then check("queue", name, definition, now) end
        end
      end
    end
    assert.are.equal(29, made)
  end)

  it("for each kind of exchange over each other", function()
    for i, definition in ipairs(EXCHANGES) do
      assert.is_true(check("exchange", ("spec.%d"):format(i), definition, assert(api:state())))
    end
    local now = assert(api:state())
    for i in ipairs(EXCHANGES) do
      for _, definition in ipairs(EXCHANGES) do check("exchange", ("spec.%d"):format(i), definition, now) end
    end
  end)

  it("for a queue that is exclusive to another connection", function()
    local other = eventbus.assert(eventbus.connect { url = b:url_of(vhost), source = "spec", log = false })
    eventbus.assert(other:declare { queues = { mine = { exclusive = true } } })
    local wanted = topology.normalise { queues = { mine = {} } }
    local list = diff.compare(wanted, assert(api:state()))
    assert.are.equal("exclusive", list[1].argument)
    assert.is_true(list[1].conflict)
    local ok, err = bus:declare(wanted)
    assert.is_nil(ok)
    assert.are.equal("locked", err.code)
    other:close()
  end)
end)
