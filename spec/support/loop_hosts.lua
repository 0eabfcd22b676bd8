--- loop_hosts: the event loops in which spec/support/loop_suite.lua runs, each with the same few words.
---
---     host.loop      what connect's option `loop` is
---     host.go(f)     starts a coroutine of the host; nil: the host has none but handlers
---     host.sleep(s)  in a coroutine: others go on
---     host.clock()   seconds; nil: that of LuaSocket serves
---     host.main(f)   runs the loop, and f in it, until everything in it has ended

local eventbus = require "eventbus"

local hosts = {}

-- Sleeps by giving others their turns: for hosts without timers.
local function sleep_by(pass)
  return function(seconds)
    local till = eventbus.core.now() + seconds
    while eventbus.core.now() < till do pass() end
  end
end

function hosts.blocking()
  return { loop = "blocking", sleep = sleep_by(coroutine.yield), main = function(f) f() end }
end

function hosts.cqueues()
  local cqueues = require "cqueues"
  local controller = cqueues.new()
  return {
    loop = "cqueues",
    go = function(f) controller:wrap(f) end,
    sleep = cqueues.sleep,
    main = function(f)
      controller:wrap(f)
      local ok, message, _, _, _, co = controller:loop()
      if not ok then error(co and debug.traceback(co, message) or message, 0) end
      assert(controller:empty(), "a coroutine was left")
    end,
  }
end

function hosts.luv()
  local uv = require "luv"
  local function go(f) assert(coroutine.resume(coroutine.create(f))) end
  return {
    loop = "luv",
    go = go,
    sleep = function(seconds)
      local co, timer = eventbus.running(), uv.new_timer()
      timer:start(math.ceil(seconds * 1000), 0, function()
        timer:close()
        assert(coroutine.resume(co))
      end)
      coroutine.yield()
    end,
    main = function(f)
      go(f)
      uv.run()
      assert(not uv.loop_alive(), "a handle was left")
    end,
  }
end

function hosts.copas()
  -- Debian has it for 5.1 and 5.2 only; it is plain Lua and runs on all.
  if not pcall(require, "copas") then
    package.path = package.path .. ";/usr/share/lua/5.2/?.lua;/usr/share/lua/5.1/?.lua"
  end
  local copas, socket = require "copas", require "socket"
  local silent = socket.udp4 and socket.udp4() or socket.udp()
  return {
    loop = "copas",
    go = function(f) copas.addthread(f) end,
    sleep = sleep_by(function()
      local tries = 0
      copas.receive({
        getfd = function() return silent:getfd() end, dirty = function() return true end, close = function() end,
        receive = function()
          tries = tries + 1
          if tries > 1 then return true end
          return nil, "timeout"
        end,
      }, 1)
    end),
    main = function(f)
      local ended = false
      copas.addthread(function()
        f()
        ended = true
      end)
      while not ended do copas.step() end
    end,
  }
end

--- The adapter of docs/loops.md.
function hosts.own()
  local file = assert(io.open("docs/loops.md", "rb"))
  local text = file:read("*a")
  file:close()
  local source = assert(text:match("```lua\n(local socket.-)```"), "docs/loops.md has an adapter")
  local adapter = assert((loadstring or load)(source, "=docs/loops.md"))()
  local scheduler = adapter.scheduler
  return {
    loop = adapter,
    go = scheduler.go,
    sleep = sleep_by(coroutine.yield),
    main = function(f)
      scheduler.go(f)
      while scheduler.list[1] do scheduler.turn() end
    end,
  }
end

--- The same with its optional methods: a coroutine in the background waits for the descriptor, as in a host that may kill
-- any other, and where nothing can be suspended a wait is a mistake.
function hosts.background()
  local host = hosts.own()
  local plain, scheduler = host.loop, host.loop.scheduler
  host.loop = { new = function(bus)
    local loop = plain.new(bus)
    loop.name, loop.never_blocks, loop.signals = "background", true, false
    function loop.background(_, f) scheduler.go(f) end
    function loop.close() loop.descriptor.getfd = function() return -1 end end
    return loop
  end }
  return host
end

--- In Tarantool's own interpreter.
function hosts.tarantool()
  local fiber = require "fiber"
  return {
    loop = "tarantool",
    clock = fiber.clock,
    go = function(f) fiber.new(f) end,
    sleep = fiber.sleep,
    main = function(f) f() end,
  }
end

--- In a task of HAProxy.
function hosts.haproxy()
  local haproxy = rawget(_G, "core")
  return {
    loop = "haproxy",
    go = haproxy.register_task,
    sleep = function(seconds) haproxy.msleep(math.ceil(seconds * 1000)) end,
    main = function(f) f() end,
  }
end

--- In a module of Prosody's.
function hosts.prosody()
  local async = require "util.async"
  return {
    loop = "prosody",
    go = function(f) async.runner(f):run(true) end,
    sleep = async.sleep,
    main = function(f) f() end,
  }
end

return hosts
