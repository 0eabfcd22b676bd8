-- A service whose handler waits for something else, as most do: `eventbus run examples/scaling/service.lua --workers 4`
--
-- WORK_MS  how long it takes for each event (5)

local socket = require "socket"

local seconds = tonumber(os.getenv "WORK_MS" or "5") / 1000

return {
  name = "scaling",
  queue = "scaling.work",
  topology = { queues = { ["scaling.work"] = {} } },
  options = { prefetch = 10, retry = false, dead_letter = false },
  handlers = { ["order.created"] = function() socket.sleep(seconds) end },
}
