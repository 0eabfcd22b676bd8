--- TLS with peers that are not to be trusted: each is refused in time, by a code and in words that say what to do.

local authority = require "spec.support.authority"
local broker = require "spec.support.broker"
local eventbus = require "eventbus"
local meddler = require "spec.support.meddler"
local program = require "spec.support.program"

local SECRET = "s3cr3t-PaSSw0rd"
local NEVER = 60  -- seconds that no refusal may take, however busy the machine

describe("a TLS peer that is not to be trusted", function()
  local ca, good, running

  setup(function()
    ca = authority.new()
    good = ca:issue { name = "good" }
    running = {}
  end)

  after_each(function()
    for _, one in ipairs(running) do one:stop() end
    running = {}
  end)

  local function serve(...)
    running[#running + 1] = authority.serve(...)
    return running[#running]
  end

  local function meddle(...)
    running[#running + 1] = meddler.start(...)
    return running[#running]
  end

  -- Why no bus comes of it.
  local function refused(port, options)
    options.url = ("amqps://guest:%s@%s:%d"):format(SECRET, options.host or "localhost", port)
    options.host, options.log = nil, false
    options.connection_timeout = options.connection_timeout or NEVER
    local began = eventbus.core.now()
    local bus, err = eventbus.connect(options)
    local took = eventbus.core.now() - began
    if bus then bus:close() end
    assert.is_true(bus == nil, "it connected")
    assert.is_nil(tostring(err):find(SECRET, 1, true))
    return err, took
  end

  local function says(err, code, ...)
    assert.are.equal(code, err.code, tostring(err))
    for _, words in ipairs { ... } do assert.is_truthy(err.message:find(words, 1, true), err.message) end
  end

  -- One that is decided by the certificate, without waiting for anything.
  local function refuses(identity, options, ...)
    local err, took = refused(serve(identity).port, options)
    says(err, "tls", ...)
    assert.is_true(took < NEVER)
  end

  it("is refused for the name of another host", function()
    local other = ca:issue { name = "other", alt = "DNS:other.example" }
    refuses(other, { cacertfile = ca.file }, "is not for localhost but for other.example", "server_name_indication=")
    local address = ca:issue { name = "address", alt = "IP:127.0.0.2" }
    refuses(address, { cacertfile = ca.file, host = "127.0.0.1" }, "is not for 127.0.0.1 but for 127.0.0.2")
  end)

  it("is refused for a name that only begins or ends as it should", function()
    local wide = ca:issue { name = "wide", alt = "DNS:*host,DNS:localhost.example,DNS:*" }
    refuses(wide, { cacertfile = ca.file }, "is not for localhost but for")
  end)

  it("is refused once expired, and before its time", function()
    refuses(ca:issue { name = "expired", from = -3, to = -1 }, { cacertfile = ca.file }, "ended on 20",
      "renew it on the broker")
    refuses(ca:issue { name = "future", from = 1, to = 3 }, { cacertfile = ca.file }, "is in the future", "check the clock")
  end)

  it("is refused when it vouches for itself, or when nobody known does", function()
    local self_signed = ca:issue { name = "self", self = true }
    refuses(self_signed, { cacertfile = ca.file }, "self-signed", "has no CA that signed it")
    refuses(self_signed, {}, "self-signed", "pass cacertfile=")
    refuses(good, { cacertfile = authority.new().file }, "is not trusted", "has no CA that signed it")
    refuses(good, {}, "is not trusted", "pass cacertfile=")
  end)

  it("is refused with a certificate made for clients", function()
    refuses(ca:issue { name = "client", usage = "clientAuth" }, { cacertfile = ca.file }, "not for servers", "serverAuth")
  end)

  it("is refused with a key that is too short", function()
    local weak = ca:issue { name = "weak", bits = 768 }
    local words = { "-cipher", "ALL:@SECLEVEL=0" }
    says(refused(serve(weak, words).port, { cacertfile = ca.file }), "tls", "certificate of localhost", "too weak",
      "renew it with 2048 bits of RSA or more")
  end)

  it("is refused with a protocol or ciphers of the past", function()
    for _, protocol in ipairs { "-tls1", "-tls1_1" } do
      local old = serve(good, { protocol, "-cipher", "ALL:@SECLEVEL=0" })
      says(refused(old.port, { cacertfile = ca.file }), "tls", "at least TLS 1.2 is needed")
    end
    local open = serve(good, { "-tls1_2", "-cipher", "aNULL:@SECLEVEL=0" })
    says(refused(open.port, { cacertfile = ca.file }), "tls", "handshake failure", "no cipher suite in common")
  end)

  it("is refused when its bytes were changed on the way", function()
    local server = serve(good)
    -- Past the hello: in what is encrypted.
    local relay = meddle(server.port, "turn", 400)
    says(refused(relay.port, { cacertfile = ca.file }), "tls", "was damaged on the way")
  end)

  it("that hangs up in the midst of the handshake is told of", function()
    local server = serve(good)
    local relay = meddle(server.port, "cut", 300)
    says(refused(relay.port, { cacertfile = ca.file }), "connection", "lost in the TLS handshake")
  end)

  it("that shakes hands a byte at a time has as long as any connection", function()
    local server = serve(good)
    local relay = meddle(server.port, "drip", 0.05)
    local err, took = refused(relay.port, { cacertfile = ca.file, connection_timeout = 1 })
    says(err, "connection", "did not complete the connection in 1000 ms")
    assert.is_true(took >= 1 and took < NEVER)
  end)

  it("that says nothing after the handshake has as long, too", function()
    local server = serve(good)
    local err, took = refused(server.port, { cacertfile = ca.file, connection_timeout = 3 })
    says(err, "connection", "did not complete the AMQP handshake in 3000 ms")
    assert.is_true(took >= 3 and took < NEVER)
  end)

  it("that stands still later does not hold up a publish beyond its time", function()
    local b = broker.shared()
    local relay = meddle(b.tls_port, "pass")
    local bus = eventbus.assert(eventbus.connect {
      url = ("amqps://guest:guest@localhost:%d"):format(relay.port), cacertfile = b.tls_dir .. "/ca.pem", log = false,
    })
    eventbus.assert(bus:declare { queues = { ["tls.stalled"] = {} } })
    eventbus.assert(bus:publish("", "tls.stalled", {}))
    relay.process:signal "STOP"
    local began = eventbus.core.now()
    local id, err = bus:publish("", "tls.stalled", {}, { timeout = 1 })
    assert.is_nil(id)
    assert.are.equal("timeout", err.code, tostring(err))
    assert.is_true(eventbus.core.now() - began < NEVER)
    relay.process:signal "CONT"
    bus:close()
  end)
end)

describe("a client certificate", function()
  local b, ca

  setup(function()
    b = broker.shared()
    ca = authority.new()
  end)

  local function connect(options)
    options.url = ("amqps://localhost:%d/%%2f?auth_mechanism=external"):format(b.tls_port)
    options.cacertfile, options.log, options.connection_timeout = b.tls_dir .. "/ca.pem", false, NEVER
    return eventbus.connect(options)
  end

  local function wrong(options, code, ...)
    local bus, err = connect(options)
    if bus then bus:close() end
    assert.is_true(bus == nil, "it connected")
    assert.are.equal(code, err.code, tostring(err))
    for _, words in ipairs { ... } do assert.is_truthy(err.message:find(words, 1, true), err.message) end
  end

  it("logs in by its name, and events go both ways", function()
    local bus = eventbus.assert(connect { certfile = b.tls_dir .. "/client.pem", keyfile = b.tls_dir .. "/client.key" })
    eventbus.assert(bus:declare { queues = { ["tls.mutual"] = {} } })
    eventbus.assert(bus:publish("", "tls.mutual", { n = 1 }))
    local got
    eventbus.assert(bus:subscribe("tls.mutual", function(event) got = event.data.n end))
    while not got do assert(bus:poll(NEVER)) end
    assert.are.equal(1, got)
    bus:close()
  end)

  it("of an authority that the broker does not know is refused, and named", function()
    local stranger = ca:issue { name = "stranger", usage = "clientAuth", subject = "eventbus-client" }
    wrong({ certfile = stranger.certificate, keyfile = stranger.key }, "tls", "does not accept the client certificate",
      "stranger.pem")
  end)

  it("is missed where the broker's login needs it", function()
    wrong({}, "refused", "certificate")
  end)

  it("is not begun without its key, or with another's", function()
    local one, two = ca:issue { name = "one" }, ca:issue { name = "two" }
    wrong({ certfile = one.certificate, keyfile = two.key }, "tls", two.key, "does not belong to the client certificate")
    wrong({ certfile = one.certificate }, "tls", one.certificate, "holds no usable private key")
    wrong({ certfile = one.certificate, keyfile = one.certificate }, "tls", one.certificate, "holds no usable private key")
    wrong({ keyfile = one.key }, "tls", one.key, "without certfile")
  end)

  it("that cannot be read is named, with the option", function()
    local one, folder = ca:issue { name = "three" }, program.folder()
    wrong({ certfile = folder .. "/none.pem", keyfile = one.key }, "tls", "certfile " .. folder .. "/none.pem: No such file")
    wrong({ certfile = one.certificate, keyfile = folder .. "/none.key" }, "tls",
      "keyfile " .. folder .. "/none.key: No such file")
    wrong({ certfile = folder, keyfile = one.key }, "tls", "certfile " .. folder .. ": Is a directory")
    wrong({ certfile = one.certificate, keyfile = folder }, "tls", "keyfile " .. folder .. ": Is a directory")
  end)
end)
