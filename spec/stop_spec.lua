--- Running and stopping: limits, signals, a second signal, os.exit in a handler. Programs are real child processes.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local core = eventbus.core

local function quiet() end

local shared, url, vhost, bus
local made = 0

setup(function()
  shared = broker.shared()
  url, vhost = shared:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "stop-spec", log = quiet })
end)
teardown(function() bus:close() end)

local function queue()
  made = made + 1
  local name = "stop." .. made
  eventbus.assert(bus:declare { queues = { [name] = {} } })
  return name
end

local function publish(name, n)
  for i = 1, n or 1 do eventbus.assert(bus:publish("", name, { n = i })) end
end

-- A child that subscribes QUEUE with `handler` and runs; then the lines of `after`.
local function child(name, handler, after, options, at)
  return program.start("stop", { program.lua(), "-e", ([[
    io.stdout:setvbuf "line"
    local eventbus = require "eventbus"
    local bus = eventbus.assert(eventbus.connect { source = "child", log = function(l, t) print(l, t) end })
    local function handler(event, ctx) %s end
    eventbus.assert(bus:subscribe(os.getenv "QUEUE", handler, { %s }))
    print "ready"
    local ok, why = bus:run()
    print("ended", ok, why)
    %s]]):format(handler, options or "", after or "bus:close()") }, { RABBITMQ_URL = at or url, QUEUE = name })
end

local function says(p, text, seconds)
  return wait_until(function() return p:output():find(text, 1, true), p:output() end, seconds or 20, "it says " .. text)
end

local function settled(name, ready)
  wait_until(function()
    local q = shared:queue(vhost, name)
    return q.messages_ready == ready and q.messages_unacknowledged == 0, q.messages_ready .. "/" .. q.messages
  end, 30, ("%s has %d ready"):format(name, ready))
end

