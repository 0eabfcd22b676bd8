--- eventbus.core: what the binding promises about Lua code that runs in the middle of its calls. No broker is needed.

local core = require "eventbus.core"
local garbage = require "spec.support.garbage"

-- Nothing listens there; what is published waits in the outbox.
local NOWHERE = "amqp://127.0.0.1:1"

describe("cbus:publish_event", function()
  it("answers 'closed' when the payload's codec closed the bus", function()
    local bus = assert(core.open { url = NOWHERE })
    local codec = { decode = function() end }
    function codec.encode()
      bus:close(0)
      return "{}"
    end
    local id, err = bus:publish_event("", "key", { type = "test", data = {} }, nil, 1, codec)
    assert.is_nil(id)
    assert.are.equal("closed", err.code)
  end)

  it("survives finalizers that publish on the same bus", function()
    local bus = assert(core.open { url = NOWHERE, outbox = 1000000, outbox_bytes = 1e9 })
    local runs = 0
    local function finalizer()
      runs = runs + 1
      bus:publish_event("", "inner", { type = "inner", data = { text = ("i"):rep(100) } }, { headers = { n = runs } })
    end
    -- The collector runs in the midst of each publish.
    local codec = { decode = function() end }
    function codec.encode()
      garbage(finalizer)
      collectgarbage()
      collectgarbage()
      return "{}"
    end
    for n = 1, 5 do
      local id, event_id = bus:publish_event("", "outer", { type = "outer", data = {} }, { headers = { n = n } }, nil, codec)
      assert(id, event_id)
    end
    assert.is_true(runs >= 5)
    -- And wherever it likes.
    for n = 1, 20000 do
      garbage(finalizer)
      local id, event_id = bus:publish_event("", "outer", { type = "outer", data = { text = ("o"):rep(100), n = n } },
        { headers = { n = n } })
      assert(id, event_id)
    end
    local answers = 0
    bus:shutdown(0)
    local deadline = core.now() + 60
    repeat
      local kind = bus:next()
      if kind == core.ANSWER then answers = answers + 1 end
      if not kind then bus:wait(0.1) end
    until core.now() > deadline or answers >= 20005
    assert.is_true(answers >= 20005)
    bus:close(0)
  end)
end)

describe("a wait", function()
  it("for less than a millisecond lasts as long as asked", function()
    local bus = assert(core.open { url = NOWHERE })
    local turns, till = 0, core.now() + 0.2
    repeat
      bus:wait(0.0004)
      turns = turns + 1
    until core.now() > till
    assert.is_true(turns <= 501, turns .. " turns in 200 ms")
    bus:close(0)
  end)
end)

describe("a delivery or bus", function()
  it("says that it is closed, and is not harmed by a second close", function()
    local bus = assert(core.open { url = NOWHERE })
    assert.is_true(bus:close(0))
    assert.is_true(bus:close(0))
    assert.is_nil(bus:next())
    assert.is_false(bus:wait(0))
    local id, err = bus:publish("", "key", "body")
    assert.is_nil(id)
    assert.are.equal("closed", err.code)
    assert.are.equal("eventbus.core bus (closed)", tostring(bus))
  end)

  it("raises for what only a mistake can ask", function()
    local bus = assert(core.open { url = NOWHERE })
    assert.has_error(function() bus:publish("", "key", "body", { unknown = 1 }) end, "unknown property 'unknown'")
    assert.has_error(function() bus:rpc("queue_declare", { exchange = "x" }) end)
    assert.has_error(function() bus:subscribe {} end)
    assert.has_error(function() bus:subscribe { queue = "q", prefetch = 0 } end)
    bus:close(0)
  end)
end)

describe("core.url", function()
  it("takes a URL apart, and its display has no password", function()
    local parts = assert(core.url "amqps://me:s%40crt@[::1],b:99/v%2Fh?verify=verify_none&cacertfile=ca.pem")
    assert.are.same({ tls = true, hosts = { { name = "::1", port = 5671 }, { name = "b", port = 99 } }, user = "me",
      password = "s@crt", vhost = "v/h", verify = false, cacertfile = "ca.pem",
      auth = "plain",
      display = "amqps://me@[::1]:5671,b:99/v%2Fh" }, parts)
  end)

  it("answers 'invalid' for what is none, without the password", function()
    local parts, err = core.url "amqp://me:secret@host:port"
    assert.is_nil(parts)
    assert.are.equal("invalid", err.code)
    assert.is_nil(err.message:find("secret", 1, true))
  end)
end)

describe("core.bell", function()
  local bells = { core.bell(), core.bell() }
  teardown(function() for _, bell in ipairs(bells) do bell:close() end end)

  local has_unix, unix = pcall(require, "socket.unix")

  it("lets a socket that is connected to it read a byte for each ring, and an end", function()
    assert(has_unix, "LuaSocket has unix sockets")
    local client = assert(unix.stream())
    assert(client:connect(assert(bells[1]:listen())))
    assert.is_true(bells[1]:take())
    client:settimeout(20)
    assert.are.equal("\0", client:receive(1))  -- it is there
    bells[1]:ring()
    bells[1]:ring()
    assert.are.equal("\0\0", client:receive(2))
    bells[1]:close()
    bells[1]:ring()
    local got, err = client:receive(1)
    assert.is_nil(got)
    assert.are.equal("closed", err)
    client:close()
  end)

  it("says that nobody has connected, and is harmless where it has nobody", function()
    bells[2]:ring()
    assert.is_string(bells[2]:listen())
    local ok, err = bells[2]:take()
    assert.is_nil(ok)
    assert.are.equal("connection", err.code)
    bells[2]:close()
    bells[2]:close()
  end)
end)
