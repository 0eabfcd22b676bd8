--- Work to be counted by bench/counters.lua: one job, so many times.
---
---     counted.lua encode|decode|publish|publish-one|publish-one-kept|consume N [URL QUEUE [SUBSCRIPTIONS]]
---
--- encode, decode: the order of the spec, and JSON. publish: as the envelope, confirmed, 1,000 outstanding. publish-one:
--- each waits for its confirm, transient, so that the disk has no say in how long that takes; at the end it says how many
--- were late. publish-one-kept: the same, persistent. consume: prefetch 200, decoded, one field summed, acknowledged, by so
--- many subscriptions of the queue (1); it says "ready" when they have begun.

local job, count, url, queue, subscriptions = arg[1], tonumber(arg[2]), arg[3], arg[4], tonumber(arg[5] or 1)

-- In less than this a publish that waits has its confirm from its own thread alone, which leads for 10 ms.
local TIMELY = 0.008

local function order(i)
  return {
    order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
    items = { { product_id = "prod_456", sku = "SKU001", quantity = i % 5 + 1, price = 500.00 } },
    total = 1000.00, currency = "UAH", status = "pending",
  }
end

if job == "encode" or job == "decode" then
  local json = require "eventbus.json"
  local value = order(3)
  local text = assert(json.encode(value))
  if job == "encode" then
    for _ = 1, count do json.encode(value) end
  else
    for _ = 1, count do json.decode(text) end
  end
  return
end

local eventbus = require "eventbus"
local bus = eventbus.assert(eventbus.connect { url = url, source = "oms-service", outbox = 1000, log = false })
eventbus.assert(bus:declare { queues = { [queue] = {} } })
local opts = { tenant_id = "tenant_abc", routing_key = queue }
if job == "publish" then
  for i = 1, count do eventbus.assert(bus:publish_async("", "order.created", order(i), opts)) end
  eventbus.assert(bus:flush(300))
elseif job == "publish-one" or job == "publish-one-kept" then
  if job == "publish-one" then opts.persistent = false end
  local now, late = require("eventbus.core").now, 0
  for i = 1, count do
    local began = now()
    eventbus.assert(bus:publish("", "order.created", order(i), opts))
    if now() - began > TIMELY then late = late + 1 end
  end
  print(("late %d"):format(late))
else
  local seen, total = 0, 0
  for _ = 1, subscriptions do
    eventbus.assert(bus:subscribe(queue, {
      ["order.created"] = function(event)
        total = total + event.data.total
        seen = seen + 1
        if seen == count then bus:stop() end
      end,
    }, { prefetch = 200 }))
  end
  print "ready"
  io.stdout:flush()
  eventbus.assert(bus:run { timeout = 300 })
  assert(total == 1000 * count, "not all events came")
end
bus:close()
