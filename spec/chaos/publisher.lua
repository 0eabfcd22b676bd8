--- publisher: a program that publishes events of one flow at a steady rate, as a careful user would: what failed and
--- may be tried again is published again under the same id. SIGTERM ends it in order.
---
---     publisher.lua FLOW URL KIND JOURNAL RATE
---
--- Its journal: A(sked), R(epublished, after a failure), C(onfirmed), F(ailed for good, and why).

local eventbus = require "eventbus"
local core = require "eventbus.core"
local flows = require "spec.chaos.flows"
local journal = require "spec.chaos.journal"

local flow, url, kind, path, rate = flows[arg[1]], arg[2], arg[3], arg[4], tonumber(arg[5])

-- Goes on where the process before it ended.
local n = 0
journal.reader(path):read(function(what, _, id)
  if what == "A" then n = select(2, flows.parse(id)) end
end)
local log = journal.open(path)

local MOST_UNDER_WAY = 400
local bus = eventbus.assert(eventbus.connect { url = url, source = "chaos-" .. flow.name, wait = true, mandatory = true,
  publish_timeout = 60, reconnect_max = 2, connection_timeout = 5, retry_refused = true })
eventbus.assert(bus:declare(flows.topology(flow, kind), { timeout = 60 }))
print "ready"
io.stdout:flush()

local under_way, first, last = {}, 1, 0

local function publish(number, again)
  local id = flows.id(flow, number)
  log:add(again and "R" or "A", id, again or "")
  local data = { n = number, key = flows.key(flow, number), text = ("x"):rep(number % 7 == 0 and 3000 or 100) }
  local ticket = eventbus.assert(bus:publish_async("", "chaos." .. flow.name, data,
    { id = id, routing_key = flows.queue(flow) }))
  last = last + 1
  under_way[last] = { ticket = ticket, n = number }
end

-- Answers come in any order; looked at are those before the first that is still open, and a few behind it.
local function settle()
  local again = {}
  for i = first, last do
    local one = under_way[i]
    if one then
      local state, err = one.ticket:state()
      if state == "confirmed" then
        log:add("C", flows.id(flow, one.n))
      elseif state ~= "pending" and err.retryable or state == "returned" then
        again[#again + 1] = { n = one.n, code = err.code, at = core.now() + 0.5 }
      elseif state ~= "pending" then
        log:add("F", flows.id(flow, one.n), err.code)
      end
      if state ~= "pending" then under_way[i] = nil end
    end
  end
  while first <= last and not under_way[first] do first = first + 1 end
  return again
end

local began, made, later = core.now(), 0, {}
local function step()
  for _, one in ipairs(settle()) do later[#later + 1] = one end
  local now = core.now()
  while later[1] and later[1].at <= now do
    local one = table.remove(later, 1)
    publish(one.n, one.code)
  end
  -- Standing still for a while earns no burst.
  if (now - began) * rate - made > rate / 4 then began, made = now, 0 end
  while made < (now - began) * rate and last - first < MOST_UNDER_WAY do
    n = n + 1
    made = made + 1
    publish(n)
  end
end

local ok, why = bus:run { tick = step, tick_interval = 0.02 }
if not ok then error("the run ended: " .. tostring(why), 0) end
-- What was asked is brought to its end.
local deadline = core.now() + 90
while core.now() < deadline do
  for _, one in ipairs(settle()) do later[#later + 1] = one end
  if first > last and not later[1] then break end
  while later[1] and later[1].at <= core.now() do
    local one = table.remove(later, 1)
    publish(one.n, one.code)
  end
  eventbus.assert(bus:poll(0.02))
end
bus:close()
print(first > last and "done" or "not all was answered")
