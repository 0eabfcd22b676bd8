-- eventbus tail: what somebody who looks on is promised, and what everybody else is.

local broker = require "spec.support.broker"
local command = require "spec.support.command"
local eventbus = require "eventbus"
local eventline = require "eventbus.cli.eventline"
local json = require "eventbus.json"
local program = require "spec.support.program"
local text = require "eventbus.cli.text"
local wait_until = require("spec.support.wait").wait_until

-- The largest that this Lua counts to, and a float does not on one with integers.
local BIG = math.type and "9007199254740993" or "9007199254740991"

local TOPOLOGY = {
  exchanges = { orders = { type = "topic" }, payments = { type = "topic" } },
  queues = { theirs = { bindings = { { exchange = "orders", routing_key = "#" } } } },
}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

local function lines_of(output)
  local list = {}
  for line in output:gmatch("([^\r\n]+)\r*\n") do list[#list + 1] = line end
  return list
end

describe("eventbus tail", function()
  local b, url, vhost, bus, env
  local started = {}

  setup(function()
    b = broker.shared()
    url, vhost = b:new_vhost()
    env = { RABBITMQ_URL = url, LC_ALL = "C.UTF-8" }
    bus = assert(eventbus.connect { url = url, source = "spec", log = false })
    assert(bus:declare(TOPOLOGY))
  end)

  -- A test that failed leaves its tail behind, stopped perhaps, and not known to whoever reaps the shell.
  after_each(function()
    for _, one in ipairs(started) do
      local known = pcall(read, one.folder .. "/pid")
      if known and not one.code() then
        one.signal "KILL"
        wait_until(one.code, 20, "a tail that was left is gone")
      end
    end
    started = {}
  end)

  teardown(function()
    if bus then bus:close() end
  end)

  local function queues()
    return tonumber(b:eval(("length([Q || Q <- rabbit_amqqueue:list(<<\"%s\">>)])"):format(vhost)))
  end

  -- Starts it with its two streams apart, and waits until the broker has its queue and its consumer.
  local function start(arguments, environment)
    local folder = program.folder()
    local words = command.words { "tail" }
    for _, word in ipairs(arguments) do words[#words + 1] = word end
    for i, word in ipairs(words) do words[i] = "'" .. word:gsub("'", "'\\''") .. "'" end
    local given = {}
    for name, value in pairs(env) do given[name] = value end
    for name, value in pairs(environment or {}) do given[name] = value end
    local reader = given.READER or "cat"
    local before = queues()
    -- The pid is that of the command, for signals.
    local self = { folder = folder, program = program.start("tail", { "sh", "-c",
      ("{ sh -c 'echo $$ >%s/pid; exec \"$@\"' sh %s 2>%s/err; echo $? >%s/code; } | %s >%s/out"):format(folder,
        table.concat(words, " "), folder, folder, reader, folder) }, given) }
    started[#started + 1] = self
    function self.out() return read(folder .. "/out") end
    function self.err() return read(folder .. "/err") end
    function self.signal(name) os.execute(("kill -%s %s"):format(name, read(folder .. "/pid"):match("%d+"))) end
    function self.code()
      local file = io.open(folder .. "/code")
      local code = file and tonumber(file:read("*l"))
      if file then file:close() end
      return code
    end
    function self.ended(seconds)
      local code = wait_until(self.code, seconds or 20, "tail ends")
      -- Its reader, too: what tail has written is in the file then.
      assert(self.program:wait(20), "the reader of tail's output ends")
      return code
    end
    wait_until(function()
      return queues() > before and b:eval(([[lists:all(fun(Q) -> [{consumers, N}] = rabbit_amqqueue:info(Q, [consumers]),
        N > 0 orelse element(4, amqqueue:get_name(Q)) =:= <<"theirs">> end, rabbit_amqqueue:list(<<"%s">>))]]):format(vhost))
        == "true"
    end, 20, "the tail watches")
    return self
  end

  local function order(data, options)
    return assert(bus:publish("orders", "order.created", data, options))
  end

  it("shows each event on a line, cut to the width, and takes nothing from anybody", function()
    bus:purge("theirs")
    local t = start({ "--count", "3" })
    order({ total = 12.5, note = "Ціна" }, { tenant_id = "tenant_abc" })
    order { text = ("long "):rep(100) }
    assert(bus:publish("payments", "payment.failed", { n = 9007199254740993 }))
    assert.are.equal(0, t.ended())
    local lines = lines_of(t.out())
    assert.matches('^%d%d:%d%d:%d%d order.created +tenant_abc +{"note":"Ціна","total":12.5}$', lines[1])
    assert.matches("long .*…$", lines[2])
    assert.are.equal(120, text.width(lines[2]))
    assert.matches("payment.failed +%-", lines[3])
    assert.are.equal(2, b:queue(vhost, "theirs").messages)
    wait_until(function() return queues() == 1 end, 20, "its queue is gone")
  end)

  it("with --json prints envelopes as they came, one a line", function()
    local t = start { "--json", "--count", "2", "order.*" }
    local id = order { chat = tonumber(BIG) }
    assert(bus:publish("payments", "payment.failed", {}))
    local spaced = '{\n "id": "x1", "type": "order.paid",\r\n "timestamp": "2024-01-15T10:30:00Z",\n "data": {}}'
    bus._hub.core:publish("orders", "order.paid", spaced, { content_type = "application/json" }, 10)
    assert.are.equal(0, t.ended())
    local lines = lines_of(t.out())
    assert.are.equal(2, #lines)
    assert.are.equal(id, assert(json.decode(lines[1])).id)
    assert.matches('"data":{"chat":' .. BIG .. '}', lines[1], 1, true)
    assert.are.equal((spaced:gsub("[\r\n]", " ")), lines[2])
  end)

  it("selects by pattern, tenant and predicate; a predicate that fails is told once and counted", function()
    local t = start { "order.#", "--tenant", "a", "--where", "data.total > 10 and headers.tenant_id == 'a'", "--json",
      "--count", "1" }
    order({ total = 11 }, { tenant_id = "b" })
    order({ total = 9 }, { tenant_id = "a" })
    order({}, { tenant_id = "a" })
    order({}, { tenant_id = "a" })
    local id = order({ total = 11 }, { tenant_id = "a" })
    assert.are.equal(0, t.ended())
    assert.are.equal(id, assert(json.decode(t.out())).id)
    local lines = lines_of(t.err())
    assert.are.equal(3, #lines)
    assert.are.equal("eventbus: no such exchange, left out: products, customers, notifications", lines[1])
    table.remove(lines, 1)
    assert.matches("%-%-where fails on evt_%S+ %(order.created%): .*compare", lines[1])
    assert.matches("1 event shown, --where failed on 2", lines[2], 1, true)
  end)

  it("ends after --for, and on Ctrl-C or SIGTERM says how far it got", function()
    local r = command.run({ "tail", "--for", "300ms" }, { env = env })
    assert.are.equal(0, r.code)
    assert.are.equal("", r.out)
    for signal, code in pairs { INT = 130, TERM = 143 } do
      local t = start {}
      order {}
      wait_until(function() return #t.out() > 0 end, 20, "the event is shown")
      t.signal(signal)
      assert.are.equal(code, t.ended())
      assert.matches("eventbus: 1 event shown", t.err(), 1, true)
    end
  end)

  it("shows what is no event as such", function()
    local t = start { "--count", "1" }
    local j = start { "--count", "1", "--json" }
    bus._hub.core:publish("orders", "order.odd", "no \27[31mJSON", { content_type = "application/json" }, 10)
    assert.are.equal(0, t.ended())
    assert.are.equal(0, j.ended())
    assert.matches("^%d%d:%d%d:%d%d malformed orders order.odd: .*no \\x1b%[31mJSON\n$", t.out())
    local value = assert(json.decode(j.out()))
    assert.are.equal("order.odd", value.malformed.routing_key)
    assert.are.equal("no \\x1b[31mJSON", value.malformed.body)
  end)

  it("whatever an event holds, sends the terminal nothing to obey", function()
    local t = command.terminal({ "tail", "--data", "--count", "1" }, { env = { RABBITMQ_URL = url, LC_ALL = "C.UTF-8",
      TERM = "xterm" } })
    wait_until(function() return t:output():find("Ctrl-C ends", 1, true) end, 20, "it watches")
    local evil = "\27]0;owned\7\27[2J\194\155 31m\226\128\174\127"
    assert(bus:publish("orders", "order." .. evil, { x = evil }, { tenant_id = evil, correlation_id = evil,
      routing_key = "order.evil" }))
    assert.matches("^0", t:ended(20))
    local shown = t:output():gsub("\27%[%d*m", "")
    assert.matches("order.\\x1b]0;owned\\a\\x1b[2J\\u{9b} 31m\\u{202e}\\x7f", shown, 1, true)
    assert.is_nil(shown:find("[\27\7\127]"))
    assert.is_nil(shown:find("\194\155", 1, true))
  end)

  it("goes on after the connection was lost, and says that events may be missing", function()
    local t = start { "--count", "2", "--json" }
    order { n = 1 }
    wait_until(function() return #t.out() > 0 end, 20, "the first event")
    b:close_connections("for the test", vhost)
    wait_until(function()
      return t.err():find("connected again; events published in between are missing", 1, true), t.err()
    end, 30, "it is back")
    wait_until(function()
      order { n = 2 }
      return t.code()
    end, 30, "an event of the new connection is shown")
    assert.are.equal(0, t.ended())
    assert.matches("the connection is lost, trying again", t.err(), 1, true)
    assert.are.equal(2, #lines_of(t.out()))
  end)

  it("leaves events out for a reader that stands still, counts them, and ends all the same", function()
    local t = start({ "payment.#", "--json" }, { READER = "sh -c 'read -r line; echo \"$line\"; sleep 60'" })
    for _ = 1, 4000 do assert(bus:publish_async("payments", "payment.initiated", { pad = ("x"):rep(1000) })) end
    assert(bus:flush())
    wait_until(function()
      return b:eval(([[lists:sum([begin [{messages, N}] = rabbit_amqqueue:info(Q, [messages]), N end ||
        Q <- rabbit_amqqueue:list(<<"%s">>), element(4, amqqueue:get_name(Q)) =/= <<"theirs">>])]]):format(vhost)) == "0"
    end, 30, "the broker has nothing left of it")
    t.signal "INT"
    wait_until(function() return t.err():find("shown", 1, true) end, 20, "it ends though nobody reads")
    local said = t.err()
    local shown, missed = said:match("(%d+) events shown, (%d+) left out: the reader was too slow")
    assert.is_truthy(missed, said)
    assert.are.equal(4000, tonumber(shown) + tonumber(missed))
    t.program:stop()
  end)

  it("says that the broker dropped events while it was stopped itself", function()
    local t = start { "--buffer", "100", "--json" }
    order {}
    wait_until(function() return #t.out() > 0 end, 20, "the event is shown")
    assert.is_nil(t.err():find("drops", 1, true))
    t.signal "STOP"
    for _ = 1, 500 do assert(bus:publish_async("orders", "order.created", {})) end
    assert(bus:flush())
    -- Longer than it looks at its queue; the broker waits for a stopped client much longer.
    require("spec.support.wait").sleep(3.5)
    t.signal "CONT"
    wait_until(function() return t.err():find("the broker drops its oldest events", 1, true), t.err() end, 20, "it is told")
    t.signal "TERM"
    t.ended()
    assert.is_true(#lines_of(t.out()) < 500)
  end)

  it("ends without a word when nobody reads any more", function()
    local t = start({ "--exchange", "orders" }, { READER = "head -n 1" })
    wait_until(function()
      order {}
      return t.code()
    end, 20, "it ends")
    assert.are.equal(141, t.code())
    assert.are.equal("", t.err())
  end)

  it("says what cannot be watched", function()
    local r = command.run({ "tail", "--exchange", "nowhere" }, { env = env })
    assert.are.equal(1, r.code)
    assert.matches("no exchange 'nowhere'", r.err, 1, true)
    r = command.run({ "tail", "--since", "1h" }, { env = env })
    assert.are.equal(2, r.code)
    assert.matches("--since is not possible: an exchange keeps no events that are past", r.err, 1, true)
    r = command.run({ "tail", "--where", "data.x >" }, { env = env })
    assert.are.equal(2, r.code)
    r = command.run({ "tail" }, { env = { RABBITMQ_URL = (b:new_vhost()) } })
    assert.are.equal(1, r.code)
    assert.matches("none of the platform's exchanges exists", r.err, 1, true)
    r = command.run({ "tail" }, { env = { RABBITMQ_URL = "amqp://u:secret@127.0.0.1:1" } })
    assert.are.equal(3, r.code)
    assert.is_nil(r.err:find("secret", 1, true))
  end)
end)

describe("an event's line", function()
  local look = { style = function(_, s) return s end, utf8 = true, width = 60 }

  it("is as wide as the window at most", function()
    local seen = { event = { id = "e", type = "a.b", tenant_id = ("t"):rep(80), data = { x = ("y"):rep(200) } },
      body = "", exchange = "x", routing_key = "k" }
    assert.are.equal(60, text.width(eventline.pretty(seen, "12:00:00", look)))
    seen = { problem = ("p"):rep(100), body = "", bytes = 0, exchange = "", routing_key = "" }
    assert.are.equal(60, text.width(eventline.pretty(seen, "12:00:00", look)))
  end)

  it("as JSON escapes for a terminal what JSON allows", function()
    local seen = { event = {}, body = '{"a":"\194\155\127"}' }
    assert.are.equal('{"a":"\\u009b\\u007f"}', eventline.json(seen, true))
    assert.are.equal(seen.body, eventline.json(seen, false))
  end)
end)
