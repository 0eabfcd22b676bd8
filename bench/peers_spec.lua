--- Each peer of the benchmarks does its jobs, and they all mean the same event: what each publishes, the library decodes.
--- `make test-bench`, which installs the peers; not a part of `make test`.

package.path = "./?.lua;" .. package.path

local broker = require "spec.support.broker"
local clients = require "bench.suite.clients"
local eventbus = require "eventbus"
local jobs = require "bench.suite.jobs"
local shell = require "bench.suite.shell"
local wait_until = require("spec.support.wait").wait_until

local COUNT, ALL, SECONDS = 100, 110, 60

local function start(client, job, queue, count)
  local b = broker.shared()
  return shell.start(("env NODE_PATH=build/bench/peers/node_modules %s %s %d %s %s%s"):format(client.command, job,
    count or COUNT, shell.quote(b.url), queue, client.arguments or ""), SECONDS)
end

local function run(client, job, queue, count) return start(client, job, queue, count).wait() end

-- Its line, which must have all of this in numbers.
local function line_of(client, job, queue, fields, count, process)
  local out, said, code = (process or start(client, job, queue, count)).wait()
  assert.are.equal(0, code, ("%s %s: %s%s"):format(client.name, job, out, said))
  local found = {}
  for key, value in out:gmatch "([%w_]+)=([%d.]+)" do found[key] = tonumber(value) end
  for _, field in ipairs { "events", "seconds", "cpu", "rss_kb", (table.unpack or unpack)(fields or {}) } do
    assert.is_number(found[field], ("%s %s has no %s: %s"):format(client.name, job, field, out))
  end
  return found
end

local function can(client, job) return not (client.cannot and client.cannot[job]) end

