--- loop_suite: what every event loop is promised, as tests that run in a process of their own: loop_suite.lua HOST.
-- It prints a line for each: "ok NAME", or "not ok NAME: why"; then "end". spec/loops_spec.lua reads them.

local suite = { list = {} }

local function test(name, body, needs)
  suite.list[#suite.list + 1] = { name = name, body = body, needs = needs }
end

-- t: url, host, eventbus, bus, queue (declared, empty), log (lines), wait_until(condition, what).

local function fill(t, count, field)
  for i = 1, count do
    t.eventbus.assert(t.bus:publish_async("", t.queue, { n = i, key = field and field(i) or nil }))
  end
  t.eventbus.assert(t.bus:flush())
end

-- Runs until `count` events were handled; at most 60 s.
local function run(t, count, handler, options)
  local ended = 0
  local sub = t.eventbus.assert(t.bus:subscribe(t.queue, function(event, ctx)
    handler(event, ctx)
    ended = ended + 1
    if ended == count then t.bus:stop() end
  end, options))
  local ok, why = t.bus:run { timeout = 60, stop_timeout = 30, signals = false }
  assert(ok and why == "stopped", ("%s, %s after %d events"):format(tostring(ok), tostring(why), ended))
  return sub
end

test("a slow handler holds up nobody", function(t)
  fill(t, 8)
  local others, acked_meanwhile = 0, nil
  run(t, 8, function(event)
    if event.data.n > 1 then
      others = others + 1
      return
    end
    local before = t.bus:stats().core.control.acked
    t.wait_until(function() return others == 7 end, "the others are handled")
    t.wait_until(function() return t.bus:stats().core.control.acked - before >= 7 end, "and acknowledged")
    acked_meanwhile = true
  end, { concurrency = 2, prefetch = 10 })
  assert(acked_meanwhile)
  assert(t.bus:queue_info(t.queue).messages == 0)
end)

test("never more than concurrency run at once, and never less when there is work", function(t)
  fill(t, 40)
  local inside, most = 0, 0
  run(t, 40, function()
    inside = inside + 1
    most = math.max(most, inside)
    t.host.sleep(0.01)
    inside = inside - 1
  end, { concurrency = 5, prefetch = 20 })
  assert(most == 5, most)
end)

test("a wait inside a handler lets the others run: publish, ticket, flush, get, declare", function(t)
  local bus, check = t.bus, t.eventbus.assert
  check(bus:declare { queues = { [t.queue .. ".out"] = {} } })
  fill(t, 24)
  local inside, most, rounds = 0, 0, 0
  local quit = t.eventbus.core.now() + 30
  run(t, 24, function(event, ctx)
    inside = inside + 1
    most = math.max(most, inside)
    -- Nobody gets a turn where answers come quicker than they are asked for: again, until the others have come.
    repeat
      rounds = rounds + 1
      check(ctx:publish("", t.queue .. ".out", { n = event.data.n }))
      check(check(bus:publish_async("", t.queue .. ".out", {})):wait())
      check(bus:flush())
      check(bus:declare { queues = { [t.queue .. ".out"] = {} } })
      local message = check(bus:get(t.queue .. ".out"))
      assert(message:ack())
    until most == 8 or t.eventbus.core.now() > quit
    inside = inside - 1
  end, { concurrency = 8 })
  assert(most == 8, most)
  assert(bus:queue_info(t.queue .. ".out").messages == rounds)
end)

test("each of many flushes at once tells of the failure before it", function(t)
  fill(t, 40)
  local inside, most, missed = 0, 0, {}
  local quit = t.eventbus.core.now() + 30
  run(t, 40, function(event)
    inside = inside + 1
    most = math.max(most, inside)
    repeat
      -- Nobody takes it.
      t.eventbus.assert(t.bus:publish_async("", t.queue .. ".nobody", {}, { mandatory = true }))
      local ok, err = t.bus:flush()
      if ok or err.code ~= "returned" or err.failed < 1 then missed[#missed + 1] = event.data.n end
    until most == 8 or t.eventbus.core.now() > quit
    inside = inside - 1
  end, { concurrency = 8, prefetch = 40 })
  assert(most == 8, most)
  assert(#missed == 0, "told of none in " .. table.concat(missed, " "))
  assert(t.bus:flush())
end)

test("ordered_by keeps the order of each key, and keys run in parallel", function(t)
  fill(t, 60, function(i) return i % 4 end)
  local running, last, most, inside = {}, {}, 0, 0
  run(t, 60, function(event, ctx)
    local key, n = event.data.key, event.data.n
    assert(not running[key], "one of a key at a time")
    assert(n > (last[key] or 0), "in order")
    running[key], last[key], inside = true, n, inside + 1
    most = math.max(most, inside)
    if n % 3 == 0 then t.host.sleep(0.005) else t.eventbus.assert(ctx:publish("amq.topic", "x", {})) end
    running[key], inside = nil, inside - 1
  end, { concurrency = 16, prefetch = 60, ordered_by = function(event) return event.data.key end })
  assert(most == 4, most)
end)

test("a handler that fails in its coroutine is dead-lettered with the place", function(t)
  fill(t, 4)
  local sub = run(t, 3, function(event, ctx)
    t.eventbus.assert(ctx:publish("amq.topic", "x", {}))
    if event.data.n == 2 then error { code = "odd", message = "on purpose" } end
    t.host.sleep(0.02)
  end, { concurrency = 4, retry = false })
  assert(sub:stats().dead_lettered == 1 and sub:stats().failed == 1)
  local letter = t.eventbus.assert(t.bus:get("deadletter." .. t.queue))
  local headers = letter:headers()
  assert(headers["x-eventbus-error"] == "odd: on purpose", headers["x-eventbus-error"])
  assert(headers["x-eventbus-error-at"]:find("loop_suite.lua:%d+"), headers["x-eventbus-error-at"])
  letter:ack()
end)

test("stopping waits for the handlers that run, and gives back what has not begun", function(t)
  fill(t, 12)
  local begun, ended = 0, 0
  t.eventbus.assert(t.bus:subscribe(t.queue, function()
    begun = begun + 1
    if begun == 3 then t.bus:stop() end
    t.host.sleep(0.2)
    ended = ended + 1
  end, { concurrency = 3, prefetch = 12 }))
  assert(t.bus:run { timeout = 60, stop_timeout = 30, signals = false })
  assert(begun == 3 and ended == 3, begun .. "/" .. ended)
  t.wait_until(function() return t.bus:queue_info(t.queue).messages == 9 end, "nine are back")
  assert(t.bus._hub.pool.alive == 0, "no coroutine of a handler is left")
end)

test("a handler that never ends does not hold the stop up for ever: its event goes back", function(t)
  fill(t, 1)
  local free, over = false, false
  t.eventbus.assert(t.bus:subscribe(t.queue, function()
    t.bus:stop()
    while not free do t.host.sleep(0.01) end
    over = true
  end, { concurrency = 2 }))
  assert(t.bus:run { timeout = 20, stop_timeout = 0.3, signals = false })
  assert(t.log():find("1 handlers did not end in time", 1, true), t.log())
  t.wait_until(function() return t.bus:queue_info(t.queue).messages == 1 end, "it is back")
  free = true
  t.wait_until(function() return over end, "the handler has ended")
  assert(t.bus:queue_info(t.queue).messages == 1)
end)

test("a tick that takes longer than its interval holds up no handler", function(t)
  fill(t, 3)
  local handled = 0
  t.eventbus.assert(t.bus:subscribe(t.queue, function()
    handled = handled + 1
    if handled == 3 then t.bus:stop() end
  end, { concurrency = 2 }))
  local _, why = t.bus:run { timeout = 30, signals = false, tick_interval = 0.001, tick = function()
    local till = t.eventbus.core.now() + 0.003
    while t.eventbus.core.now() < till do end
  end }
  assert(why == "stopped", ("%s after %d"):format(tostring(why), handled))
end)

test("an error or NaN from ordered_by fails the event, nil is no key", function(t)
  fill(t, 6)
  local sub = run(t, 4, function() end, { concurrency = 2, retry = false, ordered_by = function(event)
    if event.data.n == 1 then error("no key") end
    if event.data.n == 2 then return 0 / 0 end
  end })
  assert(sub:stats().dead_lettered == 2)
  for _ = 1, 2 do t.eventbus.assert(t.bus:get("deadletter." .. t.queue)):ack() end
end)

test("a failed event frees its key, and comes back behind", function(t)
  fill(t, 5)
  local order = {}
  run(t, 5, function(event, ctx)
    order[#order + 1] = event.data.n .. "." .. ctx.attempt
    if event.data.n == 2 and ctx.attempt == 1 then error("again") end
  end, { concurrency = 4, retry = { count = 1, delay = 0.2 }, ordered_by = function() return "same" end })
  assert(table.concat(order, " ") == "1.1 2.1 3.1 4.1 5.1 2.2", table.concat(order, " "))
end)

test("200 coroutines publish with confirm through one bus", function(t)
  local ids, count, finished = {}, 0, 0
  for i = 1, 200 do
    t.host.go(function()
      for k = 1, 5 do
        local id = t.eventbus.assert(t.bus:publish("", t.queue, { n = i, k = k }))
        assert(not ids[id])
        ids[id], count = true, count + 1
      end
      finished = finished + 1
    end)
  end
  t.wait_until(function() return finished == 200 end, "all have published")
  assert(count == 1000 and t.bus:queue_info(t.queue).messages == 1000)
  assert(t.bus:stats().core.publish.connections == 1)
end, "go")

local function never_answered(t)
  local ticket = require "eventbus.ticket"
  t.eventbus.assert(t.bus:publish("", t.queue, {}))
  local never = ticket.new(t.bus._hub, 0, "never")
  t.eventbus.core.tickets.keep(never, ticket.outcome(t.bus._hub, false, "never"))
  return never
end

test("coroutines wait beside a run, each for its own time", function(t)
  local over, timed_out = false, nil
  t.host.go(function()
    assert(t.bus:run { timeout = 60, signals = false })
    over = true
  end)
  t.host.go(function()
    -- A ticket that is never answered, with a time shorter than the run's.
    local never = never_answered(t)
    local _, err = never:wait(0.1)
    timed_out = err.code == "timeout" and not over
    t.bus:stop()
  end)
  t.wait_until(function() return over and timed_out ~= nil end, "both are over")
  assert(timed_out, "the shorter wait ended first")
end, "go")

test("a run that a tick's error ends leaves nobody waiting for ever", function(t)
  local waits, over, raised = false, false, nil
  t.host.go(function()
    local ok, err = require("eventbus.protect").pcall(t.bus.run, t.bus, { signals = false, tick_interval = 0.01,
      tick = function() if waits then error("on purpose") end end })
    raised = not ok and tostring(err)
  end)
  t.host.go(function()
    local never = never_answered(t)
    waits = true
    never:wait(0.3)
    over = true
  end)
  t.wait_until(function() return raised and over end, "both are over")
  assert(raised:find("on purpose", 1, true), raised)
end, "go")

test("an error of tick ends a run in order: handlers end, the others' events go back, then it is raised", function(t)
  fill(t, 6)
  local begun, ended = 0, 0
  t.eventbus.assert(t.bus:subscribe(t.queue, function()
    begun = begun + 1
    t.host.sleep(0.3)
    ended = ended + 1
  end, { concurrency = 2, prefetch = 6 }))
  local ok, raised = require("eventbus.protect").pcall(t.bus.run, t.bus, { signals = false, tick_interval = 0.001,
    timeout = 20, tick = function() if begun >= 2 then error("on purpose") end end })
  assert(not ok and tostring(raised):find("on purpose", 1, true), tostring(raised))
  assert(begun == ended, begun .. "/" .. ended)
  t.wait_until(function() return t.bus:queue_info(t.queue).messages == 6 - begun end, "the others are back")
  assert(#t.bus:stats().subscriptions == 0)
end)

test("a loop that stood still for seconds loses none of those who wait", function(t)
  local over, published = false, 0
  t.host.go(function()
    assert(t.bus:run { timeout = 0.3, signals = false })
    over = true
  end)
  t.host.sleep(0.05)
  local till = t.eventbus.core.now() + 1.6
  while t.eventbus.core.now() < till do end
  for _ = 1, 3 do
    t.host.go(function()
      t.eventbus.assert(t.bus:publish("", t.queue, {}))
      published = published + 1
    end)
  end
  t.wait_until(function() return over and published == 3 end, "all are over")
end, "go")

test("a run whose time is over takes no wake-up of those who wait along", function(t)
  local now, core = t.eventbus.core.now, t.bus._hub.core
  local over, published = false, 0
  t.eventbus.assert(t.bus:publish("", t.queue, {}))
  t.host.sleep(0.05)
  t.host.go(function()
    assert(t.bus:run { timeout = 0.3, signals = false })
    over = true
  end)
  local till = now() + 1.6
  while now() < till do end
  for _ = 1, 2 do
    t.host.go(function()
      t.eventbus.assert(t.bus:publish("", t.queue, {}))
      published = published + 1
    end)
  end
  -- Their confirms are there before the loop looks.
  till = now() + 10
  while core:stats().under_way > 0 and now() < till do end
  t.wait_until(function() return over and published == 2 end, "all are over")
end, "go")

test("stop and close from another coroutine end a run and every wait", function(t)
  local other = t.eventbus.assert(t.eventbus.connect { url = t.url, loop = t.host.loop, log = false })
  local results, begun, ran = {}, 0, nil
  t.eventbus.assert(other:subscribe(t.queue, function()
    begun = begun + 1
    t.host.sleep(0.1)
  end, { concurrency = 2 }))
  t.host.go(function() ran = { other:run { signals = false } } end)
  for i = 1, 20 do
    t.host.go(function()
      local last
      while true do
        local id, err = other:publish("amq.topic", "x", {})
        if not id then
          last = err.code
          break
        end
      end
      results[i] = last
    end)
  end
  t.host.sleep(0.1)
  fill(t, 2)
  t.wait_until(function() return begun == 2 end, "both are being handled")
  t.eventbus.assert(other:close(20))
  assert(other:stats().closed)
  t.wait_until(function() return #results == 20 and ran end, "all are told")
  for _, code in ipairs(results) do assert(code == "closed", code) end
  assert(ran[1] == true and ran[2] == "stopped", tostring(ran[2]))
  assert(t.bus:queue_info(t.queue).messages == 0)
end, "go")

test("a connect that fails leaves nothing running", function(t)
  local module, running = require("eventbus.loops").choose(t.host.loop), 0
  local adapter = { new = function(bus)
    local loop = module.new(bus)
    local background = loop.background
    loop.background = background and function(self, f)
      running = running + 1
      return background(self, function()
        f()
        running = running - 1
      end)
    end
    return loop
  end }
  for _ = 1, 3 do
    local bus, err = t.eventbus.connect { url = "amqp://127.0.0.1:1", loop = adapter, log = false }
    assert(not bus and err.code == "connection", tostring(err))
  end
  t.wait_until(function() return running == 0 end, "whoever waited for it has left")
end)

test("poll begins what is there; a handler that waits goes on in later polls", function(t)
  fill(t, 6)
  local begun, ended = 0, 0
  local sub = t.eventbus.assert(t.bus:subscribe(t.queue, function(_, ctx)
    begun = begun + 1
    t.bus:stop()  -- of a run; here it means nothing
    t.eventbus.assert(ctx:publish("amq.topic", "x", {}))
    ended = ended + 1
  end, { concurrency = 2, prefetch = 6 }))
  assert(t.eventbus.assert(t.bus:poll(5, 4)) <= 4 and begun <= 4)
  t.wait_until(function()
    t.eventbus.assert(t.bus:poll(0.02, 4))
    return ended == 6
  end, "all have ended")
  assert(begun == 6)
  sub:cancel()
  assert(t.bus:queue_info(t.queue).messages == 0)
end)

test("a subscription whose handler is slow does not hold up another", function(t)
  fill(t, 1)
  local second = t.queue .. ".second"
  t.eventbus.assert(t.bus:declare { queues = { [second] = {} } })
  t.eventbus.assert(t.bus:publish("", second, {}))
  local other
  t.eventbus.assert(t.bus:subscribe(second, function() other = true end))
  run(t, 1, function() t.wait_until(function() return other end, "the other subscription's is handled") end)
end, "go")

-- As a program.

--- Runs all in a host of spec/support/loop_hosts.lua; returns when they have ended, or their loop has.
function suite.execute(host_name)
  local eventbus = require "eventbus"
  local host = require("spec.support.loop_hosts")[host_name]()
  local url = os.getenv "RABBITMQ_URL"
  io.stdout:setvbuf "line"
  local lines = {}
  local function log(level, text) lines[#lines + 1] = level .. ": " .. text end

  local function wait_until(condition, what)
    local deadline = eventbus.core.now() + 60  -- all garbage collected at each call, on a busy machine
    while not condition() do
      assert(eventbus.core.now() < deadline, "waited in vain until " .. what)
      host.sleep(0.01)
    end
  end
  -- Outside of its handlers a plain script cannot let anything go on but by using the bus.
  local main_sleep = host.sleep

  host.main(function()
    local bus = eventbus.assert(eventbus.connect { url = url, loop = host.loop, source = host_name, log = log })
    if not host.go then
      host.sleep = function(seconds)
        if eventbus.running() then return main_sleep(seconds) end
        bus:poll(seconds)
      end
    end
    for i, each in ipairs(suite.list) do
      if not each.needs or host[each.needs] then
        lines = {}
        local queue = ("%s.%d.%d"):format(host_name, eventbus.core.pid(), i)
        -- Not pcall: on Lua 5.1 no coroutine yields through it.
        local ok, why = require("eventbus.protect").xpcall(function()
          eventbus.assert(bus:declare { queues = { [queue] = {} } })
          each.body { url = url, host = host, eventbus = eventbus, bus = bus, queue = queue, wait_until = wait_until,
            log = function() return table.concat(lines, "\n") end }
        end, function(err, co) return co and debug.traceback(co, tostring(err)) or debug.traceback(tostring(err), 2) end)
        print((ok and "ok " or "not ok ") .. each.name .. (ok and "" or ": " .. why:gsub("\n", " | ")))
      end
    end
    eventbus.assert(bus:close())
  end)
  print "end"
end

if arg and arg[0] and arg[0]:match("support/loop_suite%.lua$") then suite.execute(arg[1]) end

return suite
