--- One version, in src/eb_version.h: what is made from it says the same.

local core = require "eventbus.core"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

describe("the version", function()
  local version = read("src/eb_version.h"):match('#define EB_VERSION "(%d+%.%d+%.%d+)"')

  it("is what the library says", function()
    assert.are.equal(version, core.version)
    assert.are.equal("eventbus " .. version, require("eventbus")._VERSION)
  end)

  it("is that of the released rockspec and of the Debian package", function()
    local rockspec = read(("rockspec/eventbus-%s-1.rockspec"):format(version))
    assert.are.equal(version .. "-1", rockspec:match('\nversion = "([^"]+)"'))
    assert.are.equal(version .. "-1", read("debian/changelog"):match("^lua%-eventbus %(([^)]+)%)"))
  end)
end)
