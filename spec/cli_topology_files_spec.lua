-- eventbus topology, where no broker is asked: what lint finds, what graph draws, what export writes.

local eventbus = require "eventbus"
local json = require "eventbus.json"
local platform = require "eventbus.platform"
local topology = require "eventbus.topology"
local command = require "spec.support.command"
local hands = require "spec.support.hands"
local program = require "spec.support.program"
local wait_until = require("spec.support.wait").wait_until

local file_of, place = hands.file_of, hands.place

local function contains(text, part)
  assert.is_truthy(text:find(part, 1, true), ("%q is not in:\n%s"):format(part, text))
end

describe("eventbus topology lint", function()
  local function lint(...) return command.run { "topology", "lint", ... } end

  it("finds nothing wrong with the platform", function()
    local r = lint "--strict"
    assert.are.equal(0, r.code)
    contains(r.out, "nothing found")
  end)

  it("finds every trap in the owner's tables, taken by their letter", function()
    local r = lint("--topology", "spec/support/owner_topology.lua")
    assert.are.equal(1, r.code)
    for _, trap in ipairs {
      'deadletter.orders: is bound with "order.*.failed" to "deadletter", a direct exchange',
      'bind "order.processing.failed"',
      'order.processing: dead-letters to "deadletter" with "order.processing.failed", where no queue is bound',
      '"customer.*" from "customers" misses "customer.segment.changed"',
      '"payment.*" from "payments" misses "payment.refund.completed"',
      '"product.*" from "products" misses "product.stock.updated", "product.stock.low"',
      '"order.completed" from "orders" matches no event; nearest: "order.delivered"',
      '"inventory.*" from "products" matches no event; nearest: "product.stock.updated"',
      "no event is published to it and no exchange is bound to it",
      "notification.email: reaches no queue",
    } do contains(r.out, trap) end
    local said = assert(json.decode(lint("--topology", "spec/support/owner_topology.lua", "--json").out))
    assert.are.equal(2, said.errors)
    assert.are.equal(18, said.warnings)
    assert.are.equal(20, #said.findings)
  end)

  it("exits with 0 for warnings, with 1 under --strict", function()
    local path = file_of [[return { queues = { a = { type = "quorum", delivery_limit = 5, dead_letter = false } } }]]
    local r = lint("--topology", path)
    assert.are.equal(0, r.code)
    contains(r.out, "a: is a quorum queue with a delivery limit of 5 and no dead-letter exchange")
    assert.are.equal(1, lint("--topology", path, "--strict").code)
  end)

  it("knows that a part of a topology has no queue for every event", function()
    local path = file_of [[return { exchanges = { orders = { type = "topic" } },
      queues = { mine = { bindings = { { exchange = "orders", routing_key = "order.paid" } } } } }]]
    contains(lint("--topology", path).out, "order.created: reaches no queue")
    contains(lint("--topology", path, "--part").out, "nothing found")
  end)

  it("takes the events of the file's own catalogue", function()
    local path = file_of [[return { catalogue = { { type = "a.b", exchange = "e", routing_key = "a.b" } },
      topology = { exchanges = { e = { type = "topic" } }, queues = { q = { bindings = {
        { exchange = "e", routing_key = "a.c" } } } } } }]]
    contains(lint("--topology", path).out, '"a.c" from "e" matches no event; nearest: "a.b"')
  end)

  it("reports a topology that cannot be meant as an error, and a file that is missing as misuse", function()
    local r = lint("--topology", file_of "return { queus = {} }", "--json")
    assert.are.equal(1, r.code)
    assert.are.equal("invalid", assert(json.decode(r.out)).findings[1].code)
    r = lint("--topology", "nowhere.lua")
    assert.are.equal(2, r.code)
    contains(r.err, "nowhere.lua")
  end)
end)

describe("eventbus topology graph", function()
  local function graph(...) return command.run({ "topology", "graph", ... }) end

  local function drawn(text)
    local folder = program.folder()
    local file = assert(io.open(folder .. "/in.dot", "w"))
    file:write(text)
    file:close()
    local pipe = io.popen(("dot -Tplain %s/in.dot 2>&1; echo rc=$?"):format(folder))
    local out = pipe:read("*a")
    pipe:close()
    return out
  end

  it("draws every exchange, queue, binding, dead letter and retry for Graphviz", function()
    local r = graph()
    assert.are.equal(0, r.code, r.err)
    local out = drawn(r.out)
    contains(out, "rc=0")
    local nodes, edges = 0, 0
    for line in out:gmatch("[^\n]+") do
      if line:match("^node ") then nodes = nodes + 1 end
      if line:match("^edge ") then edges = edges + 1 end
    end
    local normal, pairs_bound, worked = topology.normalise(platform.topology), {}, 0
    for _, binding in ipairs(normal.bindings) do pairs_bound[binding.source .. " " .. binding.destination] = true end
    for _ in pairs(pairs_bound) do edges = edges - 1 end
    for _, queue in pairs(normal.queues) do worked = worked + (queue.dead_letter and 1 or 0) end
    local exchanges, queues = hands.sizes()
    assert.are.equal(exchanges + queues, nodes)
    -- Beside an edge for each bound pair: each queue that is worked on dead-letters, and is retried.
    assert.are.equal(2 * worked, edges)
    contains(r.out, "retry 3 × 5s")
    assert.is_nil(graph("--no-retries").out:find("retry", 1, true))
  end)

  it("draws names with quotes, backslashes and other scripts", function()
    local path = file_of [=[return { exchanges = { ['a"b\\c'] = { type = "fanout" }, ["замовлення"] = { type = "topic" } },
      queues = { ["<q>&#;\n"] = { bindings = { { exchange = 'a"b\\c' },
        { exchange = "замовлення", routing_key = '"#' } } } } }]=]
    contains(drawn(graph("--topology", path).out), "rc=0")
    local mermaid = graph("--topology", path, "--format", "mermaid").out
    contains(mermaid, '["#60;q#62;#38;#35;;<br>"]')
    contains(mermaid, '(["a#34;b\\c<br>fanout"])')
  end)

  it("writes SVG and Mermaid to a file by its ending, whole", function()
    local folder = program.folder()
    assert.are.equal(0, graph("-o", folder .. "/t.svg").code)
    local svg = io.open(folder .. "/t.svg"):read("*a")
    contains(svg, "</svg>")
    contains(svg, "telegram.notifications")
    assert.are.equal(0, graph("-o", folder .. "/t.mmd").code)
    local mermaid = io.open(folder .. "/t.mmd"):read("*a")
    contains(mermaid, "flowchart LR")
    contains(mermaid, '-->|"order.*"|')
    local r = graph("-o", folder .. "/t.gif")
    assert.are.equal(2, r.code)
    contains(r.err, "say --format dot, svg or mermaid")
  end)

  it("says which package draws SVG when it is missing", function()
    local folder = program.folder()
    os.execute(("mkdir %s/bin; ln -s \"$(command -v sh)\" %s/bin/sh"):format(folder, folder))
    local lua = io.popen("command -v " .. program.lua()):read("*l")
    local pipe = io.popen(("PATH=%s/bin LUA_PATH='%s' LUA_CPATH='%s' %s bin/eventbus topology graph --format svg 2>&1; "
      .. "echo rc=$?"):format(folder, package.path, package.cpath, lua))
    local out = pipe:read("*a")
    pipe:close()
    contains(out, "apt-get install graphviz")
    contains(out, "rc=1")
  end)

  it("leaves the old file as it was when the disk is full", function()
    local folder = program.folder()
    local path = folder .. "/t.dot"
    local file = assert(io.open(path, "w"))
    file:write("old")
    file:close()
    -- A limit on the size of files is a full disk that any user may have.
    local pipe = io.popen(("trap '' XFSZ; ulimit -f 1; LUA_PATH='%s' LUA_CPATH='%s' %s bin/eventbus topology graph -o %s "
      .. "2>&1; echo rc=$?"):format(package.path, package.cpath, program.lua(), path))
    local out = pipe:read("*a")
    pipe:close()
    contains(out, "cannot write " .. path .. ": File too large")
    contains(out, "rc=1")
    assert.are.equal("old", io.open(path):read("*a"))
    assert.are.equal("t.dot", io.popen("ls " .. folder):read("*a"):gsub("%s+$", ""))
  end)
end)

describe("eventbus topology export", function()
  local p

  before_each(function() p = place(true) end)
  after_each(function() p:leave() end)

  it("is imported by rabbitmqctl, and then plan finds no difference", function()
    local path = program.folder() .. "/definitions.json"
    local r = p:run("export", "-o", path)
    assert.are.equal(0, r.code, r.err)
    local out, ok = p.broker:ctl("import_definitions", path)
    assert.is_true(ok, out)
    r = p:run("plan")
    contains(r.out, "no difference")
    assert.are.equal(0, r.code)
  end)

  it("with --policies declares without what policies say, and the policies work", function()
    local path = program.folder() .. "/definitions.json"
    assert.are.equal(0, p:run("export", "--policies", "-o", path).code)
    local out, ok = p.broker:ctl("import_definitions", path)
    assert.is_true(ok, out)
    assert.are.same({}, p.broker:queue(p.vhost, "search.products").arguments)
    -- A message that is rejected goes where the policy says.
    eventbus.assert(p.bus:publish("products", "product.created", { sku = "SKU001" }))
    local message = wait_until(function() return p.bus:get("search.products") end, 30, "the event is in its queue")
    message:reject(false)
    wait_until(function() return p.broker:queue(p.vhost, "deadletter.search.products").messages == 1 end, 30,
      "the dead letter is in its queue")
    wait_until(function()
      local effective = p.api:get(p.api:path("queues", "deadletter.search.products")).effective_policy_definition
      return type(effective) == "table" and effective["message-ttl"] == 86400000
    end, 20, "dead letters are kept for a day")
  end)

  it("takes everything that policies can say, and nothing else", function()
    local file = file_of [[return { exchanges = { e = { type = "topic", alternate_exchange = "amq.fanout" } }, queues = {
      ["a.b+c"] = { max_length = 5, max_priority = 3, single_active_consumer = true },
      q = { type = "quorum", delivery_limit = 7, dead_letter = { exchange = "e" } } } }]]
    local made = assert(json.decode(p:run("export", "--policies", "--topology", file).out))
    assert.are.same({ ["x-max-priority"] = 3, ["x-single-active-consumer"] = true }, made.queues[1].arguments)
    assert.are.same({ ["x-queue-type"] = "quorum" }, made.queues[2].arguments)
    assert.are.same({}, made.exchanges[1].arguments)
    local by = {}
    for _, policy in ipairs(made.policies) do by[policy.name] = policy end
    assert.are.equal("^a\\.b\\+c$", by["a.b+c"].pattern)
    assert.are.same({ ["max-length"] = 5 }, by["a.b+c"].definition)
    assert.are.same({ ["delivery-limit"] = 7, ["dead-letter-exchange"] = "e", ["dead-letter-strategy"] = "at-least-once",
      overflow = "reject-publish" }, by.q.definition)
    assert.are.same({ ["alternate-exchange"] = "amq.fanout" }, by.e.definition)
    assert.are.equal("exchanges", by.e["apply-to"])
  end)
end)

describe("--topology", function()
  it("may be a pipe: it is read once", function()
    local pipe = program.folder() .. "/pipe"
    os.execute("mkfifo " .. pipe)
    local writer = program.start("writer", { "sh", "-c", 'exec cat "$1" >"$2"', "sh",
      file_of "return { queues = { piped = {} } }", pipe })
    finally(function() writer:stop() end)
    local r = command.run({ "check", "--rules", "plugin", "--topology", pipe }, { seconds = 60 })
    assert.are.equal(0, r.code, r.err)
    contains(r.out, 'queue: "piped"')
  end)
end)
