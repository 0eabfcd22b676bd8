--- The same job as bench/floor.c, through the library: one JSON line with what it cost.
---
---     client.lua publish|consume URL EVENTS QUEUE
---
--- publish: order.created of the spec, built from tables, confirmed, 1,000 outstanding. consume: prefetch 200, each event
--- decoded, one field summed, acknowledged. CPU is that of this process, all its threads; the clock starts after the
--- connection stands.

local eventbus = require "eventbus"
local core = require "eventbus.core"

local job, url, count, queue = arg[1], arg[2], tonumber(arg[3]), arg[4] or "bench"
if not (job == "publish" or job == "consume") or not url or not count then
  io.stderr:write("usage: client.lua publish|consume URL EVENTS [QUEUE]\n")
  os.exit(2)
end

local bus = eventbus.assert(eventbus.connect { url = url, source = "oms-service", outbox = 1000 })
eventbus.assert(bus:declare { queues = { [queue] = {} } })

local function order(i)
  return {
    order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
    items = { { product_id = "prod_456", sku = "SKU001", quantity = i % 5 + 1, price = 500.00 } },
    total = 1000.00, currency = "UAH", status = "pending",
  }
end

local function publish()
  local opts = { tenant_id = "tenant_abc", routing_key = queue }
  for i = 1, count do eventbus.assert(bus:publish_async("", "order.created", order(i), opts)) end
  eventbus.assert(bus:flush(60))
end

local function consume()
  local seen, total = 0, 0
  eventbus.assert(bus:subscribe(queue, {
    ["order.created"] = function(event)
      total = total + event.data.total
      seen = seen + 1
      if seen == count then bus:stop() end
    end,
  }, { prefetch = 200 }))
  eventbus.assert(bus:run())
  assert(total == 1000 * count)
end

local function resident_kb()
  local file = io.open("/proc/self/status")
  if not file then return 0 end
  local kb = file:read("*a"):match("VmRSS:%s*(%d+)")
  file:close()
  return tonumber(kb)
end

local wall, cpu = core.now(), os.clock()
if job == "publish" then publish() else consume() end
cpu, wall = os.clock() - cpu, core.now() - wall
print(('{"job":"%s","events":%d,"seconds":%.3f,"cpu_us_per_event":%.2f,"events_per_s":%.0f,"rss_kb":%d}'):format(job, count,
  wall, cpu / count * 1e6, count / wall, resident_kb()))
bus:close()
