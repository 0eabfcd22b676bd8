-- live: all events of the platform, as server-sent events, to whoever looks at the page.
--
-- Each worker has a queue of its own, which goes with its connection, and hands each event to the streams that are open in
-- it. A stream that reads too slowly misses events, and is told how many.

local semaphore = require "ngx.semaphore"
local eventbus = require "eventbus"
local platform = require "eventbus.platform"

local live = {}

local MOST = 100      -- events that wait for one stream
local BEAT = 15       -- seconds between two signs of life; by one that fails a stream's end is noticed
local AGAIN = 2       -- seconds between two attempts

local streams = {}

local function hand_out(event)
  local text = ("id: %s\ndata: %s\n\n"):format(event.id, eventbus.json.encode(event))
  for stream in pairs(streams) do
    if #stream.events < MOST then
      stream.events[#stream.events + 1] = text
      stream.signal:post()
    else
      stream.missed = stream.missed + 1
    end
  end
end

local function consume(bus)
  local queue = "http-gateway.live." .. ngx.worker.pid()
  local bindings = {}
  for name in pairs(platform.topology.exchanges) do
    if name ~= "deadletter" and name ~= "analytics" then bindings[#bindings + 1] = { exchange = name, routing_key = "#" } end
  end
  local topology = { exchanges = platform.topology.exchanges,
    queues = { [queue] = { exclusive = true, durable = false, bindings = bindings } } }
  local ok, err = bus:declare(topology)
  if ok then ok, err = bus:subscribe(queue, hand_out, { retry = false, prefetch = 200 }) end
  if not ok then return nil, err end
  return bus:run()
end

--- Called in init_worker.
function live.start(bus)
  ngx.timer.at(0, function()
    while not ngx.worker.exiting() do
      local ok, why = consume(bus)
      if not ok then
        ngx.log(ngx.WARN, "live events: ", tostring(why), "; tries again")
        ngx.sleep(AGAIN)
      end
    end
    for stream in pairs(streams) do
      stream.ended = true
      stream.signal:post()
    end
  end)
end

local function write(stream)
  while not stream.ended do
    if #stream.events == 0 and not stream.signal:wait(BEAT) and not ngx.print ": still here\n\n" then return end
    local events = stream.events
    stream.events = {}
    if stream.missed > 0 then
      events[#events + 1] = ("event: missed\ndata: %d\n\n"):format(stream.missed)
      stream.missed = 0
    end
    if not (ngx.print(events) and ngx.flush(true)) then return end
  end
end

function live.stream()
  ngx.header["Content-Type"] = "text/event-stream; charset=utf-8"
  ngx.header["Cache-Control"] = "no-store"
  local stream = { events = {}, missed = 0, signal = semaphore.new(), ended = ngx.worker.exiting() }
  -- A browser whose stream has ended asks again after so many milliseconds.
  ngx.print "retry: 1000\n\n"
  ngx.flush(true)
  streams[stream] = true
  write(stream)
  streams[stream] = nil
end

return live
