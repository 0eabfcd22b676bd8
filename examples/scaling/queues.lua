-- Step 2: a cluster of three nodes, and what a queue of each type costs there: classic on one node, quorum and stream on
-- all. Then the node that leads the quorum queue is killed under way, and every confirmed event is looked for.

local eventbus = require "eventbus"

local queues = {}

queues.title = "queue types: one publisher, one consumer, one queue on three nodes"

local TOPOLOGY = {
  queues = {
    ["scaling.classic"] = {},
    ["scaling.quorum"] = { type = "quorum", delivery_limit = 20, dead_letter = false },
    ["scaling.stream"] = { type = "stream", max_age = "1D" },
  },
}

-- Consumes until `count` different events have come, or none for half a minute: events per second, the ids and how often
-- each came.
local function consume(site, queue, count, arguments)
  local seen, times, began, last = 0, {}, nil, site.now()
  local subscription = eventbus.assert(site.bus:subscribe(queue, function(event)
    last = site.now()
    began = began or last
    if not times[event.id] then seen = seen + 1 end
    times[event.id] = (times[event.id] or 0) + 1
  end, { prefetch = 200, retry = false, dead_letter = false, arguments = arguments }))
  while seen < count and site.now() - last < 30 do eventbus.assert(site.bus:poll(0.1)) end
  eventbus.assert(subscription:cancel())
  return seen / (last - (began or 0)), times
end

function queues.run(site)
  eventbus.assert(site.bus:declare(TOPOLOGY))
  local rows = {}
  for _, kind in ipairs { "classic", "quorum", "stream" } do
    local name = "scaling." .. kind
    local published = site:publish("", site.events, { routing_key = name })
    local consumed = consume(site, name, site.events, kind == "stream" and { ["x-stream-offset"] = "first" } or nil)
    rows[#rows + 1] = { kind, site.events, published, consumed }
  end
  return { { "queue", "events", "published/s", "consumed/s" }, rows }
end

local failover = {}

failover.title = "a quorum queue whose leading node is killed with events under way"

-- Waits for the confirm. What the broker could not take, because its leader went away, is published again, the same event.
local function publish(site, n)
  local id
  repeat
    local ticket = eventbus.assert(site.bus:publish_async("", "order.created", { n = n },
      { id = id, routing_key = "scaling.quorum" }))
    id = ticket.id
    local ok, err = ticket:wait(60)
    if not ok and not err.retryable then error(err, 0) end
    if not ok then eventbus.assert(site.bus:poll(0.05)) end
  until ok
  return id
end

function failover.run(site)
  eventbus.assert(site.bus:declare(TOPOLOGY))
  local leader = site.cluster:leader "scaling.quorum"
  local ids, longest, last = {}, 0, nil
  while #ids < 1000 do
    if #ids == 500 then
      site.cluster:kill(leader)
      last = site.now()
    end
    -- Each is waited for: the longest wait is the gap that a publisher sees.
    ids[#ids + 1] = publish(site, #ids + 1)
    if last then
      longest = math.max(longest, site.now() - last)
      last = site.now()
    end
  end
  local _, times = consume(site, "scaling.quorum", #ids)
  local lost, repeated = 0, 0
  for _, id in ipairs(ids) do
    if not times[id] then lost = lost + 1 end
  end
  for _, n in pairs(times) do repeated = repeated + n - 1 end
  site.cluster:revive(leader)
  return { { "confirmed", "lost", "repeated", "longest wait for a confirm, s" },
    { { #ids, lost, repeated, longest } } }
end

return { queues = queues, failover = failover }
