-- Step 4: a stream. Many services read the same events, each from where it was: nothing is taken off, and nothing is copied
-- into a queue for each. A reader keeps the offset of the last event it has dealt with, as it keeps the rest of its state.

local eventbus = require "eventbus"

local streams = {}

streams.title = "a stream: each reader has all events"

-- Reads `count` events after offset `after` (nil: from the first).
local function read(site, after, count)
  local offset, seen, began = after or -1, 0, nil
  local bus = eventbus.assert(eventbus.connect { url = site.cluster.url, log = false })
  local subscription = eventbus.assert(bus:subscribe("scaling.log", function(_, ctx)
    began = began or site.now()
    local at = ctx.headers["x-stream-offset"]
    -- A stream is read in chunks: one that holds the offset asked for begins before it. And after a reconnect it is read
    -- from the same offset again.
    if at <= offset then return end
    offset, seen = at, seen + 1
  end, { prefetch = 200, retry = false, dead_letter = false,
    arguments = { ["x-stream-offset"] = after and after + 1 or "first" } }))
  site:wait(function()
    bus:poll(0.1)
    return seen >= count
  end, "a reader has read all")
  local rate = seen / (site.now() - began)
  subscription:cancel()
  bus:close()
  return rate, offset
end

function streams.run(site)
  eventbus.assert(site.bus:declare { queues = { ["scaling.log"] = { type = "stream", max_age = "7D" } } })
  local published = site:publish("", site.events, { routing_key = "scaling.log" })
  local rows = { { "published", site.events, published } }
  local offset
  for i = 1, 3 do
    local rate
    rate, offset = read(site, nil, site.events)
    rows[#rows + 1] = { "reader " .. i .. ", from the first", site.events, rate }
  end
  site:publish("", site.events / 10, { routing_key = "scaling.log" })
  rows[#rows + 1] = { "reader 3 again, from its offset", site.events / 10, (read(site, offset, site.events / 10)) }
  return { { "", "events", "events/s" }, rows }
end

return streams
