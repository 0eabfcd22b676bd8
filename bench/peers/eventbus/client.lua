--- The jobs of bench/peers/README.md through the library. Some of them have another argument:
---
---     client.lua publish EVENTS URL QUEUE W  W come before the clock starts, else a tenth of EVENTS. consume likewise
---     client.lua fan EVENTS URL QUEUE N      subscribes to QUEUE.1 to QUEUE.N, prints "ready", consumes W + EVENTS
---     client.lua spread EVENTS URL QUEUE N   publishes W + EVENTS to these in turn; with a RATE after N so many a second

local eventbus = require "eventbus"
local envelope = require "eventbus.envelope"
local now = eventbus.core.now

local job, count, url, queue, more = arg[1], tonumber(arg[2]), arg[3], arg[4], tonumber(arg[5])
if not (job and count and url and queue) then
  io.stderr:write("usage: client.lua JOB EVENTS URL QUEUE\n")
  os.exit(2)
end
local takes_warm = job == "publish" or job == "consume"
local warm, fan, rate = takes_warm and more or math.floor(count / 10), more, tonumber(arg[6])
local check = eventbus.assert

local function order(i, items)
  local list = {}
  for n = 1, items or 1 do
    list[n] = { product_id = "prod_456", sku = "SKU001", quantity = i % 5 + 1, price = 500.00 }
  end
  return {
    order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123", items = list,
    total = 1000.00, currency = "UAH", status = "pending",
  }
end

-- The largest resident size so far.
local function resident_kb()
  local file = io.open("/proc/self/status")
  if not file then return 0 end
  local kb = file:read("*a"):match("VmHWM:%s*(%d+)")
  file:close()
  return tonumber(kb)
end

local function stat_pid()
  local file = assert(io.open("/proc/self/stat"))
  local pid = file:read("*a"):match("^%d+")
  file:close()
  return pid
end

-- How often a thread of this process has gone to sleep of its own, and so had to be woken.
local function sleeps()
  local pipe = io.popen("cat /proc/" .. stat_pid() .. "/task/*/status")
  local sum = 0
  for line in pipe:lines() do sum = sum + (tonumber(line:match("^voluntary_ctxt_switches:%s*(%d+)")) or 0) end
  pipe:close()
  return sum
end

-- Looking takes longer than an event: where the clock starts among deliveries, it is done before them, and is of `watched`.
local slept, watched
local function watch(events) slept, watched = sleeps(), events end

local wall, cpu
local function begin(events)
  if not slept then watch(events or count) end
  wall, cpu = now(), os.clock()
end

local function finish(events, figures)
  -- clock() counts all threads.
  local spent, elapsed = os.clock() - cpu, now() - wall
  print(("events=%d seconds=%.6f cpu=%.6f rss_kb=%d began=%.6f wakeups=%.0f%s"):format(events, elapsed, spent,
    resident_kb(), wall, (sleeps() - slept) / watched * events, figures or ""))
end

local bus
local function connect(options)
  options.url, options.source = url, "oms-service"
  bus = check(eventbus.connect(options))
end

local tenant = { tenant_id = "tenant_abc", routing_key = queue }
local jobs = {}

-- `fields`, of a view, and what tells that all has arrived: else a flush.
local function publish(options, fields, ended)
  connect(options)
  local view = bus:with(fields or {})
  check(bus:declare { queues = { [queue] = {} } })
  for i = 1, warm + count do
    if i == warm + 1 then
      check(bus:flush(60))
      begin()
    end
    check(view:publish_async("", "order.created", order(i), tenant))
  end
  if ended then check(ended()) else check(bus:flush(60)) end
  finish(count)
end

function jobs.publish() publish { outbox = 1000 } end

-- Without confirms a flush says little; the broker answers a connection's close when its channels have done their work.
jobs["publish-none"] = function()
  publish({ outbox = 1000 }, { confirm = false }, function() return bus:close(60) end)
end

jobs["publish-one"] = function()
  connect {}
  check(bus:declare { queues = { [queue] = {} } })
  for i = 1, warm + count do
    if i == warm + 1 then begin() end
    check(bus:publish("", "order.created", order(i), tenant))
  end
  finish(count)
end

