-- The demo: the whole platform on a private RabbitMQ. `make demo`
--
-- Each section shows something and then checks that it happened; the exit code is 0 only when all did. Everything that
-- was started is stopped again, also after an error or Ctrl-C.

local root = (arg[0]:match("^(.*)examples/demo%.lua$") or "./"):gsub("^$", "./")
package.path = root .. "examples/?.lua;" .. package.path

local children = require "demo.children"
local screen = require "demo.screen"
local watch = require "demo.watch"
local eventbus = require "eventbus"
local platform = require "eventbus.platform"
local topology = require "eventbus.topology"

local CHAT = "-1001234567890"
local RETRIES, DELAY = 2, 1

-- File, and how its lines are shown.
local SERVICES = {
  { "notification", "service" }, { "crm", "service" }, { "search", "service" }, { "analytics", "silent" },
  { "warehouse", "service" }, { "telegram_bot", "service" }, { "order_processing", "service" },
}

local lua = os.getenv "EVENTBUS_LUA" or arg[-1] or "lua5.4"
local quote = children.quote
local checks = 0

local function check(condition, text, ...)
  if select("#", ...) > 0 then text = text:format(...) end
  if not condition then error({ failed = text }, 0) end
  checks = checks + 1
  screen.passed(text)
  return condition
end

