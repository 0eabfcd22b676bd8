--- nginx with the Lua module: a bus in each worker, which many requests share. A real nginx, as whoever runs this, in a
-- folder of its own (`make test-openresty`).

package.path = package.path .. ";./examples/?.lua"

local eventbus = require "eventbus"
local socket = require "socket"
local broker = require "spec.support.broker"
local program = require "spec.support.program"
local server = require "openresty.server"
local wait_until = require("spec.support.wait").wait_until

local SECONDS = 20

-- One request over a new connection: status, body, all of the answer.
local function get(port, path)
  local client = assert(socket.connect("127.0.0.1", port))
  client:settimeout(SECONDS)
  assert(client:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n"):format(path)))
  local answer = client:receive "*a" or ""
  client:close()
  return tonumber(answer:match "^HTTP/%S+ (%d+)"), answer:match "\r\n\r\n(.-)\n?$", answer
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

describe("nginx #openresty", function()
  local node, url, vhost, folder, nginx, port, bus

  setup(function()
    node = broker.shared()
    url, vhost = node:new_vhost()
    folder = program.folder()
    port = server.prepare(folder, "spec/support/nginx.conf").port
    nginx = program.start("nginx", server.command(folder), { RABBITMQ_URL = url })
    bus = eventbus.assert(eventbus.connect { url = url, loop = "blocking" })
    wait_until(function()
      local log = io.open(folder .. "/error.log", "rb")
      if not log then return false end
      local text = log:read "*a"
      log:close()
      assert(not nginx:ended(), nginx:output() .. text)
      return text:find("consumer is ready", 1, true), text
    end, SECONDS, "the worker's consumer is ready")
  end)
  teardown(function()
    if nginx then nginx:stop() end
    if bus then bus:close() end
    node:delete_vhost(vhost)
  end)

  -- What is in a queue: from -> how many, n -> how many, the ids, the count.
  local function take_all(queue)
    local from, numbers, ids, count = {}, {}, {}, 0
    while true do
      local message = bus:get(queue)
      if not message then return { from = from, numbers = numbers, ids = ids, count = count } end
      local event = eventbus.assert(message:event())
      local name, n = event.data.from, event.data.n
      if name then from[name] = (from[name] or 0) + 1 end
      if n then numbers[n] = (numbers[n] or 0) + 1 end
      ids[event.id], count = true, count + 1
      message:ack()
    end
  end

  for _, phase in ipairs { "rewrite", "access", "content" } do
    it("publishes with a confirm from the phase " .. phase, function()
      local status, id = get(port, "/" .. phase)
      assert.are.equal(200, status)
      local found = take_all "kept"
      assert.is_true(found.ids[id], id)
      assert.are.equal(1, found.from[phase])
    end)
  end

  it("publishes without waiting from phases that cannot wait", function()
    local status, _, answer = get(port, "/later")
    assert.are.equal(200, status, answer)
    wait_until(function() return node:queue(vhost, "kept").messages == 3 end, SECONDS, "three events are in the queue")
    local found = take_all "kept"
    assert.are.same({ header_filter = 1, body_filter = 1, log = 1 }, found.from)
    assert.is_true(found.ids[answer:match "X%-Event: (%S+)"])
  end)

  it("raises when a publish would wait where nothing can, and publishes nothing", function()
    local _, _, answer = get(port, "/waits")
    assert.is_truthy(answer:find("X-Raised: false eventbus: this call would wait, and here nothing can", 1, true), answer)
    assert.are.equal(0, take_all("kept").count)
  end)

  it("answers 'full' at once when the outbox is", function()
    local _, body = get(port, "/full")
    assert.are.equal("nil full nil full at once", body)
  end)

  it("answers 'forked' of a bus of init_by_lua, where none can connect", function()
    local _, body = get(port, "/parents")
    assert.is_truthy(body:find("^forked forked false .*give lazy = true"), body)
  end)

  it("opens and closes a bus within a request", function()
    for _ = 1, 3 do
      local _, body = get(port, "/again")
      assert.is_truthy(body:find "^evt_%S+ true nil", body)
    end
    assert.are.equal(3, take_all("kept").count)
  end)

  it("leaves no timer behind after a connect that failed, and logs nothing", function()
    local _, body = get(port, "/unreachable")
    assert.are.equal("connection connection connection 0", body)
    assert.is_nil(read(folder .. "/error.log"):find("no socket for the bus", 1, true))
  end)

  it("lets many requests share the bus, and a consumer handle many at once", function()
    local requests = 0
    -- For a second each, until eight were seen at once: a machine that stands still needs more than one.
    wait_until(function()
      local pipe = assert(io.popen(("wrk -t1 -c20 -d1 'http://127.0.0.1:%d/pass?n=1' 2>&1"):format(port), "r"))
      local report = pipe:read "*a"
      pipe:close()
      assert.is_nil(report:find("Non-2xx", 1, true), report)
      requests = requests + assert(tonumber(report:match "(%d+) requests in"), report)
      local _, seen = get(port, "/seen")
      return requests > 20 and tonumber(seen:match "^%d+ (%d+)$") >= 8, report .. seen
    end, SECONDS, "eight are handled at once")
    wait_until(function()
      local count = node:queue(vhost, "done").messages
      return count >= requests and node:queue(vhost, "pass").messages == 0, count
    end, SECONDS, "all are handled")
    local _, seen = get(port, "/seen")
    assert.are.equal("8", seen:match "^%d+ (%d+)$", seen)
    -- Two of the worker's bus, one of the spec's: it has published nothing.
    assert.are.equal(3, node:connections(vhost))
    bus:purge "done"
    wait_until(function() return node:queue(vhost, "kept").messages >= requests end, SECONDS, "those of log are there")
    bus:purge "kept"
  end)

  it("loses neither a request nor an event in reloads under load", function()
    local sent, reloads, at, worker = 0, 0, {}, select(2, get(port, "/pid"))
    -- A few connections take turns; the reloads fall where they fall.
    while reloads < 4 or sent < 1200 do
      local clients = {}
      for i = 1, 10 do
        sent = sent + 1
        clients[i] = assert(socket.connect("127.0.0.1", port))
        clients[i]:settimeout(SECONDS)
        assert(clients[i]:send(("GET /pass?n=%d HTTP/1.0\r\n\r\n"):format(sent)))
      end
      if sent % 300 == 150 then
        nginx:signal "HUP"
        reloads = reloads + 1
      end
      for i = 1, 10 do
        local answer = clients[i]:receive "*a" or ""
        clients[i]:close()
        if not answer:find "^HTTP/%S+ 200" then at[#at + 1] = answer end
      end
    end
    assert.are.same({}, at)
    wait_until(function()
      local pid = select(2, get(port, "/pid"))
      return pid ~= worker, pid
    end, SECONDS, "another worker answers")
    -- By their numbers: what wrk left unfinished may still have come.
    local found = { done = {}, kept = {} }
    wait_until(function()
      for queue, numbers in pairs(found) do
        for n in pairs(take_all(queue).numbers) do numbers[n] = true end
        for n = 1, sent do
          if not numbers[n] then return false, ("event %d is not in %q"):format(n, queue) end
        end
      end
      return true
    end, SECONDS, "all that was published is there, handled and of the log phase")
  end)

  it("ends in order on QUIT: the last events are confirmed, and no connection is left", function()
    for i = 1, 50 do assert.are.equal(200, (get(port, "/pass?n=" .. i))) end
    nginx:signal "QUIT"
    assert.are.equal(0, nginx:wait(SECONDS), nginx:output())
    local done, kept = take_all "done", take_all "kept"
    local waiting = node:queue(vhost, "pass").messages
    assert.is_true(done.count + waiting >= 50, done.count .. " done, " .. waiting .. " wait")
    assert.are.equal(50, kept.count)
    wait_until(function()
      local count = node:connections(vhost)
      return count == 1 or count == 2, count  -- the spec's own
    end, SECONDS, "nginx's connections are closed")
    local log = read(folder .. "/error.log")
    assert.is_truthy(log:find("consumer ended: true exiting", 1, true), log)
    assert.is_nil(log:find("%[alert%]"), log)
    assert.is_nil(log:find("%[error%]"), log)
  end)
end)
