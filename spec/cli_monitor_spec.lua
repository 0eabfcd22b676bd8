-- eventbus monitor: what somebody who watches is promised, on a terminal and in a pipe.

local board = require "eventbus.cli.board"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local program = require "spec.support.program"
local text = require "eventbus.cli.text"
local wait_until = require("spec.support.wait").wait_until

local ENTER, LEAVE = "\27[?1049h", "\27[?1049l"

-- The last whole picture of a live view, as lines.
local function picture(output)
  local last
  for frame in output:gmatch("\27%[%?2026h\27%[H(.-)\27%[%?2026l") do last = frame end
  local lines = {}
  for line in ((last or ""):gsub("\27%[[%d;]*m", "") .. "\r\n"):gmatch("(.-)\r+\n") do lines[#lines + 1] = line end
  return lines
end

describe("eventbus monitor", function()
  local b, bus, env, vhost

  setup(function()
    b = broker.shared()
    local url
    url, vhost = b:new_vhost()
    env = { RABBITMQ_URL = url, RABBITMQ_MANAGEMENT_URL = b.management_url, LC_ALL = "C.UTF-8", TERM = "xterm" }
    bus = assert(eventbus.connect { url = url, log = false })
    assert(bus:declare(require("eventbus.platform").topology))
    for _ = 1, 7 do assert(bus:publish("orders", "order.shipped", {})) end
  end)

  teardown(function()
    if bus then bus:close() end
  end)

  it("prints one table, worst first, with the reasons", function()
    local r
    wait_until(function()
      r = command.run({ "monitor", "--once" }, { env = env })
      return r.out:match("notification.orders +7 +0 +0"), r.out
    end, 30, "the statistics are there")
    assert.are.equal(0, r.code)
    assert.is_true(r.out:find("CRIT +analytics.events") < r.out:find("CRIT +notification.orders"))
    assert.is_true(r.out:find("CRIT +telegram.notifications") < r.out:find("ok +deadletter.orders"))
    assert.matches("\nnotification.orders: no consumers\n", r.out, 1, true)
    assert.matches("▁", r.out, 1, true)
    assert.is_nil(r.out:find("\27", 1, true))
  end)

  it("draws with plain ASCII where the locale is not UTF-8", function()
    local r = command.run({ "monitor", "--once" }, { env = { RABBITMQ_URL = env.RABBITMQ_URL, LC_ALL = "C",
      RABBITMQ_MANAGEMENT_URL = env.RABBITMQ_MANAGEMENT_URL } })
    assert.is_nil(r.out:find("[\128-\255]"))
    assert.matches("telegram.notifications[ %d]+_", r.out)
  end)

  it("prints JSON, and never a false zero while events flow", function()
    local p = command.start({ "monitor", "--json", "--interval", "400ms" }, env)
    local rates, seen = {}, 0
    local function take()
      assert(bus:publish("payments", "payment.completed", {}))
      local n = 0
      for line in p:output():gmatch("([^\n]+)\n") do
        n = n + 1
        if n > seen then
          seen = n
          local value = assert(json.decode(line))
          for _, queue in ipairs(value.queues) do
            if queue.queue == "notification.payments" then rates[#rates + 1] = queue.rate_in end
          end
        end
      end
    end
    local first
    wait_until(function()
      take()
      first = first or (rates[#rates] and rates[#rates] > 0 and #rates)
      return first and #rates >= first + 12
    end, 60, "a dozen readings with traffic")
    p:stop()
    for i = first, #rates do assert.is_true(rates[i] > 0, "reading " .. i .. " of " .. table.concat(rates, " ")) end
  end)

  it("without the management API shows what AMQP tells, and what is missing", function()
    local arguments = { "monitor", "--once", "--management", "http://u:secret@127.0.0.1:1" }
    local r = command.run(arguments, { env = env })
    assert.are.equal(0, r.code)
    assert.matches("notification.orders +7 +%- +0 +%- +%-", r.out)
    assert.matches("without the management API: no unacknowledged counts, no rates: no answer", r.out, 1, true)
    assert.is_nil((r.out .. r.err):find("secret", 1, true))
    arguments[#arguments + 1] = "--all"
    assert.are.equal(3, command.run(arguments, { env = env }).code)
  end)

  it("shows all queues of the virtual host when asked", function()
    b:declare_queue(vhost, "somebody's \27[31mred")
    local r
    wait_until(function()
      r = command.run({ "monitor", "--once", "--all" }, { env = env })
      return r.out:find("ok +somebody's \\x1b%[31mred"), r.out
    end, 30, "the stranger's queue is listed, and not blamed for want of consumers")
    assert.matches("analytics.events", r.out, 1, true)
  end)

  it("ends with 3 when there is no broker at the start", function()
    local r = command.run { "monitor", "--url", "amqp://127.0.0.1:1", "--management", "http://127.0.0.1:1" }
    assert.are.equal(3, r.code)
    assert.are.equal("", r.out)
  end)

  it("on a terminal is a live view that fits it, moves, follows its size, and leaves it as it was", function()
    local count = 0
    for _ in pairs(require("eventbus.platform").topology.queues) do count = count + 1 end
    local t = command.terminal({ "monitor" }, { env = env })
    wait_until(function() return #picture(t:output()) == 24 end, 20, "the first picture")
    local lines = picture(t:output())
    for _, line in ipairs(lines) do assert.are.equal(80, text.width(line)) end
    assert.matches("^eventbus  amqp://guest@127.0.0.1", lines[1])
    assert.matches("QUEUE +READY UNACKED CONS +IN/S +OUT/S TREND", lines[2])
    assert.matches("^CRIT analytics.events", lines[3])
    assert.matches(("^analytics.events: no consumers +1%%-21 of %d, arrows move, q quits$"):format(count), lines[24])
    t:keys "\27[B"
    wait_until(function() return picture(t:output())[24]:find("^notification") end, 20, "the next row is chosen")
    t:keys "\27[F"
    wait_until(function()
      return picture(t:output())[24]:find(("^%d%%-%d of %d, arrows move, q quits"):format(count - 20, count, count))
    end, 20, "the last row is chosen")
    t:resize(60, 10)
    wait_until(function()
      local now = picture(t:output())
      return #now == 10 and text.width(now[1]) == 60
    end, 20, "the view fits the smaller window")
    t:keys "q"
    assert.are.equal("0, echo", t:ended(20))
    local output = t:output()
    assert.is_true(output:find(ENTER, 1, true) < output:find(LEAVE, 1, true))
    assert.is_nil(output:find(ENTER, output:find(LEAVE, 1, true), true))
  end)

  it("leaves the terminal as it was after Ctrl-C, SIGTERM and a hang-up", function()
    for _, how in ipairs { { keys = "\3", code = 130 }, { signal = "TERM", code = 143 }, { signal = "HUP", code = 129 } } do
      local t = command.terminal({ "monitor" }, { env = env })
      wait_until(function() return #picture(t:output()) == 24 end, 20, "the first picture")
      if how.keys then t:keys(how.keys) else t:signal(how.signal) end
      assert.are.equal(how.code .. ", echo", t:ended(20))
      assert.matches(LEAVE, t:output(), 1, true)
    end
  end)

  it("says that the broker is lost, and goes on when it is back", function()
    local own = broker.new { management = true }
    finally(function() own:stop() end)
    local folder = program.folder()
    local file = assert(io.open(folder .. "/t.lua", "w"))
    file:write "return { queues = { only = {} } }"
    file:close()
    local t = command.terminal({ "monitor", "--interval", "300ms", "--topology", folder .. "/t.lua", "--url", own.url,
      "--management", own.management_url })
    wait_until(function() return picture(t:output())[3] end, 20, "the first picture")
    assert.matches("only: does not exist", picture(t:output())[24], 1, true)
    own:kill()
    wait_until(function() return picture(t:output())[2]:find("nothing new since", 1, true) end, 20, "the loss is told")
    own:start()
    wait_until(function()
      return picture(t:output())[2]:find("QUEUE", 1, true)
    end, 40, "there is news again")
    t:keys "q"
    assert.are.equal("0, echo", t:ended(20))
  end)
end)

describe("the board", function()
  local function result(i, severity)
    return { gauge = { name = "queue.of.a.long.name." .. i, ready = i * 12345, unacked = 7, consumers = 1, rate_in = i,
      rate_out = 99999, trend = { 1, 2, 3 } }, limits = {},
      findings = severity and { { severity = severity, metric = "x", text = "too much of it" } } or {} }
  end

  it("fills every window exactly, also absurd ones", function()
    for _, utf8 in ipairs { true, false } do
      for width = 1, 120, 7 do
        for height = 1, 30 do
          local view = { title = "eventbus  Ціна", clock = "12:00:00", results = {}, cursor = 5, top = 3,
            note = height % 2 == 0 and "a note" or nil, trouble = height % 3 == 0 and "trouble" or nil }
          for i = 1, 24 do view.results[i] = result(i, i < 3 and "critical" or nil) end
          local lines = board.lines(view, width, height, { utf8 = utf8, style = function(_, s) return s end })
          assert.are.equal(height, #lines)
          for _, line in ipairs(lines) do assert.are.equal(width, text.width(line), line) end
        end
      end
    end
  end)

  it("keeps numbers in their columns", function()
    for _, n in ipairs { 0, 999, 1000, 99999, 999999, 1000000, 123456789, 1e12 } do
      assert.is_true(#board.count(n) <= 7, board.count(n))
      assert.is_true(#board.rate(n) <= 7, board.rate(n))
    end
    assert.are.equal("12,345", board.count(12345))
    assert.are.equal("1.2M", board.count(1234567))
    assert.are.equal("-", board.count(nil))
    assert.are.equal("<0.1", board.rate(0.01))
    assert.are.equal("0", board.rate(0))
  end)
end)

describe("text for a terminal", function()
  it("shows control characters, broken UTF-8 and marks of direction instead of obeying them", function()
    assert.are.equal("\\x1b[2J\\r\\n\\x00\\x7f", text.safe "\27[2J\r\n\0\127")
    assert.are.equal("\\u{9b}31m \\u{202e}x", text.safe "\194\15531m \226\128\174x")
    assert.are.equal("\\xff\\xc0\\x80 a\\x80 €\\x80", text.safe "\255\192\128 a\128 €\128")
    assert.are.equal("Ціна 日本", text.safe "Ціна 日本")
    assert.are.equal("\\u{426}", text.safe("Ц", true))
  end)

  it("knows wide and combining characters", function()
    assert.are.equal(4, text.width "日本")
    assert.are.equal(1, text.width "e\204\129")
    assert.are.equal("日本… ", text.fit("日本語テ", 6))
  end)
end)
