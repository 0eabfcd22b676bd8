-- handlers: what the host of host.c runs. `host` is the table of C functions that it offers.

local host = assert(rawget(_G, "host"), "run it in the host: make embed")
local eventbus = require "eventbus"

io.stdout:setvbuf "line"
local bus = eventbus.assert(eventbus.connect { source = "thermometer" })
eventbus.assert(bus:declare {
  exchanges = { sensors = { type = "topic" } },
  queues = { ["sensors.log"] = { bindings = { { exchange = "sensors", routing_key = "sensor.#" } } } },
})

local READINGS = 3
local logged = 0
eventbus.assert(bus:subscribe("sensors.log", {
  ["sensor.read"] = function(event)
    print(("sensor %d: %.1f degrees"):format(event.data.sensor, event.data.degrees))
    logged = logged + 1
    if logged == READINGS then bus:stop() end
  end,
}))

for sensor = 1, READINGS do
  eventbus.assert(bus:publish("sensors", "sensor.read", { sensor = sensor, degrees = host.read(sensor) }))
end
eventbus.assert(bus:run { timeout = 30 })
bus:close()
