local broker = require "spec.support.broker"
local programs = require "spec.support.program"
local wait = require "spec.support.wait"
local socket = require "socket"

local function command_output(command)
  local pipe = assert(io.popen(command, "r"))
  local out = pipe:read("*a")
  pipe:close()
  return out
end

local function answers(port)
  local client = socket.tcp()
  client:settimeout(20)
  if not client:connect("127.0.0.1", port) then return false end
  client:send("AMQP\0\0\9\1")
  local octet = client:receive(1)
  client:close()
  return octet == "\1"
end

describe("wait_until", function()
  it("returns what the condition returned", function()
    local calls = 0
    assert.are.equal("yes", wait.wait_until(function() calls = calls + 1; return calls == 3 and "yes" end, 20, "third call"))
    assert.are.equal(3, calls)
  end)

  it("names what it waited for, at the caller's line", function()
    local ok, message = pcall(wait.wait_until, function() return false end, 0.02, "pigs fly")
    assert.is_false(ok)
    assert.matches("pigs fly", message)
  end)
end)

describe("the shared broker", function()
  it("is one for the whole run", function()
    assert.are.equal(broker.shared(), broker.shared())
    package.loaded["spec.support.broker"] = nil
    assert.are.equal(broker.shared(), require("spec.support.broker").shared())
  end)

  it("speaks AMQP on its port", function()
    assert.is_true(answers(broker.shared().port))
  end)

  it("listens on loopback addresses only", function()
    local b = broker.shared()
    local listeners = b:query([[
      [begin {ok, {Address, _}} = inet:sockname(P), [inet:ntoa(Address), "\n"] end ||
        P <- erlang:ports(), erlang:port_info(P, name) =:= {name, "tcp_inet"},
        {ok, Status} <- [prim_inet:getstatus(P)], lists:member(listen, Status)] ]])
    assert.matches("127.0.0.1\n", listeners)
    for address in listeners:gmatch("[^\n]+") do assert.are.equal("127.0.0.1", address) end
  end)

  it("answers on its management API", function()
    local http = require "socket.http"
    http.TIMEOUT = 20
    local body, code = http.request(broker.shared().management_url .. "/api/overview")
    assert.are.equal(200, code)
    assert.matches("rabbitmq_version", body)
  end)

  it("has certificates that verify for 127.0.0.1 and localhost", function()
    local b = broker.shared()
    local command = "openssl verify -CAfile %s/%s.pem -verify_hostname localhost -verify_ip 127.0.0.1 %s/server.pem 2>&1"
    assert.matches("server.pem: OK", command_output(command:format(b.tls_dir, "ca", b.tls_dir)))
    assert.does_not_match("OK", command_output(command:format(b.tls_dir, "other-ca", b.tls_dir)))
  end)

  it("makes virtual hosts that are empty and apart", function()
    local b = broker.shared()
    local url, first = b:new_vhost()
    local _, second = b:new_vhost()
    assert.are_not.equal(first, second)
    assert.are.equal("amqp://guest:guest@127.0.0.1:" .. b.port .. "/" .. first, url)
    b:declare_queue(first, "q")
    assert.are.equal(0, b:queue(first, "q").messages)
    assert.is_nil(b:queue(second, "q"))
    b:delete_queue(first, "q")
    assert.is_nil(b:queue(first, "q"))
    b:delete_vhost(first)
    b:delete_vhost(second)
  end)

  it("makes users with the permissions asked for", function()
    local b = broker.shared()
    local _, vhost = b:new_vhost()
    b:user("reader ü", "p:w/d", { vhost = vhost, configure = "^$", write = "^$" })
    local out, ok = b:ctl("-q", "list_permissions", "-p", vhost)
    assert.is_true(ok)
    assert.matches("reader ü\t%^%$\t%^%$\t%.%*", out)
    assert.are.equal("amqp://reader%20%C3%BC:p%3Aw%2Fd@127.0.0.1:" .. b.port .. "/" .. vhost,
      b:url_of(vhost, "reader ü", "p:w/d"))
    b:delete_vhost(vhost)
  end)

  it("tells whether a rabbitmqctl command failed", function()
    local out, ok = broker.shared():ctl("no_such_command")
    assert.is_false(ok)
    assert.matches("no_such_command", out)
  end)
end)

