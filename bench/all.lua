--- make bench: the same jobs through the library and what a user would take instead, in turns on one private broker.
--- Prints as it goes, and writes docs/benchmarks.md and docs/benchmarks.svg: every figure in them is of this run.
---
---     all.lua [EVENTS [ROUNDS [long [JOB]]]]     JOB: only jobs whose name has this text; then nothing is written to docs/
---     all.lua again                              writes docs/ of what the last run has measured

package.path = "./?.lua;" .. package.path

local clients = require "bench.suite.clients"
local jobs = require "bench.suite.jobs"
local machine = require "bench.suite.machine"
local node = require "bench.suite.node"
local report = require "bench.suite.report"
local samples = require "bench.suite.samples"
local shell = require "bench.suite.shell"

local DATA, DOCUMENT, PLOT = "build/bench/samples.txt", "docs/benchmarks.md", "docs/benchmarks.svg"

local function write(path, text)
  local file = assert(io.open(path, "w"))
  assert(file:write(text))
  assert(file:close())
end

local function write_documents(taken)
  local text, plot = report.write(taken, clients)
  write(DOCUMENT, text)
  write(PLOT, plot)
  print(report.summary(taken, clients))
  print(("written: %s, %s; all samples are in %s"):format(DOCUMENT, PLOT, DATA))
end

if arg[1] == "again" then
  local taken = samples.read(DATA)
  if taken.settings.whole ~= 1 then error(DATA .. " is of one job: run all of them first", 0) end
  return write_documents(taken)
end

local events, rounds, long, only = tonumber(arg[1] or 20000), tonumber(arg[2] or 3), arg[3] == "long", arg[4]

local broker = node.start()
local bench = { node = broker }
function bench.command(client, job, count, queue, extra)
  return ("env NODE_PATH=build/bench/peers/node_modules %s %s %d %s %s%s%s"):format(client.command, job, count,
    shell.quote(broker.url), queue, extra and " " .. extra or "", client.arguments or "")
end

local taken = samples.new(DATA, { events = events, rounds = rounds, long = long and 1 or 0, whole = only and 0 or 1 })

local function can(client, job)
  if job.takes then return job.takes(client) end
  if client.json_only and not job.json then return false end
  return not (client.cannot and client.cannot[job.name])
end

local function turn(number, job, variant, failures)
  local able = {}
  for _, client in ipairs(clients) do
    if can(client, job) then able[#able + 1] = client end
  end
  for _, client in ipairs(jobs.rotated(able, number)) do
    job.run(bench, client, job.count and job.count(events), variant or nil, function(name, figures, why)
      taken:record(number, name, client.name, variant or nil, figures, why)
      if not figures then failures[#failures + 1] = ("  %s, %s: %s"):format(client.name, name, why) end
    end)
  end
end

local function measure(round)
  for _, job in ipairs(jobs) do
    if (round == 1 or not job.once) and (not only or job.name:find(only, 1, true)) then
      local began, failures = os.time(), {}
      io.write(("round %d of %d: %s"):format(round, rounds, job.name))
      io.flush()
      for _, variant in ipairs(job.variants and job.variants(long, round) or { false }) do
        local turns = job.turns or 1
        for i = 1, turns do turn((round - 1) * turns + i, job, variant, failures) end
      end
      print((" (%d s)"):format(os.time() - began))
      for _, line in ipairs(failures) do print(line) end
    end
  end
end

local ok, err = pcall(function()
  taken:tell(machine.describe(broker, clients))
  for round = 1, rounds do measure(round) end
  if only then print((report.write(taken, clients))) else write_documents(taken) end
end)
broker:stop()
if not ok then error(err, 0) end
