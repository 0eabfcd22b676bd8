--- What must hold while the broker dies, freezes, or runs out of memory. Each test has a broker of its own.

local eventbus = require "eventbus"
local core = require "eventbus.core"
local broker = require "spec.support.broker"
local wait_until = require("spec.support.wait").wait_until

local function quiet() end

local function connect(b, opts)
  opts.url, opts.log = b.url, quiet
  opts.source = opts.source or "faults-spec"
  return eventbus.assert(eventbus.connect(opts))
end

describe("a broker killed with kill -9 and started again", function()
  local b
  setup(function() b = broker.new() end)
  teardown(function() b:stop() end)

  -- One process publishes, this one consumes; the broker dies twice in between.
  it("loses none of 20,000 confirmed events, and repeats only with the same id", function()
    local count = 20000
    local bus = connect(b, { resend = true, publish_timeout = 120, outbox = 2000 })
    eventbus.assert(bus:declare { queues = { survivors = { durable = true } } })
    local handled, duplicates, distinct, number_of = {}, 0, 0, {}
    eventbus.assert(bus:subscribe("survivors", function(event)
      if handled[event.id] then
        duplicates = duplicates + 1
        assert.are.equal(handled[event.id], event.data.n)
      else
        distinct = distinct + 1
        -- A number with two ids would be an event published twice under different names.
        assert.is_nil(number_of[event.data.n])
        number_of[event.data.n] = event.id
      end
      handled[event.id] = event.data.n
    end, { prefetch = 200, retry = false }))
    local tickets, kills = {}, 0
    for n = 1, count do
      tickets[n] = eventbus.assert(bus:publish_async("", "order.created", { n = n }, { routing_key = "survivors" }))
      if n % 500 == 0 then bus:poll(0) end
      if n == 5000 or n == 13000 then
        b:kill()
        b:start()
        kills = kills + 1
      end
    end
    eventbus.assert(bus:flush(120))
    -- As long as something still comes it may take its time, under a sanitizer for one.
    local last, since = distinct, core.now()
    while distinct < count and core.now() - since < 60 do
      bus:poll(1)
      if distinct > last then last, since = distinct, core.now() end
    end
    local lost = 0
    for n = 1, count do
      assert.are.equal("confirmed", (tickets[n]:state()))
      if handled[tickets[n].id] ~= n then lost = lost + 1 end
    end
    local resent = bus:stats().core.publish.resent
    print(("\n  kill -9 x %d: %d confirmed, %d handled, %d lost, %d repeated, %d sent again"):format(kills, count, distinct,
      lost, duplicates, resent))
    assert.are.equal(2, kills)
    assert.are.equal(0, lost)
    assert.are.equal(count, distinct)
    bus:close()
  end)
end)

describe("a broker at its limit of connections", function()
  local b = broker.shared()

  -- Who sets it, and who takes it away again.
  local limits = {
    ["the vhost's"] = function(vhost)
      return ([[rabbit_vhost_limit:set(<<"%s">>, [{<<"max-connections">>, 1}], <<"spec">>)]]):format(vhost),
        ([[rabbit_vhost_limit:clear(<<"%s">>, <<"spec">>)]]):format(vhost), ('{vhost, <<"%s">>}'):format(vhost)
    end,
    ["the user's"] = function(_, user)
      return ([[rabbit_auth_backend_internal:set_user_limits(<<"%s">>, <<"{\"max-connections\": 1}">>, <<"spec">>)]])
        :format(user), ([[rabbit_auth_backend_internal:clear_user_limits(<<"%s">>, <<"all">>, <<"spec">>)]]):format(user),
        ('{user, <<"%s">>}'):format(user)
    end,
  }
  for whose, of in pairs(limits) do
    it("that is " .. whose .. " makes the first publish wait until there is room", function()
      local _, vhost = b:new_vhost()
      local user = "limited-" .. vhost
      b:user(user, "pw", { vhost = vhost })
      local set, clear, item = of(vhost, user)
      b:eval(set)
      local failed, tried = nil, 0
      local bus = eventbus.assert(eventbus.connect { url = b:url_of(vhost, user, "pw"), log = quiet, source = "faults-spec",
        reconnect_delay = 0.1, reconnect_max = 0.2, on_notice = function(notice)
          if notice.event == "attempt_failed" then tried, failed = tried + 1, tostring(notice.err) end
        end })
      eventbus.assert(bus:declare { queues = { q = {} } })
      -- The broker counts a moment later; until then it would let the other in.
      wait_until(function()
        return b:eval(("rabbit_connection_tracking:count_tracked_items_in(%s)"):format(item)) == "1"
      end, 20, "the connection is counted")
      local ticket = eventbus.assert(bus:publish_async("", "made", {}, { routing_key = "q", timeout = 60 }))
      wait_until(function()
        bus:poll(0.05)
        return tried >= 2 or ticket:state() ~= "pending"
      end, 20, "the publishing connection was turned away twice")
      assert.are.equal("pending", (ticket:state()))
      assert.is_truthy(failed:find("connection limit (1) is reached", 1, true), failed)
      b:eval(clear)
      assert.is_string((eventbus.assert(ticket:wait(60))))
      bus:close()
    end)
  end
end)