describe("a private broker", function()
  local b
  lazy_setup(function() b = broker.new { heartbeat = 7 } end)
  lazy_teardown(function() b:stop() end)

  it("takes settings", function()
    assert.are.equal("{ok, 7}", b:eval("application:get_env(rabbit, heartbeat)"))
  end)

  it("answers many evaluations at once", function()
    local one = ("bin/eventbus-broker eval %s '6 * 7' 2>&1"):format(programs.quote(b.dir))
    local at_once = ("for i in 1 2 3 4 5 6 7 8 9 10; do %s & done; wait; "):format(one)
    assert.are.equal(("42\n"):rep(50), command_output(at_once:rep(5)))
  end)

  it("comes back on its port with its durable queues after kill -9", function()
    local port, pid = b.port, b.pid
    local _, vhost = b:new_vhost()
    b:declare_queue(vhost, "durable")
    b:kill()
    assert.is_false(b:running())
    assert.is_false(answers(port))
    b:start()
    assert.are.equal(port, b.port)
    assert.are_not.equal(pid, b.pid)
    assert.is_true(answers(port))
    assert.is_true(b:queue(vhost, "durable").durable)
  end)

  it("stands still while frozen, and goes on", function()
    b:freeze()
    local client = socket.tcp()
    client:settimeout(0.3)
    client:connect("127.0.0.1", b.port)
    client:send("AMQP\0\0\9\1")
    local octet, err = client:receive(1)
    assert.is_nil(octet)
    assert.are.equal("timeout", err)
    b:thaw()
    client:settimeout(20)
    assert.are.equal("\1", (client:receive(1)))
    client:close()
  end)

  it("raises and clears the memory alarm", function()
    b:alarm(true)
    assert.matches("memory", b:eval("rabbit_alarm:get_alarms()"))
    b:alarm(false)
    assert.are.equal("[]", b:eval("rabbit_alarm:get_alarms()"))
  end)

  it("runs beside another, and leaves no process and no folder when stopped", function()
    local other = broker.new {}
    assert.are_not.equal(b.port, other.port)
    assert.is_true(answers(b.port) and answers(other.port))
    local node, dir = other.node, other.dir
    other:stop()
    assert.is_false(answers(other.port))
    assert.are.equal("", command_output("ps -A -ww -o args= | grep -F ' " .. node .. " ' | grep -v grep"))
    assert.is_nil(io.open(dir .. "/settings"))
  end)
end)

describe("the guard", function()
  it("stops the broker of a test run that was killed", function()
    local lua = arg and arg[-1] or "lua5.4"
    local program = [[
      package.path = './?.lua;' .. package.path
      local b = require('spec.support.broker').new {}
      io.write(b.dir, ' ', b.port, ' ', b.node, '\n')
      io.stdout:flush()
      os.execute('kill -KILL $PPID')
    ]]
    for i = -1, -10, -1 do if arg and arg[i] then lua = arg[i] end end
    local out = command_output(("%s -e \"%s\" 2>&1"):format(lua, program:gsub("%$", "\\$")))
    local dir, port = out:match("^(%S+) (%d+)")
    assert.is_truthy(dir, out)
    wait.wait_until(function() return not io.open(dir .. "/settings") end, 30, "the guard has removed " .. dir)
    assert.is_false(answers(tonumber(port)))
  end)
end)

describe("a start that is ended in its midst", function()
  local function exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
  end

  -- Processes that write into the folder: its node and its epmd, by whatever names.
  local function writers(dir)
    return command_output(("ls -l /proc/[0-9]*/fd/1 2>/dev/null | grep -F '%s/'"):format(dir))
  end

  local MOMENTS = {
    { "its epmd begins", function(dir) return exists(dir .. "/log/epmd.log") end },
    { "its node begins", function(dir) return exists(dir .. "/log/startup.log") end },
    { "its node's pid is known", function(dir) return exists(dir .. "/node.pid") end },
  }

  for how, signals in pairs { ["a signal"] = { "TERM", "INT", "TERM" }, ["kill -9"] = { "KILL", "KILL", "KILL" } } do
    it("by " .. how .. " leaves neither node nor epmd behind", function()
      for i, moment in ipairs(MOMENTS) do
        local signal = signals[i]
        local own = broker.new { start = false }  -- guarded: a test that is killed leaves nothing, either
        local dir = own.dir
        local start = programs.start("start", { "bash", "bin/eventbus-broker", "start", dir })
        wait.wait_until(function() return moment[2](dir) end, 30, moment[1])
        start:signal(signal)
        local code = start:wait(60)
        if signal == "KILL" then
          os.execute(("bash bin/eventbus-broker guard '%s' </dev/null >/dev/null 2>&1"):format(dir))
        else
          assert.are.equal(130, code, moment[1] .. "\n" .. start:output())
        end
        wait.wait_until(function()
          local left = writers(dir)
          return left == "", left
        end, 20, "nothing is left after SIG" .. signal .. " when " .. moment[1])
        own:stop()
      end
    end)
  end
end)
