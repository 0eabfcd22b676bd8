-- eventbus dlq, as a person at a terminal and a script use it.

local broker = require "spec.support.broker"
local command = require "spec.support.command"
local eventbus = require "eventbus"
local terminal = require "eventbus.cli.terminal"
local wait_until = require("spec.support.wait").wait_until

-- The largest that this Lua counts to, and a float does not on one with integers.
local BIG = math.type and "9007199254740993" or "9007199254740991"

local DLQ, WORK = "deadletter.work", "work"

local TOPOLOGY = {
  exchanges = { orders = { type = "topic" } },
  queues = { [WORK] = { bindings = { { exchange = "orders", routing_key = "order.#" } } }, [DLQ] = {}, parked = {} },
}

local function count(bus, queue) return eventbus.assert(bus:queue_info(queue)).messages end

-- Dead letters as this library leaves them, numbered by data.n.
local function fill(bus, from, to, more)
  for n = from, to do
    local headers = { ["x-eventbus-reason"] = "failed", ["x-eventbus-error"] = "no answer from 10.0.0." .. n % 7,
      ["x-eventbus-exchange"] = "orders", ["x-eventbus-routing-key"] = "order.created", ["x-eventbus-queue"] = WORK,
      ["x-eventbus-attempt"] = 4, ["x-eventbus-last-failure"] = "2024-01-15T10:30:00.000Z", mine = "kept" }
    for name, value in pairs(more or {}) do headers[name] = value end
    eventbus.assert(bus:publish_async("", "order.created", { n = n }, { routing_key = DLQ, headers = headers,
      id = "evt_" .. n, tenant_id = n % 2 == 0 and "even" or "odd" }))
  end
  eventbus.assert(bus:flush())
end

-- How often each event of a queue is in it, by id; and the last event with its headers.
local function drain(bus, queue)
  local total, seen, list = 0, {}, {}
  local subscription = eventbus.assert(bus:subscribe(queue, function(event, ctx)
    total = total + 1
    seen[event.id] = (seen[event.id] or 0) + 1
    if #list < 100 then list[#list + 1] = { event = event, headers = ctx.headers } end
  end, { prefetch = 500, retry = false, dead_letter = false }))
  wait_until(function()
    bus:poll(0.2, 1000)
    return count(bus, queue) == 0 and bus:poll(0.2) == 0
  end, 60, queue .. " is drained")
  subscription:cancel()
  local distinct = 0
  for _ in pairs(seen) do distinct = distinct + 1 end
  return { total = total, distinct = distinct, seen = seen, list = list }
end

