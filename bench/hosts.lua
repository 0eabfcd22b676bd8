--- The bus inside nginx, on a private broker: requests per second with a confirmed publish beside the same nginx that
--- publishes nothing, reloads under load, memory over many publishes and deliveries. Prints; asserts nothing.
---
---     hosts.lua [EVENTS [SECONDS]]

package.path = package.path .. ";./examples/?.lua"

local children = require "demo.children"
local server = require "openresty.server"
local socket = require "socket"

local events, seconds = tonumber(arg[1] or 200000), tonumber(arg[2] or 6)
local RELOADS, PAUSE = 8, 1.5

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
  client:settimeout(600)
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
  local out = run(("wrk -t1 -c%d -d%ds --latency %s %s%s 2>&1"):format(connections, time, header or "", url, path))
  return {
    requests = tonumber(out:match "(%d+) requests in"), rate = tonumber(out:match "Requests/sec:%s+([%d.]+)") or 0,
    p50 = out:match "\n%s+50%%%s+(%S+)", p99 = out:match "\n%s+99%%%s+(%S+)",
    failed = tonumber(out:match "Non%-2xx or 3xx responses: (%d+)" or 0), errors = out:match "Socket errors: ([^\n]+)",
  }
end

local function throughput()
  print(("%-12s %-11s %10s %10s %10s %8s"):format("connections", "request", "per s", "p50", "p99", "failed"))
  for _, connections in ipairs { 50, 200 } do
    for _, name in ipairs { "plain", "confirmed" } do
      local it = load("/" .. name, connections, seconds)
      print(("%-12d %-11s %10.0f %10s %10s %8d%s"):format(connections, name, it.rate, it.p50, it.p99, it.failed,
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
  print(("%d reloads under load: %d requests, %d failed, socket errors: %s; %d events in the queue: %s"):format(RELOADS,
    it.requests, it.failed, it.errors or "none", messages() - before,
    messages() - before >= it.requests and "none is missing" or "EVENTS ARE MISSING"))
end

local function memory()
  for _, what in ipairs { "publish", "consume" } do
    local begun = socket.gettime()
    local sizes = get(("/%s?n=%d"):format(what, events))
    print(("%-8s %d: KiB resident after each tenth: %s (%.0f per s)"):format(what, events, sizes,
      events / (socket.gettime() - begun)))
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
  print("nginx, one worker; broker, load generator and nginx share this machine")
  throughput()
  reloads()
  get "/ready"
  memory()
end

local ok, err = pcall(measure)
if nginx then children.signal(nginx, "QUIT") end
group:stop()
if guard then guard:close() end
group:close()
if not ok then error(err, 0) end
