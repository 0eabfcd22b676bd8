-- A service with several handlers under way in one process, in luv's loop:
--   lua5.4 examples/scaling/concurrent.lua CONCURRENCY [ordered]
--
-- ordered: the events of a tenant are handled one after the other.
-- WORK_MS  how long a handler waits for each event (5), give or take the half

local eventbus = require "eventbus"
local socket = require "socket"
local uv = require "luv"

local concurrency, ordered = tonumber(arg[1]), arg[2] == "ordered"
local work_ms = tonumber(os.getenv "WORK_MS" or "5")

local QUEUE = "scaling.concurrent"

-- What a client of a database or of HTTP for luv does: it waits, and the others go on.
local function wait(ms)
  local coroutine_here, timer = eventbus.running(), uv.new_timer()
  timer:start(math.floor(ms + 0.5), 0, function()
    timer:close()
    assert(coroutine.resume(coroutine_here))
  end)
  coroutine.yield()
end

local function say(line)
  print(line)
  io.stdout:flush()
end

local bus = eventbus.assert(eventbus.connect { loop = "luv", source = "scaling-concurrent", log = false })
eventbus.assert(bus:declare { queues = { [QUEUE] = {} } })
eventbus.assert(bus:subscribe(QUEUE, { ["order.created"] = function(event)
  wait(work_ms * (0.5 + math.random()))
  say(("handled %.6f %s %s %d"):format(socket.gettime(), QUEUE, event.tenant_id, event.data.n))
end }, {
  concurrency = concurrency, prefetch = 3 * concurrency, retry = false, dead_letter = false,
  ordered_by = ordered and function(event) return event.tenant_id end or nil,
}))
say "ready"
eventbus.assert(bus:run { signals = true })
bus:close()
