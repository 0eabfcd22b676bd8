-- eventbus check: what a monitoring system is promised.

local baseline = require "eventbus.cli.baseline"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local TOPOLOGY = [[return { queues = {
  deep = { alerts = { depth = 10 } },
  busy = { alerts = { consumers = 1 } },
  ["dead.deep"] = { dead_letters = true },
} }]]

describe("eventbus check", function()
  local b, bus, env, folder, file

  local function check(arguments, environment)
    local words = { "check", "--topology", file, "--state", folder .. "/state.json" }
    for _, word in ipairs(arguments or {}) do words[#words + 1] = word end
    return command.run(words, { env = environment or env })
  end

  -- The server's statistics are up to five seconds old.
  local function check_until(arguments, pattern)
    local r
    wait_until(function()
      r = check(arguments)
      return r.out:match(pattern), r.out
    end, 60, "the check says " .. pattern)
    return r
  end

  setup(function()
    b = broker.shared()
    local url = b:new_vhost()
    env = { RABBITMQ_URL = url, RABBITMQ_MANAGEMENT_URL = b.management_url }
    folder = program.folder()
    file = write(folder .. "/topology.lua", TOPOLOGY)
    bus = assert(eventbus.connect { url = url, log = false })
    assert(bus:declare(loadfile(file)()))
    for _ = 1, 12 do assert(bus:publish_async("", "deep", {}, {})) end
    for _ = 1, 1001 do assert(bus:publish_async("", "busy", {})) end
    assert(bus:flush())
    -- Delivered, and not settled as long as nobody polls.
    assert(bus:subscribe("busy", function() end, { prefetch = 2000, retry = false, dead_letter = false }))
    -- What a queue has comes with the statistics, of each in its own time, and may at first be of before the events.
    check_until({}, "'busy consumers'=1;.*'dead.deep consumers'=0;.*'deep depth'=12;.*'deep consumers'=0;")
  end)

  teardown(function()
    if bus then bus:close() end
  end)

  it("finds a queue too deep, one without consumers, and one with 1,001 unacknowledged", function()
    local r = check_until({}, "1,001 unacknowledged, more than 1,000")
    assert.are.equal(2, r.code)
    assert.matches("^EVENTBUS CRITICAL %- 2 of 3 queues: busy: 1,001 unacknowledged, more than 1,000; deep: ", r.out)
    assert.matches("\nCRITICAL deep: no consumers\n", r.out, 1, true)
    assert.matches("\nCRITICAL deep: 12 messages ready, more than 10\n", r.out, 1, true)
    assert.is_nil(r.out:find("CRITICAL dead.deep", 1, true))
    assert.are.equal("", r.err)
  end)

  it("gives performance data as Nagios' guidelines have it", function()
    local line = check().out:match("^[^\n]*")
    local data, seen = line:match("^[^|]+ | (.*)$"), {}
    for label, value, rest in (data .. " "):gmatch("'([^'=]+)'=([%d.]+)(%S*) ") do seen[label] = value .. rest end
    assert.are.equal("12;;10;0;", seen["deep depth"])
    assert.are.equal("0;;1000;0;", seen["deep unacked"])
    assert.are.equal("0;;1:;0;", seen["deep consumers"])
    assert.are.equal("1001;;1000;0;", seen["busy unacked"])
    assert.are.equal("0;;;0;", seen["dead.deep consumers"])
  end)

  it("takes thresholds from the command line, per queue, and switches them off", function()
    local r = check { "--queue", "deep", "--consumers", "off", "--depth", "100" }
    assert.are.equal(0, r.code)
    assert.matches("^EVENTBUS OK %- deep is as it should be |", r.out)
    r = check { "--queue", "deep", "--consumers", "off", "--depth", "15", "--warn", "50%" }
    assert.are.equal(1, r.code)
    assert.matches("^EVENTBUS WARNING %- deep: 12 messages ready, more than 7 |", r.out)
    assert.matches("'deep depth'=12;7.500;15;0;", r.out, 1, true)
  end)

  it("says so when a queue does not exist", function()
    local r = check { "--queue", "ghost" }
    assert.are.equal(2, r.code)
    assert.are.equal("EVENTBUS CRITICAL - ghost: does not exist\nCRITICAL ghost: does not exist\n", r.out)
  end)

  it("without the management API checks what AMQP tells, and is not content", function()
    local there = { RABBITMQ_URL = env.RABBITMQ_URL }
    local r = check({ "--queue", "deep", "--management", "http://guest:secret@127.0.0.1:1" }, there)
    assert.are.equal(2, r.code)
    assert.matches("without the management API: no unacknowledged counts, no rates", r.out, 1, true)
    assert.matches("CRITICAL deep: 12 messages ready", r.out, 1, true)
    assert.is_nil(r.out:find("secret", 1, true))
    r = check({ "--queue", "dead.deep", "--management", "http://127.0.0.1:1" }, there)
    assert.are.equal(3, r.code)
    assert.matches("^EVENTBUS UNKNOWN", r.out)
    assert.is_nil(r.out:find("unacked'", 1, true))
  end)

  it("answers on stdout also when it cannot check: 3 for the command line, 2 for the broker", function()
    local r = check { "--depth", "many" }
    assert.are.equal(3, r.code)
    assert.matches('^EVENTBUS UNKNOWN %- .*"many"\n$', r.out)
    r = command.run({ "check", "--url", "amqp://u:secret@127.0.0.1:1", "--management", "http://127.0.0.1:1" })
    assert.are.equal(2, r.code)
    assert.matches("^EVENTBUS CRITICAL %- no connection to amqp://u@127.0.0.1:1/", r.out)
    assert.is_nil((r.out .. r.err):find("secret", 1, true))
  end)

  it("prints its result as JSON", function()
    local r = check { "--json" }
    local value = assert(json.decode(r.out))
    assert.are.equal("critical", value.status)
    assert.are.equal("busy", value.queues[1].queue)
    assert.are.equal(1001, value.queues[1].unacked)
    assert.are.equal("unacked", value.queues[1].findings[1].metric)
  end)

  it("writes alerting rules for Prometheus, without a broker", function()
    local r = command.run { "check", "--topology", file, "--rules", "plugin", "--url", "amqp://127.0.0.1:1/shop" }
    assert.are.equal(0, r.code)
    assert.matches([[expr: "sum(rabbitmq_queue_messages_ready{vhost=\"shop\",queue=\"deep\"}) > 10"]], r.out, 1, true)
    assert.matches([[sum(rabbitmq_queue_messages_unacked{vhost=\"shop\",queue=\"busy\"}) > 1000]], r.out, 1, true)
    assert.is_nil(r.out:find([[rabbitmq_queue_consumers{vhost=\"shop\",queue=\"dead.deep\"}]], 1, true))
    r = command.run { "check", "--topology", file, "--rules", "exporter" }
    assert.matches([[rabbitmq_queue_messages_unacknowledged{vhost=\"/\",queue=\"busy\"}]], r.out, 1, true)
  end)

  describe("and its learnt baseline", function()
    local state

    local function sample() return check { "--queue", "dead.deep", "--state", state } end

    -- The file says that the last check was a minute ago.
    local function a_minute_later(change)
      local data = assert(json.decode(read(state)))
      local record = data.queues["dead.deep"]
      record.at = record.at - 60
      if change then change(record) end
      write(state, assert(json.encode(data)))
    end

    before_each(function() state = program.folder() .. "/deeper/state.json" end)

    it("learns from real traffic, and warns of a rate that was never so low", function()
      assert.are.equal(0, sample().code)
      assert(json.decode(read(state)).queues["dead.deep"].at)
      local before = tonumber(read(state):match('"published":(%d+)'))
      for _ = 1, 120 do assert(bus:publish_async("", "dead.deep", {})) end
      assert(bus:flush())
      local rate = 0
      wait_until(function()
        a_minute_later()
        local r = sample()
        -- The server takes its counts once a second, also in the midst of the 120: then they come in parts.
        rate = rate + (tonumber(r.out:match("'dead.deep rate'=([%d.]+);")) or 0)
        return tonumber(read(state):match('"published":(%d+)')) == before + 120, r.out
      end, 30, "the traffic is seen")
      assert.is_true(rate > 1 and rate < 2.01, rate)

      a_minute_later(function(record)
        record.streak, record.slots = 2, {}
        for hour = 0, 167 do record.slots["h" .. hour] = { n = 40, mean = 50, var = 4 } end
      end)
      local r = sample()
      assert.are.equal(1, r.code)
      assert.matches("^EVENTBUS WARNING %- dead%.deep: 0/s in, usually 30 to 70 at this hour", r.out)
      assert.matches("'dead.deep rate'=0;30:70;;0;", r.out, 1, true)
    end)

    it("puts a damaged file aside and begins anew", function()
      sample()
      write(state, '{"version":1,"queues":')
      local r = sample()
      assert.are.equal(0, r.code)
      assert.matches("the baseline is damaged; learning begins anew, the old file is ", r.out, 1, true)
      assert.are.equal('{"version":1,"queues":', read(state .. ".bad"))
      assert.is_table(json.decode(read(state)).queues["dead.deep"])
    end)

    it("leaves the file of another version alone", function()
      sample()
      write(state, '{"version":2}')
      local r = sample()
      assert.are.equal(0, r.code)
      assert.matches("it is neither used nor changed", r.out, 1, true)
      assert.are.equal('{"version":2}', read(state))
    end)

    it("says that a file cannot be kept, and checks the rest", function()
      local r = check { "--queue", "dead.deep", "--state", file .. "/no/folder.json" }
      assert.are.equal(0, r.code)
      assert.matches("the baseline cannot be", r.out, 1, true)
    end)
  end)
end)

describe("a baseline", function()
  local function fed(rates, record)
    record = record or {}
    local verdict
    for _, rate in ipairs(rates) do verdict = baseline.take(record, "h1", rate, { k = 4 }) end
    return verdict, record
  end

  local function steady(n, rate)
    local list = {}
    for i = 1, n do list[i] = rate * (i % 2 == 0 and 1.1 or 0.9) end
    return list
  end

  it("judges nothing before it has seen enough of this hour", function()
    local verdict, record = fed(steady(30, 10))
    assert.are.equal("learning", verdict.state)
    assert.are.equal("usual", fed({ 10 }, record).state)
    assert.are.equal("learning", baseline.take(record, "h2", 1000, { k = 4 }).state)
  end)

  it("alerts when the traffic stays away for three samples, not for one", function()
    local _, record = fed(steady(60, 10))
    assert.is_false(fed({ 0 }, record).alert)
    assert.is_false(fed({ 10 }, record).alert)
    assert.is_false(fed({ 0, 0 }, record).alert)
    local verdict = fed({ 0 }, record)
    assert.are.equal("low", verdict.state)
    assert.is_true(verdict.alert)
    assert.is_true(fed({ 0, 0, 100, 100, 100 }, record).alert)
  end)

  it("does not alert on a breath where nothing ever varied", function()
    local _, record = fed(steady(0, 0))
    for _ = 1, 60 do fed({ 10 }, record) end
    assert.are.equal("usual", fed({ 11 }, record).state)
    record = {}
    for _ = 1, 60 do fed({ 0 }, record) end
    assert.are.equal("usual", fed({ 1 / 60 }, record).state)
  end)

  it("takes a lasting change for the rule in time", function()
    local _, record = fed(steady(60, 10))
    local samples = 0
    repeat samples = samples + 1 until fed({ 30 }, record).state == "usual" or samples > 2000
    assert.is_true(samples > 3 and samples < 200, samples .. " samples")
  end)

  it("reckons the rate between two checks, and none over a restart, a pause or a moment", function()
    local record = {}
    assert.are.same({ nil, "first" }, { baseline.rate(record, 1000, 50) })
    assert.are.equal(2, (baseline.rate(record, 1060, 170)))
    assert.are.same({ nil, "soon" }, { baseline.rate(record, 1070, 180) })
    assert.are.equal(1, (baseline.rate(record, 1120, 230)))
    assert.are.same({ nil, "reset" }, { baseline.rate(record, 1180, 5) })
    assert.are.same({ nil, "gap" }, { baseline.rate(record, 1180 + 90000, 50) })
    assert.are.same({ nil, "gap" }, { baseline.rate(record, 500, 60) })
  end)

  it("knows the hours of a week apart", function()
    assert.are.equal("h0", baseline.slot { wday = 1, hour = 0 })
    assert.are.equal("h167", baseline.slot { wday = 7, hour = 23 })
  end)
end)
