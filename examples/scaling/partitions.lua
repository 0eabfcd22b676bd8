-- Step 3: partitions. A consistent hash exchange puts the events of a tenant into one of several quorum queues; each has one
-- active consumer, so a tenant's events stay in order, and the others stand by.

local children = require "demo.children"
local eventbus = require "eventbus"

local partitions = {}

partitions.title = "partitions: consistent hash by tenant, one active consumer each, a handler that takes 2 ms"

-- Publishers go on publishing to `scaling.orders`; only the service knows of partitions.
function partitions.topology(count)
  local t = {
    exchanges = {
      ["scaling.orders"] = { type = "topic" },
      ["scaling.orders.by-tenant"] = { type = "x-consistent-hash", arguments = { ["hash-header"] = "tenant_id" } },
    },
    bindings = { { source = "scaling.orders", destination = "scaling.orders.by-tenant", routing_key = "#" } },
    queues = {},
  }
  for i = 1, count do
    t.queues["scaling.orders." .. i] = {
      type = "quorum", delivery_limit = 20, dead_letter = false, single_active_consumer = true,
      -- The routing key of such a binding is the queue's weight.
      bindings = { { exchange = "scaling.orders.by-tenant", routing_key = "1" } },
    }
  end
  return t
end

local function said(worker, line)
  worker.said = worker.said or {}
  for _, each in ipairs(children.lines(worker)) do worker.said[#worker.said + 1] = each end
  for _, each in ipairs(worker.said) do
    local match = each:match(line)
    if match then return match end
  end
end

function partitions.run(site)
  local rows = {}
  for _, count in ipairs { 1, 2, 4 } do
    eventbus.assert(site.bus:declare(partitions.topology(count)))
    local list = {}
    for i = 1, count do
      list[i] = site:start(("partition-%d-of-%d"):format(i, count),
        { site.lua, "examples/scaling/partition.lua", tostring(i), tostring(count) }, { WORK_MS = "2" })
    end
    for _, worker in ipairs(list) do
      site:wait(function() return said(worker, "^standby$") end, "a worker stands by")
    end
    local events, began = 400 * count, site.now()
    site:publish("scaling.orders", events, {}, 100)
    site:wait(function()
      for i = 1, count do
        if site:queue("scaling.orders." .. i).messages > 0 then return false end
      end
      return true
    end, "all partitions are empty")
    local seconds, least, disordered = site.now() - began, events, 0
    for _, worker in ipairs(list) do
      site:finish(worker)
      least = math.min(least, tonumber(said(worker, "handled=(%d+)")))
      disordered = disordered + tonumber(said(worker, "disordered=(%d+)"))
    end
    rows[#rows + 1] = { count, events, events / seconds, disordered, ("%.0f %%"):format(least / events * count * 100) }
    for i = 1, count do eventbus.assert(site.bus:delete_queue("scaling.orders." .. i)) end
  end
  return { { "partitions", "events", "events/s", "out of order", "smallest partition, of an even share" }, rows }
end

return partitions