describe("bus:run", function()
  it("ends on bus:stop from a handler, gives back what was not begun, and the bus is still good", function()
    local q, count = queue(), 0
    publish(q, 10)
    eventbus.assert(bus:subscribe(q, function()
      count = count + 1
      if count == 3 then bus:stop() end
    end))
    assert.are.same({ true, "stopped" }, { bus:run() })
    assert.are.equal(3, count)
    settled(q, 7)
    assert.are.equal(0, #bus:stats().subscriptions)
    eventbus.assert(bus:subscribe(q, function()
      count = count + 1
      if count == 10 then bus:stop() end
    end))
    assert.are.same({ true, "stopped" }, { bus:run { timeout = 60 } })
    assert.are.equal(10, count)
    settled(q, 0)
  end)

  it("ends after its time, or when nothing comes", function()
    local began = core.now()
    assert.are.same({ true, "timeout" }, { bus:run { timeout = "200ms" } })
    assert.are.same({ true, "idle" }, { bus:run { idle = 0.1, timeout = 60 } })
    assert.is_true(core.now() - began < 30)
  end)

  it("waits for copies on their way to a delay queue", function()
    local q = queue()
    publish(q, 5)
    local count = 0
    local sub = eventbus.assert(bus:subscribe(q, function()
      count = count + 1
      if count == 5 then bus:stop() end
      error("x")
    end, { retry = { count = 1, delay = "60s" } }))
    assert.is_true((bus:run { stop_timeout = 30 }))
    assert.are.equal(5, sub:stats().retried)
    settled(q, 0)
    settled(q .. ".retry.60000", 5)
  end)

  it("raises inside itself", function()
    local q, inner, polled = queue(), nil, nil
    publish(q)
    eventbus.assert(bus:subscribe(q, function()
      inner, polled = select(2, pcall(bus.run, bus)), select(2, pcall(bus.poll, bus))
      bus:stop()
    end))
    bus:run()
    assert.is_truthy(inner:find("running already", 1, true))
    assert.is_truthy(polled:find("not inside a handler", 1, true))
    assert.has_error(function() bus:run { timout = 1 } end)
  end)

  it("refuses signals to a second bus, which is as good as before", function()
    local other = eventbus.assert(eventbus.connect { url = url, log = quiet })
    local q, raised, how = queue(), nil, nil
    publish(q)
    eventbus.assert(other:subscribe(queue(), quiet))
    eventbus.assert(bus:subscribe(q, function()
      raised = select(2, pcall(other.run, other))
      -- It does not take the first bus's signals for its own, either.
      assert.is_falsy(other._hub.trapping)
      how = select(2, other:run { signals = false, idle = 0.05 })
      bus:stop()
    end))
    bus:run { timeout = 30 }
    assert.is_truthy(raised:find("trapped by another bus", 1, true))
    assert.are.equal("idle", how)
    other:close()
  end)

  it("ends with the bus when a handler closes it", function()
    local other = eventbus.assert(eventbus.connect { url = url, log = quiet })
    local q = queue()
    publish(q, 3)
    eventbus.assert(other:subscribe(q, function() other:close() end))
    assert.is_true((other:run()))
    assert.is_true(other:stats().closed)
    settled(q, 2)
  end)

  it("ends with the bus when a handler closes it and then something raises", function()
    local other = eventbus.assert(eventbus.connect { url = url, log = quiet })
    local q = queue()
    publish(q, 1)
    local asked
    eventbus.assert(other:subscribe(q, function()
      asked = other:close()
      local due = eventbus.core.now() + 0.01
      while eventbus.core.now() < due do end
    end))
    local ok, why = pcall(other.run, other, { tick = function() if asked then error("on purpose", 0) end end,
      tick_interval = 0.001, timeout = 20 })
    assert.is_false(ok)
    assert.are.equal("on purpose", why)
    assert.is_true(other:stats().closed)
    settled(q, 0)
  end)

  it("returns nil, err when the connection is given up", function()
    local wrong = url:gsub("guest:guest", "guest:wrong")
    local lazy = eventbus.assert(eventbus.connect { url = wrong, lazy = true, log = quiet })
    lazy._hub.core:start("control")
    local ok, err = lazy:run { timeout = 30 }
    assert.is_nil(ok)
    assert.are.equal("refused", err.code)
    ok, err = lazy:poll(1)
    assert.is_nil(ok)
    assert.are.equal("refused", err.code)
    ok, err = lazy:subscribe("x", quiet)
    assert.is_nil(ok)
    assert.are.equal("refused", err.code)
    lazy:close(0)
  end)
end)

describe("bus:poll", function()
  it("begins no other event once a handler has closed the bus", function()
    local other = eventbus.assert(eventbus.connect { url = url, log = quiet })
    local q = queue()
    publish(q, 3)
    eventbus.assert(other:subscribe(q, function() other:close() end))
    wait_until(function() return shared:queue(vhost, q).messages_ready == 0 end, 20, "all are delivered")
    assert.are.equal(1, other:poll(20))
    assert.is_true(other:stats().closed)
    settled(q, 2)
  end)

  it("handles what is there, and no more than asked", function()
    local q, count = queue(), 0
    publish(q, 5)
    local sub = eventbus.assert(bus:subscribe(q, function() count = count + 1 end))
    -- They are here, and the dispatcher does not run.
    wait_until(function()
      bus._hub:pump()
      return bus._hub.last - bus._hub.first == 4
    end, 20, "all are delivered")
    assert.are.equal(2, bus:poll(1, 2))
    local deadline = core.now() + 20
    while count < 5 and core.now() < deadline do bus:poll(0.1) end
    assert.are.equal(5, count)
    assert.are.equal(0, bus:poll())
    sub:cancel()
  end)

  -- Counted in whole milliseconds, a wait of 1.3 would be 0.7 late at least, as it is where the system has no ppoll. The
  -- least of many polls: the machine may be late itself.
  local function has_ppoll()
    local file = io.open "/proc/version"
    return file and file:close() and true
  end
  local LATE = has_ppoll() and 0.0006 or 0.0016
  for said, options in pairs { ["in a plain script"] = {}, ["beside handlers in coroutines"] = { concurrency = 2 } } do
    it("does not wait a millisecond longer than asked, " .. said, function()
      local sub = eventbus.assert(bus:subscribe(queue(), quiet, options))
      local least, deadline = math.huge, core.now() + 20
      while least > LATE and core.now() < deadline do
        local till = core.now() + 0.0013
        local handled = eventbus.assert(bus:poll(0.0013))
        if handled == 0 and core.now() >= till then least = math.min(least, core.now() - till) end
      end
      assert.is_true(least <= LATE, ("%.4f s late"):format(least))
      sub:cancel()
    end)
  end
end)

describe("a program", function()
  for _, name in ipairs { "TERM", "INT" } do
    it("ends in order on SIG" .. name .. ", and finishes what it was doing", function()
      local q = queue()
      publish(q, 5)
      -- Not os.execute: a process that waits in system() ignores SIGINT.
      local p = child(q, [[
        print("begin", event.data.n)
        local began = eventbus.core.now()
        while not eventbus.core.trapped() and eventbus.core.now() - began < 20 do end
        print("done", event.data.n)]])
      says(p, "begin\t1")
      p:signal(name)
      assert.are.equal(0, p:wait(20))
      local output = p:output()
      assert.is_truthy(output:find("done\t1", 1, true), output)
      assert.is_truthy(output:find("ended\ttrue\tsignal", 1, true), output)
      assert.is_falsy(output:find("begin\t2", 1, true), output)
      settled(q, 4)
    end)
  end

  it("stops now on a second signal: a wait in the handler ends, the event goes back", function()
    local own = broker.new()
    local other = eventbus.assert(eventbus.connect { url = own.url, log = quiet })
    eventbus.assert(other:declare { queues = { stuck = {} } })
    eventbus.assert(other:publish("", "stuck", {}))
    own:alarm(true)
    -- No confirm can come now, for 30 s.
    local p = child("stuck", [[
      print "begin"
      local id, err = ctx:publish("", "elsewhere", {})
      print("waited", id, err and err.code)
      return nil, err]], nil, "retry = false", own.url)
    says(p, "begin")
    p:signal "TERM"
    assert.is_nil(p:wait(0.5))
    p:signal "TERM"
    assert.are.equal(0, p:wait(20))
    local output = p:output()
    assert.is_truthy(output:find("waited\tnil\tclosed", 1, true), output)
    assert.is_truthy(output:find("ended\ttrue\tsignal", 1, true), output)
    assert.are.equal(1, own:queue("/", "stuck").messages_ready)
    other:close(0)
    own:stop()
  end)

  it("ends in order with several handlers under way: each ends, none begins", function()
    local q = queue()
    publish(q, 6)
    local p = child(q, [[
      print("begin", event.data.n)
      local began = eventbus.core.now()
      while not eventbus.core.trapped() and eventbus.core.now() - began < 20 do coroutine.yield() end
      print("done", event.data.n)]], nil, "concurrency = 3")
    says(p, "begin\t3")
    p:signal "TERM"
    assert.are.equal(0, p:wait(20))
    local output = p:output()
    for n = 1, 3 do assert.is_truthy(output:find("done\t" .. n, 1, true), output) end
    assert.is_truthy(output:find("ended\ttrue\tsignal", 1, true), output)
    assert.is_falsy(output:find("begin\t4", 1, true), output)
    settled(q, 3)
  end)

  it("stops now on a second signal with several handlers under way: each is told, and all events go back", function()
    local own = broker.new()
    local other = eventbus.assert(eventbus.connect { url = own.url, log = quiet })
    eventbus.assert(other:declare { queues = { stuck = {} } })
    for n = 1, 4 do eventbus.assert(other:publish("", "stuck", { n = n })) end
    own:alarm(true)
    local p = child("stuck", [[
      print("begin", event.data.n)
      if event.data.n == 4 then while true do coroutine.yield() end end
      local id, err = ctx:publish("", "elsewhere", {})
      print("waited", event.data.n, id, err and err.code)
      return nil, err]], nil, "retry = false, concurrency = 4", own.url)
    for n = 1, 4 do says(p, "begin\t" .. n) end
    p:signal "TERM"
    assert.is_nil(p:wait(0.5))
    p:signal "TERM"
    assert.are.equal(0, p:wait(20))
    local output = p:output()
    for n = 1, 3 do assert.is_truthy(output:find(("waited\t%d\tnil\tclosed"):format(n), 1, true), output) end
    assert.is_truthy(output:find("1 handlers did not end in time", 1, true), output)
    assert.are.equal(4, own:queue("/", "stuck").messages_ready)
    other:close(0)
    own:stop()
  end)

  it("whose handler calls os.exit loses nothing: the event is delivered again", function()
    local q = queue()
    publish(q, 3)
    local p = child(q, 'if event.data.n == 2 then print "leaving"; os.exit(3) end')
    says(p, "leaving")
    assert.are.equal(3, p:wait(20))
    local seen = {}
    local sub = eventbus.assert(bus:subscribe(q, function(event, ctx) seen[event.data.n] = ctx.redelivered end))
    local deadline = core.now() + 30
    while not (seen[2] ~= nil and seen[3] ~= nil) and core.now() < deadline do bus:poll(0.1) end
    sub:cancel()
    assert.is_true(seen[2])
    assert.is_not_nil(seen[3])
    settled(q, 0)
  end)

  it("that ends without closing gives everything back", function()
    local q = queue()
    publish(q, 3)
    local p = child(q, "bus:stop()", "")
    assert.are.equal(0, p:wait(20))
    settled(q, 2)
  end)
end)