describe("the loss of the publishing connection alone", function()
  it("takes no delivery away that waits to be handled", function()
    local b = broker.shared()
    local url, vhost = b:new_vhost()
    local bus = eventbus.assert(eventbus.connect { url = url, log = quiet, source = "faults-spec" })
    local other = eventbus.assert(eventbus.connect { url = url, log = quiet, source = "faults-spec" })
    eventbus.assert(bus:declare { queues = { waiting = {} } })
    local function publish(from, n)
      eventbus.assert(from:publish("", "waiting.test", { n = n }, { routing_key = "waiting" }))
    end
    publish(bus, 1)
    local handled = {}
    eventbus.assert(bus:subscribe("waiting", function(event)
      if event.data.n == 1 then
        -- They are delivered, and nobody takes them while this handler runs.
        for n = 2, 10 do publish(other, n) end
        other:close()
        wait_until(function()
          return b:queue(vhost, "waiting").messages_unacknowledged == 10 and bus:stats().core.control.delivered == 10
        end, 20, "all are delivered")
        b:eval(([[[rabbit_networking:close_connection(P, "chaos") || C <- rabbit_channel:list(),
          [{confirm, true}, {connection, P}, {vhost, V}] <- [catch rabbit_channel:info(C, [confirm, connection, vhost])],
          V =:= <<"%s">>], ok]]):format(vhost))
        wait_until(function() return bus:stats().core.publish.connections == 2 end, 20, "it publishes again")
      end
      handled[#handled + 1] = event.data.n
      if #handled == 10 then bus:stop() end
    end))
    eventbus.assert(bus:run { timeout = 20 })
    assert.are.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, handled)
    assert.are.equal(1, bus:stats().core.control.connections)
    bus:close()
    b:delete_vhost(vhost)
  end)
end)

describe("heartbeats", function()
  local b
  setup(function() b = broker.new() end)
  teardown(function() b:stop() end)

  -- A machine that stands still for 4 s loses its connection rightly: then it has another try.
  it("go on while a handler sleeps for 30 s with heartbeat=2", function()
    local tries, undisturbed = 0
    repeat
      tries = tries + 1
      local bus = connect(b, { heartbeat = 2 })
      eventbus.assert(bus:declare { queues = { slow = { durable = true } } })
      local downs, handled = 0, 0
      bus:on_notice(function(notice) if notice.event == "down" then downs = downs + 1 end end)
      eventbus.assert(bus:subscribe("slow", function(_, ctx)
        if not ctx.redelivered then os.execute("sleep 30") end
        handled = handled + 1
        bus:stop()
      end))
      eventbus.assert(bus:publish("", "slow.work", {}, { routing_key = "slow" }))
      eventbus.assert(bus:run())
      undisturbed = downs == 0 and handled == 1 and bus:stats().core.control.connections == 1
      bus:close()
      undisturbed = undisturbed and b:queue("/", "slow").messages == 0
      if not undisturbed then b:delete_queue("/", "slow") end
    until undisturbed or tries == 3
    assert.is_true(undisturbed)
  end)

  it("that stay away tell of a frozen broker within three intervals", function()
    local bus = connect(b, { heartbeat = 2 })
    local noticed
    bus:on_notice(function(notice) if notice.event == "down" then noticed = core.now() end end)
    local tries, took = 0
    repeat
      tries, noticed = tries + 1, nil
      b:freeze()
      local frozen = core.now()
      while not noticed and core.now() - frozen < 20 do bus:poll(0.2) end
      b:thaw()
      assert.is_truthy(noticed)
      took = noticed - frozen
      wait_until(function()
        bus:poll(0.05)
        return bus:stats().core.control.phase == "up"
      end, 30, "the bus is connected again")
    until took <= 6.5 or tries == 5
    print(("\n  frozen broker noticed after %.1f s (heartbeat 2 s)"):format(took))
    assert.is_true(took <= 6.5)
    bus:close()
  end)
end)

