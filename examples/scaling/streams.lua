-- Step 4: a stream. Many services read the same events, each from where it was: nothing is taken off, and nothing is copied
-- into a queue for each. A reader keeps the offset of the last event it has dealt with, as it keeps the rest of its state.

local eventbus = require "eventbus"

local streams = {}

streams.title = "a stream: each reader has all events"

-- Reads `count` events after offset `after` (nil: from the first); after the first tenth of them `interrupt` is called.
-- The rate, the last offset, and how many events came that had come before.
local function read(site, after, count, interrupt)
  local offset, seen, skipped, began, gap = after or -1, 0, 0, nil, nil
  local bus = eventbus.assert(eventbus.connect { url = site.cluster.url, log = false })
  local subscription = eventbus.assert(bus:subscribe("scaling.log", function(_, ctx)
    began = began or site.now()
    local at = ctx.headers["x-stream-offset"]
    -- A stream is read in chunks: one that holds the offset asked for begins before it. And after a reconnect it is read
    -- from the same offset again.
    if at <= offset then
      skipped = skipped + 1
      return
    end
    if at ~= offset + 1 then gap = gap or ("offset %d comes after %d"):format(at, offset) end
    offset, seen = at, seen + 1
    if interrupt and seen == math.ceil(count / 10) then interrupt() end
  end, { prefetch = 200, retry = false, dead_letter = false,
    arguments = { ["x-stream-offset"] = after and after + 1 or "first" } }))
  site:wait(function()
    bus:poll(0.1)
    if gap then error(gap, 0) end
    -- What was delivered before an interruption may be all: what comes again after it is waited for.
    return seen >= count and (not interrupt or skipped > 0)
  end, "a reader has read all")
  local rate = seen / (site.now() - began)
  subscription:cancel()
  bus:close()
  return rate, offset, skipped
end

function streams.run(site)
  eventbus.assert(site.bus:declare { queues = { ["scaling.log"] = { type = "stream", max_age = "7D" } } })
  local published = site:publish("", site.events, { routing_key = "scaling.log" })
  site.bytes = site.cluster:stream_bytes "scaling.log" / site.events
  local rows = { { "published", site.events, published, "" } }
  local offset
  for i = 1, 3 do
    local rate, skipped
    rate, offset, skipped = read(site, nil, site.events)
    rows[#rows + 1] = { "reader " .. i .. ", from the first", site.events, rate, skipped }
  end
  local rate, _, skipped = read(site, nil, site.events, function() site.cluster:cut() end)
  rows[#rows + 1] = { "reader 4, its connection cut", site.events, rate, skipped }
  site:publish("", site.events / 10, { routing_key = "scaling.log" })
  rate, _, skipped = read(site, offset, site.events / 10)
  rows[#rows + 1] = { "reader 3 again, from its offset", site.events / 10, rate, skipped }
  return { { "", "events", "events/s", "came again, skipped" }, rows }
end

return streams
