--- A bus and fork(): the child is told, and the parent notices nothing.

local broker = require "spec.support.broker"
local program = require "spec.support.program"

local CALLS = { "publish", "publish_async", "view", "ticket", "flush", "declare", "subscribe", "poll", "run", "get",
  "queue_info", "purge", "delete_queue" }

local function run(url, mode, ending)
  local p = program.start("forking", { program.lua(), "spec/support/forking.lua", url, mode, ending })
  local code = p:wait(60)
  local said = { output = p:output() }
  for who, what, value in said.output:gmatch("(%l+) ([%l_-]+) ([^\n]*)\n") do said[who .. " " .. what] = value end
  assert.are.equal(0, code, said.output)
  return said
end

local function parent_noticed_nothing(said)
  assert.are.equal("confirmed", said["parent publish"], said.output)
  -- Neither of its connections was lost and made again.
  assert.are.equal("1 1", said["parent connections"], said.output)
  assert.are.equal("true", said["parent close"], said.output)
end

describe("a bus made before a fork", function()
  local b = broker.shared()

  it("answers 'forked' to every call of the child, which may connect for itself", function()
    local said = run(b:new_vhost(), "calls", "close")
    for _, name in ipairs(CALLS) do assert.are.equal("forked", said["child " .. name], name .. "\n" .. said.output) end
    assert.are.equal("nil", said["child fd"])
    assert.are.equal("confirmed", said["child own"])
    assert.are.equal("true", said["child close"])
    assert.are.equal("0", said["parent child-ended"])
    assert.are.equal("confirmed", said["parent ticket"])
    assert.are.equal("4", said["parent handled"])
    parent_noticed_nothing(said)
  end)

  for _, ending in ipairs { "forget", "os.exit", "error" } do
    it("is the parent's still when the child ends by " .. ending, function()
      local said = run(b:new_vhost(), "calls", ending)
      assert.are.equal(ending == "error" and "1" or "0", said["parent child-ended"], said.output)
      assert.are.equal("4", said["parent handled"], said.output)
      parent_noticed_nothing(said)
    end)
  end

  it("is the parent's still over TLS, where ending a connection has words of its own", function()
    for _, ending in ipairs { "close", "os.exit" } do
      local said = run(b.tls_url, "calls", ending)
      assert.are.equal("0", said["parent child-ended"], said.output)
      parent_noticed_nothing(said)
    end
  end)

  for _, concurrency in ipairs { 1, 2 } do
    it(("lets a child that a handler forked handle nothing more; concurrency %d"):format(concurrency), function()
      local said = run(b:new_vhost(), "handler", concurrency)
      assert.are.equal("forked", said["child publish"], said.output)
      assert.are.equal("forked", said["child run"], said.output)
      assert.are.equal("1,2", said["child handled"], said.output)
      assert.are.equal("stopped", said["parent run"], said.output)
      assert.are.equal("1,2,3,4,5", said["parent handled"], said.output)
      parent_noticed_nothing(said)
    end)
  end

  for _, concurrency in ipairs { 1, 2 } do
    it(("tells a child of a handler that it is one when it polls without waiting; concurrency %d"):format(concurrency),
      function()
        local said = run(b:new_vhost(), "polled", concurrency)
        assert.are.equal("forked", said["child poll"], said.output)
        parent_noticed_nothing(said)
      end)
  end

  it("leaves no trap for signals to a child: it may run a bus of its own, and ends when it is told to", function()
    local said = run(b:new_vhost(), "signals", "")
    assert.are.equal("timeout", said["child run"], said.output)
    assert.are.equal("0", said["parent child-ended"], said.output)
    assert.are.equal("143", said["parent child-killed"], said.output)
    assert.are.equal("143", said["parent child-killed-at-once"], said.output)
    assert.are.equal("143", said["parent child-of-two-forks"], said.output)
    assert.are.equal("0", said["parent child-of-child"], said.output)
    assert.are.equal("stopped", said["parent run"], said.output)
    parent_noticed_nothing(said)
  end)
end)
