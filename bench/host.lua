--- What bench/hosts.lua measures of an event loop, inside the host: how long from a publish until the handler of the event
--- begins while the loop has nothing else to do, what that costs, and what is in memory while many events go through. Prints
--- one line of `name=value`.
---
---     host.lua HOST EVENTS        a host of spec/support/loop_hosts.lua, RABBITMQ_URL the broker
---
--- The clock of the first is the host's own and the way leads over the broker, which is the same for all hosts: compare.

local host = {}

local WAKE_UPS, TO_WARM_UP = 2000, 200
local PUBLISHERS, HANDLERS, PREFETCH = 200, 8, 1000

local order = {
  order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
  items = { { product_id = "prod_456", sku = "SKU001", quantity = 2, price = 500.00 } },
  total = 1000.00, currency = "UAH", status = "pending",
}

-- What this process has in memory, in KiB, after Lua's garbage is gone.
local function resident()
  collectgarbage()
  collectgarbage()
  for line in io.lines "/proc/self/status" do
    local size = line:match "^VmRSS:%s+(%d+) kB"
    if size then return size end
  end
end

-- Each event is published by the handler of the one before: the loop waits for each.
local function wake_ups(here, eventbus, bus, queue)
  local clock = here.clock or require("socket").gettime
  local times, count, cpu = {}, 0, nil
  local function send() eventbus.assert(bus:publish_async("", "tick", { at = clock() }, { routing_key = queue })) end
  eventbus.assert(bus:subscribe(queue, function(event)
    local took = clock() - event.data.at
    count = count + 1
    if count == TO_WARM_UP then cpu = os.clock() end
    if count > TO_WARM_UP then times[count - TO_WARM_UP] = took end
    if count == TO_WARM_UP + WAKE_UPS then return bus:stop() end
    send()
  end, { concurrency = 2 }))
  send()
  eventbus.assert(bus:run { timeout = 300, signals = false })
  cpu = os.clock() - cpu
  assert(#times == WAKE_UPS, #times .. " wake-ups")
  table.sort(times)
  local function percentile(p) return ("%.0f"):format(times[math.ceil(#times * p)] * 1e6) end
  return percentile(0.5), percentile(0.99), ("%.0f"):format(cpu / WAKE_UPS * 1e6)
end

-- With confirm, from many coroutines; a plain script waits for each thousand.
local function publish(here, eventbus, bus, queue, events)
  local sizes, options, sent, ended = {}, { routing_key = queue }, 0, 0
  local function note()
    sent = sent + 1
    if sent % (events / 10) == 0 then sizes[#sizes + 1] = resident() end
  end
  if not here.go then
    for i = 1, events do
      eventbus.assert(bus:publish_async("", "order.created", order, options))
      if i % 1000 == 0 then eventbus.assert(bus:flush()) end
      note()
    end
    return sizes
  end
  local begun = 0
  for _ = 1, PUBLISHERS do
    here.go(function()
      while begun < events do
        begun = begun + 1
        eventbus.assert(bus:publish("", "order.created", order, options))
        note()
      end
      ended = ended + 1
    end)
  end
  while ended < PUBLISHERS do here.sleep(0.05) end
  return sizes
end

local function consume(eventbus, bus, queue, events)
  local sizes, count = {}, 0
  eventbus.assert(bus:subscribe(queue, function()
    count = count + 1
    if count % (events / 10) == 0 then sizes[#sizes + 1] = resident() end
    if count == events then bus:stop() end
  end, { concurrency = HANDLERS, prefetch = PREFETCH }))
  eventbus.assert(bus:run { idle = 60, signals = false })
  assert(count == events, count .. " events came")
  return sizes
end

--- In a coroutine of the host, if it has any. `events`: a multiple of 10.
function host.measure(here, name, events)
  local eventbus = require "eventbus"
  local bus = eventbus.assert(eventbus.connect { loop = here.loop, source = "bench" })
  local ticks, many = "ticks." .. name, "many." .. name
  eventbus.assert(bus:declare { queues = { [ticks] = {}, [many] = {} } })
  local p50, p99, cpu = wake_ups(here, eventbus, bus, ticks)
  local published = publish(here, eventbus, bus, many, events)
  local consumed = consume(eventbus, bus, many, events)
  eventbus.assert(bus:close())
  return ("lua=%s p50=%s p99=%s cpu=%s published=%s consumed=%s"):format(rawget(_G, "jit") and "JIT" or _VERSION:sub(5), p50,
    p99, cpu, table.concat(published, ","), table.concat(consumed, ","))
end

--- The same as a program, or as what a host runs; prints the line.
function host.execute(name, events)
  local here = require("spec.support.loop_hosts")[name]()
  here.main(function()
    local line = host.measure(here, name, events)
    io.stdout:write("\n", line, "\n")
    io.stdout:flush()
  end)
end

if arg and arg[0] and arg[0]:match "bench/host%.lua$" then host.execute(arg[1], tonumber(arg[2])) end

return host
