--- Event loops: the same promises in each, by spec/support/loop_suite.lua in a process for each host. The hosts' libraries
-- come from Debian (tools/deps); the adapter of docs/loops.md is one of the hosts.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local loop_suite = require "spec.support.loop_suite"
local loops = require "eventbus.loops"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local HOSTS = { "blocking", "cqueues", "luv", "copas", "own", "background" }

local url
local programs = {}

setup(function()
  url = broker.shared():new_vhost()
  -- All at once: they wait more than they work.
  for _, host in ipairs(HOSTS) do
    programs[host] = program.start("loop", { program.lua(), "spec/support/loop_suite.lua", host }, { RABBITMQ_URL = url })
  end
end)
teardown(function()
  for _, p in pairs(programs) do p:stop() end
end)

for _, host in ipairs(HOSTS) do
  describe("in the loop " .. host, function()

    for _, test in ipairs(loop_suite.list) do
      if not (host == "blocking" and test.needs) then
        it(test.name, function()
          local line = wait_until(function()
            local p = programs[host]
            local ended = p:ended()  -- before its output is read, so that none is missed
            local output = p:output()
            for each in output:gmatch("([^\n]*)\n") do
              local name = each:match("^ok (.*)$") or each:match("^not ok ([^:]*:?.*)$")
              if name and name:sub(1, #test.name) == test.name then return each end
            end
            return ended and "it ended: " .. output:sub(-2000)
          end, 120, "it has run in " .. host)
          assert.are.equal("ok " .. test.name, line)
        end)
      end
    end

    it("ends, with nothing left in its loop", function()
      local p = programs[host]
      assert.are.equal(0, p:wait(60), p:output())
      assert.is_truthy(p:output():find("\nend\n", 1, true), p:output())
    end)
  end)
end

-- What a program of its own says, and its exit code.
local function run(text)
  local p = program.start("loop", { program.lua(), "-e", 'local eventbus = require "eventbus"\n' .. text },
    { RABBITMQ_URL = url })
  local code = p:wait(60)
  return p:output(), code
end

-- A loop that stands still for long has its turner displaced by the next who waits, and in that moment both that one and
-- an answer may have it go on.
describe("a coroutine that two have told to go on", function()
  it("goes on once, and its next wait is its own", function()
    local output, code = run [[
      local uv = require "luv"
      local server = uv.new_udp()
      assert(server:bind("127.0.0.1", 0))
      local loop = require("eventbus.loop.luv").new { fd = function() return server:fileno() end }
      local said = {}
      local first = {}
      first.coroutine = coroutine.create(function()
        loop:wait(60, first)
        said[#said + 1] = "the first goes on"
        coroutine.yield()
        said[#said + 1] = "nobody may have told it this"
      end)
      assert(coroutine.resume(first.coroutine))
      local second = {}
      second.coroutine = coroutine.create(function()
        loop:wait(0.05, second)
        said[#said + 1] = "the second goes on"
      end)
      assert(coroutine.resume(second.coroutine))
      loop:resume(first)
      while said[#said] ~= "the second goes on" do uv.run "once" end
      loop:close()
      server:close()
      uv.run()
      print(table.concat(said, ", "))
    ]]
    assert.are.equal("the first goes on, the second goes on", output:match "^[^\n]*")
    assert.are.equal(0, code)
  end)
end)

describe("bus:run outside of its loop", function()
  for _, host in ipairs { "cqueues", "luv", "copas" } do
    it("runs " .. host .. " until it has ended", function()
      local output, code = run(([[
        local host = require("spec.support.loop_hosts").%s()
        local bus = eventbus.assert(eventbus.connect { loop = "%s", log = false })
        eventbus.assert(bus:declare { queues = { outside = {} } })
        for i = 1, 3 do eventbus.assert(bus:publish("", "outside", { n = i })) end
        local sum = 0
        eventbus.assert(bus:subscribe("outside", function(event)
          host.sleep(0.01)
          sum = sum + event.data.n
          if sum == 6 then bus:stop() end
        end, { concurrency = 3 }))
        print("ran", bus:run())
        print("sum", sum, bus:close())]]):format(host, host))
      assert.are.equal(0, code, output)
      assert.is_truthy(output:find("ran\ttrue\tstopped\nsum\t6\ttrue", 1, true), output)
    end)
  end

  it("raises when the adapter cannot run its loop", function()
    local adapter = require("spec.support.loop_hosts").own().loop
    local bus = eventbus.assert(eventbus.connect { url = url, loop = adapter, log = false })
    local ok, raised = pcall(function() bus:run() end)
    assert.is_false(ok)
    assert.is_truthy(raised:find("loops_spec.lua:%d+: bus:run: call it in a coroutine of the loop"), raised)
    assert.is_true(bus:close())
  end)
end)

describe("the option loop", function()
  it("is found out in a coroutine of cqueues, and is blocking elsewhere", function()
    local cqueues = require "cqueues"
    require "luv"
    assert.are.equal("blocking", loops.choose().name)
    local found, nested
    local controller = cqueues.new()
    controller:wrap(function()
      found = loops.choose().name
      -- A coroutine of the user's own: what it yields would not come to cqueues.
      coroutine.wrap(function() nested = loops.choose().name end)()
    end)
    assert(controller:loop())
    assert.are.equal("cqueues", found)
    assert.are.equal("blocking", nested)
  end)

  it("must be a known name or an adapter", function()
    local ok, raised = pcall(eventbus.connect, { url = url, loop = "cqeues" })
    assert.is_false(ok)
    assert.is_truthy(raised:find('did you mean "cqueues"', 1, true), raised)
    ok, raised = pcall(eventbus.connect, { url = url, loop = { wait = print } })
    assert.is_false(ok)
    assert.is_truthy(raised:find("a table with a function new", 1, true), raised)
    ok, raised = pcall(eventbus.connect, { url = url, loop = { new = function() return { wait = print } end } })
    assert.is_false(ok)
    assert.is_truthy(raised:find('has no method "suspend"', 1, true), raised)
  end)
end)

describe("an adapter that never blocks", function()
  it("makes a wait outside of a coroutine a mistake, and a full outbox an answer at once", function()
    local adapter = require("spec.support.loop_hosts").background().loop
    local bus = eventbus.assert(eventbus.connect { url = "amqp://127.0.0.1:1", lazy = true, loop = adapter, outbox = 2,
      log = false })
    for _, call in ipairs {
      function() bus:publish("", "x", {}) end,
      function() bus:declare { queues = { x = {} } } end,
      function() bus:close() end,
    } do
      local ok, raised = pcall(call)
      assert.is_false(ok)
      assert.is_truthy(raised:find("this call would wait", 1, true), raised)
    end
    assert.are.equal(0, bus:stats().core.under_way)
    eventbus.assert(bus:publish_async("", "x", {}))
    eventbus.assert(bus:publish_async("", "x", {}))
    local ticket, err = bus:publish_async("", "x", {})
    assert.is_nil(ticket)
    assert.are.equal("full", err.code)
    bus._hub.core:close(0)
  end)
end)

describe("whoever takes another's answer", function()
  it("wakes it, though in taking all it silenced the descriptor", function()
    local socket = require "socket"
    local adapter = require("spec.support.loop_hosts").own().loop
    local scheduler = adapter.scheduler
    local bus = eventbus.assert(eventbus.connect { url = url, loop = adapter, log = false })
    local id
    scheduler.go(function() id = eventbus.assert(bus:publish("amq.topic", "x", {})) end)
    -- However slow this process is, no answer is there before it waits.
    broker.shared():freeze()
    local ok, raised = pcall(scheduler.turn)
    broker.shared():thaw()
    assert.is_true(ok, raised)
    assert.is_nil(id)
    -- The coroutine waits for the descriptor now; the main one, which blocks, takes its answer.
    local hub = bus._hub
    wait_until(function()
      hub.core:wait(0.1)
      hub:pump()
      return next(hub.waiting) == nil
    end, 30, "the answer is taken")
    assert.are.equal(1, #socket.select({ { getfd = function() return bus:fd() end } }, nil, 0))
    wait_until(function()
      scheduler.turn()
      return id
    end, 30, "it goes on")
    assert.is_true(bus:close())
  end)
end)

describe("a wait that blocks the thread", function()
  it("leaves the one who waits in the loop the ring of its alarm", function()
    local socket = require "socket"
    local adapter = require("spec.support.loop_hosts").own().loop
    local scheduler = adapter.scheduler
    local bus = eventbus.assert(eventbus.connect { url = url, loop = adapter, log = false })
    eventbus.assert(bus:publish("amq.topic", "x", {}))
    -- Is never answered.
    local ticket = require "eventbus.ticket"
    local function never() return ticket.outcome(bus._hub, false, "never") end
    local over
    scheduler.go(function() over = select(2, never():wait(0.2, 1)) end)
    scheduler.turn()
    assert.is_nil(over)
    local _, err = never():wait(0.6, 1)
    assert.are.equal("timeout", err.code)
    assert.are.equal(1, #socket.select({ { getfd = function() return bus:fd() end } }, nil, 0))
    wait_until(function()
      scheduler.turn()
      return over
    end, 30, "it goes on")
    assert.are.equal("timeout", over.code)
    assert.is_true(bus:close())
  end)
end)

describe("the blocking loop", function()
  it("lets the others of a round go on when a coroutine raises", function()
    local loop = require("eventbus.loop.blocking").new({ wait = function() end })
    local order = {}
    loop:spawn(function() order[#order + 1] = "first" end)
    loop:spawn(function() error "on purpose" end)
    loop:spawn(function() order[#order + 1] = "third" end)
    local ok, raised = pcall(loop.block, loop, 0)
    assert.is_false(ok)
    assert.is_truthy(raised:find("on purpose", 1, true), raised)
    assert.are.same({ "first", "third" }, order)
  end)

  -- Lua 5.1 handed our yield on to whoever had resumed it, who knows nothing of us.
  it("blocks in a coroutine of the user's own, also where a handler waits", function()
    local bus = eventbus.assert(eventbus.connect { url = url, log = false })
    eventbus.assert(bus:declare { queues = { asked = {}, answered = {} } })
    local handled = 0
    bus:subscribe("asked", { ["ask"] = function()
      eventbus.assert(bus:publish("", "answered", {}))
      handled = handled + 1
      if handled == 20 then bus:stop() end
    end })
    for _ = 1, 20 do eventbus.assert(bus:publish("", "ask", {}, { routing_key = "asked" })) end
    local co = coroutine.create(function() eventbus.assert(bus:run { timeout = 20 }) end)
    assert(coroutine.resume(co))
    assert.are.equal("dead", coroutine.status(co))
    assert.are.equal(20, handled)
    assert.is_true(bus:close())
  end)
end)

-- Neovim's Lua is LuaJIT, which loads what was built for it or for 5.1: tested where that is the Lua under test.
if _VERSION == "Lua 5.1" then
  describe("in Neovim", function()
    it("publishes and consumes in a coroutine while the editor goes on: the recipe of docs/loops.md", function()
      local file = assert(io.open("docs/loops.md", "rb"))
      local recipe = assert(file:read("*a"):match("## Neovim.-```lua\n(.-)```"), "docs/loops.md has a recipe")
      file:close()
      local path = program.folder() .. "/recipe.lua"
      file = assert(io.open(path, "wb"))
      file:write(recipe, [[

local turns = 0
local timer = vim.loop.new_timer()
timer:start(1, 1, function() turns = turns + 1 end)
local done = vim.wait(15000, function() return vim.g.eventbus_done and vim.g.eventbus_last ~= nil end, 10)
timer:close()
io.stdout:write(("done %s, last %s, turns %s\\n"):format(tostring(done), tostring(vim.g.eventbus_last), tostring(turns > 5)))
]])
      file:close()
      local p = program.start("nvim", { "nvim", "--headless", "-u", "NONE", "-c", "luafile " .. path, "-c", "qa!" },
        { RABBITMQ_URL = url })
      assert.are.equal(0, p:wait(30), p:output() .. " (not there? make deps)")
      assert.is_truthy(p:output():find("done true, last hello, turns true", 1, true), p:output())
    end)
  end)
end
