--- faults: what can happen, each with a weight. `strike(world)` does it; it may return a function that undoes it,
--- called after `hold` seconds (two numbers: drawn between them), a text for the schedule, and the number of a node
--- that is away: the others of a cluster must go on without it.
---
--- `where` is what it needs for itself: "nodes", "network" or "clients"; faults of different kinds may overlap.
--- `patient`: what undoes it waits for the clients to do something, so all others are undone before.
--- `nodes`: 1 or 3 when only such a cluster has it. `shown`: by one node, and not again in a short round of three.

local flows = require "spec.chaos.flows"
local wait = require "spec.support.wait"

local faults = {}

local HEARTBEAT = 2
faults.HEARTBEAT = HEARTBEAT

-- Beyond the two intervals after which silence is a loss, with room for the check.
local LONG = { 3.4 * HEARTBEAT, 4 * HEARTBEAT }

local function add(name, where, weight, hold, strike, more)
  local fault = { name = name, where = where, weight = weight, hold = hold, strike = strike }
  for key, value in pairs(more or {}) do fault[key] = value end
  faults[#faults + 1] = fault
end

local ONLY_THREE, ONLY_ONE, SHOWN = { nodes = 3 }, { nodes = 1 }, { shown = true }
local PATIENT, SHOWN_PATIENT = { patient = true }, { shown = true, patient = true }

-- A node drawn from all.
local function any_node(world) return world.draw:integer(1, #world.cluster.nodes) end

local function on_node(i) return ("node %d"):format(i) end

add("broker killed", "nodes", 4, { 0.5, 2 }, function(world)
  local i = any_node(world)
  world.cluster:kill(i)
  return function() world.cluster:revive(i) end, on_node(i), i
end, SHOWN)

add("broker restarted in order", "nodes", 1, { 0, 1 }, function(world)
  local i = any_node(world)
  world.cluster:halt(i)
  return function() world.cluster:revive(i) end, on_node(i), i
end, SHOWN)

add("broker frozen, shorter than the heartbeat", "nodes", 1, { 1, 2 }, function(world)
  local i = any_node(world)
  world.cluster:freeze(i)
  return function() world.cluster:thaw(i) end, on_node(i)
end, SHOWN)

add("broker frozen, longer than the heartbeat", "nodes", 2, LONG, function(world)
  local i = any_node(world)
  world.cluster:freeze(i)
  return function() world.cluster:thaw(i) end, on_node(i), i
end)

add("leader killed", "nodes", 4, { 0.5, 3 }, function(world)
  local flow = world.draw:one_of(flows)
  local i = world.cluster:leader(flows.queue(flow))
  world.cluster:kill(i)
  return function() world.cluster:revive(i) end, ("node %d, of %s"):format(i, flow.name), i
end, ONLY_THREE)

for how, weight in pairs { cut = 2, silent = 2, deaf = 1 } do
  add("network split, " .. how, "nodes", weight, { 1, 4 }, function(world)
    local i = any_node(world)
    world.cluster:split(i, how)
    return function() world.cluster:mend(i) end, on_node(i), i
  end, ONLY_THREE)
end
for _, kind in ipairs { "memory", "disk" } do
  add(kind .. " alarm", "nodes", 1, { 2, 5 }, function(world)
    local i = any_node(world)
    world.cluster:alarm(i, kind, true)
    return function() world.cluster:alarm(i, kind, false) end, on_node(i)
  end, SHOWN)
end

add("queue deleted", "nodes", 2, nil, function(world)
  world.cluster:delete_queue(flows.queue(flows.fragile))
  world:queue_deleted(flows.fragile)
  if #world.cluster.nodes == 1 then return end
  return function()
    world.cluster:surely(function() world.cluster:consumed_again(flows.queue(flows.fragile), 90) end)
  end
end, PATIENT)

add("policy changed: queues refuse", "nodes", 1, { 1, 3 }, function(world)
  local set = [[ok = rabbit_policy:set(<<"/">>, <<"chaos">>, <<"^chaos\\.(ordered|keyed|failing|fragile)$">>,
    [{<<"max-length">>, 2}, {<<"overflow">>, <<"reject-publish">>}], 1, <<"queues">>, <<"chaos">>)]]
  world.cluster:eval(set)
  return function() world.cluster:eval [[ok = rabbit_policy:delete(<<"/">>, <<"chaos">>, <<"chaos">>)]] end
end, SHOWN)

add("connections closed by the operator", "nodes", 1, nil, function(world)
  local i = any_node(world)
  world.cluster.nodes[i]:close_connections "chaos"
  return nil, on_node(i)
end, SHOWN)

add("certificate replaced", "nodes", 1, { 1, 3 }, function(world)
  local cluster = world.cluster
  -- For a while it is one that nobody can trust.
  cluster:certify "other-ca"
  world:each_route("tls", function(route) world.proxy:cut(route.name, "reset") end)
  return function()
    cluster:certify "ca"
    local want = cluster:fingerprint()
    for _, node in ipairs(cluster.nodes) do
      wait.wait_until(function() return cluster:fingerprint(node.tls_port) == want end, 30, "the certificate is served")
    end
    world:each_route("tls", function(route) world.proxy:cut(route.name, "reset") end)
  end
end, SHOWN)

-- Routes drawn: all, or those of one kind.
local function routes(world) return world.draw:one_of { "", "", "plain", "tls", "name" } end

local function once(name, act, more)
  add(name, "network", 2, nil, function(world)
    local kind = routes(world)
    world:each_route(kind, function(route) act(world, route) end)
    return nil, kind == "" and "all" or kind
  end, more)
end

once("TCP reset", function(world, route) world.proxy:cut(route.name, "reset") end, SHOWN)
once("connections dropped", function(world, route) world.proxy:cut(route.name, "drop") end, SHOWN)
once("half-open connections", function(world, route) world.proxy:half_open(route.name) end, SHOWN)

for blow, name in pairs { corrupt = "a byte corrupted", cut = "a frame cut in its midst" } do
  for direction, towards in pairs { up = "to the broker", down = "to the client" } do
    add(name .. ", " .. towards, "network", 1, { 1, 2 }, function(world)
      local kind = routes(world)
      world:each_route(kind, function(route) world.proxy:blow(route.name, blow, direction) end)
      return function()
        wait.wait_until(function()
          local struck = false
          world:each_route(kind, function(route) struck = struck or not world.proxy:armed(route.name, direction) end)
          return struck
        end, 30, "the blow strikes")
        -- Where nothing came by it is taken back.
        world:each_route(kind, function(route) world.proxy:blow(route.name, nil, direction) end)
      end, kind == "" and "all" or kind
    end, SHOWN_PATIENT)
  end
end

local function weather(name, hold, make)
  add(name, "network", 1, hold, function(world)
    local kind = routes(world)
    local made = make(world)
    world:each_route(kind, function(route) world.proxy:weather(route.name, made) end)
    return function()
      world:each_route(kind, function(route) world.proxy:weather(route.name, {}) end)
    end, kind == "" and "all" or kind
  end, SHOWN)
end

local function stalled(up, down)
  return function() return { stalled = { up = up, down = down } } end
end

weather("stall, shorter than the heartbeat", { 1, 2 }, stalled(true, true))
weather("stall, longer than the heartbeat", LONG, stalled(true, true))
weather("stall to the broker only", LONG, stalled(true, false))
weather("stall to the client only", LONG, stalled(false, true))
weather("bandwidth limited", { 3, 6 }, function(world) return { bandwidth = world.draw:integer(4000, 30000) } end)
weather("latency", { 3, 6 }, function(world) return { latency = world.draw:between(0.05, 0.6) } end)

add("connections refused", "network", 1, { 1, 4 }, function(world)
  local kind = routes(world)
  world:each_route(kind, function(route)
    world.proxy:refuse(route.name)
    world.proxy:cut(route.name, "reset")
  end)
  return function()
    world:each_route(kind, function(route) world.proxy:open(route.name) end)
  end, kind == "" and "all" or kind
end, SHOWN)

add("a route leads to another node", "network", 2, { 2, 4 }, function(world)
  world:each_route("plain", function(route)
    world.proxy:target(route.name, "127.0.0.1", world.cluster.nodes[route.node % #world.cluster.nodes + 1].port)
    world.proxy:cut(route.name, "reset")
  end)
  return function()
    world:each_route("plain", function(route)
      world.proxy:target(route.name, "127.0.0.1", world.cluster.nodes[route.node].port)
      world.proxy:cut(route.name, "drop")
    end)
  end
end, ONLY_THREE)

add("a route leads to nowhere", "network", 1, { 1, 3 }, function(world)
  world:each_route("plain", function(route)
    -- A port of ours where nobody listens.
    world.proxy:target(route.name, "127.0.0.4", world.cluster.nodes[1].port)
    world.proxy:cut(route.name, "reset")
  end)
  return function()
    world:each_route("plain", function(route)
      world.proxy:target(route.name, "127.0.0.1", world.cluster.nodes[route.node].port)
    end)
  end
end, ONLY_ONE)

add("a DNS name changes its address", "network", 2, nil, function(world) return nil, world:move_name() end, SHOWN)

add("consumer killed in a handler", "clients", 4, { 0, 1 }, function(world)
  local client = world.draw:one_of(world.consumers)
  local caught = client:kill_in_handler()
  return function() client:start() end, client.name .. (caught and "" or ", between two")
end)

add("consumer stopped in order", "clients", 1, { 0, 1 }, function(world)
  local client = world.draw:one_of(world.consumers)
  local code = client:stop(30)
  if code ~= 0 then
    error(("%s did not stop in order: %s\n%s"):format(client.name, tostring(code), client.process:output()), 0)
  end
  return function() client:start() end, client.name
end, SHOWN)

add("publisher killed", "clients", 3, { 0, 1 }, function(world)
  local client = world.draw:one_of(world.publishers)
  client:kill()
  return function() client:start() end, client.name
end, SHOWN)

-- The order of the draws; pairs has none of its own, and a seed must mean the same each time.
table.sort(faults, function(a, b) return a.name < b.name end)

--- The faults that a cluster of so many nodes has; those whose names begin with `name`, if there is one.
function faults.of(nodes, name)
  local list = {}
  for _, fault in ipairs(faults) do
    local meant = not name or fault.name:sub(1, #name) == name
    if meant and (not fault.nodes or fault.nodes == nodes) then list[#list + 1] = fault end
  end
  return list
end

return faults
