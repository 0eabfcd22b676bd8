-- Dead letters from a program: eventbus.deadletters against a real broker.

local broker = require "spec.support.broker"
local deadletters = require "eventbus.deadletters"
local eventbus = require "eventbus"
local wait_until = require("spec.support.wait").wait_until

describe("eventbus.deadletters", function()
  local url, bus

  setup(function() url = broker.shared():new_vhost() end)

  before_each(function()
    bus = eventbus.assert(eventbus.connect { url = url, log = false })
    eventbus.assert(bus:declare { queues = { dead = {}, work = {},
      quorum = { type = "quorum", delivery_limit = false, dead_letter = false } } })
    for _, name in ipairs { "dead", "work", "quorum" } do bus:purge(name) end
  end)

  after_each(function() bus:close() end)

  local function fill(queue, from, to)
    for n = from, to do
      eventbus.assert(bus:publish_async("", "t", { n = n }, { routing_key = queue, id = "evt_" .. n, headers = {
        ["x-eventbus-queue"] = "work", ["x-eventbus-exchange"] = "", ["x-eventbus-routing-key"] = "work" } }))
    end
    eventbus.assert(bus:flush())
  end

  local function count(queue) return eventbus.assert(bus:queue_info(queue)).messages end

  local function order(queue)
    local list = {}
    eventbus.assert(deadletters.browse(bus, queue, function(l) list[#list + 1] = l.data.n end))
    return list
  end

  for _, queue in ipairs { "dead", "quorum" } do
    -- A classic queue puts what comes back where it was; a quorum queue in the order in which it comes, and that of several
    -- channels is not ours to say.
    it("holds more than one subscription may, and gives all back, in order where the queue keeps one: " .. queue, function()
      fill(queue, 1, 1000)
      local r = eventbus.assert(deadletters.replay(bus, queue, { select = function(l) return l.data.n % 4 == 0 end }))
      assert.are.same({ 1000, 1000, 250, 250, 750 }, { r.there, r.looked, r.chosen, r.done, r.left })
      assert.is_nil(r.err)
      wait_until(function() return count(queue) == 750 end, 30, "the others are back")
      local list, expected = order(queue), {}
      for n = 1, 1000 do
        if n % 4 ~= 0 then expected[#expected + 1] = n end
      end
      if queue == "quorum" then table.sort(list) end
      assert.are.same(expected, list)
      assert.are.equal(250, count "work")
    end)
  end

  it("a function that raises, raises, and everything goes back", function()
    fill("dead", 1, 20)
    assert.has_error(function()
      deadletters.browse(bus, "dead", function(l) if l.data.n == 7 then error("enough", 0) end end)
    end, "enough")
    wait_until(function() return count "dead" == 20 end, 30, "all are back")
  end)

  it("ends when it is told to", function()
    fill("dead", 1, 20)
    local seen = 0
    local r = eventbus.assert(deadletters.browse(bus, "dead", function()
      seen = seen + 1
      return seen < 5
    end))
    assert.are.equal(5, r.chosen)
    wait_until(function() return count "dead" == 20 end, 30, "all are back")
    r = eventbus.assert(deadletters.remove(bus, "dead", { limit = 3 }))
    assert.are.equal(3, r.done)
    r = eventbus.assert(deadletters.remove(bus, "dead", { stop = function() return true end }))
    assert.are.same({ true, 0 }, { r.stopped, r.done })
    wait_until(function() return count "dead" == 17 end, 30, "the others are back")
    assert.are.equal(4, order("dead")[1])
  end)

  it("keeps to a rate", function()
    fill("dead", 1, 12)
    local began = eventbus.core.now()
    eventbus.assert(deadletters.remove(bus, "dead", { rate = "10/s" }))
    assert.is_true(eventbus.core.now() - began >= 0.9)
  end)

  it("does not disturb what else the bus has of that queue", function()
    fill("dead", 1, 10)
    local mine = eventbus.assert(bus:get "dead")
    local handled = 0
    fill("work", 1, 3)
    eventbus.assert(bus:subscribe("work", function() handled = handled + 1 end, { dead_letter = false, retry = false }))
    local r = eventbus.assert(deadletters.remove(bus, "dead"))
    assert.are.equal(9, r.done)
    assert.are.equal(0, handled)
    assert.are.equal(1, mine:event().data.n)
    assert.is_true(eventbus.assert(mine:reject(true)))
    wait_until(function() return count "dead" == 1 end, 30, "mine is back")
    wait_until(function()
      bus:poll(0.1)
      return handled == 3
    end, 30, "the handler has its events")
  end)

  it("ends when others take what was there", function()
    fill("dead", 1, 300)
    local other = eventbus.assert(eventbus.connect { url = url, log = false })
    local first = true
    local r = eventbus.assert(deadletters.remove(bus, "dead", { rate = 50, limit = 300, select = function()
      if first then other:purge "dead" end
      first = false
      return true
    end }))
    other:close()
    assert.is_true(r.done < 300)
    assert.is_nil(r.err)
    assert.are.equal(0, count "dead")
  end)

  it("says when the queue goes away", function()
    fill("dead", 1, 300)
    local first = true
    local r = eventbus.assert(deadletters.remove(bus, "dead", { rate = 20, select = function()
      if first then bus:delete_queue "dead" end
      first = false
      return true
    end }))
    assert.are.equal("cancelled", r.err.code)
  end)

  it("counts replays, also those of message:replay", function()
    fill("dead", 1, 1)
    eventbus.assert(deadletters.replay(bus, "dead"))
    local message = eventbus.assert(bus:get "work")
    assert.are.same({ ["x-eventbus-replays"] = 1 }, message:headers())
    eventbus.assert(message:replay { routing_key = "dead" })
    assert.are.equal(2, eventbus.assert(bus:get "dead"):header "x-eventbus-replays")
  end)

  it("misuse raises, a missing queue is an error", function()
    assert.has_error(function() deadletters.replay(bus, "dead", { limt = 1 }) end)
    assert.has_error(function() deadletters.move(bus, "dead", "dead") end)
    assert.has_error(function() deadletters.browse(bus, "dead") end)
    local result, err = deadletters.replay(bus, "nonesuch")
    assert.is_nil(result)
    assert.are.equal("not_found", err.code)
  end)

  it("knows the queues of a topology", function()
    local topology = require "eventbus.topology"
    assert.are.same({ "deadletter.a", "deadletter.b", "failures" }, deadletters.queues(topology.normalise {
      queues = { a = {}, ["deadletter.b"] = {}, failures = { dead_letters = true } } }))
  end)
end)
