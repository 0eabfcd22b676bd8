--- The bus in its hosts, on a private broker: what a wake-up takes, and memory over many publishes and deliveries, in each;
--- in nginx also requests per second with a confirmed publish beside the same nginx that publishes nothing, and reloads
--- under load. Fails if a request or an event is lost; of the times it only tells.
---
---     hosts.lua [EVENTS [SECONDS]]       EVENTS: a multiple of 10; SECONDS of load for each line of nginx's table

package.path = package.path .. ";./examples/?.lua"

local children = require "demo.children"
local hosts = require "spec.support.hosts"
local program = require "spec.support.program"
local server = require "openresty.server"
local socket = require "socket"

local events, seconds = tonumber(arg[1] or 200000), tonumber(arg[2] or 6)
local RELOADS, PAUSE = 8, 1.5
local LONGEST = 1800

local HOSTS = { "blocking", "cqueues", "luv", "copas", "nginx", "haproxy", "tarantool", "prosody" }
-- What the hosts that embed Lua run.
local CODE = {
  haproxy = 'core.register_task(function() require("bench.host").execute("haproxy", EVENTS) end)',
  tarantool = 'box.cfg { log_level = 4 } require("bench.host").execute("tarantool", EVENTS)',
  prosody = 'module:add_timer(0, function() require("util.async").runner(function() '
    .. 'require("bench.host").execute("prosody", EVENTS) end):run(true) end)',
}
local CONFIG = { haproxy = "frontend web\n  mode http\n  bind 127.0.0.1:@PORT@\n" }

local function run(command)
  local pipe = assert(io.popen(command, "r"))
  local out = pipe:read "*a"
  pipe:close()
  return out
end

local folder = run('mktemp -d "${TMPDIR:-/tmp}/eventbus-bench.XXXXXX"'):gsub("%s+$", "")
local dir = folder .. "/broker"
local group = children.new(folder)
local guard, nginx, url

local function get(path)
  local client = assert(socket.connect("127.0.0.1", url:match ":(%d+)$"))
  client:settimeout(LONGEST)
  assert(client:send(("GET %s HTTP/1.0\r\n\r\n"):format(path)))
  local answer = client:receive "*a" or ""
  client:close()
  return answer:match "^HTTP/%S+ 200.-\r\n\r\n(.-)\n?$" or error(path .. ": " .. answer, 0)
end

local function messages()
  return tonumber(run(("bin/eventbus-broker eval %s '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue,"
    .. "<<\"bench\">>)), proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages]))'"):format(dir)))
end

-- wrk's report: requests, requests/s, p50, p99, what failed.
local function load(path, connections, time, header)
  local out = run(("wrk -t1 -c%d -d%ds --timeout 60s --latency %s %s%s 2>&1")
    :format(connections, time, header or "", url, path))
  return {
    requests = tonumber(out:match "(%d+) requests in"), rate = tonumber(out:match "Requests/sec:%s+([%d.]+)") or 0,
    p50 = out:match "\n%s+50%%%s+(%S+)", p99 = out:match "\n%s+99%%%s+(%S+)",
    failed = tonumber(out:match "Non%-2xx or 3xx responses: (%d+)" or 0), errors = out:match "Socket errors: ([^\n]+)",
  }
end

local function throughput()
  print(("\n%-18s %-11s %10s %10s %10s %8s"):format("nginx, connections", "request", "per s", "p50", "p99", "failed"))
  for _, connections in ipairs { 50, 200 } do
    for _, name in ipairs { "plain", "confirmed" } do
      local it = load("/" .. name, connections, seconds)
      print(("%-18d %-11s %10.0f %10s %10s %8d%s"):format(connections, name, it.rate, it.p50, it.p99, it.failed,
        it.errors and "  " .. it.errors or ""))
    end
  end
end

