--- flows: who publishes what to whom. A flow is one queue, one publisher, its consumers, and what is promised of it.
---
--- `ordered`: first deliveries come in the order of publishing, by `keys`. The queue of such a flow has one active
--- consumer: a broker that has not noticed the loss of a connection would deliver to the old and the new one.
--- `fragile`: a fault deletes its queue. `failing`: handlers fail and reject by the event's number.

local flows = {
  { name = "ordered", rate = 60, ordered = true, keys = 1, consumers = { { loop = "blocking", concurrency = 1 } } },
  { name = "keyed", rate = 60, ordered = true, keys = 16, tls = true,
    consumers = { { loop = "luv", concurrency = 8 } } },
  { name = "failing", rate = 60, failing = true, named = true, keys = 1,
    consumers = { { loop = "luv", concurrency = 4 }, { loop = "blocking", concurrency = 1 } } },
  { name = "fragile", rate = 20, fragile = true, keys = 1, consumers = { { loop = "blocking", concurrency = 1 } } },
}

for _, flow in ipairs(flows) do flows[flow.name] = flow end

function flows.queue(flow) return "chaos." .. flow.name end

--- What publisher and consumers declare, each for itself.
function flows.topology(flow, kind)
  -- A broker's own limit of deliveries would drop what a bad time delivered often.
  local limit, letters
  if kind == "quorum" then limit, letters = 100000, false end
  local queue =
    { type = kind, delivery_limit = limit, dead_letter = letters, single_active_consumer = flow.ordered or nil }
  if flow.failing then queue.dead_letter = { exchange = "chaos.dead", routing_key = flow.name } end
  local topology = { queues = { [flows.queue(flow)] = queue } }
  if flow.failing then
    topology.exchanges = { ["chaos.dead"] = { type = "direct" } }
    topology.queues["chaos.dead." .. flow.name] = { type = kind, delivery_limit = limit, dead_letter = letters,
      bindings = { { exchange = "chaos.dead", routing_key = flow.name } } }
  end
  return topology
end

function flows.id(flow, n) return ("%s-%d"):format(flow.name, n) end

--- The flow's name and the number of an id.
function flows.parse(id)
  local name, n = id:match "^(%a+)%-(%d+)$"
  return name, tonumber(n)
end

function flows.key(flow, n) return n % flow.keys end

--- What a handler does with an event of a failing flow, by its number: "handled", "failed" or "rejected".
function flows.outcome(flow, n, attempt)
  if not flow.failing then return "handled" end
  if n % 97 == 0 then return "rejected" end
  if n % 151 == 0 then return "failed" end
  if n % 20 == 0 and attempt < 3 then return "failed" end
  return "handled"
end

return flows