for _, client in ipairs(clients) do
  describe(client.name, function()
    if not client.json_only then
      it("publishes the envelope of the platform, with the library's properties", function()
        local queue = "peer.publish." .. client.name:gsub("%W", "")
        assert.are.equal(COUNT, line_of(client, "publish", queue).events)
        local bus = eventbus.assert(eventbus.connect { url = broker.shared().url })
        local seen, ids, quantities = 0, {}, {}
        for message in function() return (bus:get(queue)) end do
          seen = seen + 1
          local event = eventbus.assert(message:event())
          assert.is_truthy(event.id:match "^evt_%x+%-%x+%-%x+%-%x+%-%x+$", event.id)
          assert.is_nil(ids[event.id], "an id for each event")
          ids[event.id] = true
          assert.is_truthy(event.timestamp:match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[.%d]*Z$", event.timestamp)
          quantities[event.data.items[1].quantity] = true
          event.data.items[1].quantity = 0
          assert.are.same({
            type = "order.created", source = "oms-service", tenant = "tenant_abc",
            data = {
              order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
              items = { { product_id = "prod_456", sku = "SKU001", quantity = 0, price = 500 } },
              total = 1000, currency = "UAH", status = "pending",
            },
          }, { type = event.type, source = event.source, tenant = event.tenant_id, data = event.data })
          local p = message:properties()
          assert.are.same({ event.id, "order.created", "oms-service", "application/json", true },
            { p.message_id, p.type, p.app_id, p.content_type, p.persistent })
          assert.is_true(p.timestamp > 1.7e9)
          assert.are.equal("tenant_abc", message:header "tenant_id")
          message:ack()
        end
        bus:close()
        assert.are.equal(ALL, seen)
        for quantity = 1, 5 do assert.is_true(quantities[quantity]) end
      end)

      it("consumes what it has published", function()
        local queue = "peer.consume." .. client.name:gsub("%W", "")
        line_of(client, "publish-one", queue)
        assert.are.equal(COUNT, line_of(client, "consume", queue).events)
        local function has(count)
          wait_until(function() return broker.shared():queue("/", queue).messages == count end, 30,
            ("%d events are in the queue"):format(count))
        end
        has(0)
        line_of(client, "publish-none", queue)
        has(ALL)
      end)

      it("measures latencies and declares queues", function()
        local queue = "peer.other." .. client.name:gsub("%W", "")
        local found = line_of(client, "latency", queue, { "p50_us", "p99_us", "p999_us" })
        -- CPU there is of the warm-up too.
        assert.are.equal(ALL, found.events)
        assert.is_true(found.p50_us > 0 and found.p50_us <= found.p99_us and found.p99_us <= found.p999_us)
        line_of(client, "topology", queue)
        assert.are.equal(0, broker.shared():queue("/", queue .. ".1").messages)
        assert.are.equal(0, broker.shared():queue("/", queue .. "." .. COUNT).messages)
      end)
    end

    if client.floor or client.ours then
      it("warms up with as many as it is told", function()
        local queue = "peer.warm." .. client.name:gsub("%W", "")
        local function left() return broker.shared():queue("/", queue).messages end
        assert.are.equal(COUNT, line_of(client, "publish", queue .. " 37", { "began" }).events)
        wait_until(function() return left() == COUNT + 37 end, 30, "W + EVENTS are in the queue")
        assert.are.equal(COUNT, line_of(client, "consume", queue .. " 30").events)
        wait_until(function() return left() == 7 end, 30, "W + EVENTS were taken")
      end)
    end

    if client.floor then
      it("measures latencies in one process", function()
        local found = line_of(client, "latency-together", "peer.together", { "p50_us", "p99_us", "p999_us" })
        assert.are.equal(ALL, found.events)
        assert.is_true(found.p50_us > 0 and found.p50_us <= found.p99_us and found.p99_us <= found.p999_us)
      end)
    end

    if client.floor or client.ours then
      it("tells how often it was woken", function()
        local queue = "peer.woken." .. client.name:gsub("%W", "")
        -- One at a time each publish waits for the broker.
        local found = line_of(client, "publish-one", queue, { "wakeups" })
        assert.is_true(found.wakeups >= COUNT / 2, tostring(found.wakeups))
      end)

      for how, pace in pairs { ["at once"] = "", ["at a pace"] = " 1000" } do
        it("consumes from many queues what the library spreads over them " .. how, function()
          local queue = "peer.fan" .. #pace .. "." .. client.name:gsub("%W", "")
          local process = start(client, "fan", queue .. " 10")
          assert.is_truthy((process.line() or ""):match "^ready pid=%d+$")
          local publisher
          for _, each in ipairs(clients) do publisher = publisher or each.ours and each end
          local spread = line_of(publisher, "spread", queue .. " 10" .. pace, { "seconds" })
          if pace ~= "" then assert.is_true(spread.seconds >= COUNT / 1000, tostring(spread.seconds)) end
          assert.are.equal(COUNT, line_of(client, "fan", queue, nil, nil, process).events)
          for i = 1, 10 do
            wait_until(function() return broker.shared():queue("/", queue .. "." .. i).messages == 0 end, 30,
              ("%s.%d is empty"):format(queue, i))
          end
        end)
      end
    end

    if can(client, "encode-small") then
      it("writes and reads JSON of about the same size", function()
        for _, size in ipairs { "small", "10k", "1m" } do
          for _, what in ipairs { "encode-", "decode-" } do
            local bytes = line_of(client, what .. size, "none", { "bytes" }, 10).bytes
            local about = ({ small = 375, ["10k"] = 10000, ["1m"] = 1000000 })[size]
            assert.is_true(bytes > about * 0.95 and bytes < about * 1.05, ("%s%s: %d"):format(what, size, bytes))
          end
        end
      end)
    end

    it("says that a job is not its own", function()
      local _, _, code = run(client, "juggle", "none")
      assert.is_true(code ~= 0 and code ~= 124)
    end)
  end)
end

describe("jobs", function()
  it("begins each turn with the next client", function()
    local begun = {}
    for turn = 1, 4 do begun[turn] = table.concat(jobs.rotated({ "a", "b", "c" }, turn)) end
    assert.are.same({ "abc", "bca", "cab", "abc" }, begun)
  end)
end)
