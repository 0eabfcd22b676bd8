-- A worker of a partitioned service: lua5.4 examples/scaling/partition.lua OWN COUNT
--
-- It consumes partition OWN of 1..COUNT, and stands by for all others: of the consumers of a queue with a single active
-- consumer the broker feeds the first, and the next when that is gone. So each takes its own before any other.
--
-- WORK_MS  how long the handler takes for each event (2)

local eventbus = require "eventbus"
local socket = require "socket"

local own, count = tonumber(arg[1]), tonumber(arg[2])
local seconds = tonumber(os.getenv "WORK_MS" or "2") / 1000

local bus = eventbus.assert(eventbus.connect { source = "scaling-partition-" .. own, log = false })
local last, handled, disordered = {}, 0, 0

local function on_order(event)
  local before = last[event.tenant_id]
  -- What comes twice (a worker was killed before its ack) is known by its number.
  if before and event.data.n <= before then return end
  if before and event.data.n ~= before + 1 then disordered = disordered + 1 end
  last[event.tenant_id] = event.data.n
  socket.sleep(seconds)
  handled = handled + 1
end

local function subscribe(i)
  eventbus.assert(bus:subscribe("scaling.orders." .. i, { ["order.created"] = on_order },
    { prefetch = 20, retry = false, dead_letter = false }))
end

subscribe(own)
print "own"
io.stdout:flush()
local standby = socket.gettime() + 3
eventbus.assert(bus:run { signals = true, tick_interval = 0.5, tick = function()
  if not standby or socket.gettime() < standby then return end
  standby = nil
  for i = 1, count do
    if i ~= own then subscribe(i) end
  end
  print "standby"
  io.stdout:flush()
end })
print(("handled=%d disordered=%d"):format(handled, disordered))
bus:close()
