--- The HTTP gateway of examples/openresty/, in a real nginx: what a client is answered, and what a browser's stream shows.

package.path = package.path .. ";./examples/?.lua"

local eventbus = require "eventbus"
local platform = require "eventbus.platform"
local socket = require "socket"
local broker = require "spec.support.broker"
local program = require "spec.support.program"
local server = require "openresty.server"
local wait_until = require("spec.support.wait").wait_until

local SECONDS = 20

local function request(port, head, body)
  local client = assert(socket.connect("127.0.0.1", port))
  client:settimeout(SECONDS)
  body = body or ""
  assert(client:send(("%s HTTP/1.0\r\nX-Tenant-Id: tenant_abc\r\nContent-Length: %d\r\n\r\n%s"):format(head, #body, body)))
  local answer = client:receive "*a" or ""
  client:close()
  local headers, content = answer:match "^(.-)\r\n\r\n(.*)$"
  local told = headers and headers:lower():find("application/json", 1, true) and eventbus.json.decode(content)
  return tonumber(answer:match "^HTTP/%S+ (%d+)"), told, answer
end

describe("the HTTP gateway #openresty", function()
  -- Its own: it is blocked, and stopped.
  local node, bus, nginx, port, folder

  local function post(event_type, data)
    local text = type(data) == "string" and data or eventbus.json.encode(data)
    return request(port, "POST /events/" .. event_type, text)
  end

  setup(function()
    node = broker.new()
    bus = eventbus.assert(eventbus.connect { url = node.url })
    eventbus.assert(bus:declare { exchanges = platform.topology.exchanges,
      queues = { all = { bindings = { { exchange = "orders", routing_key = "#" } } } } })
    folder = program.folder()
    port = server.prepare(folder, "examples/openresty/nginx.conf").port
    nginx = program.start("nginx", server.command(folder), { RABBITMQ_URL = node.url })
    wait_until(function()
      local client = socket.connect("127.0.0.1", port)
      if client then client:close() end
      assert(not nginx:ended(), nginx:output())
      -- Two workers with a queue each.
      return client and node:eval "length(rabbit_amqqueue:list(<<\"/\">>))" == "3"
    end, SECONDS, "both workers are ready")
  end)
  teardown(function()
    if nginx then nginx:stop() end
    if bus then bus:close() end
    if node then node:stop() end
  end)

  it("answers 202 with the id of an event that the broker has", function()
    local status, told, answer = post("order.created", platform.example("order.created").data)
    assert.are.equal(202, status, answer)
    local event = eventbus.assert(eventbus.assert(bus:get "all"):event())
    assert.are.equal(told.id, event.id)
    assert.are.same({ "order.created", "http-gateway", "tenant_abc" }, { event.type, event.source, event.tenant_id })
    assert.are.equal("ORD-2024-001", event.data.order_number)
  end)

  it("answers 400 with what is wrong", function()
    local status, told = post("order.created", "{ not json")
    assert.are.equal(400, status)
    assert.is_truthy(told.error:find "line 1", told.error)

    status, told = post("order.created", { order_id = 7 })
    assert.are.equal(400, status)
    local places = {}
    for _, problem in ipairs(told.problems) do places[problem.path] = problem.message end
    assert.is_truthy(places["data.order_id"] or places.order_id, eventbus.json.encode(told))

    status, told = post("order.craeted", {})
    assert.are.equal(400, status)
    assert.is_truthy(told.error:find("order.created", 1, true), told.error)

    status, told = post("order.created", "")
    assert.are.equal(400, status)
    assert.are.equal("the request has no body", told.error)
  end)

  it("answers 405 to what is no POST", function()
    assert.are.equal(405, (request(port, "GET /events/order.created")))
  end)

  it("has a page, and a stream of all events for it, whichever worker took them", function()
    local status, _, page = request(port, "GET /")
    assert.are.equal(200, status)
    assert.is_truthy(page:find('new EventSource("/live")', 1, true))

    local stream = assert(socket.connect("127.0.0.1", port))
    stream:settimeout(SECONDS)
    assert(stream:send "GET /live HTTP/1.0\r\n\r\n")
    repeat local line = assert(stream:receive "*l") until line:find "^retry:"
    local sent = {}
    for _ = 1, 8 do
      local _, told = post("order.processing", { order_id = "order_xyz" })
      sent[told.id] = true
    end
    while next(sent) do
      local line = assert(stream:receive "*l")
      local data = line:match "^data: (.*)$"
      if data then
        local event = eventbus.assert(eventbus.json.decode(data))
        assert.are.equal("order.processing", event.type)
        sent[event.id] = nil
      end
    end
    stream:close()
  end)

  it("answers 503 with Retry-After while the broker is blocked, and 202 again after that", function()
    node:alarm(true)
    local status, _, answer = post("order.processing", { order_id = "order_xyz" })
    assert.are.equal(503, status, answer)
    assert.is_truthy(answer:find("Retry-After: 5", 1, true), answer)
    local told
    -- Once the broker has said so, nobody waits for it.
    status, told, answer = post("order.processing", { order_id = "order_xyz" })
    assert.are.equal(503, status, answer)
    assert.is_truthy(told.error)
    node:alarm(false)
    wait_until(function()
      status = post("order.processing", { order_id = "order_xyz" })
      return status == 202, status
    end, SECONDS, "it takes events again")
  end)

  it("answers 503 while the broker is away, and finds it again", function()
    node:halt()
    local status, _, answer = post("order.processing", { order_id = "order_xyz" })
    assert.are.equal(503, status, answer)
    assert.is_truthy(answer:find("Retry-After: 5", 1, true), answer)
    node:start()
    wait_until(function()
      status = post("order.processing", { order_id = "order_xyz" })
      return status == 202, status
    end, 60, "it takes events again")
  end)

  it("ends in order", function()
    local stream = assert(socket.connect("127.0.0.1", port))
    stream:settimeout(SECONDS)
    assert(stream:send "GET /live HTTP/1.0\r\n\r\n")
    assert(stream:receive "*l")
    nginx:signal "QUIT"
    assert.is_truthy(stream:receive "*a", "the stream ends")
    stream:close()
    assert.are.equal(0, nginx:wait(SECONDS))
  end)

  it("is not left behind by a starter that is killed", function()
    -- No folder of a spec's, which a reaper knows by its name: one as a user's has.
    local pipe = assert(io.popen('mktemp -d "${TMPDIR:-/tmp}/eventbus-openresty.XXXXXX"', "r"))
    local theirs = pipe:read "*l"
    pipe:close()
    local at = server.prepare(theirs, "examples/openresty/nginx.conf").port
    local starter = theirs .. "/examples-starter.lua"
    local file = assert(io.open(starter, "wb"))
    file:write [[
      package.path = package.path .. ";./examples/?.lua"
      local folder = arg[1]
      require("demo.children").new(folder):start("nginx",
        require("openresty.server").command(folder), { RABBITMQ_URL = "amqp://127.0.0.1:1" })
      require("socket").sleep(600)
    ]]
    file:close()
    local p = program.start("starter", { program.lua(), starter, theirs })
    local function answers()
      local client = socket.connect("127.0.0.1", at)
      if client then client:close() end
      return client ~= nil
    end
    wait_until(function() return answers() or p:ended(), p:output() end, SECONDS, "nginx answers")
    assert.is_true(answers(), p:output())
    p:signal "KILL"
    wait_until(function() return not answers() end, SECONDS, "nginx has ended")
  end)
end)
