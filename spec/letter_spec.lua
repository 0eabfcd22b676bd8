local letter = require "eventbus.letter"

-- A delivery as far as a letter reads one.
local function of(headers, given)
  given = given or {}
  local delivery = {
    headers = function() return headers end,
    properties = function() return given.properties or {} end,
    event = function() return given.event, not given.event and { code = "malformed", message = "no event" } or nil end,
    body = function() return given.body or "" end,
    message_id = function() return given.id end,
    type = function() return given.type end,
    redelivered = function() return false end,
    size = function() return 0 end,
  }
  return letter.read(delivery)
end

local function fields(l, ...)
  local result = {}
  for i, name in ipairs { ... } do result[i] = l[name] == nil and "nil" or l[name] end
  return result
end

describe("a letter", function()
  it("of ours tells what we wrote", function()
    local l = of({ ["x-eventbus-reason"] = "failed", ["x-eventbus-error"] = "boom", ["x-eventbus-attempt"] = 4,
      ["x-eventbus-queue"] = "q", ["x-eventbus-exchange"] = "", ["x-eventbus-routing-key"] = "q", ["x-eventbus-replays"] = 2,
      ["x-eventbus-last-failure"] = "2024-01-15T10:30:00.250Z" })
    assert.are.same({ "failed", "boom", 4, "q", "", "q", 2 },
      fields(l, "reason", "error", "attempts", "queue", "exchange", "routing_key", "replays"))
    assert.is_true(l.age > 0)
  end)

  it("of the broker tells what x-death says: the first death is the origin, the last one the reason", function()
    local l = of { ["x-first-death-queue"] = "work", ["x-first-death-reason"] = "rejected", ["x-death"] = {
      { queue = "parking", reason = "expired", count = 1, exchange = "dlx", ["routing-keys"] = { "work.failed" },
        time = 1705314700 },
      { queue = "work", reason = "rejected", count = 3, exchange = "orders", ["routing-keys"] = { "order.paid", "cc" },
        time = 1705314600 } } }
    assert.are.same({ "expired", 3, "work", "orders", "order.paid", "2024-01-15T10:31:40.000Z", "2024-01-15T10:30:00.000Z" },
      fields(l, "reason", "attempts", "queue", "exchange", "routing_key", "last_failure", "first_failure"))
    assert.are.equal(2, #l.history)
  end)

  it("of both believes ours where we say something", function()
    local l = of { ["x-eventbus-exchange"] = "orders", ["x-eventbus-routing-key"] = "order.paid",
      ["x-eventbus-queue"] = "work", ["x-eventbus-attempt"] = 2,
      ["x-death"] = { { queue = "work.retry.5000", reason = "expired", exchange = "",
        count = 1, ["routing-keys"] = { "work.retry.5000" } } } }
    assert.are.same({ "orders", "order.paid", "work", 2, "expired" },
      fields(l, "exchange", "routing_key", "queue", "attempts", "reason"))
  end)

  it("of somebody else has no origin", function()
    local l = of({}, { id = "m1", type = "t", properties = { timestamp = 1705314600 } })
    assert.are.same({ "unknown", "nil", "nil", "nil", 1, "m1", "t", "nil" },
      fields(l, "reason", "exchange", "routing_key", "queue", "attempts", "id", "type", "event"))
    assert.are.equal("malformed", l.problem.code)
    assert.is_true(l.age > 1e6)
  end)

  it("survives headers of the wrong shape", function()
    for _, nonsense in ipairs { { ["x-death"] = "x" }, { ["x-death"] = { 1, "a", {} } }, { ["x-death"] = { { queue = 5,
      time = "t", ["routing-keys"] = { 1 }, count = -1,
      exchange = {} } } }, { ["x-eventbus-attempt"] = {}, ["x-eventbus-error"] = 5,
      ["x-eventbus-routing-key"] = true, ["x-eventbus-replays"] = "many", ["x-eventbus-last-failure"] = "yesterday" } } do
      local l = of(nonsense)
      for _, name in ipairs(letter.NAMES) do assert.has_no.errors(function() return l[name] end) end
      assert.is_nil(l.routing_key)
      assert.are.equal(1, l.attempts)
    end
  end)

  it("reads times of RFC 3339", function()
    assert.are.equal(1705314600.25, letter.seconds "2024-01-15T10:30:00.250Z")
    assert.are.equal(1705314600, letter.seconds "2024-01-15T12:30:00+02:00")
    assert.are.equal(951782400, letter.seconds "2000-02-29T00:00:00Z")
    for _, text in ipairs { "2024-01-15", "", "x", "2024-01-15T10:30:00" } do assert.is_nil(letter.seconds(text)) end
  end)
end)
