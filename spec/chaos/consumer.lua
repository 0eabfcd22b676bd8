--- consumer: a program that handles the events of one flow. SIGTERM ends it in order.
---
---     consumer.lua FLOW URL KIND JOURNAL LOOP CONCURRENCY
---
--- Its journal: B(egun, attempt, redelivered), H(andled), X (failed), D (given to the dead letters by the handler's
--- will).

local eventbus = require "eventbus"
local flows = require "spec.chaos.flows"
local journal = require "spec.chaos.journal"

local flow, url, kind, path, loop, concurrency = flows[arg[1]], arg[2], arg[3], arg[4], arg[5], tonumber(arg[6])
local log = journal.open(path)

local work
if loop == "luv" then
  local uv = require "luv"
  function work(seconds)
    local co, timer = eventbus.running(), uv.new_timer()
    timer:start(seconds * 1000, 0, function()
      timer:close()
      assert(coroutine.resume(co))
    end)
    coroutine.yield()
  end
else
  work = require("socket").sleep
end

local bus = eventbus.assert(eventbus.connect { url = url, source = "chaos-" .. flow.name, loop = loop, wait = true,
  reconnect_max = 2, connection_timeout = 5, retry_refused = true })
eventbus.assert(bus:declare(flows.topology(flow, kind), { timeout = 60 }))

local function handler(event, ctx)
  local n, id = event.data.n, event.id
  log:add("B", id, ctx.attempt, ctx.redelivered and "again" or "first")
  work(loop == "luv" and 0.01 or 0.004)
  local outcome = flows.outcome(flow, n, ctx.attempt)
  if outcome == "handled" then
    log:add("H", id)
  elseif outcome == "rejected" or ctx.last_attempt then
    log:add("D", id)
    if outcome == "rejected" then eventbus.reject "unwanted" end
    error "the last attempt failed"
  else
    log:add("X", id, ctx.attempt)
    error "this attempt failed"
  end
end

eventbus.assert(bus:subscribe(flows.queue(flow), handler, {
  prefetch = 40, concurrency = concurrency, timeout = 60,
  retry = flow.failing and { delays = { "200ms", "500ms", "1s" } } or false,
  ordered_by = flow.ordered and concurrency > 1 and function(event) return event.data.key end or nil,
  on_settled = function() end,
}))
print "ready"
io.stdout:flush()
local ok, why = bus:run()
if not ok then error("the run ended: " .. tostring(why), 0) end
bus:close()
