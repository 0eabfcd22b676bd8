--- Buses that come to nothing: nobody listens, wrong files, mistakes of the program, closed with work under way.

local eventbus = require "eventbus"

local bus, err = eventbus.connect { url = "amqp://127.0.0.1:1", log = false }
assert(not bus and err.code == "connection")
bus, err = eventbus.connect { url = "amqps://127.0.0.1:1?cacertfile=/none", log = false }
assert(not bus and err.code == "tls")
assert(not pcall(eventbus.connect, { url = "amqp://127.0.0.1:1", window = "x" }))

bus = assert(eventbus.connect { url = "amqp://127.0.0.1:1", lazy = true, log = false, publish_timeout = 0.2 })
for _ = 1, 20 do assert(bus:publish_async("x", "y", { text = ("x"):rep(1000) })) end
local id
id, err = bus:publish("x", "y", {})
assert(not id and err.code == "timeout")
bus:close(0)

-- Never closed: the state's end is theirs, too.
bus = assert(eventbus.connect { url = "amqp://127.0.0.1:1", lazy = true, log = false })
bus:publish_async("x", "y", {})
