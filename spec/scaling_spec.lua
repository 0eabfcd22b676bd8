--- The examples of docs/scaling.md run, on three nodes, and show what it says of them; its figures are `make scaling`'s.

package.path = "examples/?.lua;" .. package.path
local broker = require "spec.support.broker"
local confirmed = require "scaling.confirmed"
local eventbus = require "eventbus"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local unpack = table.unpack or unpack

-- The figures of each row that begins with these words: the first column is text or a number.
local function row(text, name)
  local line = text:match("\n  " .. name .. "  +([^\n]+)")
  local found = {}
  for figure in (line or ""):gmatch "[%d.]+" do found[#found + 1] = tonumber(figure) end
  return found
end

describe("from one process to a cluster #scaling", function()
  it("runs, step by step, and loses nothing when a leader or a worker is killed", function()
    local run = program.start("scaling", { program.lua(), "examples/scaling.lua", "300" })
    local code = run:wait(540)
    local text = run:output()
    assert(code == 0, text)
    for workers, events in pairs { [1] = 200, [2] = 400, [4] = 800, [8] = 1600 } do
      assert.are.equal(events, row(text, tostring(workers))[1], text)
    end
    local ordered = row(text, "16, ordered_by the tenant")
    assert.are.same({ 800, 0 }, { ordered[1], ordered[3] }, text)
    for _, kind in ipairs { "classic", "quorum", "stream" } do assert.are.equal(300, row(text, kind)[1], text) end
    for name, nodes in pairs { ["1 queue"] = 1, ["2 queues"] = 2, ["4 queues"] = 3 } do
      local spread = row(text, name)
      assert.are.same({ nodes, 300 * tonumber(name:match "%d") }, { spread[1], spread[2] }, text)
    end
    local lost, again, repeated = unpack(row(text, "1000"), 1, 3)
    assert.are.equal(0, lost, text)
    assert(repeated <= again, "repeated, though it was sent once:\n" .. text)
    for name, events in pairs { ["1, of 1"] = 400, ["2, of 2"] = 800, ["4, of 4"] = 1600, ["16, of 4"] = 1600 } do
      local partitions = row(text, name)
      assert.are.same({ events, 0 }, { partitions[1], partitions[3] }, text)
    end
    -- Only what the killed worker had and had not acknowledged comes again: its prefetch at most.
    local takeover = row(text, "worker of partition 1")
    assert.are.same({ 600, 0, 0 }, { takeover[1], takeover[2], takeover[4] }, text)
    assert(takeover[3] <= 20, "more was repeated than was under way:\n" .. text)
    assert(takeover[5], "nobody took over:\n" .. text)
    for _, reader in ipairs { "reader 1, from the first", "reader 2, from the first", "reader 3, from the first" } do
      assert.are.equal(300, row(text, reader)[1], text)
    end
    local cut = row(text, "reader 4, its connection cut")
    assert(cut[1] == 300 and cut[3] > 0, text)
    assert(text:find("quorum queues like this run's", 1, true), text)
    assert(tonumber(text:match "at (%d+) bytes an event") > 100, text)
  end)

  it("publishes what the broker refuses once more, as the same event, until it is taken", function()
    local bus = eventbus.assert(eventbus.connect { url = broker.shared():new_vhost(), source = "scaling", log = false })
    finally(function() bus:close() end)
    eventbus.assert(bus:declare { queues = { narrow = { max_length = 5, overflow = "reject-publish" } } })
    local events, times = {}, {}
    for n = 1, 50 do
      events[n] = { bus = bus, exchange = "", data = { n = n }, options = { routing_key = "narrow" } }
    end
    -- Waiting for confirms handles no event: the queue has room again only while the publisher pauses.
    local handled = 0
    eventbus.assert(bus:subscribe("narrow", function(event)
      handled, times[event.id] = handled + 1, (times[event.id] or 0) + 1
    end, { prefetch = 1 }))
    local again = confirmed.publish(events)
    wait_until(function()
      eventbus.assert(bus:poll(0.01))
      return handled >= #events
    end, 30, "all are handled")
    assert(again > 0, "the queue refused nothing")
    for _, event in ipairs(events) do assert.are.equal(1, times[event.options.id]) end
  end)

  it("says why, when another try is in vain", function()
    local bus = eventbus.assert(eventbus.connect { url = broker.shared():new_vhost(), source = "scaling", log = false })
    finally(function() bus:close() end)
    local ok, err = pcall(confirmed.publish, { { bus = bus, exchange = "nowhere", data = {}, options = {} } })
    assert.is_false(ok)
    assert.are.equal("not_found", err.code)
  end)
end)
