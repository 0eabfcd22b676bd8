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

describe("a broker's name #preload", function()
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
end)
