--- What the test kit and the demo start does not outlive them.

local broker = require "spec.support.broker"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

-- Runs a script that starts `eventbus tail` of this broker; `before` is Lua that runs first.
local function owner_of(url, before)
  local path = program.folder() .. "/owner.lua"
  local file = assert(io.open(path, "wb"))
  file:write(before, [[
    local program = require "spec.support.program"
    program.start("owned", { program.lua(), "bin/eventbus", "tail", "--exchange", "amq.topic", "--url", arg[1] })
    require("socket").sleep(60)
  ]])
  file:close()
  return program.start("owner", { program.lua(), path, url })
end

-- The end of its words, no shell's.
local function words_of(url) return " bin/eventbus tail --exchange amq.topic --url " .. url end

local function runs(url)
  local pipe = io.popen("ps -A -ww -o args= 2>/dev/null", "r")
  local all = pipe:read "*a"
  pipe:close()
  return all:find(words_of(url) .. "\n", 1, true) ~= nil
end

describe("a process that a test has started", function()
  it("ends when the tests are killed, also one of the command", function()
    local url = broker.shared():new_vhost()
    local owner = owner_of(url, "")
    wait_until(function() return runs(url) end, 20, "the command runs")
    owner:signal "KILL"
    owner:wait(20)
    wait_until(function() return not runs(url) end, 20, "the command has ended")
  end)

  it("ends also when the tests are killed before they know its pid", function()
    local url = broker.shared():new_vhost()
    local owner = owner_of(url, ([[
      local popen = io.popen
      function io.popen(command, mode)
        local pipe = popen(command, mode)
        if command:find("amq.topic", 1, true) then
          -- For 20 s at most.
          os.execute "timeout 20 sh -c \"until ps -A -ww -o args= | grep -q '%s$'; do sleep 0.01; done\" && kill -KILL $PPID"
        end
        return pipe
      end
    ]]):format(words_of(url)))
    assert.are.equal(137, owner:wait(40))
    wait_until(function() return not runs(url) end, 20, "the command has ended")
  end)
end)
