-- cluster: three RabbitMQ nodes on loopback that are one cluster, in one folder; ports, epmds and cookie are their own.
--
--   local c = cluster.start(folder)     -- when all three are up and know each other; raises what went wrong
--   c.urls[1], c.url                    -- of each node, and of all: a client goes to the next when one is lost
--   c:eval(i, erlang)   c:kill(i)   c:revive(i)   c:cut()   c:stop()
--
-- However this process ends, a guard for each node stops it.

local children = require "demo.children"
local socket = require "socket"

local cluster = {}
cluster.__index = cluster

local quote = children.quote

local function output(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo code=$?", "r"))
  local text = pipe:read "*a"
  pipe:close()
  local out, code = text:match "^(.*)code=(%d+)%s*$"
  return out or text, tonumber(code)
end

local function must(command)
  local out, code = output(command)
  if code ~= 0 then error(("%s\nfailed with %s:\n%s"):format(command, tostring(code), out), 0) end
  return out
end

local function broker(node, verb, rest)
  return ("bin/eventbus-broker %s %s %s"):format(verb, quote(node.dir), rest or "")
end

local function short(n) return string.char(math.floor(n / 256), n % 256) end

-- Each node has an epmd to itself, where it looks for the others: they are put in by name. An entry lasts as long as its
-- connection. (ALIVE2_REQ of the Erlang distribution: a normal node, TCP, versions 5 to 6.)
local function introduce(node, other)
  local name = other.env.NODE:match "^[^@]+"
  local request = "\120" .. short(other.dist_port) .. "\77\0" .. short(6) .. short(5) .. short(#name) .. name .. short(0)
  local connection = assert(socket.connect("127.0.0.1", node.epmd_port))
  connection:settimeout(10)
  assert(connection:send(short(#request) .. request))
  local answer = assert(connection:receive(2))
  if answer:byte(2) ~= 0 then error("epmd does not take the name of another node", 0) end
  return connection
end

local function setting(node, name)
  for line in io.lines(node.dir .. "/settings") do
    local value = line:match("^" .. name .. "=(%d+)$")
    if value then return tonumber(value) end
  end
end

local function start_node(node)
  node.env = {}
  for key, value in must(broker(node, "start", "--plugin rabbitmq_consistent_hash_exchange --timeout 120"))
    :gmatch "([%u_]+)=([^\n]*)\n" do
    node.env[key] = value
  end
  node.url, node.epmd_port, node.dist_port = node.env.AMQP_URL, setting(node, "EPMD_PORT"), setting(node, "DIST_PORT")
end

local function new_node(folder, i, cookie)
  local dir = ("%s/broker/%d"):format(folder, i)
  must(("mkdir -p %s/home && printf %%s %s >%s/home/.erlang.cookie && chmod 400 %s/home/.erlang.cookie"):format(quote(dir),
    cookie, quote(dir), quote(dir)))
  local guard = assert(io.popen(("exec bin/eventbus-broker guard %s >/dev/null 2>&1"):format(quote(dir)), "w"))
  return { dir = dir, guard = guard }
end

local RUNNING = "length(rabbit_mnesia:cluster_nodes(running))"

function cluster:wait_whole(seconds)
  local deadline = socket.gettime() + seconds
  for i = 1, #self.nodes do
    while self:eval(i, RUNNING) ~= tostring(#self.nodes) do
      if socket.gettime() > deadline then error(("node %d does not see all of the cluster"):format(i), 0) end
      socket.sleep(0.1)
    end
  end
end

function cluster.start(folder)
  local self = setmetatable({ nodes = {}, urls = {}, introductions = {} }, cluster)
  local cookie = output "od -An -N16 -tx1 /dev/urandom | tr -d ' \\n'"
  local ok, err = pcall(function()
    for i = 1, 3 do
      self.nodes[i] = new_node(folder, i, cookie)
      start_node(self.nodes[i])
      self.urls[i] = self.nodes[i].url
    end
    for _, node in ipairs(self.nodes) do
      for _, other in ipairs(self.nodes) do
        if node ~= other then self.introductions[#self.introductions + 1] = introduce(node, other) end
      end
    end
    for i = 2, 3 do
      must(broker(self.nodes[i], "ctl", "stop_app"))
      must(broker(self.nodes[i], "ctl", "join_cluster " .. quote(self.nodes[1].env.NODE)))
      must(broker(self.nodes[i], "ctl", "start_app"))
    end
    self:wait_whole(120)
  end)
  if not ok then
    self:stop()
    error(err, 0)
  end
  local hosts = {}
  for i, url in ipairs(self.urls) do hosts[i] = url:match "@(.*)$" end
  self.url = "amqp://guest:guest@" .. table.concat(hosts, ",")
  return self
end

--- Evaluates Erlang in a node: the printed term.
function cluster:eval(i, expression)
  return (output(broker(self.nodes[i], "eval", quote(expression))):gsub("%s+$", ""))
end

--- kill -9, as a crash does; its epmd stays.
function cluster:kill(i) must(broker(self.nodes[i], "kill")) end

function cluster:revive(i)
  start_node(self.nodes[i])
  self:wait_whole(120)
end

--- The number of the node that leads a quorum queue or a stream.
function cluster:leader(queue)
  local term = self:eval(1, ('{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)), '
    .. "case rabbit_amqqueue:info(Q, [leader]) of [{leader, L}] -> L end"):format(queue))
  for i, node in ipairs(self.nodes) do
    if term:find(node.env.NODE, 1, true) then return i end
  end
  error("no node leads " .. queue .. ": " .. term, 0)
end

--- Closes all connections of clients, as an operator does.
function cluster:cut()
  self:eval(1, '[rabbit_networking:close_connection(C, "scaling") || C <- rabbit_networking:connections()]')
end

--- What a stream takes on the disk of each node: its segments, without their indexes. The broker's names of folders have
--- other characters for some.
function cluster:stream_bytes(queue)
  local leader = self.nodes[self:leader(queue)]
  return tonumber((must(("find %s -path %s -name '*.segment' -exec cat {} + | wc -c"):format(quote(leader.dir),
    quote("*" .. queue:gsub("%W", "*") .. "_*")))))
end

function cluster:stop()
  for _, node in ipairs(self.nodes) do node.guard:close() end
  for _, connection in ipairs(self.introductions) do connection:close() end
end

return cluster
