-- Step 3: partitions. A consistent hash exchange puts the events of a key into one of several quorum queues; each has one
-- active consumer, so a key's events stay in order, and the others stand by. Then an active one is killed under way.

local children = require "demo.children"
local eventbus = require "eventbus"
local tally = require "scaling.tally"

local partitions = {}

partitions.title = "partitions: consistent hash by tenant, one active consumer each, a handler that takes 2 ms"

-- Publishers go on publishing to `scaling.orders`; only the service knows of partitions.
local function topology(count, exchange, header)
  local t = {
    exchanges = {
      ["scaling.orders"] = { type = "topic" },
      [exchange] = { type = "x-consistent-hash", arguments = { ["hash-header"] = header } },
    },
    bindings = { { source = "scaling.orders", destination = exchange, routing_key = "#" } },
    queues = {},
  }
  for i = 1, count do
    t.queues["scaling.orders." .. i] = {
      type = "quorum", delivery_limit = 20, dead_letter = false, single_active_consumer = true,
      -- The routing key of such a binding is the queue's weight.
      bindings = { { exchange = exchange, routing_key = "1" } },
    }
  end
  return t
end

-- The workers, once each has its own partitions and stands by for the others.
local function start(site, workers, count, work_ms)
  local list = {}
  for i = 1, workers do
    list[i] = site:start(("worker-%d-of-%d-%d-%s"):format(i, workers, count, work_ms),
      { site.lua, "examples/scaling/partition.lua", tostring(i), tostring(workers), tostring(count) }, { WORK_MS = work_ms })
  end
  local handled = tally.new(list)
  for _, worker in ipairs(list) do
    site:wait(function() return handled:said(worker, "standby") end, "a worker stands by")
  end
  return list, handled
end

-- What was handled last may have its ack under way: the workers end first.
local function delete(site, list, count, exchange)
  for _, worker in ipairs(list) do site:finish(worker) end
  for i = 1, count do eventbus.assert(site.bus:delete_queue("scaling.orders." .. i)) end
  eventbus.assert(site.bus:delete_exchange(exchange))
end

function partitions.run(site)
  local rows, exchange = {}, "scaling.orders.by-tenant"
  for _, each in ipairs { { 1, 1 }, { 2, 2 }, { 4, 4 }, { 4, 16 } } do
    local workers, count = each[1], each[2]
    eventbus.assert(site.bus:declare(topology(count, exchange, "tenant_id")))
    local list, handled = start(site, workers, count, "2")
    local events, began = math.max(400, math.floor(site.events / 5)) * workers, site.now()
    site:publish("scaling.orders", events, { in_order = true }, 100)
    site:wait(function() return handled:read().different == events end, "all events are handled")
    local _, disordered = handled:order()
    local least = events
    for i = 1, count do least = math.min(least, handled.of["scaling.orders." .. i] or 0) end
    rows[#rows + 1] = { ("%d, of %d"):format(count, workers), events, events / (handled.last - began), disordered,
      ("%.0f %%"):format(least / events * count * 100) }
    delete(site, list, count, exchange)
  end
  return { { "partitions, of workers", "events", "events/s", "out of order", "smallest partition, of an even share" }, rows }
end

local takeover = {}

takeover.title = "the active consumer of a partition is killed under way: the one that stands by takes over"

-- Another key than the tenant, in a header of the publisher's.
function takeover.run(site)
  local events, exchange = 600, "scaling.orders.by-key"
  eventbus.assert(site.bus:declare(topology(2, exchange, "partition")))
  local list, handled = start(site, 2, 2, "10")
  local victim, heir = list[1], list[2]
  site:publish("scaling.orders", events, { header = "partition", in_order = true }, 100)
  site:wait(function() return handled:read().by[victim] >= 50 end, "the first worker is under way")
  -- It is to leave something behind, also where publishing takes longer than handling.
  while eventbus.assert(site.bus:queue_info "scaling.orders.1").messages < 100 and events < 5000 do
    site:publish("scaling.orders", 100, { header = "partition", in_order = true, after = events }, 100)
    events = events + 100
  end
  victim.may_be_killed = true
  children.signal(victim, "KILL")
  local killed = site.now()
  children.wait(victim, 10)
  local count, since = 0, site.now()
  site:wait(function()
    if handled:read().different > count then count, since = handled.different, site.now() end
    return count == events or site.now() - since > 30
  end, "all is handled, or nothing more comes")
  local repeated, disordered = handled:order()
  local gap
  for _, each in ipairs(handled.list) do
    if each.worker == heir and each.queue == "scaling.orders.1" then
      gap = each.at - killed
      break
    end
  end
  delete(site, { heir }, 2, exchange)
  return { { "killed", "events", "lost", "repeated", "out of order", "the other handles its events after, s" },
    { { "worker of partition 1", events, events - handled.different, repeated, disordered, gap or "never" } } }
end

return { topology = topology, partitions = partitions, takeover = takeover }
