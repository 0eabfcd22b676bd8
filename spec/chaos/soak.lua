--- soak: `make soak`. The same events at a steady rate, a fault every 20 s, and memory, descriptors and threads of
--- the clients.
---
---     lua spec/chaos/soak.lua [SEED] [MINUTES]

package.path = "./?.lua;./examples/?.lua;" .. package.path

local gauges = require "spec.chaos.gauges"
local number = require "spec.chaos.number"
local report = require "spec.chaos.report"
local round = require "spec.chaos.round"

local seed = number("SEED", arg[1], os.time() % 1000000)
local minutes = number("MINUTES", arg[2], 10)
local gauged = gauges.new()
local result = round.run { nodes = 1, seed = seed, rate = 1, folder = "build/soak", seconds = minutes * 60,
  gauges = gauged }
local flat, risen = gauged:verdict()
for _, text in ipairs(risen) do print("  WRONG: " .. text) end
local good = report.print({ result }, "build/soak", flat, #risen)
os.exit(good and 0 or 1, true)
