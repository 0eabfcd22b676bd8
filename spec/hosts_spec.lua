--- HAProxy, Tarantool and Prosody: what every loop is promised (spec/support/loop_suite.lua), in the real host, and the
--- recipes of docs/loops.md (`make test-hosts`).

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local hosts = require "spec.support.hosts"
local loop_suite = require "spec.support.loop_suite"
local wait_until = require("spec.support.wait").wait_until

local SECONDS = 60

local SUITES = {
  { title = "HAProxy", host = "haproxy", code = [[
      core.register_task(function()
        io.stdout:setvbuf "line"
        require("spec.support.loop_suite").execute "haproxy"
      end)]], config = "frontend web\n  mode http\n  bind 127.0.0.1:@PORT@\n", stop = "USR1" },
  { title = "HAProxy with threads that take turns", host = "haproxy", threads = 3 },
  { title = "Tarantool", host = "tarantool", code = [[
      box.cfg { log_level = 4 }
      require("spec.support.loop_suite").execute "tarantool"]], stop = "TERM" },
  { title = "Prosody", host = "prosody", code = [[
      module:add_timer(0, function()
        require("util.async").runner(function() require("spec.support.loop_suite").execute "prosody" end):run(true)
      end)]], stop = "TERM" },
}
SUITES[2].code, SUITES[2].config, SUITES[2].stop = SUITES[1].code, SUITES[1].config, SUITES[1].stop