local function read_command(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("*a")
  return text, pipe:close()
end

local demo = {}

function demo:broker_command(verb, more)
  return ("%s %s %s %s"):format(quote(root .. "bin/eventbus-broker"), verb, quote(self.folder .. "/broker"), more or "")
end

function demo:start_broker()
  screen.section "A private RabbitMQ"
  os.execute("mkdir -p " .. quote(self.folder .. "/broker"))
  -- When our end of this pipe closes, for whatever reason, the guard stops the broker and removes its folder.
  self.guard = assert(io.popen("exec " .. self:broker_command("guard") .. " >/dev/null 2>&1", "w"))
  local text, ok = read_command(self:broker_command("start") .. " 2>&1")
  self.url, self.broker_pid = text:match("AMQP_URL=(%S+)"), text:match("\nPID=(%d+)")
  if not (ok and self.url) then screen.note(text) end
  check(self.url, "it answers on %s after %.1f s", tostring(self.url):gsub("//.*@", "//"), self.watch:now())
end

function demo:declare()
  screen.section "The platform's topology"
  self.bus = eventbus.assert(eventbus.connect { url = self.url, source = "demo" })
  local plan = topology.normalise(platform.topology)
  local exchanges, queues, dead = {}, 0, 0
  for name, exchange in pairs(plan.exchanges) do exchanges[#exchanges + 1] = ("%s (%s)"):format(name, exchange.type) end
  for _, queue in pairs(plan.queues) do
    if queue.dead_letters then dead = dead + 1 else queues = queues + 1 end
  end
  table.sort(exchanges)
  screen.note("exchanges: " .. table.concat(exchanges, ", ", 1, 4) .. ",")
  screen.note("           " .. table.concat(exchanges, ", ", 5))
  check(#topology.lint(platform.topology, platform.catalogue) == 0, "lint finds no trap in it")
  eventbus.assert(self.bus:declare(platform.topology))
  local found = read_command(self:broker_command("eval", quote "length(rabbit_amqqueue:list(<<\"/\">>))"))
  check(tonumber(found) == queues + dead, "%d exchanges, %d queues, %d dead-letter queues and %d bindings are declared",
    #exchanges, queues, dead, #plan.bindings)
end

function demo:start_services()
  screen.section "Six services and the order service's worker, each a process of its own"
  local peer = self.children:start("outside", { lua, root .. "examples/demo/endpoint.lua", self.folder })
  peer.may_be_killed = true
  self.watch:follow(peer, "peer")
  local endpoint = self.watch:wait(30, function() return peer.said[1] and peer.said[1]:match("http://%S+") end)
  check(endpoint, "Telegram and a carrier are played by %s", tostring(endpoint))
  self.peer = peer
  self.environment = {
    RABBITMQ_URL = self.url, RABBITMQ_RETRY_COUNT = tostring(RETRIES), RABBITMQ_RETRY_DELAY = DELAY .. "s",
    TELEGRAM_API = endpoint, TELEGRAM_TOKEN = "123456:demo", CARRIER_API = endpoint,
    NOTIFY_DB = self.folder .. "/notify.db", SEARCH_DB = self.folder .. "/search.db",
    CRM_DB = self.folder .. "/crm.db", WAREHOUSE_DB = self.folder .. "/warehouse.db",
    ANALYTICS_DB = self.folder .. "/analytics.db", OMS_CHAT = CHAT, OMS_PAUSE = "0.15",
  }
  for _, service in ipairs(SERVICES) do
    local file, kind = service[1], service[2]
    local child = self.children:start((file:gsub("_", "-")),
      { lua, root .. "bin/eventbus", "run", root .. "examples/" .. file .. ".lua" }, self.environment)
    self.watch:follow(child, kind)
    self[file] = child
  end
  check(self.watch:wait(60, function()
    for _, service in ipairs(SERVICES) do
      if not self[service[1]].ready then return false end
    end
    return true
  end), "all %d are consuming", #SERVICES)
end

function demo:handled(queue, id)
  return #self.watch:said { queue = queue, id = id, outcome = "done" } > 0
end

-- The first queue that has yet to handle one of the published events.
function demo:outstanding()
  for _, event in ipairs(self.watch.published) do
    for _, queue in ipairs(topology.route(platform.topology, platform.exchange_of(event.type), event.type)) do
      if not self:handled(queue, event.id) then return queue .. " has yet to handle " .. event.type end
    end
  end
end

function demo:order_life()
  screen.section "An order's whole life"
  screen.note "Analytics counts along in silence."
  local oms = self.children:start("oms", { lua, root .. "examples/oms.lua", "order_42", "tenant_abc" }, self.environment)
  oms.may_be_killed = true
  self.watch:follow(oms, "publisher")
  self.watch:wait(60, function() return children.ended(oms) end)
  self.watch:poll(true)
  check(children.wait(oms, 1) == 0, "the OMS has published %d events, each confirmed", #self.watch.published)
  local done = self.watch:wait(60, function() return not self:outstanding() end)
  check(done, done and "every queue it reaches has handled every event" or self:outstanding())
  for _, expected in ipairs { { "order.shipped", "notification.orders" }, { "product.stock.low", "warehouse.stock" } } do
    local type, queue = expected[1], expected[2]
    check(self.watch:wait(30, function() return #self.watch:said { queue = queue, type = type, outcome = "done" } > 0 end),
      "a service's own %s has reached %s", type, queue)
  end
end

function demo:telegram()
  screen.section "A Telegram message, once asked to wait"
  local requests = {}
  for _, line in ipairs(self.peer.said) do
    if line:find("sendMessage", 1, true) then requests[#requests + 1] = line end
  end
  for _, line in ipairs(requests) do screen.note((line:gsub("^.*POST ", ""))) end
  check(#requests == 2 and requests[1]:find("429", 1, true) and requests[2]:find("200", 1, true),
    "the first was answered 429, the second 200")
  check(requests[2]:find('"chat_id":' .. CHAT:gsub("%-", "%%-") .. "%f[^%d]"), "chat id %s arrived to the last digit", CHAT)
end

function demo:carrier(up)
  if up then return os.remove(self.folder .. "/carrier.down") end
  local file = assert(io.open(self.folder .. "/carrier.down", "wb"))
  file:close()
end

function demo:failing_handler()
  screen.section(("A handler that fails: the carrier is down, %d retries, %d s apart"):format(RETRIES, DELAY))
  self:carrier(false)
  self.late = eventbus.assert(self.bus:publish("orders", "order.processing", { order_id = "order_late" },
    { tenant_id = "tenant_abc", correlation_id = "req_order_late" }))
  local attempts = self.watch:wait(60, function()
    local said = self.watch:said { queue = "order.processing", id = self.late }
    return #said > RETRIES and said
  end)
  check(attempts, "the handler was called %d times", RETRIES + 1)
  check(#self.peer.refused == #attempts, "the carrier answered each with 503")
  for i = 2, #attempts do
    -- As the carrier saw them: a service writes its line when the copy is confirmed, later than the delay began.
    local gap = self.peer.refused[i] - self.peer.refused[i - 1]
    check(attempts[i].attempt == i and gap > DELAY - 0.01, "attempt %d came %.2f s after attempt %d", i, gap, i - 1)
  end
end

function demo:dead_letter()
  screen.section "The dead letter"
  local letter = self.watch:wait(30, function() return self.bus:get("deadletter.orders") end)
  check(letter, "deadletter.orders holds it")
  local headers, names = letter:headers(), {}
  for name in pairs(headers) do
    if name:find("^x%-eventbus%-") then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do screen.note(("%-26s %s"):format(name, (tostring(headers[name]):gsub("\n.*", "")))) end
  check(letter:event().id == self.late, "it is the event that was published")
  check(tostring(headers["x-eventbus-error"]):find("the carrier answered 503", 1, true)
    and headers["x-eventbus-attempt"] == RETRIES + 1
    and headers["x-eventbus-exchange"] == "orders" and headers["x-eventbus-routing-key"] == "order.processing"
    and headers["x-eventbus-queue"] == "order.processing", "it says why, after how many attempts and where it came from")
  self.letter = letter
end

-- Confirm first, then ack: whatever happens in between, the event is in one place at least.
function demo:replay()
  screen.section "The carrier is up again: the dead letter is replayed"
  self:carrier(true)
  eventbus.assert(self.letter:replay { exchange = "", routing_key = "order.processing" })
  check(true, "published to order.processing again as it was, confirmed, then taken off the dead letters")
  check(self.watch:wait(60, function() return self:handled("order.processing", self.late) end),
    "this time the handler succeeds")
  check(self.watch:wait(30, function()
    for _, said in ipairs(self.watch:said { queue = "notification.orders", type = "order.shipped" }) do
      if said.details[1]:find("order_late", 1, true) then return true end
    end
  end), "and the customer of order_late hears of it")
end

function demo:depth(queue)
  return eventbus.assert(self.bus:queue_info(queue)).messages
end

function demo:counts()
  screen.section "What went through each queue"
  local rows, left = {}, 0
  for _, service in ipairs(platform.services) do
    local names = {}
    for name in pairs(service.queues) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      local handled, failed = 0, 0
      for _, said in ipairs(self.watch:said { queue = name }) do
        if said.outcome == "done" then handled = handled + 1 else failed = failed + 1 end
      end
      local ready = self:depth(name)
      local dead = self:depth(service.queues[name].dead_letters or "deadletter." .. name)
      left = left + ready + dead
      rows[#rows + 1] = { name, service.name, handled, failed, ready, dead }
    end
  end
  screen.table({ "queue", "service", "handled", "failed attempts", "left", "dead letters" }, rows)
  check(left == 0, "no queue holds anything any more")
end

--- Ends everything that was started; a list of what did not end as it should.
function demo:stop()
  local failed = self.children:stop()
  if self.bus then
    local closed, raised = pcall(self.bus.close, self.bus)
    if not closed then failed[#failed + 1] = "the bus: " .. tostring(raised) end
  end
  if self.guard then self.guard:close() end
  local broker = self.broker_pid and { pid = self.broker_pid, pipe = true }
  if broker and not children.ended(broker) then failed[#failed + 1] = "the broker" end
  self.children:close()
  return failed
end

function demo:run()
  self:start_broker()
  self:declare()
  self:start_services()
  self:order_life()
  self:telegram()
  self:failing_handler()
  self:dead_letter()
  self:replay()
  self:counts()
end

demo.folder = read_command('mktemp -d "${TMPDIR:-/tmp}/eventbus-demo.XXXXXX"'):gsub("%s+$", "")
demo.watch = watch.new()
demo.children = children.new(demo.folder)

local ok, err = xpcall(function() demo:run() end, function(raised)
  if type(raised) == "table" then return raised end
  -- What the interpreter raises on Ctrl-C.
  if tostring(raised):find("interrupted!", 1, true) then return { failed = "interrupted" } end
  return debug.traceback(tostring(raised), 2)
end)
if not ok then
  pcall(demo.watch.poll, demo.watch, true)
  screen.failed(type(err) == "table" and err.failed or tostring(err))
end

screen.section "The end"
local failed = demo:stop()
if #failed == 0 then
  check(true, "all processes have stopped, each with exit code 0, the broker too")
else
  screen.failed("not stopped as asked: " .. table.concat(failed, ", "))
  ok = false
end
screen.write("")
screen.write(("%s: %d checks passed in %.0f s"):format(ok and "The demo is complete" or "THE DEMO HAS FAILED", checks,
  demo.watch:now()))
os.exit(ok and 0 or 1)
