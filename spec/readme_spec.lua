--- The program in the README does what the README says.

local broker = require "spec.support.broker"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

describe("README.md", function()
  local text

  setup(function()
    local file = assert(io.open("README.md"))
    text = file:read("*a")
    file:close()
  end)

  it("has one Lua program, and it runs: declares, publishes, subscribes, prints, stops on SIGTERM", function()
    local blocks = {}
    for code in text:gmatch("```lua\n(.-)```") do blocks[#blocks + 1] = code end
    assert.are.equal(1, #blocks)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write("io.stdout:setvbuf('line')\n", blocks[1], "\nprint('stopped')\n")
    file:close()
    local url = broker.shared():new_vhost()
    local p = program.start("readme", { program.lua(), path }, { RABBITMQ_URL = url })
    wait_until(function() return p:output():find("new order\torder_xyz", 1, true) end, 30, "the event was handled")
    p:signal("TERM")
    assert.are.equal(0, p:wait(20))
    assert.is_truthy(p:output():find("stopped", 1, true))
    os.remove(path)
  end)

  it("has commands that work as they stand there", function()
    local node = broker.shared()
    local folder, commands = program.folder(), {}
    local environment = { RABBITMQ_URL = node:new_vhost(), RABBITMQ_MANAGEMENT_URL = node.management_url }
    for line in text:gmatch("\n(eventbus [^\n]*)") do commands[#commands + 1] = line end
    assert.is_true(#commands >= 6)
    -- As typed: `eventbus` on the PATH, in a folder of one's own.
    local root = assert(io.popen("pwd", "r")):read("*l")
    local function script(line)
      local path = os.tmpname()
      local file = assert(io.open(path, "w"))
      file:write(("eventbus() { exec %s %s/bin/eventbus \"$@\"; }\ncd %s || exit 1\n%s\n"):format(program.lua(), root,
        folder, line))
      file:close()
      return program.start("readme", { "sh", path }, environment)
    end
    local running
    for _, line in ipairs(commands) do
      local p = script(line)
      if line:find("^eventbus run") then
        running = p
        wait_until(function() return select(2, p:output():gsub("is ready", "")) == 2, p:output() end, 60, "two are ready")
      else
        assert.are.equal(0, p:wait(60), line .. "\n" .. p:output())
      end
    end
    wait_until(function() return running:output():find("customer.created", 1, true), running:output() end, 30,
      "the event was handled")
    assert.are.equal(0, running:stop())
  end)

  it("links to files that exist", function()
    for target in text:gmatch("%]%(([^)#:]+)%)") do
      local file = io.open(target)
      assert.is_truthy(file, "README.md links to " .. target)
      file:close()
    end
  end)
end)
