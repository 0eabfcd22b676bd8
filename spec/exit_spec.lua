--- A program that ends without closing its bus: what it published without waiting still arrives.

local broker = require "spec.support.broker"
local program = require "spec.support.program"

local EVENTS = 3000

describe("what was published without waiting", function()
  local b, vhost, url

  setup(function()
    b = broker.shared()
    url, vhost = b:new_vhost()
  end)

  local function run(queue, ending)
    local path = program.folder() .. "/publisher.lua"
    local file = assert(io.open(path, "w"))
    file:write(([[
      local eventbus = require "eventbus"
      local bus = eventbus.assert(eventbus.connect { url = %q })
      eventbus.assert(bus:declare { queues = { [%q] = {} } })
      for i = 1, %d do eventbus.assert(bus:publish_async("", "exit.test", { n = i }, { routing_key = %q })) end
      %s
    ]]):format(url, queue, EVENTS, queue, ending))
    file:close()
    local p = program.start("publisher", { program.lua(), path })
    local code = p:wait(30)
    return code, b:queue(vhost, queue).messages, p:output()
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
