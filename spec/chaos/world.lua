--- world: a cluster, a proxy in front of it, publishers and consumers, and the ledger of what they do.

local client = require "spec.chaos.client"
local cluster = require "spec.chaos.cluster"
local faults = require "spec.chaos.faults"
local flows = require "spec.chaos.flows"
local ledger = require "spec.chaos.ledger"
local proxy = require "spec.chaos.proxy"
local resolver = require "spec.support.resolver"
local wait = require "spec.support.wait"

local world = {}

local World = {}
World.__index = World

local NAME = "broker.chaos"
local ADDRESSES = { "127.0.0.2", "127.0.0.3" }

local DEAD = "chaos.dead." .. flows.failing.name

-- Seconds in which nothing more was handled, at the end, before the brokers are asked whether anything is left.
local SETTLED = 5
-- After so many a delay queue of a cluster that still holds something gets another leader, at most so many times.
local STUCK, MOVES = 20, 3

local function point(self) self.names:point(NAME, ADDRESSES[self.address]) end

local function lay_routes(self)
  for i, node in ipairs(self.cluster.nodes) do
    for kind, port in pairs { plain = node.port, tls = node.tls_port } do
      local route = { name = kind .. "-" .. i, kind = kind, node = i }
      route.port = self.proxy:route(route.name,
        { target = { host = "127.0.0.1", port = port }, framed = kind == "plain" })
      self.routes[#self.routes + 1] = route
    end
  end
  -- The same port at two addresses; in a cluster two nodes.
  local port = 0
  for i, host in ipairs(ADDRESSES) do
    local node = (i - 1) % #self.cluster.nodes + 1
    local route = { name = "name-" .. i, kind = "name", node = node, host = host }
    local target = { host = "127.0.0.1", port = self.cluster.nodes[node].port }
    route.port = self.proxy:route(route.name, { host = host, port = port, framed = true, target = target })
    port = route.port
    self.routes[#self.routes + 1] = route
  end
  self.proxy:refuse "name-2"
  table.sort(self.routes, function(a, b) return a.name < b.name end)
end

--- Calls `f` with each route of a kind ("plain", "tls", "name"), or of all ("").
function World:each_route(kind, f)
  for _, route in ipairs(self.routes) do
    -- The address that the name has left stays closed.
    local left = route.kind == "name" and route.name ~= "name-" .. self.address
    if (kind == "" or route.kind == kind) and not left then f(route) end
  end
end

local function url_of(self, flow, turn)
  local query = ("?heartbeat=%d"):format(faults.HEARTBEAT)
  local kind = flow.tls and "tls" or flow.named and "name" or "plain"
  local hosts = {}
  self:each_route(kind, function(route)
    hosts[#hosts + 1] = ("%s:%d"):format(flow.named and NAME or flow.tls and "localhost" or "127.0.0.1", route.port)
  end)
  -- Not all begin at the same node.
  for _ = 1, turn % #hosts do table.insert(hosts, table.remove(hosts, 1)) end
  local list = table.concat(hosts, ",")
  if not flow.tls then return ("amqp://guest:guest@%s%s"):format(list, query) end
  return ("amqps://guest:guest@%s%s&cacertfile=%s/tls/ca.pem"):format(list, query, self.cluster.nodes[1].dir)
end

local function make_clients(self, rate)
  local kind = #self.cluster.nodes > 1 and "quorum" or "classic"
  for turn, flow in ipairs(flows) do
    local environment = flow.named and self.names.environment or nil
    local url = url_of(self, flow, turn)
    local path = ledger.publisher_path(self.folder, flow)
    self.publishers[#self.publishers + 1] = client.new("publisher " .. flow.name,
      { "spec/chaos/publisher.lua", flow.name, url, kind, path, tostring(flow.rate * rate) }, path, environment)
    for i, consumer in ipairs(flow.consumers) do
      path = ledger.consumer_path(self.folder, flow, i)
      self.consumers[#self.consumers + 1] = client.new(("consumer %s %d"):format(flow.name, i),
        { "spec/chaos/consumer.lua", flow.name, url, kind, path, consumer.loop, tostring(consumer.concurrency) }, path,
        environment)
    end
  end
end

--- `o`: folder (of the journals), draw.
function world.new(o)
  return setmetatable({ draw = o.draw, folder = o.folder, routes = {}, publishers = {}, consumers = {}, address = 1,
    names = resolver.new(o.folder .. "/hosts"), ledger = ledger.new(o.folder), clear = wait.now() }, World)
end

--- Nodes (1 or 3) and clients, at a rate (a factor). Returns when all of them are connected.
function World:start(nodes, rate)
  self.proxy = proxy.start()
  self.cluster = cluster.start(nodes, self.proxy)
  lay_routes(self)
  point(self)
  make_clients(self, rate)
  for _, list in ipairs { self.consumers, self.publishers } do
    for _, each in ipairs(list) do each:start() end
    for _, each in ipairs(list) do each:ready(60) end
  end
end

--- The name now means the other address, and the one it meant is closed.
function World:move_name()
  local old = "name-" .. self.address
  self.address = 3 - self.address
  local new = "name-" .. self.address
  point(self)
  self.proxy:open(new)
  self.proxy:refuse(old)
  self.proxy:cut(old, "reset")
  self.moved = { route = new, accepted = self.proxy:count(new).accepted }
  return "to " .. ADDRESSES[self.address]
end

--- For the ledger: a queue is gone, and with it what was in it.
function World:queue_deleted(flow)
  self.ledger:deleted(flow, self.clear, wait.now())
end

-- A client that ended by itself is a failure, whatever the others do.
local function check_clients(self)
  for _, list in ipairs { self.publishers, self.consumers } do
    for _, each in ipairs(list) do
      if each.process:ended() then
        error(("%s ended by itself, with %s:\n%s"):format(each.name, tostring(each.process:wait(1)),
          each.process:output():sub(-2000)), 0)
      end
    end
  end
end

local function goes_on(self, time, seconds, without)
  local behind
  wait.wait_until(function()
    self.ledger:read()
    behind = self.ledger:behind(time, without)
    if not behind then return true end
    check_clients(self)
    wait.sleep(0.05)
    return false, behind .. " is behind"
  end, seconds, "every flow goes on")
  return wait.now()
end

--- Waits until every flow has handled an event that was published after `time`, but for those whose one broker is
--- node `away`. Returns when that was. Raises after `seconds`, and says who is behind.
function World:goes_on(time, seconds, away)
  local only = (self.address - 1) % #self.cluster.nodes + 1
  return goes_on(self, time, seconds, function(flow) return flow.named and only == away end)
end

--- The same of every flow. A queue gives its events in order: what the broker had before `time` is then handled. Of what
--- came after, some may still wait.
function World:recovered(time, seconds)
  self.cluster:surely(function() goes_on(self, time, seconds, function() return false end) end)
  if self.moved then
    if self.proxy:count(self.moved.route).accepted == self.moved.accepted then
      error("nobody connected to the new address of the name", 0)
    end
    self.moved = nil
  end
  self.clear = time
  return wait.now()
end

-- The ids of the dead letters; takes them.
local function take_letters(self)
  local eventbus = require "eventbus"
  local bus = eventbus.assert(eventbus.connect { url = self.cluster.nodes[1].url, wait = 30, log = false })
  while true do
    local message, err = bus:get(DEAD)
    if not message then
      if err then error(err, 0) end
      break
    end
    self.ledger:letter(message:message_id())
    eventbus.assert(message:ack())
  end
  eventbus.assert(bus:close())
end

--- The end in order: publishers bring what they asked to its end, consumers handle all of it. Returns a list of what
--- went wrong; the ledger has the rest.
function World:finish(seconds)
  local wrong = {}
  local function ended(each, code)
    if code == 0 then return end
    wrong[#wrong + 1] = ("%s ended with %s:\n%s"):format(each.name, tostring(code), each.process:output())
  end
  for _, each in ipairs(self.publishers) do each.process:signal "TERM" end
  for _, each in ipairs(self.publishers) do
    ended(each, each.process:wait(seconds))
    if not each.process:output():match "done\n" then
      wrong[#wrong + 1] = ("%s: not all was answered:\n%s"):format(each.name, each.process:output())
    end
  end
  local fewest, since, moves = math.huge, wait.now(), 0
  while true do
    self.ledger:read()
    local open = self.ledger:open()
    if open < fewest then fewest, since = open, wait.now() end
    local still = wait.now() - since
    -- Handled already, a copy may still wait in a delay queue.
    -- The longest delay is a second.
    if #self.cluster.nodes > 1 and still > STUCK * (moves + 1) and moves < MOVES then
      moves = moves + 1
      self.cluster:move_delays(DEAD)
    end
    if still > seconds or (open == 0 or still > SETTLED) and not self.cluster:held(DEAD)[1] then break end
    wait.sleep(0.2)
  end
  for _, each in ipairs(self.consumers) do each.process:signal "TERM" end
  for _, each in ipairs(self.consumers) do ended(each, each.process:wait(30)) end
  self.ledger:read()
  take_letters(self)
  for _, text in ipairs(self.cluster:held(DEAD)) do wrong[#wrong + 1] = "left in a queue: " .. text end
  return wrong
end

--- Copies what the processes and nodes said to the folder.
function World:keep_logs()
  for _, list in ipairs { self.publishers, self.consumers } do
    for _, each in ipairs(list) do
      for i, path in ipairs(each.logs) do
        os.execute(("cp '%s' '%s/%s-%d.log' 2>/dev/null"):format(path, self.folder, each.name:gsub(" ", "-"), i))
      end
    end
  end
  if self.cluster then self.cluster:keep_logs(self.folder) end
end

--- Ends all processes, at once.
function World:stop()
  for _, list in ipairs { self.publishers, self.consumers } do
    for _, each in ipairs(list) do
      if each.process and not each.process:ended() then each:kill() end
    end
  end
  if self.cluster then self.cluster:stop() end
  if self.proxy then self.proxy:stop() end
end

return world
