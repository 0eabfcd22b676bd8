-- Step 1: more events at once. More processes of one service, on one queue: the broker hands each event to whichever worker
-- has room. And several handlers in one process, which wait in its event loop.

local tally = require "scaling.tally"

local workers = {}

workers.title = "workers: one queue, a handler that takes 5 ms"

function workers.run(site)
  local rows = {}
  for _, count in ipairs { 1, 2, 4, 8 } do
    local service = site:start("workers-" .. count,
      { site.lua, "bin/eventbus", "run", "examples/scaling/service.lua", "--workers", tostring(count) }, { WORK_MS = "5" })
    site:wait(function() return site:queue("scaling.work").consumers == count end, count .. " workers consume")
    -- Enough that the beginning and the end, where not all have something to do, do not count.
    local events, began = math.max(200, math.floor(site.events / 5)) * count, site.now()
    site:publish("", events, { routing_key = "scaling.work" })
    site:wait(function() return site:queue("scaling.work").messages == 0 end, "all events are handled")
    rows[#rows + 1] = { count, events, events / (site.now() - began) }
    site:finish(service)
  end
  return { { "workers", "events", "events/s" }, rows }
end

local concurrency = {}

concurrency.title = "concurrency: one process, handlers that wait 5 ms in its loop, more or less; 8 tenants"

function concurrency.run(site)
  local rows = {}
  for _, each in ipairs { { "1", 1 }, { "16", 16 }, { "16, ordered_by the tenant", 16, "ordered" } } do
    local service = site:start("concurrency-" .. #rows,
      { site.lua, "examples/scaling/concurrent.lua", tostring(each[2]), each[3] }, { WORK_MS = "5" })
    local handled = tally.new { service }
    site:wait(function() return handled:said(service, "ready") end, "the service is ready")
    local events, began = math.floor(math.max(200, site.events / 5) * each[2] / 4), site.now()
    site:publish("", events, { routing_key = "scaling.concurrent" }, 8)
    site:wait(function() return handled:read().different == events end, "all events are handled")
    local _, disordered = handled:order()
    rows[#rows + 1] = { each[1], events, events / (handled.last - began), disordered }
    site:finish(service)
  end
  return { { "concurrency", "events", "events/s", "out of order" }, rows }
end

return { workers = workers, concurrency = concurrency }
