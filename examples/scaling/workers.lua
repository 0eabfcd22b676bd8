-- Step 1: more processes of one service, on one queue. The broker hands each event to whichever worker has room.

local workers = {}

workers.title = "workers: one queue, a handler that takes 5 ms"

function workers.run(site)
  local rows = {}
  for _, count in ipairs { 1, 2, 4, 8 } do
    local service = site:start("workers-" .. count,
      { site.lua, "bin/eventbus", "run", "examples/scaling/service.lua", "--workers", tostring(count) }, { WORK_MS = "5" })
    site:wait(function() return site:queue("scaling.work").consumers == count end, count .. " workers consume")
    local began = site.now()
    site:publish("", 200 * count, { routing_key = "scaling.work" })
    site:wait(function() return site:queue("scaling.work").messages == 0 end, "all events are handled")
    rows[#rows + 1] = { count, 200 * count, 200 * count / (site.now() - began) }
    site:finish(service)
  end
  return { { "workers", "events", "events/s" }, rows }
end

return workers
