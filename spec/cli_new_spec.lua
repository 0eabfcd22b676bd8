-- eventbus new: what it makes runs, and its spec passes.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local root = io.popen("pwd"):read("*l")

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Lua's paths of a checkout are relative.
local function absolute(path)
  return (path:gsub("^%./", root .. "/"):gsub(";%./", ";" .. root .. "/"))
end

local function within(folder, words)
  for i, word in ipairs(words) do words[i] = quote(word) end
  local pipe = io.popen(("cd %s && LUA_PATH=%s LUA_CPATH=%s %s 2>&1; echo rc=$?"):format(folder,
    quote(absolute(package.path)), quote(absolute(package.cpath)), table.concat(words, " ")))
  local text = pipe:read("*a")
  pipe:close()
  return text, tonumber(text:match("rc=(%d+)\n$"))
end

local function new(folder, ...)
  return within(folder, { program.lua(), root .. "/bin/eventbus", "new", ... })
end

describe("eventbus new", function()
  it("makes a script whose spec passes, and which runs", function()
    local folder = program.folder()
    local text, code = new(folder, "welcome", "--event", "customer.created")
    assert.are.equal(0, code, text)
    -- As it says, but for busted's own start in whatever Lua the machine prefers.
    local lua = text:match("test it: busted %-%-lua=(/%S+)\n")
    text, code = within(folder, { lua, (io.popen("command -v busted"):read("*l")) })
    assert.are.equal(0, code, text)
    assert.matches("2 successes / 0 failures / 0 errors", text, 1, true)

    local url, vhost = broker.shared():new_vhost()
    local p = command.start({ "run", folder .. "/welcome.lua" }, { RABBITMQ_URL = url })
    wait_until(function() return p:output():find("welcome is ready", 1, true), p:output() end, 20, "it is ready")
    local bus = eventbus.assert(eventbus.connect { url = url })
    local id = eventbus.assert(bus:publish("customers", "customer.created", { customer_id = "cust_1" }))
    bus:close()
    wait_until(function() return p:output():find(id, 1, true), p:output() end, 20, "it has handled the event")
    assert.matches("customer.created cust_1\n", p:output(), 1, true)
    assert.are.equal(0, p:stop())
    broker.shared():delete_vhost(vhost)
  end)

  it("writes nothing over a file that exists", function()
    local folder = program.folder()
    os.execute("mkdir " .. folder .. "/spec; echo mine > " .. folder .. "/spec/bot_spec.lua")
    local text, code = new(folder, "bot")
    assert.are.equal(1, code)
    assert.matches("spec/bot_spec.lua exists already", text, 1, true)
    assert.is_nil(io.open(folder .. "/bot.lua"))
    assert.are.equal("mine", io.open(folder .. "/spec/bot_spec.lua"):read("*l"))
  end)

  it("refuses a name that is none, and an event that there is not", function()
    for _, words in ipairs { { "../bot" }, { "2bot" }, { "bot", "--event", "order.creatd" } } do
      local text, code = new(program.folder(), (table.unpack or unpack)(words))
      assert.are.equal(2, code, text)
    end
  end)

  it("makes texts that are Lua for every event of the catalogue", function()
    local skeleton = require "eventbus.cli.skeleton"
    for _, event in ipairs(require("eventbus.platform").catalogue) do
      local script, spec = skeleton.texts("bot", event.type)
      assert((loadstring or load)(script))
      assert((loadstring or load)(spec))
    end
  end)
end)