-- A connection for each request: one that is kept open may be closed by the server just when it is used.
local function reloads()
  local before = messages()
  local signals = ("for i in %s; do sleep %s; kill -HUP %s; done &"):format(("i "):rep(RELOADS), PAUSE, nginx.pid)
  os.execute(signals)
  local it = load("/confirmed", 50, math.ceil(RELOADS * PAUSE) + 3, "-H 'Connection: close'")
  -- What is under way when wrk ends may or may not count.
  socket.sleep(1)
  local events_more = messages() - before
  print(("\nnginx, %d reloads under load: %d requests, %d failed, socket errors: %s; %d events in the queue"):format(RELOADS,
    it.requests, it.failed, it.errors or "none", events_more))
  if not it.requests or it.requests == 0 or it.failed > 0 or it.errors then error("a request failed in a reload", 0) end
  if events_more < it.requests then error(it.requests - events_more .. " confirmed events are missing", 0) end
end

-- A host that is a program, or one that runs our code: the line it says.
local function line_of(name, broker_url)
  if name == "nginx" then return get("/measure?n=" .. events) end
  local p
  if CODE[name] then
    p = hosts.start(name, (CODE[name]:gsub("EVENTS", tostring(events))), broker_url, { config = CONFIG[name] }).program
  else
    p = program.start(name, { program.lua(), "bench/host.lua", name, tostring(events) }, { RABBITMQ_URL = broker_url })
  end
  local deadline, line = socket.gettime() + LONGEST
  repeat
    socket.sleep(0.2)
    local ended = p:ended()
    line = p:output():match "\n(lua=[^\n]*)\n"
  until line or ended or socket.gettime() > deadline
  local output = p:output()
  p:stop()
  return line or error(name .. " told nothing: " .. output:sub(-2000), 0)
end

local function each_host(broker_url)
  print(("%d events for the memory of each: KiB resident after 1/10, 5/10 and all of them, first published, then consumed")
    :format(events))
  print(("%-10s %-4s %9s %9s %9s   %-21s %-21s"):format("host", "Lua", "p50 us", "p99 us", "CPU us", "KiB, publishing",
    "KiB, consuming"))
  for _, name in ipairs(HOSTS) do
    local line = line_of(name, broker_url)
    local function field(key) return line:match(key .. "=(%S+)") end
    local function sizes(key)
      local list = {}
      for size in field(key):gmatch "%d+" do list[#list + 1] = size end
      return ("%6s %6s %6s"):format(list[1], list[5], list[10])
    end
    print(("%-10s %-4s %9s %9s %9s   %-21s %-21s"):format(name, field "lua", field "p50", field "p99", field "cpu",
      sizes "published", sizes "consumed"))
  end
end

local function measure()
  run("mkdir -p " .. dir)
  -- However this ends, the guard stops the broker and removes its folder.
  guard = assert(io.popen("exec bin/eventbus-broker guard " .. dir .. " >/dev/null 2>&1", "w"))
  local broker_url = run("bin/eventbus-broker start " .. dir):match "AMQP_URL=(%S+)" or error("the broker did not start", 0)
  url = server.prepare(folder, "bench/hosts.conf").url
  nginx = group:start("nginx", server.command(folder), { RABBITMQ_URL = broker_url })
  local deadline = socket.gettime() + 20
  while not pcall(get, "/ready") do
    if socket.gettime() > deadline then
      error("nginx does not answer: " .. run("tail -n 20 " .. folder .. "/error.log"), 0)
    end
    socket.sleep(0.1)
  end
  io.stdout:setvbuf "line"
  io.write("broker, load generator and hosts share this machine; its load: ", run "cut -d' ' -f1-3 /proc/loadavg")
  print("times: from a publish until the event's handler begins, over the broker, while nothing else is under way")
  each_host(broker_url)
  throughput()
  reloads()
end

local ok, err = pcall(measure)
if nginx then children.signal(nginx, "QUIT") end
group:stop()
if guard then guard:close() end
group:close()
if not ok then error(err, 0) end
