--- cluster: one RabbitMQ node, or three on loopback that see each other only through our routes.
---
--- Each node has its own epmd, where the names of the others are registered with ports of our proxy: a split of the
--- network is real to them, and needs no root. Two clusters never meet: ports, epmd, cookie and folders are their
--- own.

local broker = require "spec.support.broker"
local delays = require "spec.chaos.delays"
local forgotten = require "spec.chaos.forgotten"
local replicas = require "spec.chaos.replicas"
local wait_until = require("spec.support.wait").wait_until

local cluster = {}

local Cluster = {}
Cluster.__index = Cluster

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function shell(command)
  local ok = os.execute(command)
  if ok ~= true and ok ~= 0 then error("failed: " .. command, 2) end
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- Silence between nodes is noticed after this many seconds, more or less a quarter.
local TICK = 8

local function new_node(cookie)
  local node = broker.new { tls = true, start = false,
    set = { cluster_partition_handling = cookie and "pause_minority" or nil } }
  node.flags = node.flags .. " --timeout 120"
  if cookie then
    shell("mkdir -p " .. quote(node.dir .. "/home"))
    write(node.dir .. "/home/.erlang.cookie", cookie)
    shell("chmod 400 " .. quote(node.dir .. "/home/.erlang.cookie"))
    write(node.dir .. "/advanced.config", ("[{kernel, [{net_ticktime, %d}]}].\n"):format(TICK))
  end
  return node
end

local function link(i, j) return ("link-%d-%d"):format(i, j) end

local function setting(node, name)
  for line in io.lines(node.dir .. "/settings") do
    local value = line:match("^" .. name .. "=(.*)$")
    if value then return value end
  end
end

-- How many nodes a node sees, itself among them; 0 while it is not up.
local RUNNING = [[case rabbit:is_running() of
  true -> length(rabbit_mnesia:cluster_nodes(running)); false -> 0 end]]

local function join(self, proxy)
  local nodes = self.nodes
  for i, from in ipairs(nodes) do
    for j, to in ipairs(nodes) do
      if i ~= j then
        local port = proxy:route(link(i, j),
          { target = { host = "127.0.0.1", port = tonumber(setting(to, "DIST_PORT")) } })
        proxy:alias(tonumber(setting(from, "EPMD_PORT")), to.node:match "^[^@]+", port)
      end
    end
  end
  -- As rabbitmqctl's stop_app, join_cluster and start_app do it, without starting an Erlang for each. It may take
  -- longer than a call to the node may: the process outlives that.
  for i = 2, #nodes do
    nodes[i]:eval(([[spawn(fun() ->
        group_leader(whereis(init), self()),
        rabbit:stop(),
        ok = rabbit_mnesia:join_cluster('%s', disc),
        rabbit:start()
      end), ok]]):format(nodes[1].node))
    wait_until(function() return tonumber(nodes[i]:eval(RUNNING)) == i end, 180, ("node %d has joined"):format(i))
  end
end

--- `count` is 1 or 3. Returns when all nodes are up and joined.
function cluster.start(count, proxy)
  local self = setmetatable({ nodes = {}, proxy = proxy, down = {}, replaced = 0, restarted = 0, closed = 0,
    moved = 0, forgot = 0 }, Cluster)
  local cookie = count > 1 and ("CHAOS%d"):format(os.time()) or nil
  for i = 1, count do self.nodes[i] = new_node(cookie) end
  self.nodes[1]:start()
  -- One authority for all.
  local others = { (table.unpack or unpack)(self.nodes, 2) }
  for _, node in ipairs(others) do
    shell(("cp -a %s %s"):format(quote(self.nodes[1].dir .. "/tls"), quote(node.dir .. "/tls")))
  end
  broker.start_all(others)
  if count > 1 then
    join(self, proxy)
    self:wait_whole(150)
  end
  return self
end

