-- eventbus run, as a user drives it: scripts in both forms, logs, stopping, workers that die, reloads under load.

local eventbus = require "eventbus"
local json = require "eventbus.json"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local program = require "spec.support.program"
local wait = require "spec.support.wait"

local wait_until = wait.wait_until
local now = eventbus.core.now

local node, url, vhost, bus, running
local made = 0

setup(function()
  node = broker.shared()
  url, vhost = node:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "run-spec" })
end)

teardown(function()
  bus:close()
  node:delete_vhost(vhost)
end)

before_each(function() running = {} end)
after_each(function()
  for _, p in ipairs(running) do p:stop() end
end)

local function queue()
  made = made + 1
  local name = "run." .. made
  eventbus.assert(bus:declare { queues = { [name] = {} } })
  return name
end

local function write(path, text)
  -- A new file in place of the old one, as editors do it: nobody reads half of it.
  local file = assert(io.open(path .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
  return path
end

local function script(text, values)
  text = text:gsub("%$(%u+)", values or {})
  return write(program.folder() .. "/bot.lua", text)
end

local function start(words, environment)
  local variables = { RABBITMQ_URL = url, RABBITMQ_RETRY_COUNT = "2", RABBITMQ_RETRY_DELAY = "200ms" }
  for key, value in pairs(environment or {}) do variables[key] = value end
  local p = command.start({ "run", (table.unpack or unpack)(words) }, variables)
  running[#running + 1] = p
  return p
end

local function says(p, text, count, seconds)
  return wait_until(function()
    local output, found, at = p:output(), 0, 1
    while true do
      local _, last = output:find(text, at, true)
      if not last then break end
      found, at = found + 1, last + 1
    end
    return found >= (count or 1), output
  end, seconds or 20, ("it says %q %d times"):format(text, count or 1))
end

local function publish(name, data, options)
  return eventbus.assert(bus:publish("", name, data, options))
end

local function lines(path)
  local list = {}
  local file = io.open(path, "rb")
  if not file then return list end
  for line in file:lines() do list[#list + 1] = line end
  file:close()
  return list
end

local function alive(pid)
  local result = os.execute("kill -0 " .. pid .. " 2>/dev/null")
  return result == true or result == 0
end

-- Worker's name → pid, as last started.
local function pids(p)
  local found = {}
  for name, pid in p:output():gmatch("(%S+) is started, pid (%d+)") do found[name] = pid end
  return found
end

local NOTHING = [[
service "bot"
topology {}
queue "$QUEUE"
]]

describe("eventbus run", function()
  it("runs a script that calls functions, and says of each event what came of it", function()
    local q = queue()
    local p = start { script(NOTHING .. [[
on("$QUEUE", function(event, ctx)
  print("  got " .. event.data.n)
  if event.data.n == 2 then error("no luck\27[31m\nat all", 0) end
end)]], { QUEUE = q }) }
    says(p, "bot is ready: " .. q)
    local first = publish(q, { n = 1 }, { tenant_id = "tenant_abc", correlation_id = "req\n1" })
    local second = publish(q, { n = 2 })
    says(p, "dead-lettered")
    assert.are.equal(0, p:stop())
    local told = {}
    for line in p:output():gmatch("[^\n]+") do
      local rest = line:match("^%d%d:%d%d:%d%d%.%d%d%d  " .. q:gsub("%p", "%%%0") .. "  (.*)$")
      if rest then told[#told + 1] = (rest:gsub("%d+ ms", "N ms")) end
    end
    assert.are.same({
      ("%s  %s  tenant_abc  req\\n1  attempt 1  N ms  done"):format(q, first),
      ("%s  %s  -  -  attempt 1  N ms  failed, will be retried in 200ms: no luck\\x1B[31m"):format(q, second),
      ("%s  %s  -  -  attempt 2  N ms  failed, will be retried in 200ms: no luck\\x1B[31m"):format(q, second),
      ("%s  %s  -  -  attempt 3  N ms  dead-lettered: no luck\\x1B[31m"):format(q, second),
    }, told)
    assert.matches("  got 1\n", p:output(), 1, true)
    assert.matches("bot has stopped: 1 handled, 2 retried, 1 dead-lettered", p:output(), 1, true)
  end)

  it("runs a script that returns a table; logs JSON of the level asked for; options beat the script", function()
    local q = queue()
    local p = start({ script([[return { name = "bot", queue = "elsewhere", topology = {}, options = { prefetch = 7 },
      handlers = { ["#"] = function(event) if event.data.n == 2 then error "no" end end } }]]),
      "--queue", q, "--retry-count", "0", "--log-format", "json", "--log-level", "info" })
    says(p, "is ready")
    local first = publish(q, { n = 1 }, { tenant_id = "t", correlation_id = "c" })
    local second = publish(q, { n = 2 })
    says(p, '"dead_lettered"')
    assert.are.equal(0, p:stop())
    local records = {}
    for line in p:output():gmatch("[^\n]+") do
      local record = assert(json.decode(line))
      assert.are.equal("bot", record.service)
      if record.id then records[record.id] = record end
    end
    assert.is_number(records[first].duration_ms)
    assert.are.same({ "handled", "t", "c", 1, "info", q }, { records[first].outcome, records[first].tenant_id,
      records[first].correlation_id, records[first].attempt, records[first].level, records[first].queue })
    assert.are.same({ "dead_lettered", "failed", 1, "error" }, { records[second].outcome, records[second].reason,
      records[second].attempt, records[second].level })
    assert.matches("no$", records[second].error)
  end)

  it("is quiet about what goes well at the level of warnings", function()
    local q = queue()
    local p = start { script(NOTHING .. 'on("#", function(event) print("did it") end)', { QUEUE = q }), "--log-level",
      "warning" }
    publish(q, {})
    says(p, "did it")
    assert.are.equal(0, p:stop())
    assert.are.equal("did it\n", p:output())
  end)

  it("explains what it would do without a broker, in queues, retries and dead letters", function()
    local path = script [[
service "bot"
queue("telegram.notifications", { prefetch = 5, retry = { delays = { "1s", "1m" } } })
on("notification.telegram", function() end)]]
    local r = command.run({ "run", path, "--dry-run", "--workers", "3" },
      { env = { RABBITMQ_URL = "amqp://me:secret@nowhere.example" } })
    assert.are.equal(0, r.code, r.err)
    for _, text in ipairs { "at amqp://me@nowhere.example", "would declare the platform's topology: 7 exchanges",
      "bound to      notifications with notification.telegram", "notification.telegram  (", "prefetch      5",
      "retries       2, after 1s, 1m", "telegram.notifications.retry.60000", "workers       3",
      "deadletter with telegram.notifications.failed, to deadletter.telegram.notifications" } do
      assert.is_truthy(r.out:find(text, 1, true), text .. "\nin\n" .. r.out)
    end
    assert.is_nil(r.out:find("secret", 1, true))
  end)

  it("explains a jitter that is no whole number of per cent (Lua 5.3 and later raised)", function()
    for jitter, text in pairs { ["0.125"] = "12.5", ["0.29"] = "29", ["1"] = "100" } do
      local path = script([[return { name = "bot", queue = "q", handlers = { ["#"] = print }, topology = {},
        options = { retry = { delays = { "1s" }, jitter = $JITTER } } }]], { JITTER = jitter })
      local r = command.run({ "run", path, "--dry-run" }, { env = { RABBITMQ_URL = "amqp://nowhere.example" } })
      assert.are.equal(0, r.code, r.err)
      assert.matches(("retries       1, after 1s, up to %s %% longer"):format(text), r.out, 1, true)
    end
  end)

  it("says what is wrong with a command line, a script, a queue or a broker", function()
    local good = script(NOTHING .. 'on("#", print)', { QUEUE = "no.such.queue" })
    for _, case in ipairs {
      { { "run", "nowhere.lua" }, 2, "cannot open nowhere.lua" },
      { { "run", script "service 'x'\nlocal = 1" }, 2, "bot.lua:2:" },
      { { "run", script "error 'at load'" }, 2, "bot.lua:1: at load" },
      { { "run", script "return {}" }, 2, "name is missing" },
      { { "run", good, "--prefetch", "0" }, 2, "1 or more" },
      { { "run", good }, 1, "cannot subscribe to no.such.queue" },
      { { "run", good, "nowhere.lua" }, 2, "cannot open nowhere.lua" },
      { { "run", script "return { name = 'x', queue = 'q', handlers = {}, topology = { queus = {} } }" }, 2,
        'x: bus:declare: topology: unknown key "queus"' },
      { { "run", script "service 'x' queue 'q' on('a', print) start(function() error 'no db' end)" },
        1, "x: its function start failed: " },
    } do
      local r = command.run(case[1], { env = { RABBITMQ_URL = url } })
      assert.are.equal(case[2], r.code, r.err)
      assert.is_truthy((r.err .. r.out):find(case[3], 1, true), r.err)
    end
    local r = command.run({ "run", good }, { env = { RABBITMQ_URL = "amqp://me:secret@127.0.0.1:1" } })
    assert.are.equal(3, r.code)
    assert.is_nil((r.err .. r.out):find("secret", 1, true))
  end)
end)

describe("a stop", function()
  local SLOW = NOTHING .. [[
on("#", function(event)
  print "begun"
  local go
  repeat go = io.open "$GO" until go
  go:close()
  print "ended"
end)]]

  it("lets the running handler end on Ctrl-C, and gives the rest back", function()
    local q = queue()
    local go = program.folder() .. "/go"
    local p = start { script(SLOW, { QUEUE = q, GO = go }) }
    says(p, "is ready")
    publish(q, {})
    publish(q, {})
    says(p, "begun")
    p:signal "INT"
    assert.is_nil(p:wait(0.5), "it ended while its handler ran")
    write(go, "")
    assert.are.equal(130, p:wait(20))
    assert.matches("begun\nended\n", p:output(), 1, true)
    assert.matches("has stopped: 1 handled", p:output(), 1, true)
    wait_until(function() return node:queue(vhost, q).messages_ready == 1 end, 30, "the second is back")
  end)

  it("ends in order although the script's own stop raises, and says so", function()
    local q = queue()
    local p = start { script(NOTHING .. 'on("#", print) stop(function() error("no stop", 0) end)', { QUEUE = q }) }
    says(p, "is ready")
    publish(q, {})
    says(p, "done")
    p:signal "TERM"
    assert.are.equal(1, p:wait(20))
    assert.matches("bot has stopped: 1 handled", p:output(), 1, true)
    assert.matches("bot: its function stop failed: no stop", p:output(), 1, true)
  end)

  it("is at once on a second SIGTERM, whatever the handler does; its event is delivered again", function()
    for _, words in ipairs { {}, { "--workers", "2" } } do
      local q = queue()
      table.insert(words, 1, script(SLOW, { QUEUE = q, GO = "/nowhere/go" }))
      local p = start(words)
      says(p, "is ready")
      publish(q, {})
      says(p, "begun")
      p:signal "TERM"
      if words[2] then says(p, "stopping, ") end
      assert.is_nil(p:wait(0.3))
      p:signal "TERM"
      assert.is_truthy(p:wait(60))
      wait_until(function() return node:queue(vhost, q).messages_ready == 1 end, 30, "the event is back")
    end
  end)
end)

describe("workers", function()
  it("take over the event of one that is killed in the midst of it; it is started again", function()
    local q = queue()
    local path = script(NOTHING .. [[
local uv = require "luv"
on("#", function(event, ctx)
  print(("pid %d"):format(uv.os_getpid()), ctx.redelivered)
  while not ctx.redelivered do end
end)]], { QUEUE = q })
    local p = start { path, "--workers", "2" }
    says(p, "bot is ready", 2)
    local id = publish(q, {})
    local pid = wait_until(function() return p:output():match("pid (%d+)\tfalse") end, 20, "a worker has it")
    os.execute("kill -9 " .. pid)
    says(p, "was ended by signal 9; it is started again in 0.5 s")
    says(p, id)
    local other = p:output():match("pid (%d+)\ttrue")
    assert.are_not.equal(pid, other)
    assert.matches("%[bot%.[12]%] [^\n]*" .. id:gsub("%p", "%%%0") .. "[^\n]*done", p:output())
    says(p, "bot is ready", 3)
    assert.are.equal(0, p:stop())
  end)

  it("end when their supervisor is killed: none is left", function()
    local q = queue()
    local p = start { script(NOTHING .. 'on("#", print)', { QUEUE = q }), "--workers", "2" }
    says(p, "bot is ready", 2)
    local list = pids(p)
    assert.is_true(alive(list["bot.1"]) and alive(list["bot.2"]))
    p:signal "KILL"
    wait_until(function() return not alive(list["bot.1"]) and not alive(list["bot.2"]) end, 20, "both have ended")
    wait_until(function() return node:queue(vhost, q).consumers == 0 end, 30, "nobody consumes")
  end)

  it("in a crash loop are started ever more seldom, and that is said", function()
    local q = queue()
    local dying = NOTHING .. 'on("#", print) start(function() print "about to die" os.exit(9) end)'
    local p = start { script(dying, { QUEUE = q }), "--workers", "2" }
    says(p, "started again in 0.5 s", 2)
    says(p, "started again in 1 s", 2)
    -- Both, so that none is in the midst of a life that ends with 9.
    says(p, "is in a crash loop: 5 times in a row", 2, 60)
    says(p, "ended with exit code 9. It is tried again in 8 s, or on SIGHUP. Its last line: about to die")
    assert.are.equal(0, p:stop())
  end)

  it("one for each file, named for it", function()
    local one, two = queue(), queue()
    local text = 'return { name = "$NAME", topology = {}, queue = "$QUEUE", handlers = { ["#"] = print } }'
    local first = script(text, { NAME = "x", QUEUE = one })
    local second = write(program.folder() .. "/other.lua", (text:gsub("%$(%u+)", { NAME = "y", QUEUE = two })))
    local p = start { first, second }
    says(p, "x is ready")
    says(p, "y is ready")
    assert.matches("%[bot%] [%d:%.]+  x is ready: " .. one, p:output())
    assert.matches("%[other%] [%d:%.]+  y is ready: " .. two, p:output())
    assert.are.equal(0, p:stop())
  end)
end)

describe("a reload", function()
  local VERSIONED = NOTHING .. [[
local words = require "bot_words"
on("#", function(event) print(words, "version $VERSION") end)]]

  local function versioned(q, version)
    return (VERSIONED:gsub("%$(%u+)", { QUEUE = q, VERSION = version }))
  end

  it("comes with a change of the script, or of a module beside it, or with SIGHUP", function()
    local q = queue()
    local path = script(versioned(q, "1"))
    local module = write(path:gsub("bot.lua$", "bot_words.lua"), 'return "hello"')
    local p = start { path, "--reload" }
    says(p, "bot is ready")
    publish(q, {})
    says(p, "hello\tversion 1")
    write(path, versioned(q, "2"))
    says(p, "bot has been reloaded")
    publish(q, {})
    says(p, "hello\tversion 2")
    write(module, 'return "bye for now"')
    says(p, "bot has been reloaded", 2)
    publish(q, {})
    says(p, "bye for now\tversion 2")
    p:signal "HUP"
    says(p, "bot has been reloaded", 3)
    assert.are.equal(0, p:stop())
  end)

  it("that cannot be keeps the old script, and says why", function()
    local q = queue()
    local path = script(versioned(q, "1"))
    write(path:gsub("bot.lua$", "bot_words.lua"), 'return "hello"')
    local p = start { path }
    says(p, "bot is ready")
    for i, case in ipairs {
      { "service 'bot'\nqueue = = 5", "bot.lua:2:" },
      { versioned(q, "2") .. "\nerror 'at load'", "at load" },
      { "return { name = 'bot' }", "queue or queues is missing" },
      { versioned(q, "2"):gsub("run%.", "no.such.run."), "cannot subscribe to no.such.run." },
      { versioned(q, "2") .. "\nstart(function() error 'no start' end)", "no start" },
      -- Started, it has to be stopped.
      { versioned(q, "2"):gsub("run%.", "no.such.run.") .. "\nstart(function() end) stop(function() error 'no stop' end)",
        "no stop" },
    } do
      write(path, case[1])
      p:signal "HUP"
      says(p, "not reloaded, the old script goes on: ", i)
      says(p, case[2])
      publish(q, {})
      says(p, "hello\tversion 1", i)
    end
    write(path, versioned(q, "3"))
    p:signal "HUP"
    says(p, "bot has been reloaded")
    publish(q, {})
    says(p, "hello\tversion 3")
    assert.are.equal(0, p:stop())
  end)

  it("comes when the module is mended for which a script was refused", function()
    local q = queue()
    local path = script(NOTHING .. 'on("#", function() print "version 1" end)', { QUEUE = q })
    local p = start { path, "--reload" }
    says(p, "bot is ready")
    local module = write(path:gsub("bot.lua$", "bot_words.lua"), 'error "not yet"')
    write(path, versioned(q, "2"))
    says(p, "not reloaded, the old script goes on: ")
    says(p, "not yet")
    publish(q, {})
    says(p, "version 1")
    write(module, 'return "hello"')
    says(p, "bot has been reloaded")
    publish(q, {})
    says(p, "hello\tversion 2")
    assert.are.equal(0, p:stop())
  end)

  -- Every id is written down by the handler when it is done: which must be once.
  local COUNTING = NOTHING .. [[
local file = assert(io.open("$FILE", "a"))
local function note(event, what)
  file:write(event.data.n, " ", what, " $VERSION\n")
  file:flush()
end
on("#", function(event, ctx)
  -- With --concurrency others are handled meanwhile.
  if $WAITS then eventbus.assert(ctx:publish("", "$QUEUE.sink", {})) end
  if event.data.n % 40 == 0 and ctx.attempt == 1 then
    note(event, "failed")
    error "comes again"
  end
  note(event, "done")
end)]]

  for _, words in ipairs { {}, { "--workers", "2", "--concurrency", "5" } } do
    local what = words[2] and "with two workers of five handlers" or "in one process"
    it("under 200 events a second loses none and handles none twice, " .. what, function()
      local q, path = queue(), program.folder() .. "/bot.lua"
      local file = path:gsub("bot.lua$", "handled")
      local function version(n)
        write(path, (COUNTING:gsub("%$(%u+)", { QUEUE = q, FILE = file, VERSION = n,
          WAITS = tostring(words[2] ~= nil) })))
      end
      version("1")
      eventbus.assert(bus:declare { queues = { [q .. ".sink"] = {} } })
      local p = start { path, "--reload", (table.unpack or unpack)(words) }
      local workers = words[2] and 2 or 1
      says(p, "bot is ready", workers)

      -- A slow machine reloads once for several changes: it gets more of them, and events.
      local EVENTS, RATE, began, reloads = 0, 200, now(), 1
      local function swapped() return select(2, p:output():gsub("bot has been reloaded", "")) end
      repeat
        EVENTS = EVENTS + 1
        eventbus.assert(bus:publish_async("", q, { n = EVENTS }))
        if EVENTS % 150 == 0 then
          reloads = reloads + 1
          version(tostring(reloads))
        elseif EVENTS % 150 == 75 then
          p:signal "HUP"
        end
        local ahead = EVENTS / RATE - (now() - began)
        if ahead > 0 then wait.sleep(ahead) end
      until EVENTS >= 1000 and EVENTS % 200 == 0 and (swapped() >= 4 * workers or EVENTS >= 10000)
      eventbus.assert(bus:flush())
      local rate = EVENTS / (now() - began)
      local done, failed, versions = {}, {}, {}
      wait_until(function()
        local list = lines(file)
        return #list >= EVENTS + EVENTS / 40, #list
      end, 60, "all are handled")
      wait_until(function() return node:queue(vhost, q).messages == 0 end, 20, "the queue is empty")
      assert.are.equal(0, p:stop())
      for _, line in ipairs(lines(file)) do
        local n, outcome, by = line:match("^(%d+) (%a+) (%d+)$")
        local set = outcome == "done" and done or failed
        set[tonumber(n)] = (set[tonumber(n)] or 0) + 1
        versions[by] = true
      end
      local lost, repeated, seen = 0, 0, 0
      for n = 1, EVENTS do
        if not done[n] then lost = lost + 1 end
        if (done[n] or 0) > 1 or (failed[n] or 0) > 1 then repeated = repeated + 1 end
      end
      for _ in pairs(versions) do seen = seen + 1 end
      local swaps = swapped()
      print(("\n      %d events at %.0f/s, %d reloads (%s), %d versions handled some: %d lost, %d handled twice"):format(
        EVENTS, rate, swaps, what, seen, lost, repeated))
      assert.are.same({ 0, 0 }, { lost, repeated })
      assert.is_true(swaps >= 4 * workers)
      assert.is_true(seen >= 3)
    end)
  end
end)

describe("a worker that reloads", function()
  local place, own_url

  -- A virtual host whose only user can be kept out.
  setup(function()
    place = select(2, node:new_vhost())
    node:user("reloader", "right", { vhost = place })
    own_url = node:url_of(place, "reloader", "right")
    node:declare_queue(place, "q")
  end)
  teardown(function()
    node:delete_vhost(place)
    node:eval('rabbit_auth_backend_internal:delete_user(<<"reloader">>, <<"spec">>)')
  end)

  local function password(text)
    node:eval(('ok = rabbit_auth_backend_internal:change_password(<<"reloader">>, <<"%s">>, <<"spec">>)'):format(text))
  end

  -- At one place of its reload (spec/support/reloading_worker.lua) the connections are lost, and there is no other until it
  -- has tried more often than fits into its timeouts. All that it said.
  local function said_by_one_cut_off_at(where)
    local go = program.folder() .. "/go"
    local p = program.start("worker", { program.lua(), "spec/support/reloading_worker.lua", own_url, where, go })
    running[#running + 1] = p
    says(p, "here")
    password "wrong"
    finally(function() password "right" end)
    node:close_connections("closed by the test", place)
    wait_until(function() return node:connections(place) == 0 end, 30, "the connections are closed")
    write(go, "")
    says(p, "cannot connect, will try again", 60, 90)
    password "right"
    assert.are.equal(0, p:wait(30), p:output())
    return p:output()
  end

  it("waits for the broker when that goes away while what was begun ends (it ended)", function()
    assert.matches("old is ready.*new is ready: q", said_by_one_cut_off_at "compiles")
  end)

  it("goes on with the old script when the broker goes away while it is to begin with the new one (it ended)", function()
    assert.matches("old is ready.*not reloaded, the old script goes on: .*old is ready: q", said_by_one_cut_off_at "reload")
  end)
end)
