--- main: `make chaos`. Clients of the library against real brokers, while everything breaks.
---
---     lua spec/chaos/main.lua [SEED] [MINUTES] [NODES] [RATE] [FAULT]
---
--- Without MINUTES (or with 0) every fault strikes once on one node, then those of a cluster on three. NODES: 1 or 3,
--- for one of the two only. FAULT: only the faults whose names begin so. The seed draws the faults, not the time they
--- meet: the same seed is the same schedule, not the same run.

package.path = "./?.lua;./examples/?.lua;" .. package.path

local faults = require "spec.chaos.faults"
local number = require "spec.chaos.number"
local report = require "spec.chaos.report"
local round = require "spec.chaos.round"

local seed = number("SEED", arg[1], os.time() % 1000000)
local minutes = number("MINUTES", arg[2], 0)
local only = number("NODES", arg[3], 0)
local rate = number("RATE", arg[4], 1)
local fault = arg[5] ~= "" and arg[5] or nil
if only ~= 0 and only ~= 1 and only ~= 3 then error("NODES: expected 1 or 3", 0) end

local folder = "build/chaos"
-- Some faults only a cluster has, some only one node.
local rounds = {}
for _, nodes in ipairs(only ~= 0 and { only } or { 1, 3 }) do
  if faults.of(nodes, fault)[1] then rounds[#rounds + 1] = nodes end
end
if not rounds[1] then error(("FAULT: no fault begins with %q; they are in spec/chaos/faults.lua"):format(fault), 0) end
local results = {}
for _, nodes in ipairs(rounds) do
  results[#results + 1] = round.run { nodes = nodes, seed = seed, rate = rate, fault = fault,
    folder = ("%s/%d"):format(folder, nodes), seconds = minutes > 0 and minutes * 60 / #rounds or nil }
end
local good = report.print(results, folder)
os.exit(good and 0 or 1, true)
