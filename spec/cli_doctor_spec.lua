-- eventbus doctor: what is wrong with a broker, seen from a client.

local entities = require "eventbus.cli.doctor.entities"
local eventbus = require "eventbus"
local json = require "eventbus.json"
local management = require "eventbus.management"
local permissions = require "eventbus.cli.doctor.permissions"
local platform = require "eventbus.platform"
local report = require "eventbus.cli.doctor.report"
local server = require "eventbus.cli.doctor.server"
local tls = require "eventbus.cli.doctor.tls"
local broker = require "spec.support.broker"
local command = require "spec.support.command"
local hands = require "spec.support.hands"
local wait_until = require("spec.support.wait").wait_until

local b

local function contains(text, part)
  assert.is_truthy(text:find(part, 1, true), ("%q is not in:\n%s"):format(part, text))
end

-- The findings of one run, and its exit code.
local function examine(url, ...)
  local r = command.run({ "doctor", "--json", ... }, { env = { RABBITMQ_URL = url,
    RABBITMQ_MANAGEMENT_URL = b.management_url } })
  assert.are.equal("", r.err)
  return assert(json.decode(r.out)), r.code, r.out
end

local function finding(said, topic, level)
  local seen = {}
  for _, f in ipairs(said.findings) do
    if f.topic == topic and (not level or f.level == level) then return f end
    seen[#seen + 1] = ("%s %s: %s"):format(f.level, f.topic, f.message)
  end
  error(("no %s %q among:\n%s"):format(level or "finding", topic, table.concat(seen, "\n")), 2)
end

local function has_none(said, topic, level)
  for _, f in ipairs(said.findings) do
    if f.topic == topic and f.level == level then error(("%s %s: %s"):format(level, topic, f.message), 2) end
  end
end

describe("eventbus doctor", function()
  local url, vhost, bus, api

  setup(function()
    b = broker.shared()
    url, vhost = b:new_vhost()
    bus = eventbus.assert(eventbus.connect { url = url, source = "spec", log = false })
    eventbus.assert(bus:declare(platform.topology))
    api = assert(management.new(b.management_url, eventbus.core.url(url)))
  end)

  teardown(function()
    bus:close()
    b:delete_vhost(vhost)
  end)

  describe("on its way to the broker", function()
    local cases = {
      { "a name without an address", function() return "amqp://nobody.invalid" end, "dns", "has no address" },
      { "a port where nobody answers", function() return "amqp://127.0.0.1:1" end, "tcp", "nobody answers at 127.0.0.1:1" },
      { "a wrong password", function() return b:url_of("/", "guest", "wrong-secret") end, "login", "refused" },
      { "a virtual host that is not there", function() return b:url_of("nowhere") end, "vhost", "nowhere" },
      { "a certificate nobody vouches for", function() return ("amqps://localhost:%d"):format(b.tls_port) end, "tls",
        "not trusted" },
      { "a certificate of another CA", function()
        return ("amqps://localhost:%d?cacertfile=%s/other-ca.pem"):format(b.tls_port, b.tls_dir)
      end, "chain", "not signed by a CA of" },
    }
    for _, case in ipairs(cases) do
      it("names the step that fails at " .. case[1] .. ", and what to change; exits with 3", function()
        local said, code, out = examine(case[2]())
        assert.are.equal(3, code)
        local f = finding(said, case[3], "error")
        contains(f.message, case[4])
        assert.is_truthy(#f.change > 10)
        assert.is_nil(out:find("wrong-secret", 1, true))
      end)
    end

    it("tells of the broker's certificate, and that it was verified", function()
      local said = examine(b.tls_url)
      contains(finding(said, "certificate", "ok").message, 'certificate of "localhost" by "eventbus test CA", for ')
      contains(finding(said, "chain", "ok").message, "ca.pem")
      contains(finding(said, "tls", "ok").message, "TLSv1.")
    end)

    it("warns when any certificate would do", function()
      local said = examine(("amqps://localhost:%d?verify=verify_none"):format(b.tls_port))
      contains(finding(said, "verify", "warn").change, "drop verify")
    end)

    it("warns of guest and of plain text over a network", function()
      local said = examine "amqp://broker.invalid"
      contains(finding(said, "plain", "warn").change, "amqps://")
      contains(finding(said, "guest", "warn").change, "add_user")
      has_none(examine(url), "plain", "warn")
      has_none(examine(url), "guest", "warn")
    end)
  end)

  it("finds nothing wrong with the platform but who does not read it, and says what was agreed", function()
    local said, code = examine(url)
    assert.are.equal(1, code)
    assert.are.equal(0, said.counts.error)
    contains(finding(said, "heartbeat", "ok").message, "60 s")
    contains(finding(said, "frame_max", "ok").message, "131072")
    contains(finding(said, "version").message, "RabbitMQ ")
    contains(finding(said, "topology", "ok").message, "all of it")
    local worked = 0
    for _, q in pairs(platform.topology.queues) do worked = worked + (q.dead_letters and 0 or 1) end
    assert.are.equal(worked, #finding(said, "consumers", "warn").names)
    contains(finding(said, "ack timeout", "unseen").message, "30 minutes")
    assert.is_nil(said.broker:find("guest:guest", 1, true))
  end)

  it("is for people too, within the width of a terminal", function()
    local text = command.pty({ "doctor" }, { env = { RABBITMQ_URL = url, RABBITMQ_MANAGEMENT_URL = b.management_url } })
    contains(text, "\27[33mwarn\27[0m")
    contains(text, "-> start its service (eventbus run)")
    for line in text:gsub("\27%[[%d;]*m", ""):gmatch("[^\r\n]+") do
      assert.is_true(#line:gsub("[\128-\191]", "") <= 80, line)
    end
  end)

  describe("among the queues", function()
    local T = { "--topology", "spec/support/owner_topology.lua" }

    local function put(name, arguments, durable)
      assert(api:request("PUT", api:path("queues", name), { durable = durable ~= false, arguments = arguments }))
    end

    local function listed(name) return hands.listed({ api = api }, name) end

    it("names what is missing, and what is declared otherwise", function()
      local said = examine(url, T[1], T[2])
      local missing = finding(said, "topology", "error")
      contains(missing.change, "topology apply")
      assert.is_truthy(table.concat(missing.names, ","):find("queue telegram", 1, true))
      put("order.processing.x", {})
      local path = os.tmpname()
      local file = assert(io.open(path, "w"))
      file:write 'return { queues = { ["search.products"] = { message_ttl = 5 } } }'
      file:close()
      said = examine(url, "--topology", path)
      os.remove(path)
      contains(finding(said, "topology", "error").message,
        "declaring fails (406), as these are declared otherwise: queue search")
    end)

    it("names dead letters, and does not ask who reads them", function()
      eventbus.assert(bus:publish("", "x.y", {}, { routing_key = "deadletter.orders" }))
      wait_until(function() return listed("deadletter.orders").messages == 1 end, 20, "it is counted")
      contains(finding(examine(url), "dead letters", "warn").message, "deadletter.orders (1)")
    end)

    it("names quorum queues that drop what fails, transient queues, and those in lazy mode", function()
      put("bare", { ["x-queue-type"] = "quorum" })
      put("covered", { ["x-queue-type"] = "quorum", ["x-dead-letter-exchange"] = "deadletter" })
      put("brief", {}, false)
      put("lazy", { ["x-queue-mode"] = "lazy" })
      local said = examine(url)
      assert.are.same(json.array { "bare" }, finding(said, "delivery limit", "error").names)
      assert.are.same(json.array { "brief" }, finding(said, "transient", "warn").names)
      assert.are.same(json.array { "lazy" }, finding(said, "lazy queues", "warn").names)
      assert(api:request("PUT", api:path("policies", "dlx"), { pattern = "^bare$", ["apply-to"] = "queues",
        definition = { ["dead-letter-exchange"] = "deadletter" } }))
      wait_until(function() return listed("bare").policy == "dlx" end, 20, "the policy holds")
      has_none(examine(url), "delivery limit", "error")
    end)

    it("names delay queues whose main queue is gone", function()
      put("gone.retry.5000", { ["x-message-ttl"] = 3600000, ["x-dead-letter-exchange"] = "",
        ["x-dead-letter-routing-key"] = "gone" })
      assert.are.same(json.array { "gone.retry.5000" }, finding(examine(url), "retries", "warn").names)
      eventbus.assert(bus:publish("", "x.y", {}, { routing_key = "gone.retry.5000" }))
      wait_until(function() return listed("gone.retry.5000").messages == 1 end, 20, "it is counted")
      contains(finding(examine(url), "retries", "error").message, "Their 1 messages vanish")
    end)

    it("names classic mirrored queues", function()
      assert(api:request("PUT", api:path("policies", "ha"), { pattern = "^x", ["apply-to"] = "queues",
        definition = { ["ha-mode"] = "all" } }))
      contains(finding(examine(url), "mirroring", "warn").message, "by policy ha")
    end)
  end)

  describe("of a user with few permissions", function()
    local limited

    setup(function()
      b:user("doctor-limited", "doctor-secret", { vhost = vhost, configure = "^$", write = "^(orders|products)$",
        read = "^(crm|search)\\." })
      limited = b:url_of(vhost, "doctor-limited", "doctor-secret")
    end)

    it("says which names it may not configure, write and read", function()
      local said, _, out = examine(limited)
      local text = ""
      for _, f in ipairs(said.findings) do
        if f.topic == "permissions" then text = text .. f.message .. "\n" end
      end
      contains(text, "doctor-limited may not configure analytics, customers, deadletter, notifications, orders, "
        .. "payments and ")
      contains(text, "may not write analytics, customers, deadletter, notifications, payments, analytics.events and ")
      contains(text, "may not read analytics.events, notification.customers")
      assert.is_nil(text:find("may not read crm", 1, true))
      assert.is_nil(out:find("doctor-secret", 1, true))
    end)

    it("says over AMQP alone what it can find without changing anything", function()
      local before = #assert(api:bindings())
      local said = examine(limited, "--management", "http://127.0.0.1:1")
      contains(finding(said, "permissions", "warn").message, "doctor-limited is refused: ")
      assert.is_truthy(finding(said, "permissions", "unseen"))
      assert.is_truthy(finding(said, "management", "unseen").change:find("rabbitmq_management", 1, true))
      assert.are.equal(before, #assert(api:bindings()))
    end)
  end)

  it("works with AMQP alone, and says what it could not see", function()
    local said, code = examine(url, "--management", "http://127.0.0.1:1")
    assert.are.equal(1, code)
    contains(finding(said, "management", "unseen").message, "alarms, nodes, policies")
    contains(finding(said, "topology", "ok").message, "all its exchanges and queues are there")
    contains(finding(said, "consumers", "warn").message, "nobody reads")
    contains(finding(said, "permissions", "ok").message, "may bind every queue")
  end)
end)

describe("a doctor whose connection is lost on the way", function()
  it("finds nothing in order that it could not ask for (it did)", function()
    local lost = eventbus.assert(eventbus.connect { url = (b:new_vhost()), log = false })
    lost:close()
    local topology = require("eventbus.topology").normalise(platform.topology)
    local r = report.new()
    entities.by_amqp(r, topology, lost)
    permissions.look(r, lost, nil, "guest", topology)
    assert.are.same({ 0, 2 }, { r.counts.ok, r.counts.error })
    contains(finding(r, "topology", "error").message, "cannot look at the queues and exchanges: ")
    contains(finding(r, "permissions", "error").message, "cannot ask what guest may bind: ")
  end)
end)

describe("a doctor's judgement", function()
  local function of(look, ...)
    local r = report.new()
    look(r, ...)
    local list = {}
    for i, f in ipairs(r.findings) do list[i] = ("%s %s"):format(f.level, f.topic) end
    return table.concat(list, ", ")
  end

  it("of versions", function()
    assert.are.equal("warn version", of(server.look_at_version, "RabbitMQ 3.13.7"))
    assert.are.equal("ok version", of(server.look_at_version, "RabbitMQ 4.1.0"))
    assert.are.equal("ok version", of(server.look_at_version, "LavinMQ"))
  end)

  it("of what was agreed", function()
    assert.are.equal("ok heartbeat, ok frame_max", of(server.look_at_agreement, { heartbeat = 60, frame_max = 131072 }))
    assert.are.equal("warn heartbeat, warn frame_max", of(server.look_at_agreement, { heartbeat = 0, frame_max = 4096 }))
    assert.are.equal("warn heartbeat, ok frame_max", of(server.look_at_agreement, { heartbeat = 580, frame_max = 0 }))
  end)

  it("of nodes", function()
    local function node(more)
      local result = { name = "n", running = true, mem_used = 1e8, mem_limit = 1e9, mem_alarm = false, disk_free = 1e10,
        disk_free_limit = 5e7, disk_free_alarm = false, fd_used = 10, fd_total = 1000, partitions = {} }
      for key, value in pairs(more) do result[key] = value end
      return of(server.look_at_node, result)
    end
    assert.are.equal("ok memory, ok disk", node {})
    assert.are.equal("error memory, ok disk", node { mem_alarm = true })
    assert.are.equal("warn memory, ok disk", node { mem_used = 9e8 })
    assert.are.equal("ok memory, error disk", node { disk_free_alarm = true })
    assert.are.equal("ok memory, warn disk", node { disk_free = 6e7 })
    assert.are.equal("error partition, ok memory, ok disk", node { partitions = { "m" } })
    assert.are.equal("ok memory, ok disk, warn descriptors", node { fd_used = 900 })
    assert.are.equal("error node", node { running = false })
  end)

  it("of permissions, by the expressions of the broker's own kind", function()
    local list = { "orders", "crm.orders", "deadletter.orders" }
    assert.are.same({}, permissions.not_matched(".*", list))
    assert.are.same(list, permissions.not_matched("", list))
    assert.are.same({ "orders" }, permissions.not_matched("^(crm|deadletter)\\.", list))
    assert.are.same({ "deadletter.orders" }, permissions.not_matched("^(?!dead)", list))
    assert.is_nil(permissions.not_matched("(", list))
  end)

  it("of the day a certificate expires", function()
    assert.are.equal(1800009000, tls.seconds_of "Jan 15 10:30:00 2027 GMT")
    assert.are.equal(1709208000, tls.seconds_of "Feb 29 12:00:00 2024 GMT")
    assert.are.equal(1751364000, tls.seconds_of "Jul  1 10:00:00 2025 GMT")
  end)
end)
