--- What the report of `make bench` is made of.

local samples = require "bench.suite.samples"

describe("samples", function()
  it("sets figures against those of the same turn, and leaves out a turn that one has missed", function()
    local taken = samples.new()
    for turn, cpu in ipairs { 1, 10, 100, 1000 } do
      taken:record(turn, "publish", "floor", nil, { cpu = cpu, events = 1, p99_us = turn })
      local missed = turn == 2
      taken:record(turn, "publish", "other", nil, not missed and { cpu = cpu * (1 + turn), events = 1 }, missed and "broken")
    end
    local ratio = taken:ratio(samples.cpu_us, { "publish", "other" }, { "publish", "floor" })
    assert.are.same({ median = 4, least = 2, most = 5, turns = 3 }, ratio)
    assert.is_nil(taken:ratio(samples.cpu_us, { "consume", "other" }, { "publish", "floor" }))
    assert.is_nil(taken:ratio(samples.wakeups, { "publish", "other" }, { "publish", "floor" }))
    assert.are.same({ least = 0.4, most = 1.6 }, taken:spread("publish", "floor", samples.field "p99_us"))
  end)

  it("says why one has no figure, and nothing of one turn of many that failed", function()
    local taken = samples.new()
    taken:record(1, "publish", "other", nil, nil, "broken")
    assert.are.equal("broken", taken:failure("publish", "other"))
    taken:record(2, "publish", "other", nil, { cpu = 1, events = 1 })
    assert.is_nil(taken:failure("publish", "other"))
  end)

  it("reads what it has written", function()
    local path = os.tmpname()
    local taken = samples.new(path, { events = 20000, long = 1 })
    taken:tell { { "machine", "two cores; loopback" }, { "plain C", "0.11" } }
    taken:record(1, "publish", "plain C", nil, { cpu = 0.25, events = 10 })
    taken:record(1, "fan", "plain C", 100, { cpu = 2, events = 10 })
    taken:record(2, "fan", "plain C", 100, nil, "did not end: 1 2")
    taken.file:close()
    local again = samples.read(path)
    os.remove(path)
    taken.file = nil
    assert.are.same(taken, again)
  end)
end)
