--- A topology as a graph: nodes and edges, for whatever draws them. Pure.
--
-- Node: { id, kind = "exchange"|"queue", name, type, dead (holds dead letters), foreign (named only by others) }
-- Edge: { from, to, kind = "binding"|"dead-letter"|"retry", label }. Bindings of one pair are one edge with many keys.

local schema = require "eventbus.topology.schema"
local units = require "eventbus.units"

local graph = {}

---@class eventbus.Graph
---@field nodes table[]
---@field edges table[]

local function node_id(kind, name) return kind .. ":" .. name end

-- How often and after which delays a consumer of the queue tries again, as one text.
local function retry_label(policy)
  local delays = policy:delays()
  if policy.count == 0 or #delays == 0 then return nil end
  local texts = {}
  for i, ms in ipairs(delays) do texts[i] = units.show(ms) end
  if #texts > 3 then texts = { texts[1], "...", texts[#texts] } end
  return ("retry %d × %s"):format(policy.count, table.concat(texts, ", "))
end

-- A queue that only waits: its messages expire and go on through the default exchange.
local function is_delay(queue)
  return queue.dead_letter and queue.dead_letter.exchange == "" and queue.arguments["x-message-ttl"] ~= nil
end

--- The graph of a normalised topology.
---@param topology table
---@param policy? eventbus.RetryPolicy  of the consumers: draws their retries as edges
---@return eventbus.Graph
function graph.of(topology, policy)
  local nodes, edges, known, pairs_of = {}, {}, {}, {}

  local function node(kind, name, more)
    local id = node_id(kind, name)
    if not known[id] then
      local new = { id = id, kind = kind, name = name, foreign = true }
      for key, value in pairs(more or {}) do new[key] = value end
      known[id] = new
      nodes[#nodes + 1] = new
    end
    return id
  end

  for _, name in ipairs(schema.sorted_keys(topology.exchanges)) do
    local e = topology.exchanges[name]
    node("exchange", name, { type = e.type, foreign = e.passive })
  end
  for _, name in ipairs(schema.sorted_keys(topology.queues)) do
    local q = topology.queues[name]
    node("queue", name, { type = q.type, dead = q.dead_letters, foreign = q.passive })
  end

  for _, b in ipairs(topology.bindings) do
    local from, to = node("exchange", b.source), node(b.kind, b.destination)
    local edge = pairs_of[from .. "\0" .. to]
    if not edge then
      edge = { from = from, to = to, kind = "binding", keys = {} }
      pairs_of[from .. "\0" .. to] = edge
      edges[#edges + 1] = edge
    end
    if b.routing_key ~= "" then edge.keys[#edge.keys + 1] = b.routing_key end
  end
  for _, edge in ipairs(edges) do edge.label, edge.keys = table.concat(edge.keys, "\n"), nil end

  for _, name in ipairs(schema.sorted_keys(topology.queues)) do
    local q = topology.queues[name]
    local from, d = node_id("queue", name), q.dead_letter
    if d then
      local key = d.routing_key or name
      local to = d.exchange == "" and node("queue", key) or node("exchange", d.exchange)
      edges[#edges + 1] = { from = from, to = to, kind = is_delay(q) and "retry" or "dead-letter",
        label = is_delay(q) and "after " .. units.show(q.arguments["x-message-ttl"])
          or d.exchange ~= "" and d.routing_key or "" }
    end
    local label = policy and not q.dead_letters and not q.passive and not is_delay(q) and retry_label(policy)
    if label then edges[#edges + 1] = { from = from, to = from, kind = "retry", label = label } end
  end
  for _, name in ipairs(schema.sorted_keys(topology.exchanges)) do
    local alternate = topology.exchanges[name].arguments["alternate-exchange"]
    if alternate then
      edges[#edges + 1] = { from = node_id("exchange", name), to = node("exchange", alternate), kind = "binding",
        label = "alternate" }
    end
  end
  return { nodes = nodes, edges = edges }
end

return graph
