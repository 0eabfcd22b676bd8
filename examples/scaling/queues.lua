-- Step 2: a cluster of three nodes, and what a queue of each type costs there: classic on one node, quorum and stream on
-- all. Then more quorum queues than one, each led by another node. Then the node that leads the quorum queue is killed under
-- way, and every confirmed event is looked for.

local confirmed = require "scaling.confirmed"
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

local spread = {}

spread.title = "more quorum queues, their leaders spread: a publisher and a consumer for each, without a handler's time"

-- Without `x-queue-leader-locator` a queue is led by the node that it is declared through. Publisher and consumer are
-- connected to that one, too: an event takes no way through another.
local function new_queue(site, i)
  local node = (i - 1) % #site.cluster.urls + 1
  local each = { name = "scaling.spread." .. i, handled = 0 }
  each.bus = eventbus.assert(eventbus.connect { url = site.cluster.urls[node], source = each.name, log = false })
  local queue = { type = "quorum", delivery_limit = 20, dead_letter = false }
  eventbus.assert(each.bus:declare { queues = { [each.name] = queue } })
  each.leader = site.cluster:leader(each.name)
  return each
end

local function publish_to_all(site, list)
  local began, events = site.now(), {}
  for n = 1, site.events do
    for _, each in ipairs(list) do
      events[#events + 1] = { bus = each.bus, exchange = "", data = { n = n, total = 1000.00 },
        options = { routing_key = each.name } }
    end
  end
  confirmed.publish(events)
  return site.events * #list / (site.now() - began)
end

local function consume_all(site, list)
  local began, last
  for _, each in ipairs(list) do
    eventbus.assert(each.bus:subscribe(each.name, function()
      last = site.now()
      began = began or last
      each.handled = each.handled + 1
    end, { prefetch = 200, retry = false, dead_letter = false }))
  end
  site:wait(function()
    local all = true
    for _, each in ipairs(list) do
      eventbus.assert(each.bus:poll(0, 200))
      all = all and each.handled >= site.events
    end
    return all
  end, "all events are consumed", 0)
  return site.events * #list / (last - began)
end

function spread.run(site)
  local rows = {}
  for _, count in ipairs { 1, 2, 4 } do
    local list, leaders, nodes = {}, {}, 0
    for i = 1, count do
      list[i] = new_queue(site, i)
      if not leaders[list[i].leader] then nodes = nodes + 1 end
      leaders[list[i].leader] = true
    end
    local published = publish_to_all(site, list)
    rows[#rows + 1] = { count .. (count == 1 and " queue" or " queues"), nodes, site.events * count, published,
      consume_all(site, list) }
    for _, each in ipairs(list) do
      eventbus.assert(each.bus:delete_queue(each.name))
      each.bus:close()
    end
  end
  return { { "quorum queues", "nodes that lead", "events", "published/s", "consumed/s" }, rows }
end

local failover = {}

failover.title = "a quorum queue whose leading node is killed with events under way"

function failover.run(site)
  eventbus.assert(site.bus:declare(TOPOLOGY))
  local leader = site.cluster:leader "scaling.quorum"
  local ids, longest, last = {}, 0, nil
  local resent, again, began = site.bus:stats().core.publish.resent, 0, site.now()
  while #ids < 1000 do
    if #ids == 500 then
      site.confirm = (site.now() - began) / #ids
      site.cluster:kill(leader)
      last = site.now()
    end
    -- Each is waited for: the longest wait is the gap that a publisher sees.
    local event = { bus = site.bus, exchange = "", data = { n = #ids + 1 },
      options = { routing_key = "scaling.quorum" } }
    again = again + confirmed.publish { event }
    ids[#ids + 1] = event.options.id
    if last then
      longest = math.max(longest, site.now() - last)
      last = site.now()
    end
  end
  -- Nothing else repeats an event here: no consumer is lost.
  again = again + site.bus:stats().core.publish.resent - resent
  local _, times = consume(site, "scaling.quorum", #ids)
  local lost, repeated = 0, 0
  for _, id in ipairs(ids) do
    if not times[id] then lost = lost + 1 end
  end
  for _, n in pairs(times) do repeated = repeated + n - 1 end
  site.cluster:revive(leader)
  return { { "confirmed", "lost", "sent again", "repeated", "longest wait for a confirm, s" },
    { { #ids, lost, again, repeated, longest } } }
end

return { queues = queues, spread = spread, failover = failover }