--- Waits until every node runs and sees all others.
function Cluster:wait_whole(seconds)
  for i, node in ipairs(self.nodes) do
    wait_until(function()
      local ok, answer = pcall(node.eval, node, RUNNING)
      return ok and tonumber(answer) == #self.nodes, answer
    end, seconds, ("node %d sees all %d"):format(i, #self.nodes))
  end
end

-- All nodes at once, as after a power cut.
local function start_anew(self)
  for _, node in ipairs(self.nodes) do
    if node:running() then node:kill() end
  end
  broker.start_all(self.nodes)
  self.restarted = self.restarted + #self.nodes
end

-- A node again. In a cluster it may hang while it starts: Erlang's global name server waits for ever for a node that came
-- back from a split, and what RabbitMQ 3.10 does against that has no effect with OTP 25.2, which Debian 12 has. Then all
-- are started anew, as an operator would, and counted.
local function start_again(self, i)
  local ok, why = pcall(self.nodes[i].start, self.nodes[i])
  if not ok and #self.nodes == 1 then error(why, 0) end
  if not ok then start_anew(self) end
end

-- After a fault of node i: the nodes are one again, and so are the replicas of the queues.
local function whole_again(self, i)
  if #self.nodes == 1 then return end
  -- A node that stood still is a split that RabbitMQ may not mend by itself, says its documentation: it is restarted.
  if not pcall(self.wait_whole, self, 60) then
    self.restarted = self.restarted + 1
    self.nodes[i]:kill()
    start_again(self, i)
    self:wait_whole(150)
  end
  local other = self.nodes[i % #self.nodes + 1]
  self.replaced = self.replaced + replicas.catch_up(other)
  self.moved = self.moved + delays.give_back(other)
end

-- How many channels do not answer their own broker. One that hangs in a declaration keeps everybody else's waiting.
local HANGING = "length([P || P <- rabbit_channel:list(), (catch rabbit_channel:info(P, [name])) =:= timeout])"

--- Calls `f`, which waits for what clients do on a cluster that works. If that does not come true because of the
--- brokers, by their own word, an operator's hand is lent, and `f` is called once more: connections whose deliveries a
--- queue has forgotten are closed; all nodes are started anew when they hang.
function Cluster:surely(f)
  local ok, result = pcall(f)
  if ok then return result end
  if #self.nodes == 1 then error(result, 0) end
  -- A broker that cannot even be asked hangs.
  local asked, closed = pcall(function() return forgotten.give_back(self.nodes[self:running()]) end)
  if asked and closed > 0 then
    self.forgot = self.forgot + closed
    return f()
  end
  local answered, hanging = pcall(self.eval, self, HANGING)
  if asked and answered and tonumber(hanging) == 0 then error(result, 0) end
  start_anew(self)
  self:wait_whole(150)
  return f()
end

--- The number of a node that runs.
function Cluster:running()
  for i, node in ipairs(self.nodes) do
    if not self.down[i] and node:running() then return i end
  end
  error("no node runs", 0)
end

--- Evaluates Erlang in a node that runs.
function Cluster:eval(expression) return self.nodes[self:running()]:eval(expression) end

--- The number of the node that leads a quorum queue.
function Cluster:leader(queue)
  local name = self:eval(([[{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
    {ok, _, {_, Leader}} = ra:members(amqqueue:get_pid(Q)), Leader]]):format(queue))
  for i, node in ipairs(self.nodes) do
    if name:find(node.node, 1, true) then return i end
  end
  error("no node leads " .. queue .. ": " .. name, 0)
end

function Cluster:kill(i)
  self.down[i] = true
  self.nodes[i]:kill()
end

function Cluster:halt(i)
  self.down[i] = true
  self.nodes[i]:halt()
end

--- A node again, after kill or halt.
function Cluster:revive(i)
  start_again(self, i)
  self.down[i] = nil
  whole_again(self, i)
end

function Cluster:freeze(i) self.nodes[i]:freeze() end
function Cluster:thaw(i)
  self.nodes[i]:thaw()
  whole_again(self, i)
end

local ALARM = {
  memory = { "vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1000000})",
    "vm_memory_monitor:set_vm_memory_high_watermark(0.6)" },
  disk = { "rabbit_disk_monitor:set_disk_free_limit(1000000000000000)",
    "rabbit_disk_monitor:set_disk_free_limit(16000000)" },
}

--- The alarm "memory" or "disk" of a node, on or off. Returns when the node has it so.
function Cluster:alarm(i, kind, on)
  local node = self.nodes[i]
  node:eval("ok = " .. ALARM[kind][on and 1 or 2])
  wait_until(function()
    local there = "lists:member({{resource_limit, %s, node()}, []}, rabbit_alarm:get_alarms())"
    return (node:eval(there:format(kind)) == "true") == on
  end, 60, ("the %s alarm is %s"):format(kind, on and "on" or "off"))
end

-- Calls `f` with each route between node i and the others: its name, and whether it leads away from i.
local function each_link(self, i, f)
  for k = 1, #self.nodes do
    if k ~= i then
      f(link(i, k), true)
      f(link(k, i), false)
    end
  end
end

--- Node i is cut off from the others: "cut" (its connections are reset and refused), "silent" (nothing arrives any
--- more), "deaf" (nothing arrives at it, what it says arrives). Returns when another node has noticed.
function Cluster:split(i, how)
  each_link(self, i, function(name, away)
    if how == "cut" then
      self.proxy:refuse(name)
      self.proxy:cut(name, "reset")
    elseif how == "silent" then
      self.proxy:weather(name, { stalled = { up = true, down = true } })
    else
      self.proxy:weather(name, { stalled = { up = not away, down = away } })
    end
  end)
  local other = self.nodes[i % #self.nodes + 1]
  wait_until(function() return tonumber(other:eval(RUNNING)) < #self.nodes end, 60, "the split is noticed")
end

--- Ends a split, and waits until the nodes are one again.
function Cluster:mend(i)
  each_link(self, i, function(name)
    self.proxy:weather(name, {})
    self.proxy:open(name)
  end)
  whole_again(self, i)
end

-- Channels with more consumers than the queues know of, by the broker's own word: their connections.
local ORPHANS = [[begin
    Known = [proplists:get_value(channel_pid, C) || C <- rabbit_amqqueue:consumers_all(<<"/">>)],
    [C || P <- rabbit_channel:list(), [{consumer_count, N}, {connection, C}] <-
      [catch rabbit_channel:info(P, [consumer_count, connection])], N > length([K || K <- Known, K =:= P])]
  end]]

-- What there is of a queue and of all channels, for whoever reads why a round failed.
local STATE = [[{case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)) of
    {ok, Q} -> catch rabbit_amqqueue:info(Q, [state, leader, online, messages, consumers]); No -> No end,
  [catch rabbit_channel:info(P, [name, state, consumer_count, messages_unacknowledged]) || P <- rabbit_channel:list()]}]]

local CONSUMERS = [[case rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)) of
  {ok, Q} -> length(rabbit_amqqueue:consumers(Q)); _ -> 0 end]]

--- Waits until a queue is there again and consumed. RabbitMQ 3.10 may consume a quorum queue anew in the midst of its
--- deletion, and then never tells the consumer that it is gone: such a connection is closed, as an operator would, and
--- counted.
function Cluster:consumed_again(name, seconds)
  local node = self.nodes[self:running()]
  local ok, why = pcall(wait_until, function()
    return tonumber(node:eval(CONSUMERS:format(name))) > 0
  end, seconds, name .. " is consumed again")
  if ok then return end
  local closed = tonumber(node:eval(("length([rabbit_networking:close_connection(C, \"orphan\") || C <- %s])")
    :format(ORPHANS)))
  if closed == 0 then error(("%s\n  %s"):format(why, node:eval(STATE:format(name))), 0) end
  self.closed = self.closed + closed
end

function Cluster:delete_queue(name)
  self.nodes[self:running()]:delete_queue("/", name)
end

-- Lines of "queue: count". Of a quorum queue the leader is asked: what the nodes tell each other is seconds old.
local HELD = [=[
  [io_lib:format("~s: ~0p~n", [N, M]) || Q <- rabbit_amqqueue:list(), {resource, _, queue, N} <- [amqqueue:get_name(Q)],
    N =/= <<"%s">>, M <- [case amqqueue:get_type(Q) of
      rabbit_quorum_queue ->
        {ok, Total, _} = ra:consistent_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), Total;
      _ -> proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages]))
    end], M =/= 0]]=]