describe("eventbus dlq", function()
  local b, url, vhost, bus

  local function dlq(...)
    return command.run({ "dlq", ... }, { env = { RABBITMQ_URL = url } })
  end

  setup(function() b = broker.shared() end)

  before_each(function()
    url, vhost = b:new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, log = false })
    eventbus.assert(bus:declare(TOPOLOGY))
  end)

  after_each(function()
    bus:close()
    b:delete_vhost(vhost)
  end)

  it("list counts the queues and groups what failed alike", function()
    fill(bus, 1, 14)
    fill(bus, 15, 16, { ["x-eventbus-error"] = "out of stock", ["x-eventbus-reason"] = "rejected" })
    local r = dlq("list", DLQ)
    assert.are.equal(0, r.code, r.err)
    assert.matches("deadletter%.work +16 +0 +%d+ d", r.out)
    assert.matches("14  failed +order%.created  work +%d+ d +no answer from %*%.%*%.%*%.%*", r.out)
    assert.matches("2  rejected", r.out)
    local value = eventbus.json.decode(dlq("list", DLQ, "--json").out)
    assert.are.equal(16, value.queues[1].messages)
    assert.are.equal(14, value.queues[1].groups[1].count)
    assert.are.equal(16, count(bus, DLQ))
  end)

  it("list without a queue takes those of the topology that exist", function()
    local file = require("spec.support.program").folder() .. "/topology.lua"
    local handle = assert(io.open(file, "w"))
    handle:write("return { queues = { work = {}, other = {} } }")
    handle:close()
    local r = dlq("list", "--topology", file)
    assert.are.equal(0, r.code, r.err)
    assert.matches("deadletter.work", r.out, 1, true)
    assert.is_nil(r.out:find("other", 1, true))
  end)

  it("show takes nothing, in order, with event, headers and history", function()
    fill(bus, 1, 12)
    local r = dlq("show", DLQ, "--json", "--limit", "12")
    assert.are.equal(0, r.code, r.err)
    local n = 0
    for line in r.out:gmatch("[^\n]+") do
      n = n + 1
      local letter = assert(eventbus.json.decode(line))
      assert.are.equal(n, letter.event.data.n)
      assert.are.equal("kept", letter.headers.mine)
      assert.are.equal("orders", letter.exchange)
      assert.are.equal(4, letter.attempts)
    end
    assert.are.equal(12, n)
    wait_until(function() return count(bus, DLQ) == 12 end, 30, "all are back")
    local pretty = dlq("show", DLQ, "evt_7")
    assert.matches("evt_7  order.created  failed after 4 attempts", pretty.out, 1, true)
    assert.matches("no answer from 10.0.0.0", pretty.out, 1, true)
    assert.are.equal(1, dlq("show", DLQ, "evt_99").code)
  end)

  it("list says that it could not look into a queue, and does not end well (it did)", function()
    fill(bus, 1, 3)
    local other = eventbus.assert(eventbus.connect { url = url, log = false })
    finally(function() other:close() end)
    eventbus.assert(other:declare { queues = { busy = {} } })
    for _ = 1, 2 do eventbus.assert(other:publish("", "busy", {})) end
    eventbus.assert(other:subscribe("busy", print, { exclusive = true, prefetch = 1, retry = false, dead_letter = false }))
    local r = dlq("list", "busy", DLQ)
    assert.are.equal(1, r.code)
    assert.matches("cannot look into busy: [^\n]*exclusive", r.err)
    assert.matches("deadletter%.work +3 ", r.out)
    assert.matches("3  failed +order%.created", r.out)
    r = dlq("list", "busy", "--json")
    assert.are.equal(1, r.code)
    assert.matches("exclusive", eventbus.json.decode(r.out).queues[1].error, 1, true)
  end)

  it("show says so when the disk is full, and everything goes back", function()
    fill(bus, 1, 50)
    local program = require "spec.support.program"
    local path = program.folder()
    local script = assert(io.open(path .. "/full.sh", "w"))
    script:write(("%s bin/eventbus dlq show %s --json --limit 50 >/dev/full 2>%s/err; echo $? >%s/code")
      :format(program.lua(), DLQ, path, path))
    script:close()
    os.execute(("RABBITMQ_URL='%s' LUA_PATH='%s' LUA_CPATH='%s' sh %s/full.sh"):format(url, package.path, package.cpath,
      path))
    assert.are.equal("1", io.open(path .. "/code"):read("*l"))
    assert.matches("cannot write the output: No space left on device", io.open(path .. "/err"):read("*a"), 1, true)
    wait_until(function() return count(bus, DLQ) == 50 end, 30, "all are back")
  end)

  it("replay sends back to the exchange as it was, attempts anew, one replay more", function()
    fill(bus, 1, 5)
    local r = dlq("replay", DLQ)
    assert.are.equal(0, r.code, r.err)
    assert.matches("5 of 5 replayed, 0 stay in deadletter.work", r.out, 1, true)
    local got = drain(bus, WORK)
    assert.are.equal(5, got.distinct)
    local first = got.list[1]
    assert.are.same({ n = 1 }, first.event.data)
    assert.are.equal("evt_1", first.event.id)
    assert.are.same({ mine = "kept", tenant_id = "odd", ["x-eventbus-replays"] = 1 }, first.headers)
  end)

  it("replay takes what is selected, and the others stay in their order", function()
    fill(bus, 1, 20)
    local r = dlq("replay", DLQ, "--where", 'tenant == "even" and data.n > 4', "--type", "order.*", "--limit", "3")
    assert.matches("3 of 20 replayed, 17 stay", r.out, 1, true)
    assert.are.equal(0, r.code, r.err)
    local got = drain(bus, WORK)
    assert.are.same({ evt_6 = 1, evt_8 = 1, evt_10 = 1 }, got.seen)
    local order = {}
    for line in dlq("show", DLQ, "--json", "--limit", "20").out:gmatch("[^\n]+") do
      order[#order + 1] = eventbus.json.decode(line).event.data.n
    end
    assert.are.same({ 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 }, order)
  end)

  it("replay --dry-run, --id, --to-queue", function()
    fill(bus, 1, 3)
    eventbus.assert(bus:declare { queues = { second = { bindings = { { exchange = "orders", routing_key = "#" } } } } })
    assert.matches("3 of 3 would be replayed", dlq("replay", DLQ, "--dry-run").out, 1, true)
    assert.are.equal(0, count(bus, WORK))
    wait_until(function() return count(bus, DLQ) == 3 end, 30, "all are back")
    assert.are.equal(0, dlq("replay", DLQ, "--id", "evt_2", "--to-queue").code)
    assert.are.same({ evt_2 = 1 }, drain(bus, WORK).seen)
    assert.are.equal(0, count(bus, "second"))
  end)

  it("what no queue takes, and what came from nowhere, stays and is said", function()
    fill(bus, 1, 2, { ["x-eventbus-routing-key"] = "invoice.created" })
    fill(bus, 3, 3, { ["x-eventbus-exchange"] = "gone" })
    eventbus.assert(bus:publish("", "strange", {}, { routing_key = DLQ, id = "evt_strange" }))
    fill(bus, 5, 5)
    local r = dlq("replay", DLQ)
    assert.are.equal(1, r.code)
    assert.matches("1 of 5 replayed, 4 stay", r.out, 1, true)
    assert.matches("2 stayed: no queue of exchange 'orders' is bound for 'invoice.created' %(evt_1, evt_2%)", r.err)
    assert.matches("1 stayed: NOT_FOUND .*'gone'.*%(evt_3%)", r.err)
    assert.matches("nobody wrote down where it was first published (evt_strange)", r.err, 1, true)
    wait_until(function() return count(bus, DLQ) == 4 end, 30, "they are back")
  end)

  it("what the broker dead-lettered goes back by its x-death", function()
    local bindings = { { exchange = "orders", routing_key = "slow.*" } }
    eventbus.assert(bus:declare { queues = { short = { message_ttl = 1, bindings = bindings,
      dead_letter = { exchange = "", routing_key = DLQ } } } })
    eventbus.assert(bus:publish("orders", "slow.event", { big = tonumber(BIG) }))
    wait_until(function() return count(bus, DLQ) == 1 end, 30, "it expired")
    local letter = eventbus.json.decode(dlq("show", DLQ, "--json").out)
    assert.are.same({ "expired", "short", "orders", "slow.event" },
      { letter.reason, letter.queue, letter.exchange, letter.routing_key })
    eventbus.assert(bus:delete_queue("short"))
    eventbus.assert(bus:declare { queues = { short = { bindings = bindings } } })
    local r = dlq("replay", DLQ)
    assert.are.equal(0, r.code, r.err)
    local got = drain(bus, "short").list[1]
    assert.are.equal('{"big":' .. BIG .. '}', eventbus.json.encode(got.event.data))
    assert.is_nil(got.headers["x-death"])
  end)

  it("what fails again meanwhile is not taken again", function()
    fill(bus, 1, 50, { ["x-eventbus-exchange"] = "", ["x-eventbus-routing-key"] = "loop" })
    eventbus.assert(bus:declare { queues = { loop = { message_ttl = 0,
      dead_letter = { exchange = "", routing_key = DLQ } } } })
    local r = dlq("replay", DLQ)
    assert.are.equal(0, r.code, r.err)
    assert.matches("50 of 50 replayed", r.out, 1, true)
    wait_until(function() return count(bus, DLQ) == 50 end, 30, "they have failed again")
    local letter = eventbus.json.decode(dlq("show", DLQ, "--json", "--limit", "1").out)
    assert.are.equal(1, letter.replays)
  end)

  it("move keeps what is known of a letter", function()
    fill(bus, 1, 3)
    local r = dlq("move", DLQ, "parked", "--where", "data.n ~= 2")
    assert.are.equal(0, r.code, r.err)
    assert.matches("2 of 3 moved to parked, 1 stay", r.out, 1, true)
    local letter = eventbus.json.decode(dlq("show", "parked", "--json", "--limit", "1").out)
    assert.are.same({ "failed", 4, "work", "orders" }, { letter.reason, letter.attempts, letter.queue, letter.exchange })
    assert.are.equal(0, dlq("replay", "parked").code)
    assert.are.same({ evt_1 = 1, evt_3 = 1 }, drain(bus, WORK).seen)
    local missing = dlq("move", DLQ, "nowhere")
    assert.are.equal(1, missing.code)
    assert.matches("no queue 'nowhere'", missing.err, 1, true)
    assert.are.equal(2, dlq("move", DLQ, DLQ).code)
  end)

  it("purge asks, and removes only what is selected", function()
    fill(bus, 1, 10)
    local r = dlq("purge", DLQ)
    assert.are.equal(1, r.code)
    assert.matches("--yes", r.err, 1, true)
    assert.are.equal(10, count(bus, DLQ))
    r = dlq("purge", DLQ, "--yes", "--where", "data.n <= 4")
    assert.are.equal(0, r.code, r.err)
    assert.matches("4 of 10 removed, 6 stay", r.out, 1, true)
    wait_until(function() return count(bus, DLQ) == 6 end, 30, "six are left")
    assert.matches("6 of 6 removed", dlq("purge", DLQ, "--yes").out, 1, true)
    assert.are.equal(0, count(bus, DLQ))
  end)

  it("purge on a terminal shows what it would remove; no answer is no", function()
    fill(bus, 1, 3)
    local text, code = command.pty({ "dlq", "purge", DLQ }, { env = { RABBITMQ_URL = url } })
    assert.matches("no answer from", text, 1, true)
    assert.matches("Remove 3 of 3 messages", text, 1, true)
    assert.are.equal(1, code)
    wait_until(function() return count(bus, DLQ) == 3 end, 30, "all are back")
  end)

  describe("purge, while letters come in,", function()
    local deadletters = require "eventbus.deadletters"
    local question = require "eventbus.cli.question"
    local browse, possible, ask = deadletters.browse, question.possible, question.ask

    -- Between its look and the removal `n` come in; to what it asks the answer is yes. All it said.
    local function purge(n, ...)
      local said = {}
      finally(function() deadletters.browse, question.possible, question.ask = browse, possible, ask end)
      question.possible = function() return true end
      question.ask = function(_, text)
        said[#said + 1] = text .. "\n"
        return true
      end
      deadletters.browse = function(...)
        local result, err = browse(...)
        fill(bus, 100, 99 + n)
        return result, err
      end
      local out = terminal.new({ flush = function() return true end,
        write = function(_, ...)
          said[#said + 1] = table.concat { ... }
          return true
        end })
      local args = require("eventbus.cli").parser():parse { "dlq", "purge", DLQ, "--url", url, ... }
      assert.are.equal(0, require("eventbus.cli.command.dlq").run(args, { out = out, err = terminal.new(io.tmpfile()) }))
      return table.concat(said)
    end

    it("removes none when there was none to ask about (it removed those)", function()
      assert.are.equal("0 of 0 removed, 0 stay in deadletter.work\n", purge(3))
      assert.are.equal("0 of 3 removed, 3 stay in deadletter.work\n", purge(3, "--where", "data.n > 200"))
      assert.are.equal(6, count(bus, DLQ))
    end)

    it("removes as many as it asked about, whatever --limit allows", function()
      fill(bus, 1, 2)
      local text = purge(3, "--limit", "10")
      assert.matches("Remove 2 of 2 messages of deadletter.work for good?", text, 1, true)
      assert.matches("2 of 5 removed, 3 stay", text, 1, true)
      assert.are.equal(3, count(bus, DLQ))
    end)
  end)

  it("a predicate that fails on the third stops cleanly and loses nothing", function()
    fill(bus, 1, 2)
    eventbus.assert(bus:publish("", "bare", eventbus.json.null, { routing_key = DLQ, id = "evt_3" }))
    fill(bus, 4, 6)
    local r = dlq("replay", DLQ, "--where", "data.n > 0")
    assert.are.equal(1, r.code)
    assert.matches("message 3 (evt_3): --where 'data.n > 0': attempt to index", r.err, 1, true)
    wait_until(function() return count(bus, DLQ) + count(bus, WORK) == 6 end, 30, "all are somewhere")
    local bad = dlq("replay", DLQ, "--where", "data.n >")
    assert.are.equal(2, bad.code)
    bad = dlq("replay", DLQ, "--where", "tennant == 'a'")
    assert.matches('there is no tennant; did you mean "tenant"?', bad.err, 1, true)
  end)

  it("a name that there is not is a mistake also where there is no letter to look at", function()
    local bad = dlq("show", DLQ, "--where", "tennant == 'a'")
    assert.are.equal(2, bad.code)
    assert.matches('there is no tennant; did you mean "tenant"?', bad.err, 1, true)
    for _, good in ipairs { "type == 'tennant' and data.tennant == nil", 'tostring(attempts) .. "" == "3"',
      "data['x'] ~= 0x1F",
      "#({ tennant = 1 }) == 1e3", "headers.a:find('\\'tennant')" } do
      local r = dlq("show", DLQ, "--where", good)
      assert.are.equal(0, r.code, good .. ": " .. r.err)
    end
  end)

  it("says which queue there is not", function()
    local r = dlq("show", "nonesuch")
    assert.are.equal(1, r.code)
    assert.matches("no queue 'nonesuch'", r.err, 1, true)
    assert.matches("eventbus dlq list", r.err, 1, true)
  end)

  it("replays 10,000 through kill -9 and Ctrl-C, none lost", function()
    local N = 10000
    fill(bus, 1, N)
    -- Those that are ended have seconds of work left then, however late the signal comes.
    local function replay(rate)
      return command.start({ "dlq", "replay", DLQ, "--rate", rate }, { RABBITMQ_URL = url })
    end
    -- Not counted before the broker has ended what the command had: copies that it still takes out of a dead connection
    -- make the sum N too while their letters are not back.
    local connections = b:connections(vhost)
    local function settled()
      local before = count(bus, WORK)
      local letters = b:queue(vhost, DLQ)
      return b:connections(vhost) == connections and letters.consumers == 0 and letters.messages_unacknowledged == 0
        and count(bus, WORK) == before, ("%d and %d"):format(letters.messages, before)
    end
    local p = replay "1000/s"
    wait_until(function() return count(bus, WORK) >= 2000 end, 60, "some are replayed")
    p:signal "KILL"
    assert.are.equal(137, p:wait(20))
    wait_until(settled, 60, "the others are back")
    local killed, back = count(bus, WORK), count(bus, DLQ)
    assert.is_true(killed + back >= N, killed .. " and " .. back)
    assert.is_true(back > 0, "the kill came too late to show anything")
    p = replay "1000/s"
    wait_until(function() return count(bus, WORK) >= killed + 2000 end, 60, "some more are replayed")
    p:signal "INT"
    assert.are.equal(130, p:wait(20), p:output())
    assert.matches("interrupted: nothing is lost", p:output(), 1, true)
    wait_until(settled, 60, "the others are back")
    local interrupted = count(bus, WORK)
    assert.are.equal(killed + back, count(bus, DLQ) + interrupted)
    assert.is_true(count(bus, DLQ) > 0, "Ctrl-C came too late to show anything")
    p = replay "1000000/s"
    assert.are.equal(0, p:wait(120), p:output())
    local got = drain(bus, WORK)
    assert.are.equal(0, count(bus, DLQ))
    assert.are.equal(N, got.distinct)
    -- What was confirmed and not acknowledged at the kill: never more than were under way.
    assert.are.equal(killed + back - N, got.total - N)
    assert.is_true(got.total - N <= 1500, tostring(got.total - N))
    print(("\n  10,000 dead letters: kill -9 after %d, Ctrl-C after %d, then to the end: 0 lost, %d twice with the same id")
      :format(killed, interrupted, got.total - N))
  end)
end)

describe("eventbus dlq replay", function()
  -- A broker that is killed forgets acks it has not written; one that is stopped does not.
  it("outlives a broker that is stopped, one that is killed, and goes on when it is back", function()
    local b = broker.new()
    finally(function() b:stop() end)
    local N = 2000
    local bus = eventbus.assert(eventbus.connect { url = b.url, log = false })
    eventbus.assert(bus:declare(TOPOLOGY))
    fill(bus, 1, N)
    -- A slow machine starts a broker in more than the half minute that it would wait.
    local p = command.start({ "dlq", "replay", DLQ, "--rate", "150/s", "--timeout", "120s" }, { RABBITMQ_URL = b.url })
    -- The node is asked, for our own connection may come back later than the command's, and find all done.
    local function replayed(n) return function() return b:queue("/", WORK).messages >= n end end
    wait_until(replayed(300), 60, "some are replayed")
    b:halt()
    b:start()
    wait_until(replayed(600), 60, "some more are replayed")
    assert.is_false(p:ended(), p:output())
    b:kill()
    b:start()
    assert.are.equal(0, p:wait(120), p:output())
    wait_until(function() return count(bus, DLQ) == 0 end, 20, "nothing is left")
    local got = drain(bus, WORK)
    bus:close()
    assert.are.equal(N, got.distinct)
    print(("\n  2,000 dead letters through a stopped broker and a killed one: 0 lost, %d twice with the same id")
      :format(got.total - N))
  end)
end)

describe("a letter as JSON", function()
  local json = require("eventbus.cli.letters").json

  it("is JSON whatever is in it: numbers that JSON has no words for, bytes that are no text", function()
    local value = { huge = math.huge, least = -math.huge, none = 0 / 0, list = { 0 / 0, 1 }, empty = eventbus.json.array {},
      bytes = "a\255b", null = eventbus.json.null, n = 1.5 }
    assert.are.equal('{"bytes":"a\239\191\189b","empty":[],"huge":"inf","least":"-inf","list":["nan",1],"n":1.5,'
      .. '"none":"nan","null":null}', json(value))
  end)
end)
