local deadletter = require "eventbus.deadletter"

local function note(fields)
  local result = { attempt = 4, queue = "q", exchange = "orders", routing_key = "order.created",
    now = "2024-01-15T10:30:00.000Z", host = "h", reason = "failed", error = "boom" }
  for key, value in pairs(fields or {}) do result[key] = value end
  return result
end

describe("deadletter.annotate", function()
  it("keeps properties and headers and adds why, when and where", function()
    local properties = { message_id = "evt_1", content_type = "application/json", priority = 3 }
    local copy = deadletter.annotate(properties, { tenant_id = "t", n = 5 }, note { code = "E", frames = "f:1" })
    assert.are.equal("evt_1", copy.message_id)
    assert.are.equal(3, copy.priority)
    assert.is_true(copy.mandatory)
    assert.are.same({
      tenant_id = "t", n = 5, ["x-eventbus-attempt"] = 4, ["x-eventbus-reason"] = "failed", ["x-eventbus-error"] = "boom",
      ["x-eventbus-error-code"] = "E", ["x-eventbus-error-at"] = "f:1", ["x-eventbus-exchange"] = "orders",
      ["x-eventbus-routing-key"] = "order.created", ["x-eventbus-queue"] = "q", ["x-eventbus-host"] = "h",
      ["x-eventbus-first-failure"] = "2024-01-15T10:30:00.000Z", ["x-eventbus-last-failure"] = "2024-01-15T10:30:00.000Z",
    }, copy.headers)
    assert.is_nil(properties.headers)
  end)

  it("remembers the first failure and leaves the first attempt unnumbered", function()
    local copy = deadletter.annotate({}, { ["x-eventbus-first-failure"] = "earlier", ["x-eventbus-attempt"] = 9 },
      note { attempt = 1 })
    assert.are.equal("earlier", copy.headers["x-eventbus-first-failure"])
    assert.is_nil(copy.headers["x-eventbus-attempt"])
  end)

  it("drops what would change where the copy goes or how long it lives", function()
    local copy = deadletter.annotate({ expiration = "100", user_id = "guest" },
      { ["x-death"] = { {} }, ["x-first-death-queue"] = "q", CC = { "other" }, BCC = { "b" } }, note())
    assert.is_nil(copy.expiration)
    assert.is_nil(copy.user_id)
    assert.is_nil(copy.headers["x-death"])
    assert.is_nil(copy.headers["x-first-death-queue"])
    assert.is_nil(copy.headers.CC)
    assert.are.same({ "other" }, copy.headers["x-eventbus-cc"])
    assert.are.equal("100", copy.headers["x-eventbus-expiration"])
  end)

  it("cuts long texts, and more when the header did not fit", function()
    local long = note { error = ("e"):rep(100000), frames = ("f"):rep(100000), code = ("c"):rep(1000),
      host = ("h"):rep(999) }
    local headers = deadletter.annotate({}, {}, long).headers
    assert.are.equal(2048, #headers["x-eventbus-error"])
    assert.are.equal(1024, #headers["x-eventbus-error-at"])
    headers = deadletter.annotate({}, { big = ("x"):rep(200000), tenant_id = "t" }, long, true).headers
    local size = 0
    for name, value in pairs(headers) do size = size + #name + #tostring(value) end
    assert.is_true(size < 2000, tostring(size))
    assert.are.equal("t", headers.tenant_id)
    assert.is_nil(headers.big)
    assert.are.equal(1, headers["x-eventbus-headers-dropped"])
  end)

  it("says of a copy of a copy, too, how many headers are gone", function()
    local dropped = "x-eventbus-headers-dropped"
    local headers = { a = ("x"):rep(200000), b = "b" }
    headers = deadletter.annotate({}, headers, note(), true).headers
    assert.are.equal(2, headers[dropped])
    assert.are.equal(2, deadletter.annotate({}, headers, note()).headers[dropped])
    headers.c = ("x"):rep(200000)
    assert.are.equal(3, deadletter.annotate({}, headers, note(), true).headers[dropped])
    for _, nonsense in ipairs { "many", -1, 0.5, { 1 } } do
      assert.is_nil(deadletter.annotate({}, { [dropped] = nonsense }, note()).headers[dropped])
    end
    assert.are.equal("all", deadletter.annotate({}, {}, note { headers_lost = true }).headers[dropped])
  end)

  it("keeps no long header when it did not fit, also not one with a name of ours", function()
    local long, size = ("x"):rep(131000), 0
    local headers = deadletter.annotate({}, { tenant_id = long, traceparent = { long },
      ["x-eventbus-first-failure"] = long, ["x-eventbus-expiration"] = long }, note(), true).headers
    for name, value in pairs(headers) do size = size + #name + #tostring(value) end
    assert.is_true(size < 2000, tostring(size))
    assert.are.equal(2, headers["x-eventbus-headers-dropped"])
    assert.are.same({ "e", "k" }, { deadletter.origin({ ["x-eventbus-routing-key"] = long }, "e", "k") })
  end)
end)

describe("deadletter", function()
  it("reads an attempt number, never nonsense", function()
    assert.are.equal(3, deadletter.attempt(3))
    for _, value in ipairs { "3", -1, 0, 1.5, 1e300, {}, true, 0 / 0 } do assert.are.equal(1, deadletter.attempt(value)) end
    assert.are.equal(1, deadletter.attempt(nil))
  end)

  it("tells times in RFC 3339", function()
    assert.are.equal("2024-01-15T10:30:00.250Z", deadletter.time(1705314600.25))
  end)

  it("knows where a copy first came from", function()
    assert.are.same({ "orders", "order.created" }, { deadletter.origin(
      { ["x-eventbus-exchange"] = "orders", ["x-eventbus-routing-key"] = "order.created" }, "", "q") })
    assert.are.same({ "e", "k" }, { deadletter.origin({}, "e", "k") })
    assert.are.same({ "e", "k" }, { deadletter.origin({ ["x-eventbus-routing-key"] = 5 }, "e", "k") })
  end)

  it("strips its own headers", function()
    local copy = deadletter.annotate({}, { tenant_id = "t" }, note())
    assert.are.same({ tenant_id = "t" }, deadletter.strip(copy.headers))
  end)
end)