describe("a host #hosts", function()
  local node, url, vhost, bus
  local running = {}

  setup(function()
    node = broker.shared()
    url, vhost = node:new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, loop = "blocking" })
    -- All at once: they wait more than they work.
    for i, each in ipairs(SUITES) do running[i] = hosts.start(each.host, each.code, url, each) end
  end)
  teardown(function()
    for _, host in ipairs(running) do host.program:stop() end
    if bus then bus:close() end
    node:delete_vhost(vhost)
  end)

  for i, each in ipairs(SUITES) do
    describe(each.title, function()
      for _, test in ipairs(loop_suite.list) do
        it(test.name, function()
          local line = wait_until(function()
            local host = running[i]
            local ended = host.program:ended()
            local output = host:log()
            for line in output:gmatch "([^\n]*)\n" do
              local name = line:match "^ok (.*)$" or line:match "^not ok ([^:]*:?.*)$"
              if name and name:sub(1, #test.name) == test.name then return line end
            end
            return ended and "it ended: " .. output:sub(-2000)
          end, SECONDS, "it has run in " .. each.title)
          assert.are.equal("ok " .. test.name, line)
        end)
      end

      it("ends when it is told to, with nothing left", function()
        local host = running[i]
        wait_until(function() return host:log():find("\nend\n", 1, true), host:log():sub(-2000) end, SECONDS, "all have run")
        host.program:signal(each.stop)
        assert.are.equal(0, host.program:wait(SECONDS), host:log())
      end)
    end)
  end

  local function start(...)
    running[#running + 1] = hosts.start(...)
    return running[#running]
  end

  local function count(host, pattern)
    return select(2, host:log():gsub(pattern, ""))
  end

  local function messages(queue)
    return node:queue(vhost, queue).messages
  end

  -- More than a host handles until it is told to end.
  local MANY = 2000

  local function publish_many(event_type, queue, make)
    for i = 1, MANY do assert(bus:publish_async("", event_type, make(i), { routing_key = queue })) end
    eventbus.assert(bus:flush(SECONDS))
  end

  it("HAProxy: requests publish with confirm and without waiting, a task consumes, and no event is lost", function()
    local config = hosts.recipe("HAProxy", "haproxy"):match "\nfrontend.*":gsub("127%.0%.0%.1:8080", "127.0.0.1:@PORT@")
    -- What it tells goes to the log that nobody set up: to the test.
    local code = hosts.recipe("HAProxy", "lua") .. [[
      function core.Info(text) io.stderr:write(text, "\n") end]]
    local host = start("haproxy", code, url, { config = config, threads = 2 })
    local id = wait_until(function()
      local _, body = host:get "/ready"
      return body and body:match "^evt_%S+ evt_%S+", body
    end, SECONDS, "the bus is there: " .. host:log())
    assert.is_truthy(id)
    for i = 1, 40 do
      local status, body = host:get("/page/" .. i)
      assert.are.equal(200, status, host:log())
      assert.is_truthy(body:find "^evt_%S+ evt_%S+$", body)
    end
    wait_until(function() return count(host, "visit of /page/%d+\n") >= 40, host:log() end, SECONDS, "all are handled")
    for i = 1, 40 do assert.is_truthy(host:log():find(("visit of /page/%d\n"):format(i), 1, true), i) end
    wait_until(function() return messages "haproxy.notes" >= 41, messages "haproxy.notes" end, SECONDS, "all are noted")
    publish_many("page.visited", "haproxy.visits", function(i) return { path = "/last/" .. i } end)
    wait_until(function() return host:log():find("visit of /last/1\n", 1, true) end, SECONDS, "some are handled")
    local noted = messages "haproxy.notes"
    for i = 1, 20 do assert.are.equal(200, (host:get("/last/with/" .. i))) end
    host.program:signal "USR1"
    assert.are.equal(0, host.program:wait(SECONDS), host:log())
    assert.is_truthy(host:log():find("consumer ended: exiting", 1, true), host:log())
    -- In order: none is handled twice, and what was published without waiting is there.
    local handled = count(host, "visit of /last/")
    wait_until(function() return messages "haproxy.visits" + handled == MANY + 20, messages "haproxy.visits" end, SECONDS,
      "the others are in the queue; handled: " .. handled)
    wait_until(function() return messages "haproxy.notes" == noted + 20, messages "haproxy.notes" end, SECONDS,
      "all are noted")
  end)

  it("Tarantool: a trigger publishes in its transaction, fibers consume, and it ends in order", function()
    local host = start("tarantool", hosts.recipe("Tarantool", "lua") .. [[
      local told = {}
      for i = 1, 40 do box.space.orders:replace { i } end
      told[1] = box.atomic(function()
        local ok, raised = pcall(bus.publish, bus, "", "never", {}, { routing_key = "tarantool.orders" })
        return tostring(ok) .. " " .. tostring(raised)
      end)
      local turns = 0
      fiber.create(function() while true do fiber.sleep(0.001) turns = turns + 1 end end)
      local id = assert(bus:publish("", "order.stored", { id = "direct" }, { routing_key = "tarantool.orders" }))
      print("in a transaction: " .. told[1])
      print("published " .. id .. " turns " .. tostring(turns >= 0))
      local till = fiber.clock() + 30
      while turns <= 20 and fiber.clock() < till do fiber.sleep(0.01) end
      print("still turning " .. tostring(turns > 20))]], url)
    wait_until(function() return host:log():find("stored direct", 1, true), host:log() end, SECONDS, "all are handled")
    for i = 1, 40 do assert.is_truthy(host:log():find(("stored %d\n"):format(i), 1, true), host:log()) end
    assert.is_truthy(host:log():find("in a transaction: false eventbus: this call would wait, and here nothing", 1, true),
      host:log())
    wait_until(function() return host:log():find("still turning true", 1, true), host:log() end, SECONDS, "it turns")
    publish_many("order.stored", "tarantool.orders", function(i) return { id = "last" .. i } end)
    wait_until(function() return host:log():find("stored last1\n", 1, true) end, SECONDS, "some are handled")
    host.program:signal "TERM"
    assert.are.equal(0, host.program:wait(SECONDS), host:log())
    assert.is_truthy(host:log():find("consumer ended: exiting", 1, true), host:log())
    local handled = count(host, "stored last%d")
    -- In order: none is handled twice.
    wait_until(function() return messages "tarantool.orders" + handled == MANY, messages "tarantool.orders" end, SECONDS,
      "the others are in the queue; handled: " .. handled)
  end)

  it("Tarantool: what was published without waiting is confirmed before the server goes", function()
    local host = start("tarantool", [[
      local eventbus = require "eventbus"
      box.cfg { log_level = 4 }
      local bus = eventbus.assert(eventbus.connect { source = "tarantool" })
      eventbus.assert(bus:declare { queues = { ["tarantool.late"] = {} } })
      for i = 1, 2000 do eventbus.assert(bus:publish_async("", "late", { n = i }, { routing_key = "tarantool.late" })) end
      os.exit(0)]], url)
    assert.are.equal(0, host.program:wait(SECONDS), host:log())
    wait_until(function() return messages "tarantool.late" == 2000, messages "tarantool.late" end, SECONDS, "all are there")
  end)

  it("Prosody: requests publish with confirm, handlers wait by util.async, and it ends in order", function()
    local host = start("prosody", hosts.recipe("Prosody", "lua"), url)
    wait_until(function()
      local _, body = host:get("/notes", "ready")
      return body and body:find "^evt_", body or host:log()
    end, SECONDS, "the bus is there")
    for i = 1, 40 do
      local status, id = host:get("/notes", "note " .. i)
      assert.are.equal(200, status, host:log())
      assert.is_truthy(id:find "^evt_", id)
    end
    wait_until(function() return count(host, "note: note ") >= 40, host:log() end, SECONDS, "all are handled")
    publish_many("note.taken", "prosody.notes", function(i) return { text = "last " .. i } end)
    wait_until(function() return host:log():find("note: last 1\n", 1, true) end, SECONDS, "some are handled")
    host.program:signal "TERM"
    assert.are.equal(0, host.program:wait(SECONDS), host:log())
    assert.is_truthy(host:log():find("consumer ended: exiting", 1, true), host:log())
    local handled = count(host, "note: last %d")
    wait_until(function() return messages "prosody.notes" + handled == MANY, messages "prosody.notes" end, SECONDS,
      "the others are in the queue; handled: " .. handled)
  end)
end)
