--- examples/embed: a C program with Lua and the bus linked in, for hosts that load no shared modules.

local broker = require "spec.support.broker"
local installed = require "spec.support.installed"

local function output_of(line)
  local pipe = assert(io.popen(line, "r"))
  local text = pipe:read("*a"):gsub("%s+$", "")
  pipe:close()
  return text
end

local root = output_of "pwd -P"
local jitted = type(rawget(_G, "jit")) == "table"
local version = jitted and "jit" or _VERSION:match("%d%.%d")
local folder = ("%s/build/%s"):format(root, jitted and "luajit" or "lua" .. version)

describe("the bus in a C program", function()
  setup(function()
    installed.must({ "make", "-s", "-C", root, "static", "embed", "LUA=" .. version }, nil, 300)
  end)

  it("publishes and consumes, with no shared module in sight", function()
    local r = installed.run({ folder .. "/embed", root .. "/lua", root .. "/examples/embed/handlers.lua" },
      { RABBITMQ_URL = (broker.shared():new_vhost()), LUA_CPATH = "/nowhere/?.so" })
    assert.are.same({ code = 0, output = "sensor 1: 21.5 degrees\nsensor 2: 22.5 degrees\nsensor 3: 23.5 degrees\n" },
      { code = r.code, output = r.output })
  end)

  it("says what is wrong in a script, and ends with 1", function()
    local r = installed.run { folder .. "/embed", root .. "/lua", "/nowhere.lua" }
    assert.are.equal(1, r.code)
    assert.is_truthy(r.output:find("nowhere.lua", 1, true))
  end)

  it("is hardened as the module is", function()
    local loaded = output_of(("readelf -lWd %s/embed"):format(folder))
    assert.is_truthy(loaded:find("GNU_RELRO", 1, true), loaded)
    assert.is_truthy(loaded:find("BIND_NOW", 1, true), loaded)
    if output_of "uname -m" == "x86_64" then
      local main = output_of(("objdump -d --disassemble=main %s/embed"):format(folder))
      assert.is_truthy(main:find "<main>:\n[^\n]*endbr64", main)
    end
  end)

  it("sees one symbol of ours, luaopen_eventbus_core", function()
    local symbols = output_of(("nm -g --defined-only %s/libeventbus.a | grep ' [A-Z] '"):format(folder))
    assert.are.equal("luaopen_eventbus_core", symbols:match("^%x+ T ([^\n]+)$"))
  end)
end)