describe("refusals", function()
  local b = broker.shared()

  -- The broker's channels of publishes with confirms.
  local function channels(vhost)
    return b:eval(('[P || P <- rabbit_channel:list(), (catch rabbit_channel:info(P, [vhost, confirm])) =:= '
      .. '[{vhost, <<"%s">>}, {confirm, true}]]'):format(vhost))
  end

  -- What a queue's dead leader needs (docs/delivery.md) is seen here of a queue that is full.
  it("that go on for a second give a publisher a new channel", function()
    local url, vhost = b:new_vhost()
    local bus = eventbus.assert(eventbus.connect { url = url, log = false })
    eventbus.assert(bus:declare { queues = { narrow = { max_length = 1, overflow = "reject-publish" }, wide = {} } })
    eventbus.assert(bus:publish("", "narrow", {}))
    local first = channels(vhost)
    assert.matches("^%[<.*>%]$", first)
    wait_until(function()
      bus:publish("", "narrow", {})
      eventbus.assert(bus:publish("", "wide", {}))
      local now = channels(vhost)
      return now ~= first and now ~= "[]", now
    end, 30, "there is another channel")
    eventbus.assert(bus:purge("narrow"))
    eventbus.assert(bus:publish("", "narrow", {}))
    assert.are.equal(1, bus:stats().core.publish.connections)
    bus:close()
  end)
end)

describe("a memory alarm", function()
  local b
  setup(function() b = broker.new() end)
  teardown(function() b:stop() end)

  it("blocks publishing, lets acks through, and publishing resumes after it", function()
    local bus = connect(b, { publish_timeout = 5 })
    eventbus.assert(bus:declare { queues = { alarm = { durable = true } } })
    for n = 1, 10 do
      eventbus.assert(bus:publish("", "alarm.test", { n = n }, { routing_key = "alarm", timeout = 30 }))
    end
    b:alarm(true)
    local seen = {}
    bus:on_notice(function(notice) seen[notice.event] = true end)
    local id, err = bus:publish("", "alarm.test", { n = 11 }, { routing_key = "alarm" })
    assert.is_nil(id)
    assert.are.equal("blocked", err.code)
    assert.is_true(seen.blocked)
    local handled = 0
    local subscription = eventbus.assert(bus:subscribe("alarm", function() handled = handled + 1 end))
    wait_until(function()
      bus:poll(0.05)
      return handled >= 10 and b:queue("/", "alarm").messages == 0
    end, 20, "ten events are acknowledged during the alarm")
    b:alarm(false)
    wait_until(function()
      bus:poll(0.05)
      return seen.unblocked
    end, 30, "the broker takes again")
    eventbus.assert(bus:publish("", "alarm.test", { n = 12 }, { routing_key = "alarm", timeout = 30 }))
    subscription:cancel()
    bus:close()
  end)
end)

-- What a sanitizer keeps of freed memory is not ours.
describe("50,000 events through one process #memory", function()
  local b
  setup(function() b = broker.new() end)
  teardown(function() b:stop() end)

  local function resident_kb()
    local file = assert(io.open("/proc/self/status"))
    local kb = file:read("*a"):match("VmRSS:%s*(%d+)")
    file:close()
    return tonumber(kb)
  end

  it("leave its memory as it was", function()
    local bus = connect(b, { outbox = 1000 })
    eventbus.assert(bus:declare { queues = { flow = { durable = true } } })
    local handled = 0
    eventbus.assert(bus:subscribe("flow", function() handled = handled + 1 end, { prefetch = 200 }))
    local published = 0
    local function flow(count)
      local goal = published + count
      while published < goal do
        eventbus.assert(bus:publish_async("", "order.created", { n = published, text = ("x"):rep(200) },
          { routing_key = "flow" }))
        published = published + 1
        if published % 200 == 0 then bus:poll(0) end
      end
      eventbus.assert(bus:flush(60))
      local deadline = core.now() + 60
      while handled < goal and core.now() < deadline do bus:poll(1) end
      assert.are.equal(goal, handled)
      collectgarbage()
      collectgarbage()
      return resident_kb()
    end
    local before = flow(10000)
    local after = flow(50000)
    print(("\n  resident after 10,000 events: %d kB, after 60,000: %d kB"):format(before, after))
    assert.is_true(after - before < 3000)
    bus:close()
  end)
end)
