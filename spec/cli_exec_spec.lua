-- eventbus exec: programs as handlers. What their exit codes do, what they are given, how they end.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local node, url, vhost, bus, running
local made = 0

setup(function()
  node = broker.shared()
  url, vhost = node:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "exec-spec" })
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
  local name = "exec." .. made
  eventbus.assert(bus:declare { queues = { [name] = {} } })
  return name
end

local function shell(text)
  local path = program.folder() .. "/handler.sh"
  local file = assert(io.open(path, "wb"))
  file:write("#!/bin/sh\n", text, "\n")
  file:close()
  os.execute("chmod +x " .. path)
  return path
end

local function start(q, words)
  local all = { "exec", q }
  for _, word in ipairs(words) do all[#all + 1] = word end
  local p = command.start(all, { RABBITMQ_URL = url, RABBITMQ_RETRY_COUNT = "1", RABBITMQ_RETRY_DELAY = "100ms" })
  running[#running + 1] = p
  wait_until(function() return p:output():find(" is ready", 1, true), p:output() end, 20, "it is ready")
  return p
end

local function says(p, text, seconds)
  return wait_until(function() return p:output():find(text, 1, true), p:output() end, seconds or 20, "it says " .. text)
end

local function publish(q, data, options)
  return eventbus.assert(bus:publish("", q, data, options))
end

-- Why it is dead, in which way, and its event's id.
local function dead_letter(q, seconds)
  local letter = wait_until(function() return bus:get("deadletter." .. q) end, seconds or 20, "a dead letter")
  local why, reason, id = letter:header "x-eventbus-error", letter:header "x-eventbus-reason", letter:event().id
  letter:ack()
  return why, reason, id
end

describe("eventbus exec", function()
  it("gives the program the envelope on stdin and the event's particulars in its environment", function()
    local q, folder = queue(), program.folder()
    local p = start(q, { "--", shell(("cat >%s/body; env >%s/env; echo '  hello  '; echo oh >&2"):format(folder, folder)),
      "an argument" })
    local id = publish(q, { chat_id = -1001234567890 }, { tenant_id = "tenant_abc", correlation_id = "req_1",
      headers = { ["x-page"] = 7, odd = "a=b c" } })
    says(p, id)
    says(p, "done")
    local body = io.open(folder .. "/body"):read("*a")
    local event = assert(eventbus.envelope.decode(body))
    assert.are.equal(id, event.id)
    assert.matches("-1001234567890", body, 1, true)
    local env = {}
    for line in io.lines(folder .. "/env") do
      local name, value = line:match("^(EVENTBUS_[%u_]+)=(.*)$")
      if name then env[name] = value end
    end
    assert.are.equal(event.timestamp, env.EVENTBUS_TIMESTAMP)
    env.EVENTBUS_TIMESTAMP = nil
    for name in pairs(env) do
      if name == "EVENTBUS_LUA" or name == "EVENTBUS_CPATH" then env[name] = nil end
    end
    env.EVENTBUS_HEADER_TENANT_ID = nil
    assert.are.same({ EVENTBUS_ID = id, EVENTBUS_TYPE = q, EVENTBUS_SOURCE = "exec-spec", EVENTBUS_TENANT_ID = "tenant_abc",
      EVENTBUS_CORRELATION_ID = "req_1", EVENTBUS_ATTEMPT = "1", EVENTBUS_LAST_ATTEMPT = "false", EVENTBUS_QUEUE = q,
      EVENTBUS_ROUTING_KEY = q, EVENTBUS_EXCHANGE = "", EVENTBUS_REDELIVERED = "false", EVENTBUS_HEADER_X_PAGE = "7",
      EVENTBUS_HEADER_ODD = "a=b c" }, env)
    assert.matches("handler.sh:   hello  \n", p:output(), 1, true)
    assert.matches("handler.sh: oh\n", p:output(), 1, true)
    assert.are.equal(0, p:stop())
  end)

  it("acknowledges on 0, rejects on 65, follows the retry policy on others, with the end of stderr as the reason", function()
    local q = queue()
    local p = start(q, { "--", shell [[
case $(cat) in
  *'"n":1,'*|*'"n":1}'*) exit 0 ;;
  *'"n":2'*) echo chatter; echo "the number is bad" >&2; exit 65 ;;
  *'"n":3'*) echo "one of" >&2; echo "attempt $EVENTBUS_ATTEMPT" >&2; exit 3 ;;
  *) kill -9 $$ ;;
esac]] })
    local first, second = publish(q, { n = 1 }), publish(q, { n = 2 })
    assert.are.same({ "the number is bad", "rejected", second }, { dead_letter(q) })
    local third = publish(q, { n = 3 })
    assert.are.same({ "exit code 3: one of\nattempt 2", "failed", third }, { dead_letter(q) })
    publish(q, { n = 4 })
    assert.are.equal("ended by signal 9", (dead_letter(q)))
    assert.matches(first:gsub("%p", "%%%0") .. ".*done", p:output())
    assert.are.equal(0, p:stop())
  end)

  it("tries again on 75 as often as it takes, beyond the policy's count", function()
    local q, folder = queue(), program.folder()
    local p = start(q, { "--", shell(([[
echo x >>%s/tries
[ $(wc -l <%s/tries) -gt 3 ] || { echo "not yet" >&2; exit 75; }]]):format(folder, folder)) })
    publish(q, {})
    says(p, "done")
    local _, retried = p:output():gsub("failed, will be retried in 100ms: not yet", "")
    assert.are.equal(3, retried)
    assert.are.equal(0, p:stop())
  end)

  it("ends a program that takes too long, and all that it has started", function()
    local q, folder = queue(), program.folder()
    local p = start(q, { "--timeout", "10s", "--retry-count", "0", "--", shell(([[
trap '' TERM
sleep 1000 & echo $! >%s/child
echo waiting >&2
while :; do sleep 1; done]]):format(folder)) })
    publish(q, {})
    assert.are.equal("it took longer than 10 s: waiting", (dead_letter(q, 60)))
    local child = io.open(folder .. "/child"):read("*l")
    wait_until(function()
      local result = os.execute("kill -0 " .. child .. " 2>/dev/null")
      return not (result == true or result == 0)
    end, 30, "its child has ended")
    assert.are.equal(0, p:stop())
  end)

  it("ends after a while what its program has started and SIGTERM does not end (it went on)", function()
    local q, folder = queue(), program.folder()
    local p = start(q, { "--timeout", "10s", "--retry-count", "0", "--", shell(([[
sh -c 'trap "" TERM; echo $$ >%s/child; exec sleep 600' >/dev/null 2>&1 &
wait]]):format(folder)) })
    publish(q, {})
    assert.are.equal("it took longer than 10 s", (dead_letter(q, 60)))
    local child = io.open(folder .. "/child"):read("*l")
    wait_until(function()
      local result = os.execute("kill -0 " .. child .. " 2>/dev/null")
      return not (result == true or result == 0)
    end, 30, "the child has ended")
    assert.are.equal(0, p:stop())
  end)

  it("lets the program end on SIGTERM, and ends it on a second one: its event goes back", function()
    local q, folder = queue(), program.folder()
    local text = ("echo begun; while [ ! -e %s/go ]; do sleep 0.1; done; echo finished"):format(folder)
    local p = start(q, { "--", shell(text) })
    publish(q, {})
    says(p, ": begun")
    p:signal "TERM"
    assert.is_nil(p:wait(0.5))
    os.execute("touch " .. folder .. "/go")
    assert.are.equal(0, p:wait(20))
    assert.matches("has stopped: 1 handled", p:output(), 1, true)

    os.remove(folder .. "/go")
    p = start(q, { "--", shell(text) })
    publish(q, {})
    says(p, ": begun")
    p:signal "TERM"
    assert.is_nil(p:wait(0.3))
    p:signal "TERM"
    p:wait(20)
    assert.matches("given back to the queue", p:output(), 1, true)
    wait_until(function() return node:queue(vhost, q).messages_ready == 1 end, 30, "the event is back")
  end)

  it("runs several at once with --workers", function()
    local q, folder = queue(), program.folder()
    -- Each waits for the other: alone none would end.
    local p = start(q, { "--workers", "2", "--prefetch", "1", "--timeout", "20s", "--", shell(([[
touch %s/$EVENTBUS_ID
while [ $(ls %s | wc -l) -lt 2 ]; do sleep 0.1; done]]):format(folder, folder)) })
    wait_until(function() return select(2, p:output():gsub(" is ready", "")) == 2 end, 20, "both are ready")
    publish(q, {})
    publish(q, {})
    wait_until(function() return select(2, p:output():gsub("  done", "")) == 2, p:output() end, 20, "both are done")
    assert.are.equal(0, p:stop())
  end)

  it("says at the start that there is no such program or queue", function()
    local r = command.run({ "exec", "q", "--", "no-such-program" }, { env = { RABBITMQ_URL = url } })
    assert.are.equal(2, r.code)
    assert.matches("there is no program no-such-program", r.err, 1, true)
    r = command.run({ "exec", "no.such.queue", "--", "true" }, { env = { RABBITMQ_URL = url } })
    assert.are.equal(1, r.code)
    assert.matches("cannot subscribe to no.such.queue", r.err, 1, true)
  end)

  it("explains itself without a broker", function()
    local r = command.run({ "exec", "order.processing", "--dry-run", "--", "true" }, { env = { RABBITMQ_URL = "amqp://x" } })
    assert.are.equal(0, r.code)
    assert.matches("deadletter with order.processing.failed, to deadletter.orders", r.out, 1, true)
  end)
end)
