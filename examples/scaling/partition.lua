-- A worker of a partitioned service: lua5.4 examples/scaling/partition.lua OWN WORKERS PARTITIONS
--
-- Worker OWN of 1..WORKERS consumes each WORKERS-th partition, and stands by for all others: of the consumers of a queue
-- with a single active consumer the broker feeds the first, and the next when that is gone. So each takes its own before any
-- other, and stands by for those of the others once they have a consumer.
--
-- WORK_MS    how long the handler takes for each event (2)
-- STANDBY_S  after so many seconds it stands by also for those that have none (60)

local eventbus = require "eventbus"
local socket = require "socket"

local own, workers, partitions = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
local seconds = tonumber(os.getenv "WORK_MS" or "2") / 1000

local bus = eventbus.assert(eventbus.connect { source = "scaling-partition-" .. own, log = false })

local function say(...)
  print(...)
  io.stdout:flush()
end

local function subscribe(i)
  local queue = "scaling.orders." .. i
  eventbus.assert(bus:subscribe(queue, { ["order.created"] = function(event)
    socket.sleep(seconds)
    say(("handled %.6f %s %s %d"):format(socket.gettime(), queue, event.tenant_id, event.data.n))
  end }, { prefetch = 20, retry = false, dead_letter = false }))
end

local function each_has_a_consumer()
  for i = 1, partitions do
    local info = bus:queue_info("scaling.orders." .. i)
    if not info or info.consumers == 0 then return false end
  end
  return true
end

local function is_own(i) return (i - own) % workers == 0 end

for i = 1, partitions do
  if is_own(i) then subscribe(i) end
end
say "own"
local standby = socket.gettime() + tonumber(os.getenv "STANDBY_S" or "60")
eventbus.assert(bus:run { signals = true, tick_interval = 0.5, tick = function()
  if not standby or (socket.gettime() < standby and not each_has_a_consumer()) then return end
  standby = nil
  for i = 1, partitions do
    if not is_own(i) then subscribe(i) end
  end
  say "standby"
end })
bus:close()
