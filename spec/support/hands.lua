--- hands: a virtual host with the platform in it, and what a person does to it through the management API.
---
---     local p = hands.place()             -- { broker, url, vhost, env, api (eventbus.management), bus }
---     hands.unbind(p, "orders", "notification.orders", "order.*")
---     local r = p:run("plan")             -- eventbus topology plan, see spec/support/command.lua
---     hands.mend(p); p:leave()

local diff = require "eventbus.topology.diff"
local eventbus = require "eventbus"
local management = require "eventbus.management"
local platform = require "eventbus.platform"
local topology = require "eventbus.topology"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local hands = {}

local function done(value, err) return assert(value, tostring(err)) end

hands.done = done

--- A virtual host with the platform in it, or an empty one.
function hands.place(empty)
  local b = broker.shared()
  local url, vhost = b:new_vhost()
  local self = { broker = b, url = url, vhost = vhost,
    api = assert(management.new(b.management_url, eventbus.core.url(url))),
    env = { RABBITMQ_URL = url, RABBITMQ_MANAGEMENT_URL = b.management_url } }
  self.bus = eventbus.assert(eventbus.connect { url = url, source = "spec", log = false })
  if not empty then eventbus.assert(self.bus:declare(platform.topology)) end
  function self.run(p, ...) return command.run({ "topology", ... }, { env = p.env }) end
  function self.leave(p)
    p.bus:close()
    b:delete_vhost(p.vhost)
  end
  return self
end

--- How many exchanges, queues and bindings the platform has.
function hands.sizes()
  local t = topology.normalise(platform.topology)
  local exchanges, queues = 0, 0
  for _ in pairs(t.exchanges) do exchanges = exchanges + 1 end
  for _ in pairs(t.queues) do queues = queues + 1 end
  return exchanges, queues, #t.bindings
end

--- A file of a topology.
function hands.file_of(text)
  local path = program.folder() .. "/topology.lua"
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

function hands.delete(p, ...) done(p.api:delete(p.api:path(...))) end

function hands.exchange(p, name, definition) done(p.api:request("PUT", p.api:path("exchanges", name), definition)) end

function hands.queue(p, name, arguments, more)
  local body = { durable = true, auto_delete = false, arguments = arguments or {} }
  for key, value in pairs(more or {}) do body[key] = value end
  done(p.api:request("PUT", p.api:path("queues", name), body))
end

function hands.bind(p, source, kind, destination, key, arguments)
  done(p.api:request("POST", p.api:path("bindings", "e", source, kind, destination),
    { routing_key = key, arguments = arguments }))
end

function hands.unbind(p, source, destination, key)
  for _, each in ipairs(done(p.api:bindings())) do
    if each.source == source and each.destination == destination and each.routing_key == key then
      return hands.delete(p, "bindings", "e", source, each.destination_type == "queue" and "q" or "e", destination,
        each.properties_key)
    end
  end
  error("there is no such binding")
end

-- Another declaration under the same name, its bindings as they were.
function hands.queue_again(p, name, arguments, more)
  local before = done(p.api:get(p.api:path("queues", name) .. "/bindings"))
  hands.delete(p, "queues", name)
  hands.queue(p, name, arguments, more)
  for _, each in ipairs(before) do
    if each.source ~= "" then hands.bind(p, each.source, "q", name, each.routing_key, each.arguments) end
  end
end

function hands.exchange_again(p, name, definition)
  local before = {}
  for _, each in ipairs(done(p.api:bindings())) do
    if each.source == name or (each.destination_type == "exchange" and each.destination == name) then
      before[#before + 1] = each
    end
  end
  hands.delete(p, "exchanges", name)
  hands.exchange(p, name, definition)
  for _, each in ipairs(before) do
    hands.bind(p, each.source, each.destination_type == "queue" and "q" or "e", each.destination, each.routing_key)
  end
end

--- A queue as plan, prune and doctor are told of it: of a list, which the server keeps for a while, while it answers of
--- one queue anew each time.
function hands.listed(p, name)
  for _, each in ipairs(done(p.api:queues())) do
    if each.name == name then return each end
  end
  return {}
end

-- Everything as it was.
function hands.mend(p)
  local normal = topology.normalise(platform.topology)
  for _, d in ipairs(diff.compare(normal, done(p.api:state()))) do
    if d.action == "note" and d.argument then
      p.api:delete(p.api:path("policies", "short"))
      wait_until(function()
        local found = hands.listed(p, "notification.outgoing")
        return found.name and type(found.policy) ~= "string"
      end, 20, "the policy is gone")
    elseif d.binding and d.action == "stale" then
      -- It may have gone with its queue or exchange.
      pcall(hands.unbind, p, d.binding.source, d.binding.destination, d.binding.routing_key)
    elseif d.action ~= "create" then
      p.api:delete(p.api:path(d.entity .. "s", d.name))
    end
  end
  done(p.bus:declare(platform.topology))
end

return hands