--- What the queues but `other` hold, a list of texts. Nothing: what was not handled by now never will be.
function Cluster:held(other)
  local list = {}
  for line in self.nodes[self:running()]:query(HELD:format(other)):gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

--- Delay queues of a cluster that still hold something when all else is over, long after its time: another leader for
--- each, as in delays.lua.
function Cluster:move_delays(other)
  local queues = {}
  for _, text in ipairs(self:held(other)) do queues[#queues + 1] = text:match "^(%S+%.retry%.%d+):" end
  self.moved = self.moved + delays.move(self.nodes[self:running()], queues)
end

--- A new certificate for all nodes, of our authority or of another one. Their caches are emptied.
function Cluster:certify(authority)
  local tls = quote(self.nodes[1].dir .. "/tls")
  shell(([[cd %s && umask 077 && { openssl ecparam -name prime256v1 -genkey -noout -out new.key &&
    openssl req -new -config openssl.cnf -key new.key -subj /CN=localhost -out new.csr &&
    openssl x509 -req -in new.csr -CA %s.pem -CAkey %s.key -set_serial 0x$(openssl rand -hex 8) -days 30 \
      -extfile openssl.cnf -extensions server -out new.pem; } >/dev/null 2>&1]]):format(tls, authority, authority))
  for _, node in ipairs(self.nodes) do
    local own = quote(node.dir .. "/tls")
    shell(("cp %s/new.pem %s/server.pem && cp %s/new.key %s/server.key"):format(tls, own, tls, own))
    node:eval("ssl:clear_pem_cache()")
  end
end

--- The fingerprint of the certificate in a file, or that a port serves.
function Cluster:fingerprint(port)
  local source = port and ("openssl s_client -connect 127.0.0.1:%d </dev/null 2>/dev/null"):format(port)
    or ("cat %s"):format(quote(self.nodes[1].dir .. "/tls/server.pem"))
  local pipe = assert(io.popen(source .. " | openssl x509 -noout -fingerprint 2>/dev/null"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

--- The nodes' logs, copied to a folder.
function Cluster:keep_logs(folder)
  for i, node in ipairs(self.nodes) do
    os.execute(("mkdir -p %s && cp %s/log/*.log %s 2>/dev/null"):format(quote(folder .. "/node-" .. i), quote(node.dir),
      quote(folder .. "/node-" .. i)))
  end
end

function Cluster:stop()
  for _, node in ipairs(self.nodes) do node:stop() end
end

return cluster
