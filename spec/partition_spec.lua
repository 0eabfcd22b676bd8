--- What carries a service beyond one queue: partitions by consistent hash, one active consumer for each, streams.

local broker = require "spec.support.broker"
local eventbus = require "eventbus"
local program = require "spec.support.program"
local topology = require "eventbus.topology"
local wait_until = require("spec.support.wait").wait_until

local function connect(url) return eventbus.assert(eventbus.connect { url = url, log = false }) end

-- Polls until `done()` is true.
local function poll_until(bus, done)
  for _ = 1, 600 do
    if done() then return true end
    eventbus.assert(bus:poll(0.1))
  end
  return false
end

describe("a stream", function()
  local url, bus

  setup(function()
    url = broker.shared():new_vhost()
    bus = connect(url)
    eventbus.assert(bus:declare { queues = { log = { type = "stream", max_age = "7D", max_length_bytes = 1000000 } } })
    for i = 1, 20 do eventbus.assert(bus:publish("", "order.created", { n = i }, { routing_key = "log" })) end
  end)

  teardown(function() bus:close() end)

  local function read(offset, count)
    local seen, offsets = {}, {}
    local subscription = eventbus.assert(bus:subscribe("log", function(event, ctx)
      seen[#seen + 1] = event.data.n
      offsets[#offsets + 1] = ctx.headers["x-stream-offset"]
    end, { arguments = { ["x-stream-offset"] = offset }, retry = false, dead_letter = false }))
    assert.is_true(poll_until(bus, function() return #seen >= count end), "read " .. #seen)
    eventbus.assert(subscription:cancel())
    return seen, offsets
  end

  it("is read as often as one likes, each time from the offset that is asked for", function()
    for _ = 1, 2 do
      local seen, offsets = read("first", 20)
      for i = 1, 20 do assert.are.same({ i, i - 1 }, { seen[i], offsets[i] }) end
    end
    assert.are.equal(20, #(read("1h", 20)))
    -- A chunk of the stream begins before the offset when its events were written at once: those come, and are skipped here.
    local seen, offsets = read(15, 5)
    assert.are.equal(20, seen[#seen])
    assert.are.equal(19, offsets[#offsets])
  end)

  -- It is how RabbitMQ 3.10 reads a stream, and no mistake of it: the session must not take it for one.
  it("may send more than the prefetch: whole chunks of what was written at once", function()
    for i = 1, 500 do assert(bus:publish_async("", "order.created", { n = i }, { routing_key = "log" })) end
    eventbus.assert(bus:flush(60))
    local before = bus:stats().core.control.connections
    local seen = 0
    local subscription = eventbus.assert(bus:subscribe("log", function()
      seen = seen + 1
    end, { prefetch = 1, arguments = { ["x-stream-offset"] = "first" }, retry = false, dead_letter = false }))
    assert.is_true(poll_until(bus, function() return seen >= 520 end), "read " .. seen)
    eventbus.assert(subscription:cancel())
    assert.are.equal(before, bus:stats().core.control.connections)
  end)

  it("declares again what it is, and nothing else", function()
    eventbus.assert(bus:declare { queues = { log = { type = "stream", max_age = "7D", max_length_bytes = 1000000 } } })
    local ok, err = bus:declare { queues = { log = { type = "stream", max_age = "1D", max_length_bytes = 1000000 } } }
    assert.is_nil(ok)
    assert.are.same({ "precondition_failed", "x-max-age" }, { err.code, err.argument })
  end)

  it("refuses what only queues have", function()
    local function message(q) return select(2, topology.check { queues = { q = q } }) end
    assert.is_truthy(message({ type = "stream", message_ttl = 1 }):find("message_ttl: a stream has none", 1, true))
    assert.is_truthy(message({ type = "stream", dead_letter = { exchange = "x" } }):find("dead_letter: a stream", 1, true))
    assert.is_truthy(message({ type = "stream", auto_delete = true }):find("a stream is durable", 1, true))
    assert.is_truthy(message({ type = "stream", max_age = "week" }):find('as in "7D"', 1, true))
    assert.is_truthy(message({ max_age = "7D" }):find("only streams have one", 1, true))
    assert.is_truthy(message({ type = "strem" }):find("stream", 1, true))
  end)
end)

describe("partitions by consistent hash", function()
  local PARTITIONS = 4
  local node, bus

  setup(function()
    node = broker.new { plugins = { "rabbitmq_consistent_hash_exchange" } }
    bus = connect(node.url)
    local t = {
      exchanges = { orders = { type = "topic" },
        ["orders.by-tenant"] = { type = "x-consistent-hash", arguments = { ["hash-header"] = "tenant_id" } } },
      bindings = { { source = "orders", destination = "orders.by-tenant", routing_key = "#" } },
      queues = {},
    }
    for i = 1, PARTITIONS do
      t.queues["orders." .. i] = { single_active_consumer = true,
        bindings = { { exchange = "orders.by-tenant", routing_key = "1" } } }
    end
    assert.are.same({}, topology.lint(t))
    eventbus.assert(bus:declare(t))
  end)

  teardown(function()
    if bus then bus:close() end
    if node then node:stop() end
  end)

  it("keeps the events of a tenant in one queue, and in order, whoever consumes", function()
    local second = connect(node.url)
    local last, queue_of, seen = {}, {}, 0
    local used = {}
    for i = 1, PARTITIONS do
      -- Two consumers of each queue, of which the broker lets one at a time have events.
      for who, consumer in ipairs { bus, second } do
        eventbus.assert(consumer:subscribe("orders." .. i, function(event, ctx)
          local tenant = event.tenant_id
          assert(queue_of[tenant] == nil or queue_of[tenant] == ctx.queue, "in another queue")
          assert(event.data.n == (last[tenant] or 0) + 1, "out of order")
          queue_of[tenant], last[tenant], seen = ctx.queue, event.data.n, seen + 1
          used[ctx.queue] = used[ctx.queue] or who
          assert(used[ctx.queue] == who, "two consumers at once")
        end, { retry = false }))
      end
    end
    for n = 1, 10 do
      for tenant = 1, 20 do
        eventbus.assert(bus:publish_async("orders", "order.created", { n = n }, { tenant_id = "tenant_" .. tenant }))
      end
    end
    eventbus.assert(bus:flush(60))
    assert.is_true(poll_until(bus, function()
      second:poll(0)
      return seen >= 200
    end), "seen " .. seen)
    second:close()
    local queues = 0
    for _ in pairs(used) do queues = queues + 1 end
    assert.is_true(queues > 1, "all tenants are in one queue")
  end)

  it("has a worker for each and others that stand by, as the example has it", function()
    eventbus.assert(bus:declare(require("scaling.partitions").topology(2, "scaling.orders.by-tenant", "tenant_id")))
    local workers = {}
    for i = 1, 2 do
      workers[i] = program.start("partition", { program.lua(), "examples/scaling/partition.lua", tostring(i), "2", "2" },
        { RABBITMQ_URL = node.url, WORK_MS = "1" })
      wait_until(function() return workers[i]:output():find("own", 1, true) end, 60, "a worker consumes")
    end
    for n = 1, 3 do
      for tenant = 1, 20 do
        eventbus.assert(bus:publish_async("scaling.orders", "order.created", { n = n }, { tenant_id = "tenant_" .. tenant }))
      end
    end
    eventbus.assert(bus:flush(60))
    for i = 1, 2 do
      wait_until(function()
        local queue = node:queue("/", "scaling.orders." .. i)
        return queue.messages == 0 and queue.consumers == 2
      end, 60, "its events are handled, and another stands by")
    end
    local handled = 0
    for _, worker in ipairs(workers) do
      assert.are.equal(0, worker:stop(), worker:output())
      local count, last = 0, {}
      for tenant, n in worker:output():gmatch "handled %S+ %S+ (%S+) (%d+)\n" do
        assert.are.equal((last[tenant] or 0) + 1, tonumber(n), worker:output())
        count, last[tenant] = count + 1, tonumber(n)
      end
      assert.is_true(count > 0 and count < 60, worker:output())
      handled = handled + count
    end
    assert.are.equal(60, handled)
  end)
end)
