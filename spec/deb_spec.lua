--- The Debian packages: `make deb` makes them from a clean copy of the source; unpacked, they work on each Lua.

local broker = require "spec.support.broker"
local installed = require "spec.support.installed"
local program = require "spec.support.program"

local function output_of(line)
  local pipe = assert(io.popen(line, "r"))
  local text = pipe:read("*a"):gsub("%s+$", "")
  pipe:close()
  return text
end

local root = output_of "pwd -P"
local made = root .. "/build/deb"
local version = require("eventbus.core").version

describe("the Debian packages #packages", function()
  local tree, multiarch

  local function package(name)
    return (output_of(("ls %s/%s_%s-1_*.deb"):format(made, name, version)))
  end

  setup(function()
    -- The C unit tests, which the package's build would run, are run by `make test`.
    installed.must({ "make", "-s", "-C", root, "deb" }, { DEB_BUILD_OPTIONS = "nocheck parallel=2" }, 900)
    tree = program.folder()
    installed.must { "dpkg", "-x", package "lua-eventbus", tree }
    installed.must { "dpkg", "-x", package "eventbus", tree }
    multiarch = output_of "dpkg-architecture -q DEB_HOST_MULTIARCH"
  end)

  for interpreter, abi in pairs { ["lua5.1"] = "5.1", luajit = "5.1", ["lua5.2"] = "5.2", ["lua5.3"] = "5.3",
    ["lua5.4"] = "5.4" } do
    it("publish and consume under " .. interpreter, function()
      local libdir = ("%s/usr/lib/%s/lua/%s"):format(tree, multiarch, abi)
      local told = installed.smoke(interpreter, tree .. "/usr", abi, (broker.shared():new_vhost()), libdir)
      assert.are.equal(told.id .. " o1 12.5", told.handled)
      assert.are.equal(("%s/usr/share/lua/%s/eventbus/init.lua"):format(tree, abi), told.library)
      assert.are.equal(libdir .. "/eventbus/core.so", told.core)
    end)
  end

  it("have the command, for lua5.4, with its man page and completions", function()
    local r = installed.run({ tree .. "/usr/bin/eventbus", "--version" }, {
      LUA_PATH = tree .. "/usr/share/lua/5.4/?.lua;" .. tree .. "/usr/share/lua/5.4/?/init.lua;;",
      LUA_CPATH = ("%s/usr/lib/%s/lua/5.4/?.so;;"):format(tree, multiarch),
    })
    assert.are.same({ code = 0, output = "eventbus " .. version .. "\n" }, { code = r.code, output = r.output })
    assert.are.equal("#!/usr/bin/lua5.4", output_of(("head -n 1 %s/usr/bin/eventbus"):format(tree)))
    local list = installed.must { "dpkg-deb", "-c", package "eventbus" }
    local paths = { "bin/eventbus-broker", "share/man/man1/eventbus.1.gz",
      "share/bash-completion/completions/eventbus", "share/zsh/vendor-completions/_eventbus",
      "share/fish/vendor_completions.d/eventbus.fish" }
    for _, path in ipairs(paths) do
      assert.is_truthy(list:find("./usr/" .. path .. "\n", 1, true), path)
    end
  end)

  it("say what they are and need: the version of the library, the libraries it is linked with", function()
    local control = installed.must { "dpkg-deb", "-f", package "lua-eventbus" }
    assert.are.equal(version .. "-1", control:match("\nVersion: ([^\n]+)"))
    assert.is_truthy(control:find("\nDepends: [^\n]*librabbitmq4[^\n]*libssl"))
  end)

  it("are what lintian wants", function()
    local r = installed.run({ "lintian", "--allow-root", "--fail-on", "error,warning", package "lua-eventbus",
      package "eventbus" }, nil, 300)
    assert.are.equal(0, r.code, r.output)
  end)
end)
