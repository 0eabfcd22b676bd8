-- The arithmetic: what so many events a second need, from the figures of this run.

local arithmetic = {}

arithmetic.title = "what so many events a second need, at the figures of this run"

-- Of what was measured, a queue or a worker is to be this busy at most: beyond it, waiting grows without bound.
local BUSY = 0.7
local WORK = 0.005

--- `quorum` is the row of the quorum queue in the table of queue types: name, events, published/s, consumed/s.
function arithmetic.run(site)
  local quorum = site.found.queues[2][2]
  local queue_rate = math.min(quorum[3], quorum[4])
  local rows = {}
  for _, rate in ipairs { 100, 1000, 10000, 100000 } do
    rows[#rows + 1] = { rate, math.ceil(rate * WORK / BUSY), math.ceil(rate / (queue_rate * BUSY)),
      math.ceil(rate / 1000 * 86400 * 0.5 / 1000) }
  end
  return { { "events/s", "handlers of 5 ms at once", "quorum queues like this run's", "a day of a stream, GB" }, rows }
end

return arithmetic
