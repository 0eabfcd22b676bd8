-- eventbus publish, as a person and a script use it.

local broker = require "spec.support.broker"
local command = require "spec.support.command"
local eventbus = require "eventbus"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

-- The largest that this Lua counts to, and a float does not on one with integers.
local BIG = math.type and "9007199254740993" or "9007199254740991"

local json = eventbus.json

describe("eventbus publish", function()
  local b, url, bus

  local function publish(...)
    return command.run({ "publish", ... }, { env = { RABBITMQ_URL = url } })
  end

  local function file_of(lines)
    local path = program.folder() .. "/events.jsonl"
    local file = assert(io.open(path, "w"))
    file:write(table.concat(lines, "\n"), "\n")
    file:close()
    return path
  end

  -- All that is in the queue, in order.
  local function taken()
    local list = {}
    local message = bus:get "all"
    while message do
      list[#list + 1] = { event = message:event(), headers = message:headers(), properties = message:properties(),
        key = message:routing_key(), body = message:body() }
      message:ack()
      message = bus:get "all"
    end
    return list
  end

  setup(function()
    b = broker.shared()
    url = b:new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, log = false })
    eventbus.assert(bus:declare { exchanges = { orders = { type = "topic" } },
      queues = { all = { bindings = { { exchange = "orders", routing_key = "order.#" } } } } })
  end)

  teardown(function() bus:close() end)
  before_each(function() bus:purge "all" end)

  it("sends one event with all it was told, and prints its id", function()
    local r = publish("orders", "order.created", '{"chat":-1001234567890123,"total":1000.0}', "--tenant", "tenant_abc",
      "--correlation", "req_1", "--source", "shell", "--header", "a=b=c", "--metadata", "version=1.0", "--priority", "3",
      "--mandatory")
    assert.are.equal(0, r.code, r.err)
    assert.matches("^evt_%S+\n$", r.out)
    local got = taken()
    assert.are.equal(1, #got)
    local event = got[1].event
    assert.are.equal(r.out, event.id .. "\n")
    assert.matches('"chat":%-1001234567890123[,}]', got[1].body)
    assert.matches(math.type and '"total":1000%.0[,}]' or '"total":1000[,}]', got[1].body)
    assert.are.same({ "tenant_abc", "req_1", "shell", "1.0" },
      { event.tenant_id, event.correlation_id, event.source, event.metadata.version })
    assert.are.same({ a = "b=c", tenant_id = "tenant_abc" }, got[1].headers)
    assert.are.equal(3, got[1].properties.priority)
  end)

  it("changes no integer: one that this Lua cannot keep is refused, with what to do", function()
    local r = publish("orders", "order.created", '{"n":99999999999999999999}')
    assert.are_not.equal(0, r.code)
    assert.matches(math.type and "beyond 64 bits; write it as a string" or "beyond 2%^53; Lua 5%.3 and later keep it", r.err)
  end)

  it("takes the payload from stdin and from a file; --count repeats with other ids", function()
    local r = command.run({ "publish", "orders", "order.paid", "-" }, { env = { RABBITMQ_URL = url }, input = '{"n":1}' })
    assert.are.equal(0, r.code, r.err)
    r = publish("orders", "order.paid", "@" .. file_of { '{"n":', "2}" }, "--count", "3", "--routing-key", "order.other")
    assert.are.equal(0, r.code, r.err)
    local got, ids = taken(), {}
    assert.are.equal(4, #got)
    for _, each in ipairs(got) do ids[each.event.id] = each.key end
    assert.are.equal("order.other", ids[got[4].event.id])
    assert.are.equal(1, got[1].event.data.n)
    assert.are.equal(2, got[4].event.data.n)
    assert.are_not.equal(got[3].event.id, got[4].event.id)
  end)

  it("refuses what cannot be meant, before anything is sent", function()
    local r = publish("orders", "order.created", '{"n": 1,\n x}')
    assert.are.equal(2, r.code)
    assert.matches("DATA: invalid JSON at line 2, column 2", r.err, 1, true)
    assert.are.equal(2, publish("orders").code)
    assert.are.equal(2, publish("orders", "order.created", "@/nonexistent").code)
    assert.are.equal(2, publish("orders", "--from", "/nonexistent").code)
    r = publish("orders", "order.created", '{"order_id": 1}', "--validate")
    assert.are.equal(1, r.code)
    assert.matches("order_id", r.err, 1, true)
    r = publish("orders", "order.created", "--header", "nothing")
    assert.are.equal(2, r.code)
    assert.are.equal(0, #taken())
  end)

  it("says what the broker did not take", function()
    local r = publish("orders", "invoice.created", "--mandatory")
    assert.are.equal(1, r.code)
    assert.matches("no queue of exchange 'orders' is bound for 'invoice.created'", r.err, 1, true)
    r = publish("nowhere", "order.created")
    assert.are.equal(1, r.code)
    assert.matches("no exchange 'nowhere'", r.err, 1, true)
  end)

  it("--from takes envelopes and parts of them, and names by line what failed", function()
    local path = file_of {
      '{"id":"evt_mine","type":"order.created","timestamp":"2024-01-15T10:30:00Z","data":{"n":' .. BIG .. '},'
        .. '"extra":[1]}',
      '', '{"data":{"n":2},"tenant_id":null}', '{"type":"invoice.created","data":{"n":3}}', '{"data":{"n":4}}' }
    local r = publish("orders", "order.paid", "--from", path, "--tenant", "t", "--mandatory")
    assert.are.equal(1, r.code)
    assert.matches("line 4: no queue of exchange 'orders'", r.err, 1, true)
    assert.matches("3 published, 1 failed", r.err, 1, true)
    local got = taken()
    assert.are.equal(3, #got)
    assert.are.equal("evt_mine\n" .. got[2].event.id .. "\n" .. got[3].event.id .. "\n", r.out)
    assert.are.same({ "2024-01-15T10:30:00Z", "order.created", "t" },
      { got[1].event.timestamp, got[1].event.type, got[1].event.tenant_id })
    assert.matches('"data":{"n":' .. BIG .. '},"extra":[1]}', got[1].body, 1, true)
    assert.are.same({ "order.paid", 2, "t" }, { got[2].event.type, got[2].event.data.n, got[2].event.tenant_id })
  end)

  it("stops at line 17 when that is no JSON, tells where, and --resume goes on once it is mended", function()
    local lines = {}
    for n = 1, 20 do lines[n] = ('{"data":{"n":%d}}'):format(n) end
    lines[17] = '{"data": oops}'
    local path = file_of(lines)
    local r = publish("orders", "order.paid", "--from", path, "--resume", "-q")
    assert.are.equal(1, r.code)
    assert.matches(path .. ": invalid JSON at line 17, column 10:", r.err, 1, true)
    assert.matches("16 published", r.err, 1, true)
    assert.are.equal(16, bus:queue_info("all").messages)
    lines[17] = '{"data":{"n":17}}'
    local file = assert(io.open(path, "w"))
    file:write(table.concat(lines, "\n"))
    file:close()
    r = publish("orders", "order.paid", "--from", path, "--resume", "-q")
    assert.are.equal(0, r.code, r.err)
    local got = taken()
    assert.are.equal(20, #got)
    for n = 1, 20 do assert.are.equal(n, got[n].event.data.n) end
    assert.is_nil(io.open(path .. ".progress"))
  end)

  it("says that it cannot read its stdin", function()
    for _, words in ipairs { { "-" }, { "--from", "-" } } do
      local r = command.run({ "publish", "orders", "order.paid", (table.unpack or unpack)(words) },
        { env = { RABBITMQ_URL = url }, stdin = "/" })
      assert.are.equal(words[2] and 1 or 2, r.code, r.err)
      assert.matches("cannot read [^\n]*: Is a directory", r.err)
    end
  end)

  it("--dry-run ends where it cannot read on (it went on for ever)", function()
    local r = command.run({ "publish", "orders", "order.paid", "--from", "-", "--dry-run" }, { stdin = "/", seconds = 60 })
    assert.are.equal(1, r.code)
    assert.matches("^eventbus: %-: [^\n]*cannot read on after line 0: Is a directory\n$", r.err)
  end)

  it("--start passes by what is no event before that line", function()
    local r = publish("orders", "order.paid", "--from", file_of { "oops", "", '{"data":3}', '{"data":4}' }, "--start", "3")
    assert.are.equal(0, r.code, r.err)
    local got = taken()
    assert.are.same({ 3, 4 }, { got[1].event.data, got[2].event.data })
    r = publish("orders", "order.paid", "--from", file_of { '{"data":1}' }, "--start", "3")
    assert.are.equal(0, r.code, r.err)
    assert.are.equal(0, #taken())
    r = publish("orders", "order.paid", "--from", file_of { '{"data":1}', "", "oops" }, "--start", "3")
    assert.are.equal(1, r.code)
    assert.matches("0 published\n[^\n]*%-%-start 3 goes on there", r.err)
  end)

  it("does not take a state that it cannot read for none (it published all again)", function()
    local path = file_of { '{"data":1}' }
    -- Root may read everything, but not what is nowhere.
    os.execute(("ln -s loop %s.progress && ln -s loop %sloop"):format(path, path:match "^.*/"))
    local r = publish("orders", "order.paid", "--from", path, "--resume", "-q")
    assert.are.equal(1, r.code)
    assert.matches("cannot read the state: [^\n]*symbolic links", r.err)
    assert.are.equal(0, #taken())
  end)

  it("does not take a state with something else in it", function()
    local path = file_of { '{"data":1}' }
    for _, change in ipairs { { "line", "1.5" }, { "offset", "-1" }, { "published", "null" }, { "failed", '"no"' } } do
      local state = '{"before":"","failed":0,"line":0,"offset":0,"published":0,"run":"evt_1"}'
      local file = assert(io.open(path .. ".progress", "w"))
      file:write((state:gsub('("' .. change[1] .. '":)0', "%1" .. change[2])))
      file:close()
      local r = publish("orders", "order.paid", "--from", path, "--resume", "-q")
      assert.are.equal(2, r.code, r.err)
      assert.matches("is not a state of eventbus publish", r.err, 1, true)
    end
  end)

  it("does not go on in a file that is another one", function()
    local path = file_of { '{"data":1}', "oops" }
    assert.are.equal(1, publish("orders", "order.paid", "--from", path, "--resume", "-q").code)
    local file = assert(io.open(path, "w"))
    file:write('{"data":7}\n{"data":8}\n')
    file:close()
    local r = publish("orders", "order.paid", "--from", path, "--resume", "-q")
    assert.are.equal(2, r.code)
    assert.matches("is not what it was up to line 1", r.err, 1, true)
  end)

  it("--dry-run prints the envelopes and all mistakes, without a broker", function()
    local path = file_of { '{"type":"order.created","data":{}}', "oops", '{"data":{"n":3}}',
      '{"type":"order.paid","data":{"n":4}}' }
    local r = command.run({ "publish", "orders", "--from", path, "--dry-run" },
      { env = { RABBITMQ_URL = "amqp://127.0.0.1:1" } })
    assert.are.equal(1, r.code)
    assert.matches("invalid JSON at line 2, column 1", r.err, 1, true)
    assert.matches("line 3: it has no type", r.err, 1, true)
    local types = {}
    for line in r.out:gmatch("[^\n]+") do types[#types + 1] = json.decode(line).type end
    assert.are.same({ "order.created", "order.paid" }, types)
  end)

  it("--from goes on after kill -9 and after Ctrl-C: none missing, repeated only with the same id", function()
    local N, lines = 6000, {}
    for n = 1, N do lines[n] = ('{"data":{"n":%d}}'):format(n) end
    local path = file_of(lines)
    -- Those that are ended have seconds of work left then, however late the signal comes.
    local function start(rate)
      return command.start({ "publish", "orders", "order.paid", "--from", path, "--resume", "-q", "--rate", rate },
        { RABBITMQ_URL = url })
    end
    local function count() return bus:queue_info("all").messages end
    local p = start "700/s"
    wait_until(function() return count() >= 700 end, 60, "some are published")
    p:signal "KILL"
    assert.are.equal(137, p:wait(20))
    local killed = count()
    p = start "700/s"
    wait_until(function() return count() >= killed + 700 end, 60, "some more are published")
    p:signal "INT"
    assert.are.equal(130, p:wait(20), p:output())
    assert.matches("the same command goes on there", p:output(), 1, true)
    p = start "1000000/s"
    assert.are.equal(0, p:wait(60), p:output())
    local total, by_n, ids, distinct = 0, {}, {}, 0
    for _, each in ipairs(taken()) do
      local n, id = each.event.data.n, each.event.id
      total = total + 1
      assert.is_true(by_n[n] == nil or by_n[n] == id, "another id for the same line")
      if not by_n[n] then distinct = distinct + 1 end
      assert.is_true(ids[id] == nil or ids[id] == n)
      by_n[n], ids[id] = id, n
    end
    assert.are.equal(N, distinct)
    print(("\n  6,000 lines through kill -9 and Ctrl-C: 0 lost, %d twice with the same id"):format(total - N))
  end)

  it("shows a progress bar on a terminal only", function()
    local lines = {}
    for n = 1, 300 do lines[n] = ('{"data":%d}'):format(n) end
    local path = file_of(lines)
    local text, code = command.pty({ "publish", "orders", "order.paid", "--from", path, "-q", "--rate", "400/s" },
      { env = { RABBITMQ_URL = url } })
    assert.are.equal(0, code, text)
    assert.matches("publishing %[#*%.*%] +%d+ %%", text)
    assert.matches("300 published", text, 1, true)
  end)

  -- A pipe with a name, which somebody writes a file to; and who does.
  local function pipe_of(path)
    local pipe = program.folder() .. "/pipe"
    os.execute("mkfifo " .. pipe)
    return pipe, program.start("writer", { "sh", "-c", 'exec cat "$1" >"$2"', "sh", path, pipe })
  end

  it("--from a pipe publishes all of it while somebody looks (it counted its lines, and nothing was left)", function()
    local lines = {}
    for n = 1, 300 do lines[n] = ('{"data":%d}'):format(n) end
    local pipe, writer = pipe_of(file_of(lines))
    finally(function() writer:stop() end)
    local text, code = command.pty({ "publish", "orders", "order.paid", "--from", pipe, "-q" },
      { env = { RABBITMQ_URL = url } })
    assert.are.equal(0, code, text)
    assert.matches("300 published", text, 1, true)
    local got = taken()
    assert.are.equal(300, #got)
    for n = 1, 300 do assert.are.equal(n, got[n].event.data) end
  end)

  it("--from a pipe that ends in no event says which line, and nothing of going on in it", function()
    local pipe, writer = pipe_of(file_of { '{"data":1}', "oops" })
    finally(function() writer:stop() end)
    local r = publish("orders", "order.paid", "--from", pipe, "-q")
    assert.are.equal(1, r.code)
    assert.matches("invalid JSON at line 2", r.err, 1, true)
    assert.matches("1 published", r.err, 1, true)
    assert.is_nil(r.err:find("goes on", 1, true))
  end)

  it("cannot go on in a pipe: --resume, --state and --start are for a file", function()
    for _, words in ipairs { { "--resume" }, { "--state", program.folder() .. "/state" }, { "--start", "2" } } do
      local pipe, writer = pipe_of(file_of { '{"data":1}', '{"data":2}' })
      finally(function() writer:stop() end)
      local r = publish("orders", "order.paid", "--from", pipe, (table.unpack or unpack)(words))
      writer:stop()
      assert.are.equal(2, r.code, r.err)
      assert.matches("is a pipe", r.err, 1, true)
    end
    assert.are.equal(0, #taken())
  end)
end)