function jobs.consume()
  connect {}
  check(bus:declare { queues = { [queue] = {} } })
  local seen, total = 0, 0
  watch(warm + count)
  check(bus:subscribe(queue, { ["order.created"] = function(event)
    total = total + event.data.total
    seen = seen + 1
    if seen == warm then begin() end
    if seen == warm + count then bus:stop() end
  end }, { prefetch = 200 }))
  if warm == 0 then begin() end
  check(bus:run())
  finish(count)
  assert(total == 1000 * (warm + count), "the totals do not add up")
end

local function percentiles(list)
  table.sort(list)
  local function at(p) return list[math.max(1, math.ceil(#list * p))] * 1e6 end
  return (" p50_us=%.0f p99_us=%.0f p999_us=%.0f"):format(at(0.5), at(0.99), at(0.999))
end

function jobs.latency()
  connect {}
  check(bus:declare { queues = { [queue] = {} } })
  local sent, waits, seen = {}, {}, 0
  check(bus:subscribe(queue, { ["order.created"] = function()
    seen = seen + 1
    if seen > warm then waits[#waits + 1] = now() - sent[seen] end
  end }, { prefetch = 200 }))
  begin(warm + count)
  local began, deadline = now(), now() + (warm + count) / 500 + 30
  while seen < warm + count do
    local due = began + #sent / 500
    local at = now()
    if at > deadline then error("events are missing") end
    if #sent < warm + count and at >= due then
      sent[#sent + 1] = now()
      check(bus:publish_async("", "order.created", order(#sent), tenant))
      due = began + #sent / 500
    end
    check(bus:poll(#sent < warm + count and math.max(0, due - now()) or 1))
  end
  finish(warm + count, percentiles(waits))
end

function jobs.topology()
  connect {}
  begin()
  local queues = {}
  for i = 1, count do queues[queue .. "." .. i] = {} end
  check(bus:declare { queues = queues })
  finish(count)
end

function jobs.consumers()
  connect { reconnect_delay = 0.1, reconnect_max = 0.1, log = false }
  check(bus:declare { queues = { [queue] = {} } })
  for _ = 1, count do check(bus:subscribe(queue, function() end, { prefetch = 1, retry = false, dead_letter = false })) end
  print("ready pid=" .. stat_pid())
  io.stdout:flush()
  check(bus:run())
end

function jobs.spread()
  connect { outbox = 1000 }
  begin()
  local began = now()
  for i = 1, warm + count do
    while rate and now() < began + i / rate do check(bus:poll(math.max(0, began + i / rate - now()))) end
    check(bus:publish_async("", "order.created", order(i),
      { tenant_id = "tenant_abc", routing_key = queue .. "." .. (i % fan + 1) }))
  end
  check(bus:flush(60))
  finish(count)
end

function jobs.fan()
  connect {}
  local queues, seen, total = {}, 0, 0
  for i = 1, fan do queues[queue .. "." .. i] = {} end
  check(bus:declare { queues = queues })
  watch(warm + count)
  for name in pairs(queues) do
    check(bus:subscribe(name, { ["order.created"] = function(event)
      total = total + event.data.total
      seen = seen + 1
      if seen == warm then begin() end
      if seen == warm + count then
        finish(count)  -- the end of a thousand subscriptions is not part of it
        bus:stop()
      end
    end }, { prefetch = 200, retry = false, dead_letter = false }))
  end
  print("ready pid=" .. stat_pid())
  io.stdout:flush()
  if warm == 0 then begin() end
  check(bus:run())
  assert(total == 1000 * (warm + count), "the totals do not add up")
end

for size, items in pairs { small = 1, ["10k"] = 144, ["1m"] = 15000 } do
  local fields = { type = "order.created", source = "oms-service", tenant_id = "tenant_abc" }
  local function made()
    fields.data = order(1, items)
    return check(envelope.new(fields))
  end
  jobs["encode-" .. size] = function()
    local event = made()
    for i = 1, warm + count do
      if i == warm + 1 then begin() end
      check(envelope.encode(event))
    end
    finish(count, " bytes=" .. #check(envelope.encode(event)))
  end
  jobs["decode-" .. size] = function()
    local bytes = check(envelope.encode(made()))
    for i = 1, warm + count do
      if i == warm + 1 then begin() end
      check(envelope.decode(bytes))
    end
    finish(count, " bytes=" .. #bytes)
    assert(#check(envelope.decode(bytes)).data.items == items)
  end
end

local run = jobs[job]
if not run then
  io.stderr:write("no such job: " .. job .. "\n")
  os.exit(3)
end
run()
if bus then bus:close() end
