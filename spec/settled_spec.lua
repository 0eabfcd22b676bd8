-- on_settled: what became of each event, told once, when it is so.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"

local now = eventbus.core.now

local shared, url, vhost, bus
local made = 0

setup(function()
  shared = broker.shared()
  url, vhost = shared:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "settled-spec", log = false })
end)
teardown(function()
  bus:close()
  shared:delete_vhost(vhost)
end)

local function queue()
  made = made + 1
  local name = "settled." .. made
  eventbus.assert(bus:declare { queues = { [name] = {} } })
  return name
end

-- Subscribes, and handles until `count` records have come.
local function records(q, handlers, options, count)
  local list = {}
  options.on_settled = function(record) list[#list + 1] = record end
  local subscription = eventbus.assert(bus:subscribe(q, handlers, options))
  local deadline = now() + 20
  while #list < count do
    assert(now() < deadline, ("only %d records"):format(#list))
    eventbus.assert(bus:poll(0.1))
  end
  subscription:cancel()
  return list
end

local function outcomes(list)
  local result = {}
  for i, record in ipairs(list) do
    result[i] = table.concat({ tostring(record.type), record.outcome, record.reason or "-", record.attempt }, " ")
  end
  table.sort(result)
  return result
end

describe("on_settled", function()
  it("tells how each event ended, with the attempt, the reason and how long its handler ran", function()
    local q, ids = queue(), {}
    for _, kind in ipairs { "good", "ignored", "rejected", "failing", "nobody's" } do
      ids[kind] = eventbus.assert(bus:publish("", kind, {}, { routing_key = q, tenant_id = "t" }))
    end
    eventbus.assert(bus._hub.core:publish("", q, "no envelope", { message_id = "m1", type = "odd" }, 10))
    local list = records(q, {
      good = function() end,
      ignored = function() eventbus.ignore() end,
      rejected = function() eventbus.reject "not ours" end,
      failing = function() return nil, "no luck" end,
    }, { retry = { count = 1, delay = "100ms" } }, 7)
    assert.are.same({
      "failing dead_lettered failed 2", "failing retried - 1", "good handled - 1", "ignored ignored - 1",
      "nobody's dead_lettered unhandled 1", "odd dead_lettered malformed 1", "rejected dead_lettered rejected 1",
    }, outcomes(list))
    for _, record in ipairs(list) do
      assert.are.equal(q, record.queue)
      assert.are.equal(ids[record.type] or "m1", record.id)
      if record.type == "odd" then
        assert.is_nil(record.event)
      else
        assert.are.equal("t", record.event.tenant_id)
        assert.are.equal(record.type ~= "nobody's", record.seconds ~= nil)
      end
      if record.outcome == "retried" then assert.are.same({ 0.1, "no luck" }, { record.delay, record.error }) end
    end
  end)

  it("tells of what is dropped, and raises no trouble when it raises", function()
    local q, told = queue(), 0
    eventbus.assert(bus:publish("", q, {}))
    local list = records(q, function() eventbus.reject "no" end, { dead_letter = false }, 1)
    assert.are.same({ q .. " dropped rejected 1" }, outcomes(list))
    eventbus.assert(bus:publish("", q, {}))
    local subscription = eventbus.assert(bus:subscribe(q, function() end, { on_settled = function()
      told = told + 1
      error "no"
    end }))
    local deadline = now() + 20
    while told == 0 and now() < deadline do eventbus.assert(bus:poll(0.1)) end
    assert.are.equal(1, subscription:stats().handled)
    subscription:cancel()
  end)

  it("tells of an event over max_body, of one that the broker dead-letters and of one that has to go back", function()
    local big, covered, dead = queue(), queue() .. ".covered", queue()
    local small = eventbus.assert(eventbus.connect { url = url, max_body = 1000, log = false })
    finally(function()
      collectgarbage "restart"
      small:close()
    end)
    eventbus.assert(small:declare { queues = { [covered] = { dead_letter = { exchange = "", routing_key = dead } } } })
    local list, text = {}, { text = ("x"):rep(5000) }
    local function options() return { on_settled = function(record) list[#list + 1] = record end } end
    local function pump(condition, what)
      local deadline = now() + 20
      while not condition() do
        assert(now() < deadline, "waited in vain until " .. what)
        eventbus.assert(small:poll(0.05))
      end
    end
    eventbus.assert(bus:publish("", "t", text, { routing_key = covered }))
    eventbus.assert(small:subscribe(covered, function() end, options()))
    pump(function() return #list == 1 end, "it is told of")
    pump(function() return shared:queue(vhost, dead).messages == 1 end, "it is with the dead letters")

    eventbus.assert(bus:publish("", "t", text, { routing_key = big }))
    local subscription = eventbus.assert(small:subscribe(big, function() end, options()))
    pump(function() return subscription:stats().oversized == 1 end, "it is there")
    assert.are.equal(1, #list)
    -- No collector is to do it.
    collectgarbage "stop"
    subscription:cancel()
    pump(function() return shared:queue(vhost, big).messages_ready == 1 end, "it is back in its queue")
    assert.are.same({ "t dead_lettered oversized 1", "t returned oversized 1" }, outcomes(list))
    for _, record in ipairs(list) do
      assert.is_nil(record.event)
      assert.matches("over max_body", record.error)
    end
  end)
end)
