-- The arithmetic: what so many events a second need, from the figures of this run.

local arithmetic = {}

arithmetic.title = "what so many events a second need, at the figures of this run"

-- Of what was measured, a queue or a worker is to be this busy at most: beyond it, waiting grows without bound.
local BUSY = 0.7
local WORK = 0.005
-- A replica is a process of the broker that keeps a core busy, and one core is for the rest.
local REPLICAS, PROCESSES = 3, 8 - 1

--- `quorum` is the row of the quorum queue in the table of queue types: name, events, published/s, consumed/s.
--- `site.confirm` is the mean time of a confirm that is waited for, `site.bytes` what an event takes in a stream.
function arithmetic.run(site)
  local quorum = site.found.queues[2][2]
  local queue_rate = math.min(quorum[3], quorum[4])
  local rows = {}
  for _, rate in ipairs { 100, 1000, 10000, 100000 } do
    local queues = math.ceil(rate / (queue_rate * BUSY))
    rows[#rows + 1] = { rate, math.ceil(rate * WORK / BUSY), math.ceil(rate * site.confirm / BUSY), queues,
      math.max(3, math.ceil(queues * REPLICAS / PROCESSES)), math.ceil(rate * 86400 * site.bytes / 1e9) }
  end
  return { { "events/s", "handlers of 5 ms at once",
    ("publishers that wait for a confirm of %.1f ms"):format(site.confirm * 1000), "quorum queues like this run's",
    "nodes of 8 cores", ("a day of a stream, GB, at %.0f bytes an event"):format(site.bytes) }, rows }
end

return arithmetic
