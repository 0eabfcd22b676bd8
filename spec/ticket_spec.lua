-- eventbus.ticket: what each of several flushes at once is told. The hub here is a schedule: a flush sleeps as long as
-- something before it is unanswered, and who of those that may go on does so first is the test's to say.

local ticket = require "eventbus.ticket"
local Error = require "eventbus.error"

local function new_hub()
  local open = {}
  local hub = { config = { publish_timeout = 30 }, batch = ticket.batch(0), sent = 0, open = open, patient = true,
    lost = { err = {}, order = {}, first = 1, last = 0, forgotten = 0 } }
  hub.core = { unanswered = function(_, upto)
    local count = 0
    for op in pairs(open) do count = op <= upto and count + 1 or count end
    return count
  end, newest = function() return hub.sent end }
  function hub:await_that(condition)
    while not condition() and self.patient do coroutine.yield() end
    return condition()
  end
  return hub
end

local function publish(hub)
  hub.sent = hub.sent + 1
  hub.open[hub.sent] = true
  return hub.sent
end

local function confirm(hub, op) hub.open[op] = nil end

local function fail(hub, op)
  hub.open[op] = nil
  ticket.failed(hub, op, Error.new("returned", "no queue took " .. op))
end

-- A flush in a coroutine of its own, asleep: a function that goes on with it, and answers what it returned.
local function flushing(hub)
  local flush = coroutine.wrap(function()
    local ok, err = ticket.flush(hub)
    return { ok = ok, err = err }
  end)
  assert(flush() == nil, "it waits")
  return flush
end

local function told(flush)
  local result = assert(flush(), "it has ended")
  if result.ok then return "all is well" end
  return result.err.failed .. ", first " .. result.err.cause.message:match("%d+$")
end

describe("ticket.flush", function()
  it("tells of a failure though an earlier flush has ended meanwhile", function()
    local hub = new_hub()
    local good = publish(hub)
    local first = flushing(hub)
    local bad = publish(hub)
    local second = flushing(hub)
    confirm(hub, good)
    assert.are.equal("all is well", told(first))
    fail(hub, bad)
    assert.are.equal("1, first 2", told(second))
    assert.is_true(ticket.flush(hub))
    assert.are.same({ 0 }, { ticket.unnoticed(hub) })
  end)

  for _, order in ipairs { { "the later", { 2, 1 } }, { "the earlier", { 1, 2 } } } do
    it("tells each of two of what failed before it, when " .. order[1] .. " goes on first", function()
      local hub, flushes = new_hub(), {}
      for i = 1, 2 do
        publish(hub)
        flushes[i] = flushing(hub)
      end
      fail(hub, 1)
      fail(hub, 2)
      local said = {}
      for _, i in ipairs(order[2]) do said[i] = told(flushes[i]) end
      assert.are.same({ "1, first 1", "2, first 1" }, said)
      assert.is_true(ticket.flush(hub))
      assert.are.same({ 0 }, { ticket.unnoticed(hub) })
    end)
  end

  it("leaves what a flush gave up on to the next, and to those that still wait", function()
    local hub = new_hub()
    local one, other = publish(hub), publish(hub)
    local waits = flushing(hub)
    hub.patient = false
    local ok, err = ticket.flush(hub)
    assert.is_nil(ok)
    assert.are.equal("timeout", err.code)
    hub.patient = true
    fail(hub, one)
    local last = flushing(hub)
    fail(hub, other)
    assert.are.equal("2, first 1", told(last))
    assert.are.equal("2, first 1", told(waits))
    assert.is_true(ticket.flush(hub))
  end)

  local function length(hub)
    local count, at = 0, hub.batch
    while at do count, at = count + 1, at.before end
    return count
  end

  it("keeps nothing of what has been told, however many flushes overlap", function()
    local hub = new_hub()
    publish(hub)
    local waits = flushing(hub)
    for n = 2, 50 do
      publish(hub)
      local following = flushing(hub)
      confirm(hub, n - 1)
      assert.are.equal("all is well", told(waits))
      waits = following
      assert.are.equal(2, length(hub))
    end
  end)

  it("keeps one batch of what many flushes have given up on", function()
    local hub = new_hub()
    publish(hub)
    hub.patient = false
    for _ = 1, 50 do assert.are.equal("timeout", select(2, ticket.flush(hub)).code) end
    assert.are.equal(2, length(hub))
  end)

  it("says nothing of a later failure that nobody has asked about yet", function()
    local hub = new_hub()
    publish(hub)
    local first = flushing(hub)
    publish(hub)
    fail(hub, 2)
    confirm(hub, 1)
    assert.are.equal("all is well", told(first))
    local count, err = ticket.unnoticed(hub)
    assert.are.same({ 1, "no queue took 2" }, { count, err.message })
  end)
end)
