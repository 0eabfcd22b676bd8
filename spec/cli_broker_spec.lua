-- eventbus broker: a private RabbitMQ, started and stopped as a developer does.

local broker = require "spec.support.broker"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local command = require "spec.support.command"
local program = require "spec.support.program"

describe("eventbus broker", function()
  it("starts a broker that takes events, keeps them over a stop, and says where it is", function()
    -- Of a folder that is guarded: a test that is killed leaves no broker.
    local own = broker.new { start = false }
    finally(function() own:stop() end)
    local folder = own.dir
    assert.are.equal(1, command.run({ "broker", "status", folder }).code)
    local started = command.run({ "broker", "start", folder, "--json" }, { seconds = 120 })
    assert.are.equal(0, started.code, started.err)
    local known = json.decode(started.out)
    assert.is_string(known.management_url)

    local bus = assert(eventbus.connect(known.url))
    assert(bus:declare { queues = { kept = {} } })
    assert(bus:publish("", "kept", { n = 1 }))
    bus:close()

    assert.are.equal(0, command.run({ "broker", "stop", folder }, { seconds = 120 }).code)
    local stopped = command.run { "broker", "status", folder, "--json" }
    assert.are.equal(1, stopped.code)
    assert.is_false(json.decode(stopped.out).running)

    local again = command.run({ "broker", "start", folder, "--env" }, { seconds = 120 })
    assert.matches("export RABBITMQ_URL='" .. known.url .. "'", again.out, 1, true)
    bus = assert(eventbus.connect(known.url))
    assert.are.equal(1, assert(bus:queue_info("kept")).messages)
    bus:close()
  end)

  it("wants a folder, not the URL of a broker, and makes nothing of it", function()
    local url = "amqp://guest:s3cret@127.0.0.1:5672"
    for _, action in ipairs { "start", "stop", "status" } do
      local r = command.run { "broker", action, url }
      assert.are.equal(2, r.code)
      assert.matches("broker " .. action .. " takes the folder of a private broker, not a URL", r.err, 1, true)
      assert.matches("export RABBITMQ_URL=", r.err, 1, true)
      assert.is_nil(r.err:find("s3cret", 1, true))
    end
    -- The script by itself, in a folder where the mistake would be seen.
    local folder = program.folder()
    local pipe = assert(io.popen(("script=$PWD/bin/eventbus-broker; cd %s && bash $script start %s 2>&1; ls -A; echo end")
      :format(folder, url)))
    local said = pipe:read "*a"
    pipe:close()
    assert.matches("start takes the folder of a private broker, not a URL", said, 1, true)
    assert.matches("RABBITMQ_URL=...\nend\n$", said)
    assert.is_nil(said:find("s3cret", 1, true))
  end)

  it("says what is wrong when it cannot start", function()
    local r = command.run { "broker", "start", "/proc/nowhere" }
    assert.are.equal(1, r.code)
    assert.matches("the broker did not start", r.err, 1, true)
  end)
end)
