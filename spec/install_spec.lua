--- make install: what it puts where works from there, and make uninstall takes all of it away.

local broker = require "spec.support.broker"
local installed = require "spec.support.installed"
local program = require "spec.support.program"

local jit_name = type(rawget(_G, "jit")) == "table"
local LUA = jit_name and "jit" or _VERSION:match("%d%.%d")
local ABI = _VERSION:match("%d%.%d")

local function output_of(line)
  local pipe = assert(io.popen(line, "r"))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local root = output_of("pwd -P"):gsub("%s+$", "")

local function make(...)
  return installed.must({ "make", "-s", "-C", root, "LUA=" .. LUA, ... }, nil, 300)
end

local function files_below(folder)
  return output_of(("cd %s && find . -type f | sort"):format(program.quote(folder)))
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

describe("make install", function()
  local prefix

  setup(function()
    -- A user's home may have a space in its path.
    prefix = program.folder() .. "/my programs"
    make("install", "PREFIX=" .. prefix)
  end)

  it("gives a library that publishes and consumes, from its own folders", function()
    local told = installed.smoke(program.lua(), prefix, ABI, (broker.shared():new_vhost()))
    assert.are.equal(told.id .. " o1 12.5", told.handled)
    assert.are.equal(("%s/share/lua/%s/eventbus/init.lua"):format(prefix, ABI), told.library)
    assert.are.equal(("%s/lib/lua/%s/eventbus/core.so"):format(prefix, ABI), told.core)
  end)

  it("gives a command that finds its modules without LUA_PATH, under the Lua it was built for #release", function()
    local r = installed.run { prefix .. "/bin/eventbus", "--version" }
    assert.are.same({ code = 0, output = require("eventbus")._VERSION .. "\n" }, { code = r.code, output = r.output })
    assert.are.equal(program.lua(), read(prefix .. "/bin/eventbus"):match("^#!(/[^\n]*)\n"))
    r = installed.run { prefix .. "/bin/eventbus", "--help" }
    assert.are.equal(0, r.code, r.output)
    assert.are.equal(0, installed.run({ prefix .. "/bin/eventbus-broker", "--help" }).code)
  end)

  it("gives the command's man page, and shells what they need to complete it", function()
    local FILES = {
      ["man/man1/eventbus.1"] = ".TH", ["bash-completion/completions/eventbus"] = "complete -F",
      ["zsh/site-functions/_eventbus"] = "#compdef eventbus",
      ["fish/vendor_completions.d/eventbus.fish"] = "complete -c eventbus",
    }
    for path, word in pairs(FILES) do
      assert.is_truthy(read(prefix .. "/share/" .. path):find(word, 1, true), path)
    end
  end)

  it("puts everything below DESTDIR, and writes PREFIX into the command", function()
    local destination = program.folder()
    make("install", "DESTDIR=" .. destination, "PREFIX=/opt/eventbus")
    assert.are.equal(files_below(prefix), files_below(destination .. "/opt/eventbus"))
    local command = read(destination .. "/opt/eventbus/bin/eventbus")
    assert.is_truthy(command:find(("package.path = \"/opt/eventbus/share/lua/%s/?.lua;"):format(ABI), 1, true))
    assert.is_nil(command:find(destination, 1, true))
  end)

  it("leaves a command alone that Lua's own folders serve", function()
    local destination = program.folder()
    make("install", "DESTDIR=" .. destination, "PREFIX=/usr/local")
    assert.is_nil(read(destination .. "/usr/local/bin/eventbus"):find("/usr/local/share", 1, true))
  end)

  it("is undone by make uninstall, which leaves what others put there", function()
    local destination = program.folder()
    make("install", "DESTDIR=" .. destination, "PREFIX=/opt")
    local theirs = ("%s/opt/share/lua/%s/other.lua"):format(destination, ABI)
    assert(io.open(theirs, "wb")):close()
    make("uninstall", "DESTDIR=" .. destination, "PREFIX=/opt")
    assert.are.equal(("./opt/share/lua/%s/other.lua\n"):format(ABI), files_below(destination))
    assert.are.equal("", output_of(("find %s -name eventbus"):format(program.quote(destination))))
  end)
end)
