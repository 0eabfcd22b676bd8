--- LuaRocks: what `make rock` makes installs from a server of one's own, into an empty tree, for each Lua, and works there.
--- Offline: what the rock depends on comes from the system's packages, which a line of configuration tells LuaRocks.

local broker = require "spec.support.broker"
local installed = require "spec.support.installed"
local program = require "spec.support.program"

local must, run = installed.must, installed.run

local function output_of(line)
  local pipe = assert(io.popen(line, "r"))
  local text = pipe:read("*a"):gsub("%s+$", "")
  pipe:close()
  return text
end

local root = output_of "pwd -P"
local version = require("eventbus.core").version
local name = "eventbus-" .. version .. "-1"

describe("the rock #packages", function()
  local server, url, environment

  local function luarocks(abi, tree, ...)
    return must({ "luarocks", "--lua-version=" .. abi, "--tree=" .. tree, ... }, environment, 400)
  end

  local function works(tree, abi, interpreter)
    local told = installed.smoke(interpreter, tree, abi, url)
    assert.are.equal(told.id .. " o1 12.5", told.handled)
    assert.are.equal("eventbus " .. version, told.version)
    assert.are.equal(("%s/share/lua/%s/eventbus/init.lua"):format(tree, abi), told.library)
    assert.are.equal(("%s/lib/lua/%s/eventbus/core.so"):format(tree, abi), told.core)
  end

  local function has_a_command(tree)
    -- As a user has it on the PATH, with no LUA_PATH: LuaRocks' wrapper finds the modules.
    local r = run({ tree .. "/bin/eventbus", "--version" }, environment)
    assert.are.same({ code = 0, output = "eventbus " .. version .. "\n" }, { code = r.code, output = r.output })
    r = run({ tree .. "/bin/eventbus", "publish", "--url", url, "orders", "order.created", '{"order_id":"o2"}' },
      environment)
    assert.are.equal(0, r.code, r.output)
    assert.are.equal(0, run({ tree .. "/bin/eventbus-broker", "--help" }).code)
  end

  setup(function()
    -- MAKEFLAGS: LuaRocks starts make without -j.
    must({ "make", "-s", "-C", root, "rock" }, nil, 120)
    server = root .. "/build/rock"
    local config = program.folder() .. "/config.lua"
    local file = assert(io.open(config, "wb"))
    file:write [[
      rocks_provided = { argparse = "0.7.1-1", luasec = "1.2.0-1", luasocket = "3.1.0-1", luv = "1.44.2-1" }
    ]]
    file:close()
    environment = { LUAROCKS_CONFIG = config, MAKEFLAGS = "-j2", HOME = program.folder() }
    url = broker.shared():new_vhost()
  end)

  it("has rockspecs that luarocks lint accepts; the released one is made from that of the checkout", function()
    for _, each in ipairs { name, "eventbus-scm-1" } do
      must({ "luarocks", "lint", root .. "/rockspec/" .. each .. ".rockspec" }, environment)
    end
    local file = assert(io.open("rockspec/" .. name .. ".rockspec", "rb"))
    assert.are.equal(must { root .. "/tools/rockspec" }, file:read("*a"))
    file:close()
  end)

  it("installs from its source, library and command", function()
    local tree = program.folder()
    luarocks("5.4", tree, "install", "--only-server=" .. server, "eventbus")
    works(tree, "5.4", "lua5.4")
    has_a_command(tree)
    luarocks("5.4", tree, "remove", "eventbus")
    assert.are.equal("", output_of(("find %s/bin %s/share/lua %s/lib/lua -type f 2>/dev/null"):format(tree, tree, tree)))
  end)

  describe("made in an unpacked archive, packed and installed", function()
    local source

    setup(function()
      source = program.folder()
      must { "tar", "-xzf", ("%s/eventbus-%s.tar.gz"):format(server, version), "-C", source, "--strip-components=1" }
    end)

    local INTERPRETERS = { ["5.1"] = { "lua5.1", "luajit" }, ["5.2"] = { "lua5.2" }, ["5.3"] = { "lua5.3" } }
    for abi, interpreters in pairs(INTERPRETERS) do
      it("works on " .. table.concat(interpreters, " and "), function()
        local made, tree, packed = program.folder(), program.folder(), program.folder()
        local rocks = ("luarocks --lua-version=%s --tree=%s"):format(abi, made)
        must({ "sh", "-c", ("cd %s && %s make rockspec/%s.rockspec"):format(source, rocks, name) }, environment, 400)
        must({ "sh", "-c", ("cd %s && %s pack eventbus && luarocks-admin make-manifest ."):format(packed, rocks) },
          environment)
        luarocks(abi, tree, "install", "--only-server=" .. packed, "eventbus")
        for _, interpreter in ipairs(interpreters) do works(tree, abi, interpreter) end
        has_a_command(tree)
      end)
    end
  end)
end)
