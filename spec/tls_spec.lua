--- TLS to a real broker: what is trusted, and what is refused in words that say what to do.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"

local function quiet() end

describe("eventbus.connect over TLS", function()
  local b, dir, url

  setup(function()
    b = broker.shared()
    dir = b.tls_dir
    url = b.tls_url:gsub("%?.*$", "")
  end)

  local function connect(opts)
    opts.url, opts.log, opts.connection_timeout = opts.url or url, quiet, opts.connection_timeout or 60
    return eventbus.connect(opts)
  end

  local function refused(opts, code)
    local bus, err = connect(opts)
    if bus then bus:close() end
    assert.is_true(bus == nil, "it connected")
    assert.are.equal(code, err.code, tostring(err))
    return err
  end

  it("publishes and consumes when the CA is given", function()
    local bus = eventbus.assert(connect { cacertfile = dir .. "/ca.pem" })
    eventbus.assert(bus:declare { queues = { ["tls.spec"] = {} } })
    eventbus.assert(bus:publish("", "tls.test", { text = ("x"):rep(300000) }, { routing_key = "tls.spec" }))
    local size
    eventbus.assert(bus:subscribe("tls.spec", function(event) size = #event.data.text end))
    while not size do bus:poll(20) end
    assert.are.equal(300000, size)
    bus:close()
  end)

  it("refuses a certificate of an unknown CA, once, and says which option helps", function()
    local err = refused({ wait = 20 }, "tls")
    assert.is_truthy(err.message:find("cacertfile", 1, true), err.message)
  end)

  it("refuses a certificate of another CA", function()
    refused({ cacertfile = dir .. "/other-ca.pem" }, "tls")
  end)

  it("refuses a certificate for another name", function()
    local err = refused({ cacertfile = dir .. "/ca.pem", server_name = "broker.example" }, "tls")
    assert.is_truthy(err.message:find("broker.example", 1, true), err.message)
  end)

  it("takes any certificate when told not to verify", function()
    local bus = eventbus.assert(connect { verify = false })
    bus:close()
  end)

  it("names the file that cannot be read", function()
    local err = refused({ cacertfile = dir .. "/nowhere.pem" }, "tls")
    assert.is_truthy(err.message:find("nowhere.pem", 1, true), err.message)
  end)

  it("authenticates by client certificate (EXTERNAL)", function()
    local host = url:match("@([^/]+)")
    local bus = eventbus.assert(connect {
      url = ("amqps://%s/%%2f?auth_mechanism=external"):format(host), cacertfile = dir .. "/ca.pem",
      certfile = dir .. "/client.pem", keyfile = dir .. "/client.key",
    })
    bus:close()
  end)

  it("tells of plain text sent to a TLS port, and of TLS sent to a plain one", function()
    local err = refused({ url = (url:gsub("^amqps", "amqp")) }, "protocol")
    assert.is_truthy(err.message:find("amqps://", 1, true), err.message)
    err = refused({ url = (b.url:gsub("^amqp:", "amqps:")), cacertfile = dir .. "/ca.pem" }, "tls")
    assert.is_truthy(err.message:find("TLS", 1, true), err.message)
  end)
end)
