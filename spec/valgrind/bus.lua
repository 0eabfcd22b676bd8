--- Connect, publish, consume, fail, dead-letter, close: over TCP and over TLS, which RABBITMQ_URL says.

local eventbus = require "eventbus"
local core = eventbus.core

local bus = eventbus.assert(eventbus.connect { source = "valgrind", connection_timeout = 120, timeout = 120, log = false })
eventbus.assert(bus:declare { queues = { valgrind = {} } })
local handled, letters = 0, 0
eventbus.assert(bus:subscribe("valgrind", {
  ["fine.*"] = function(event) handled = handled + #event.data.text / 100 end,
  ["bad"] = function() error { code = "bad" } end,
}, { retry = { count = 1, delay = "100ms" } }))
eventbus.assert(bus:subscribe("deadletter.valgrind", function() letters = letters + 1 end))

for n = 1, 20 do
  eventbus.assert(bus:publish("", "fine.one", { text = ("x"):rep(100), n = n }, { routing_key = "valgrind",
    headers = { list = { 1, "two", true }, n = n } }))
end
for _ = 1, 100 do
  eventbus.assert(bus:publish_async("", "fine.many", { text = ("x"):rep(100) }, { routing_key = "valgrind" }))
end
eventbus.assert(bus:flush())
eventbus.assert(bus:publish("", "bad", { text = "" }, { routing_key = "valgrind" }))
eventbus.assert(bus:publish("", "fine.large", { text = ("x"):rep(300000) }, { routing_key = "valgrind" }))
local id, err = bus:publish("", "nowhere", {}, { mandatory = true, routing_key = "no such queue" })
assert(id == nil and err.code == "returned")
id, err = bus:publish("no such exchange", "nowhere", {})
assert(id == nil and err.code == "not_found")

local deadline = core.now() + 120
while (handled < 3120 or letters < 1) and core.now() < deadline do bus:poll(0.1) end
assert(handled == 3120, handled)
assert(letters == 1, letters)
assert(tostring(bus) and bus:stats())
assert(bus:close())
