--- What `make chaos` judges by: its accounts find what is lost or out of order, and its proxy knows AMQP's frames.
--- The rounds themselves are `make chaos` and `make soak`; that a round fails when it must, `make chaos-mutants`.

local broker = require "spec.support.broker"
local eventbus = require "eventbus"
local faults = require "spec.chaos.faults"
local flows = require "spec.chaos.flows"
local forgotten = require "spec.chaos.forgotten"
local frames = require "spec.chaos.frames"
local journal = require "spec.chaos.journal"
local ledger = require "spec.chaos.ledger"
local program = require "spec.support.program"
local proxy = require "spec.chaos.proxy"
local socket = require "socket"
local wait_until = require("spec.support.wait").wait_until

describe("the accounts of make chaos", function()
  local folder, books, time

  before_each(function()
    folder, time = program.folder(), 1000
    books = ledger.new(folder)
  end)

  -- Lines of "kind id rest", a second apart.
  local function write(path, lines)
    local file = assert(io.open(path, "ab"))
    for _, line in ipairs(lines) do
      time = time + 1
      file:write((line:gsub("^(%u) ", ("%%1 %.6f "):format(time))), "\n")
    end
    file:close()
  end

  local function published(name, lines) write(ledger.publisher_path(folder, flows[name]), lines) end
  local function consumed(name, lines) write(ledger.consumer_path(folder, flows[name], 1), lines) end

  local function verdict()
    books:read()
    return books:verdict()
  end

  it("find a confirmed event that nobody handled, and no other", function()
    published("ordered", { "A ordered-1", "A ordered-2", "A ordered-3", "C ordered-1", "C ordered-2" })
    consumed("ordered", { "B ordered-1 1 first", "H ordered-1" })
    books:read()
    assert.are.equal(1, books:open())
    assert.are.same({ "ordered-2" }, verdict().lost)
  end)

  it("count one that was begun only as lost", function()
    published("ordered", { "A ordered-1", "C ordered-1" })
    consumed("ordered", { "B ordered-1 1 first" })
    assert.are.same({ "ordered-1" }, verdict().lost)
  end)

  it("do not count one that is with the dead letters, and name one that has no business there", function()
    published("failing", { "A failing-1", "A failing-2", "A failing-3", "C failing-1", "C failing-2", "C failing-3" })
    consumed("failing", { "B failing-1 1 first", "D failing-1", "B failing-2 1 first", "D failing-2" })
    books:letter "failing-1"
    books:letter "failing-3"
    local v = verdict()
    assert.are.same({ "failing-2" }, v.lost)
    assert.are.same({ "failing-3" }, v.stray)
    assert.are.equal(2, v.dead)
  end)

  it("find a first delivery out of order, within its key", function()
    published("keyed", { "A keyed-1", "A keyed-17", "A keyed-2" })
    consumed("keyed", { "B keyed-17 1 first", "B keyed-2 1 first", "B keyed-1 1 first", "B keyed-17 1 again" })
    local v = verdict()
    assert.are.equal(1, #v.disordered)
    assert.is_truthy(v.disordered[1]:match "^keyed%-1 after 17")
  end)

  it("know that what was published again has lost its place", function()
    published("ordered", { "A ordered-1", "A ordered-2", "R ordered-1 nacked" })
    consumed("ordered", { "B ordered-2 1 first", "B ordered-1 1 first" })
    assert.are.same({}, verdict().disordered)
  end)

  it("count what is handled twice", function()
    published("ordered", { "A ordered-1", "C ordered-1" })
    consumed("ordered", { "B ordered-1 1 first", "H ordered-1", "B ordered-1 1 again", "H ordered-1" })
    local v = verdict()
    assert.are.equal(1, v.handled)
    assert.are.equal(1, v.repeated)
  end)

  it("excuse what was in a deleted queue, not what came before or after", function()
    published("fragile", { "A fragile-1", "C fragile-1", "A fragile-2", "C fragile-2" })
    books:deleted(flows.fragile, time - 1.5, time + 0.5)
    published("fragile", { "A fragile-3", "C fragile-3" })
    local v = verdict()
    assert.are.same({ "fragile-1", "fragile-3" }, v.lost)
    assert.are.equal(1, v.gone)
    assert.are.equal("fragile-3: asked 6.000, confirmed 7.000, not begun, all before it handled 3.500, queue deleted 5.500",
      books:story("fragile-3", 999))
  end)

  it("excuse what a deleted queue got late, however early it was asked", function()
    published("fragile", { "A fragile-1", "A fragile-2", "C fragile-2", "C fragile-1" })
    books:deleted(flows.fragile, time - 0.5, time + 0.5)
    local v = verdict()
    assert.are.same({ "fragile-2" }, v.lost)
    assert.are.equal(1, v.gone)
  end)

  it("tell who has not gone on since a moment", function()
    for _, flow in ipairs(flows) do
      published(flow.name, { ("A %s-1"):format(flow.name) })
      if flow.name ~= "keyed" then consumed(flow.name, { ("H %s-1"):format(flow.name) }) end
    end
    books:read()
    assert.are.equal("keyed", books:behind(1000, function() return false end))
    assert.is_nil(books:behind(1000, function(flow) return flow.name == "keyed" end))
  end)

  it("read a line once it is complete, also after one that a kill cut off", function()
    local path = folder .. "/journal"
    local file = assert(io.open(path, "wb"))
    file:write "A 1.000000 ordered-1\nA 2.0000"
    file:close()
    local seen, reader = {}, journal.reader(path)
    local function visit(kind, _, id) seen[#seen + 1] = kind .. id end
    reader:read(visit)
    assert.are.same({ "Aordered-1" }, seen)
    journal.open(path):add("A", "ordered-2")
    reader:read(visit)
    assert.are.same({ "Aordered-1", "Aordered-2" }, seen)
  end)
end)

describe("the faults of make chaos", function()
  it("are undone before those whose end waits for the clients", function()
    for _, fault in ipairs(faults.of(3)) do
      local waits = fault.name == "queue deleted" or fault.name:find "^a frame cut" or fault.name:find "^a byte corrupted"
      assert.are.equal(waits and true or false, fault.patient or false, fault.name)
    end
  end)

  it("are all there are, or those whose names begin as was asked for, of one node or a cluster", function()
    local function names(nodes, name)
      local list = {}
      for i, fault in ipairs(faults.of(nodes, name)) do list[i] = fault.name end
      return list
    end
    assert.is_true(#names(1) > 20)
    assert.are.same({}, names(1, "network split"))
    assert.are.same({ "network split, cut", "network split, deaf", "network split, silent" }, names(3, "network split"))
  end)
end)

describe("deliveries that a queue counts and no channel knows of", function()
  it("are found, and the connections of those who consume it closed", function()
    local node, queue = broker.shared(), "chaos.forgotten"
    local bus = eventbus.assert(eventbus.connect { url = node:url_of("/"), source = "spec", log = false })
    finally(function()
      node:delete_queue("/", queue)
      bus:close()
    end)
    eventbus.assert(bus:declare { queues = { [queue] = { type = "quorum", delivery_limit = 20, dead_letter = false } } })
    for n = 1, 5 do eventbus.assert(bus:publish("", "order.created", { n = n }, { routing_key = queue })) end
    local held = {}
    eventbus.assert(bus:subscribe(queue, function(_, ctx)
      held[#held + 1] = ctx
      coroutine.yield()
    end, { prefetch = 2, concurrency = 2, retry = false, dead_letter = false }))
    wait_until(function()
      bus:poll(0.05)
      return #held == 2
    end, 20, "two are held")
    assert.is_nil(forgotten.standing(node, 0.5)[queue])
    -- A consumer that is no channel takes two more.
    node:eval(([[begin
      {ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)),
      {ok, _, _} = ra:process_command(amqqueue:get_pid(Q),
        rabbit_fifo:make_checkout({<<"nobody">>, spawn(fun() -> timer:sleep(60000) end)}, {auto, 2, simple_prefetch},
          #{})), ok end]]):format(queue))
    assert.is_true(forgotten.standing(node, 0.5)[queue])
    assert.are.equal(1, forgotten.close(node, queue))
    wait_until(function()
      bus:poll(0.05)
      return #held > 2
    end, 20, "what it held comes again")
  end)
end)

describe("the proxy", function()
  it("says how it ended when it has died", function()
    local p = proxy.start()
    assert.is_nil(p:died())
    p.process:signal "KILL"
    assert.are.equal("exit code 137", wait_until(function() return p:died() end, 20, "it is gone"):match "^[^\n]*")
  end)
end)

describe("a node's name in the epmd of another", function()
  local function known(port)
    local pipe = io.popen(("epmd -port %d -names 2>&1"):format(port))
    local names = pipe:read "*a"
    pipe:close()
    return names:find("name other at port 4711", 1, true) ~= nil
  end

  it("is there again when that epmd was replaced, as after a start that was given up", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local port = select(2, listener:getsockname())
    listener:close()
    local function start() return program.start("epmd", { "epmd", "-port", tostring(port), "-address", "127.0.0.1" }) end
    local epmd, between = start(), proxy.start()
    finally(function()
      epmd:signal "KILL"
      between:stop()
    end)
    wait_until(function() return socket.connect("127.0.0.1", port) end, 20, "epmd listens")
    between:alias(port, "other", 4711)
    assert.is_true(known(port))
    epmd:signal "KILL"
    epmd:wait(20)
    epmd = start()
    wait_until(function() return known(port) end, 20, "the new epmd knows the name")
  end)
end)

describe("the proxy's frames", function()
  local function frame(kind, payload)
    return string.char(kind, 0, 1, 0, 0, math.floor(#payload / 256), #payload % 256) .. payload .. "\206"
  end

  local bytes = frame(1, "method") .. frame(8, "") .. frame(3, ("body"):rep(100))

  it("have their checked octets at the begin and the end, wherever the stream is cut", function()
    local checked = {}
    local at = 1
    for _, size in ipairs { 14, 8, 408 } do
      checked[at], checked[at + size - 1] = true, true
      at = at + size
    end
    for step = 1, #bytes do
      local stream, found = frames.new(false), 0
      for from = 1, #bytes, step do
        local position = stream:take(bytes:sub(from, from + step - 1))
        if position then
          found = found + 1
          assert.is_true(checked[from + position - 1] ~= nil)
        end
      end
      assert.is_true(found > 0)
    end
  end)

  it("are told apart after a client's protocol header, and have a midst that is not an end", function()
    local checked, midst = frames.new(true):take("AMQP\0\0\9\1" .. frame(1, "method"))
    assert.are.equal(9, checked)
    assert.is_true(midst > 9 + 7 and midst < 8 + 14)
    assert.is_nil((frames.new(true):take "AMQP\0"))
  end)
end)
