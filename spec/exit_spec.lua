--- A program that ends without closing its bus: what it published without waiting still arrives.

local core = require "eventbus.core"
local broker = require "spec.support.broker"
local program = require "spec.support.program"

local EVENTS = 3000

describe("what was published without waiting", function()
  local b, vhost, url

  setup(function()
    b = broker.shared()
    url, vhost = b:new_vhost()
  end)

  local function run_once(queue, ending)
    local path = program.folder() .. "/publisher.lua"
    local file = assert(io.open(path, "w"))
    file:write(([[
      local eventbus = require "eventbus"
      local bus = eventbus.assert(eventbus.connect { url = %q })
      eventbus.assert(bus:declare { queues = { [%q] = {} } })
      for i = 1, %d do eventbus.assert(bus:publish_async("", "exit.test", { n = i }, { routing_key = %q })) end
      print("published " .. eventbus.core.now())
      io.stdout:flush()
      %s
    ]]):format(url, queue, EVENTS, queue, ending))
    file:close()
    local p = program.start("publisher", { program.lua(), path })
    local code, over = p:wait(30), core.now()
    local took = over - (tonumber(p:output():match "published (%S+)") or over)
    return code, b:queue(vhost, queue).messages, p:output(), took
  end

  -- What is under way has 3 s when a program ends: a machine that stood still for them has another try.
  local function run(queue, ending)
    for try = 1, 3 do
      local code, messages, output, took = run_once(queue .. "." .. try, ending)
      if messages == EVENTS or took < 3 or try == 3 then return code, messages, output end
    end
  end

  it("is confirmed before a program ends", function()
    local code, messages, output = run("exit.normal", "")
    assert.are.equal(0, code, output)
    assert.are.equal(EVENTS, messages)
  end)

  it("is confirmed before os.exit ends it", function()
    local code, messages, output = run("exit.os", "os.exit(0)")
    assert.are.equal(0, code, output)
    assert.are.equal(EVENTS, messages)
  end)

  it("is confirmed although an error ended the program", function()
    local code, messages = run("exit.error", "error('boom')")
    assert.are.equal(1, code)
    assert.are.equal(EVENTS, messages)
  end)
end)
