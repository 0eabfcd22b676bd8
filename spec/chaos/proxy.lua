--- proxy: a process between clients and brokers, and between the nodes of a cluster. What it may do to a connection
--- is in route.lua and stream.lua.
---
---     local p = proxy.start()
---     local port = p:route("plain", { target = { host = "127.0.0.1", port = 5672 }, framed = true })
---     p:weather("plain", { latency = 0.2 }); p:weather("plain", {})
---     p:blow("plain", "cut", "up"); p:cut("plain", "reset")
---
--- Each call waits until it is done, 10 s at most, and raises what went wrong. The same file is the process when it
--- is run as a program. It ends with us: it reads its control connection's end.

local cjson = require "cjson"

local commands = {}

local function serve()
  local uv = require "luv"
  local alias = require "spec.chaos.alias"
  local route = require "spec.chaos.route"
  local routes = {}

  local function named(name) return routes[name] or error("no route " .. tostring(name), 0) end

  function commands.route(o)
    if routes[o.name] then error("there is a route " .. o.name, 0) end
    routes[o.name] = route.new(o)
    return routes[o.name].port
  end

  function commands.target(o) named(o.name).target = o.target end

  -- The tables stay: streams hold them.
  function commands.weather(o)
    local weather = named(o.name).weather
    weather.latency, weather.bandwidth = o.latency, o.bandwidth
    local stalled = o.stalled or {}
    weather.stalled.up, weather.stalled.down = stalled.up, stalled.down
  end

  function commands.blow(o) named(o.name).weather.armed[o.direction] = o.blow end
  function commands.armed(o) return named(o.name).weather.armed[o.direction] ~= nil end
  function commands.cut(o) named(o.name):cut_all(o.how) end
  function commands.half_open(o) named(o.name):half_open() end
  function commands.refuse(o) named(o.name):refuse() end
  function commands.open(o) named(o.name):open() end

  function commands.count(o)
    local open = 0
    for _ in pairs(named(o.name).connections) do open = open + 1 end
    return { open = open, accepted = named(o.name).accepted }
  end

  local function tell(socket, answer) socket:write(cjson.encode(answer) .. "\n") end

  local function obey(socket, line)
    local o = cjson.decode(line)
    if o.op == "alias" then
      alias.keep(o.epmd_port, o.node, o.port, function(ok)
        tell(socket, ok and { ok = true } or { err = "epmd does not take the name " .. o.node })
      end)
      return
    end
    local ok, result = pcall(commands[o.op] or error, o)
    tell(socket, ok and { ok = true, result = result } or { err = tostring(result) })
  end

  local control = uv.new_tcp()
  assert(control:bind("127.0.0.1", 0))
  control:listen(1, function()
    local socket, text = uv.new_tcp(), ""
    control:accept(socket)
    socket:read_start(function(_, bytes)
      if not bytes then os.exit(0) end
      text = (text .. bytes):gsub("([^\n]*)\n", function(line)
        obey(socket, line)
        return ""
      end)
    end)
  end)
  local ticker = uv.new_timer()
  ticker:start(10, 10, function()
    for _, each in pairs(routes) do each:tick() end
  end)
  print("control " .. control:getsockname().port)
  io.stdout:flush()
  uv.run()
end

if arg and arg[0] and arg[0]:match "chaos/proxy%.lua$" then return serve() end

local socket = require "socket"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local proxy = {}

local Proxy = {}
Proxy.__index = Proxy

function proxy.start()
  local process = program.start("proxy", { program.lua(), "spec/chaos/proxy.lua" })
  local port = wait_until(function() return process:output():match "control (%d+)" end, 20, "the proxy listens")
  local control = assert(socket.connect("127.0.0.1", tonumber(port)))
  control:settimeout(10)
  return setmetatable({ process = process, control = control }, Proxy)
end

local function call(self, op, o)
  o.op = op
  assert(self.control:send(cjson.encode(o) .. "\n"))
  local line, err = self.control:receive "*l"
  if not line then error(("proxy: %s: %s\n%s"):format(op, err, self.process:output()), 3) end
  local answer = cjson.decode(line)
  if not answer.ok then error(("proxy: %s: %s"):format(op, answer.err), 3) end
  return answer.result
end

--- A new route: `o` as in route.lua. Returns its port.
function Proxy:route(name, o)
  return call(self, "route", { name = name, host = o.host, port = o.port, target = o.target, framed = o.framed })
end

--- Where new connections go.
function Proxy:target(name, host, port) call(self, "target", { name = name, target = { host = host, port = port } }) end

--- What the route's connections suffer from now on: latency, bandwidth, stalled = { up, down }. {} is fine weather.
function Proxy:weather(name, weather)
  call(self, "weather",
    { name = name, latency = weather.latency, bandwidth = weather.bandwidth, stalled = weather.stalled })
end

--- Arms a blow, "corrupt" or "cut", for the next frame in that direction.
function Proxy:blow(name, blow, direction) call(self, "blow", { name = name, blow = blow, direction = direction }) end

--- Whether it has not struck yet.
function Proxy:armed(name, direction) return call(self, "armed", { name = name, direction = direction }) end

--- Ends all connections of a route: "reset" or "drop".
function Proxy:cut(name, how) call(self, "cut", { name = name, how = how }) end

--- The broker loses all connections of a route; their clients are not told.
function Proxy:half_open(name) call(self, "half_open", { name = name }) end

function Proxy:refuse(name) call(self, "refuse", { name = name }) end
function Proxy:open(name) call(self, "open", { name = name }) end

--- { open, accepted }: connections now, and in all.
function Proxy:count(name) return call(self, "count", { name = name }) end

--- Another node's name in an epmd: see alias.lua.
function Proxy:alias(epmd_port, node, port) call(self, "alias", { epmd_port = epmd_port, node = node, port = port }) end

--- Its exit code and what it said, when it has ended by itself; else nil.
function Proxy:died()
  if not self.process:ended() then return nil end
  return ("exit code %s\n%s"):format(self.process:wait(1), self.process:output())
end

function Proxy:stop()
  self.control:close()
  self.process:wait(5)
end

return proxy
