--- forking: a program that makes a bus, forks, and says what each of the two processes met with, a line each.
--- Run by the fork spec: forking.lua URL calls ENDING, which is how the child ends: close, forget, os.exit, error;
--- or: forking.lua URL handler CONCURRENCY; or: forking.lua URL polled CONCURRENCY; or: forking.lua URL signals.

local eventbus = require "eventbus"
local posix = require "spec.fork"

local url, mode, ending = arg[1], arg[2], arg[3]
io.stdout:setvbuf "line"

local bus = eventbus.assert(eventbus.connect { url = url, log = false })
eventbus.assert(bus:declare { queues = { q = {} } })

local function publish(n)
  return bus:publish("", "made", { n = n }, { routing_key = "q" })
end

-- "forked", or what it was instead.
local function tell(name, result, err)
  print(("child %s %s"):format(name, result == nil and err and err.code or tostring(result)))
end

local function parent_goes_on(pid)
  local code = posix.wait(pid, 20)
  print("parent child-ended " .. tostring(code))
  print("parent publish " .. (publish(4) and "confirmed" or "lost"))
end

local function finish()
  local stats = bus:stats().core
  print(("parent connections %d %d"):format(stats.publish.connections, stats.control.connections))
  print("parent close " .. tostring(bus:close()))
end

local function calls()
  eventbus.assert(publish(1))
  local seen = 0
  local subscription = eventbus.assert(bus:subscribe("q", function() seen = seen + 1 end))
  bus:poll(15)
  local ticket = eventbus.assert(bus:publish_async("", "made", { n = 2 }, { routing_key = "q" }))
  local pid = posix.fork()
  if pid ~= 0 then
    parent_goes_on(pid)
    print("parent ticket " .. (ticket:wait(15) and "confirmed" or "lost"))
    -- Ours, the asynchronous one, that of the child's own bus, and the one after the fork.
    while seen < 4 and bus:poll(15) ~= 0 do end
    print("parent handled " .. seen)
    return finish()
  end
  tell("publish", publish(3))
  tell("publish_async", bus:publish_async("", "made", {}, { routing_key = "q" }))
  tell("view", bus:with({ tenant_id = "t" }):publish("", "made", {}, { routing_key = "q" }))
  tell("ticket", ticket:wait(1))
  tell("flush", bus:flush(1))
  tell("declare", bus:declare { queues = { other = {} } })
  tell("subscribe", bus:subscribe("q", function() end))
  tell("poll", bus:poll(1))
  tell("run", bus:run { timeout = 1 })
  tell("get", bus:get("q"))
  tell("queue_info", bus:queue_info("q"))
  tell("purge", bus:purge("q"))
  tell("delete_queue", bus:delete_queue("q"))
  print("child fd " .. tostring(bus:fd()))
  local own = eventbus.assert(eventbus.connect { url = url, log = false })
  print("child own " .. (own:publish("", "made", {}, { routing_key = "q", mandatory = true }) and "confirmed" or "lost"))
  own:close()
  if ending == "close" then
    subscription:cancel()
    print("child close " .. tostring(bus:close()))
  elseif ending == "os.exit" then
    os.exit(0)
  elseif ending == "error" then
    error("as it was told")
  else
    -- luacheck: ignore 311
    bus, subscription, ticket, own = nil, nil, nil, nil
    collectgarbage()
    collectgarbage()
  end
end

local function handler()
  for n = 1, 5 do eventbus.assert(publish(n)) end
  local who, pid, handled = "parent", nil, {}
  eventbus.assert(bus:subscribe("q", function(event, ctx)
    handled[#handled + 1] = event.data.n
    if event.data.n == 2 and not pid then
      pid = posix.fork()
      if pid == 0 then
        who = "child"
        tell("publish", ctx:publish("", "made", {}, { routing_key = "q" }))
      end
    end
    if #handled == 5 then bus:stop() end
  end, { prefetch = 5, concurrency = tonumber(ending) }))
  local ended, why = bus:run { timeout = 30 }
  print(("%s run %s"):format(who, ended and why or why.code))
  print(("%s handled %s"):format(who, table.concat(handled, ",")))
  if who == "child" then return print("child close " .. tostring(bus:close())) end
  parent_goes_on(pid)
  finish()
end

-- A handler that a poll calls forks; the child polls once more, without waiting.
local function polled()
  local pid
  eventbus.assert(bus:subscribe("q", function(event)
    if event.data.n == 2 and not pid then pid = posix.fork() end
  end, { prefetch = 5, concurrency = tonumber(ending) }))
  for n = 1, 5 do eventbus.assert(publish(n)) end
  repeat bus:poll(15, 1) until pid
  if pid == 0 then
    tell("poll", bus:poll())
    return print("child close " .. tostring(bus:close()))
  end
  parent_goes_on(pid)
  finish()
end

-- The parent's run has trapped the signals. One child runs a bus of its own, one is to be ended, and one is told so
-- before it has done anything.
local function signals()
  eventbus.assert(publish(1))
  eventbus.assert(bus:subscribe("q", function()
    local runs = posix.fork()
    if runs == 0 then
      local own = eventbus.assert(eventbus.connect { url = url, log = false })
      local fine, ended, why = pcall(own.run, own, { timeout = 0.5 })
      print("child run " .. tostring(fine and why or ended))
      own:close()
      os.exit(0)
    end
    print("parent child-ended " .. tostring(posix.wait(runs, 30)))
    local function sleeper(signal, nested)
      local pid = posix.fork(signal, nested)
      if pid == 0 then
        posix.wait(1, 30)
        os.exit(0)
      end
      return pid
    end
    local sleeps = sleeper()
    os.execute("kill -TERM " .. sleeps)
    print("parent child-killed " .. tostring(posix.wait(sleeps, 40)))
    print("parent child-killed-at-once " .. tostring(posix.wait(sleeper(15), 40)))
    print("parent child-of-two-forks " .. tostring(posix.wait(sleeper(15, true), 40)))
    local child = sleeper(0, true)
    os.execute("kill -TERM " .. child)
    posix.wait(child, 40)
    print("parent child-of-child " .. tostring(posix.nested()))
    bus:stop()
  end))
  local ended, why = bus:run { timeout = 60 }
  print("parent run " .. (ended and why or why.code))
  print("parent publish " .. (publish(2) and "confirmed" or "lost"))
  finish()
end

if mode == "calls" then calls()
elseif mode == "handler" then handler()
elseif mode == "polled" then polled()
else signals() end
