--- What the test kit and the demo start does not outlive them.

local broker = require "spec.support.broker"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

describe("a process that a test has started", function()
  it("ends when the tests are killed, also one of the command", function()
    local path = program.folder() .. "/owner.lua"
    local file = assert(io.open(path, "wb"))
    file:write [[
      local program = require "spec.support.program"
      local owned = program.start("owned",
        { program.lua(), "bin/eventbus", "tail", "--exchange", "amq.topic", "--url", arg[1] })
      print("pid " .. owned.child.pid)
      io.stdout:flush()
      require("socket").sleep(60)
    ]]
    file:close()
    local owner = program.start("owner", { program.lua(), path, (broker.shared():new_vhost()) })
    local pid = wait_until(function() return owner:output():match "pid (%d+)" end, 20, "it has started")
    local function lives()
      local pipe = io.popen("ps -p " .. pid .. " -o args= 2>/dev/null", "r")
      local words = pipe:read "*a"
      pipe:close()
      return words:find "^%S+ bin/eventbus " ~= nil
    end
    wait_until(lives, 20, "the command runs")
    owner:signal "KILL"
    owner:wait(20)
    wait_until(function() return not lives() end, 20, "the command has ended")
  end)
end)
