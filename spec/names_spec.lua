--- The name of a broker, when its address changes: a DNS entry that is moved, a container that is started elsewhere.

local broker = require "spec.support.broker"
local program = require "spec.support.program"
local proxy = require "spec.chaos.proxy"
local resolver = require "spec.support.resolver"
local wait_until = require("spec.support.wait").wait_until

local NAME, FIRST, SECOND = "broker.example", "127.0.0.2", "127.0.0.3"

-- Publishes for ever, and says when it is connected and what each publish came to.
local CLIENT = [[
  local eventbus = require "eventbus"
  io.stdout:setvbuf "line"
  local bus = eventbus.assert(eventbus.connect { url = os.getenv "CLIENT_URL", log = false, reconnect_max = 1 })
  eventbus.assert(bus:declare { queues = { ["names.spec"] = {} } })
  for n = 1, math.huge do
    local id, err = bus:publish("", "names.spec", { n = n }, { timeout = 60 })
    print(id and "confirmed" or err.code)
    bus:poll(0.1)
  end
]]

-- Four threads look up at once, and each answer is one of the two addresses.
local LOOKUPS = [[
  local uv = require "luv"
  local left = 20000
  local function look()
    if left == 0 then return end
    left = left - 1
    uv.getaddrinfo("broker.example", "5672", { socktype = "stream" }, function(err, list)
      assert(not err, err)
      assert(list[1].addr == "127.0.0.2" or list[1].addr == "127.0.0.3", list[1].addr)
      look()
    end)
  end
  for _ = 1, 4 do look() end
  uv.run()
  print "done"
]]

describe("a broker's name", function()
  local routes, running

  setup(function() routes = proxy.start() end)
  teardown(function()
    if running then running:stop() end
    routes:stop()
  end)

  it("is resolved again for each attempt to connect: the client follows to the new address", function()
    local b, names = broker.shared(), resolver.new(program.folder() .. "/hosts")
    local target = { host = "127.0.0.1", port = b.port }
    local port = routes:route("first", { host = FIRST, target = target })
    routes:route("second", { host = SECOND, port = port, target = target })
    names:point(NAME, FIRST)

    local url, vhost = b:new_vhost()
    local environment = { CLIENT_URL = url:gsub("@[^/]*/", ("@%s:%d/"):format(NAME, port)) }
    for key, value in pairs(names.environment) do environment[key] = value end
    running = program.start("named", { program.lua(), "-e", CLIENT }, environment)
    local function confirmed() return select(2, running:output():gsub("confirmed\n", "")) end
    wait_until(function() return confirmed() > 0, running:output() end, 30, "it publishes to the first address")
    assert.are.equal(0, routes:count("second").accepted)

    names:point(NAME, SECOND)
    routes:refuse "first"
    routes:cut("first", "reset")
    wait_until(function() return routes:count("second").accepted > 0, running:output() end, 60, "it tries the second")
    local before = confirmed()
    wait_until(function() return confirmed() > before + 3, running:output() end, 60, "it publishes to the second")
    assert.is_nil(running:output():match "[^\n]*timeout[^\n]*")
    assert.is_true(b:queue(vhost, "names.spec").messages > before)
  end)

  it("may change while many threads look it up", function()
    local names, address = resolver.new(program.folder() .. "/hosts"), FIRST
    names:point(NAME, address)
    local looking = program.start("lookups", { program.lua(), "-e", LOOKUPS }, names.environment)
    wait_until(function()
      for _ = 1, 500 do
        address = address == FIRST and SECOND or FIRST
        names:point(NAME, address)
      end
      return looking:ended()
    end, 60, "all have an answer")
    assert.are.equal(0, looking:wait(1), looking:output())
    assert.are.equal("done\n", looking:output())
  end)
end)
