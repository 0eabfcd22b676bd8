-- The management API's client, where eventbus topology and doctor do not show it.

local eventbus = require "eventbus"
local management = require "eventbus.management"
local broker = require "spec.support.broker"
local peer = require "spec.support.peer"

describe("eventbus.management", function()
  it("trusts the CA it is given, and no other", function()
    local dir = broker.shared().tls_dir
    local p = peer.start { { status = 200, body = '{"node":"n"}' },
      tls = { certificate = dir .. "/server.pem", key = dir .. "/server.key" } }
    assert.matches("^https:", p.url)
    local parts = eventbus.core.url "amqps://localhost"
    local api = assert(management.new(p.url, parts, { cafile = dir .. "/ca.pem" }))
    assert.are.equal("n", eventbus.assert(api:overview()).node)
    local nothing, err = assert(management.new(p.url, parts, { cafile = dir .. "/other-ca.pem" })):overview()
    assert.is_nil(nothing)
    assert.are.equal("connection", err.code)
    assert.matches("certificate verify failed", err.message, 1, true)
    p:stop()
  end)

  it("says that the password is refused, without showing it", function()
    local b = broker.shared()
    local parts = eventbus.core.url "amqp://guest:not-the-secret@localhost"
    local _, err = assert(management.new((b.management_url:gsub("//.*@", "//")), parts)):overview()
    assert.are.equal("refused", err.code)
    assert.is_nil(err.message:find("not-the-secret", 1, true))
  end)
end)
