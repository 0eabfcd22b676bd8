--- What an event costs the client: the library beside the plain C program, in turns, on one private broker: CPU, how often a
--- thread of it is woken, events per second, and the latency. Prints medians, and those of the ratios of
--- each turn; asserts nothing. With these defaults two minutes, on a machine that has nothing else to do.
---
---     quick.lua [EVENTS [ROUNDS [DOCUMENT]]]     DOCUMENT: the wake-ups are written into it

package.path = "./?.lua;" .. package.path

local clients = require "bench.suite.clients"
local jobs = require "bench.suite.jobs"
local machine = require "bench.suite.machine"
local marks = require "bench.suite.marks"
local node = require "bench.suite.node"
local samples = require "bench.suite.samples"
local shell = require "bench.suite.shell"

local events, rounds = tonumber(arg[1] or 20000), tonumber(arg[2] or 3)
local LUA = os.getenv("EVENTBUS_LUA") or "lua5.4"

-- The plain C program, and the library on the Lua that runs this.
local compared = { [2] = {
  name = "eventbus", command = LUA .. " bench/peers/eventbus/client.lua",
  version = function()
    return ("%s on %s"):format(require("eventbus")._VERSION, shell.output(LUA .. " -v"):match "^%S+ [%d.]+")
  end,
} }
for _, client in ipairs(clients) do
  if client.floor then compared[1] = client end
end

local SHOWN = {
  { "publish", "publish" }, { "publish-one", "publish, one at a time" }, { "consume", "consume" },
  { "latency", "500 events a second" },
}
local WANTED = { ["publish, consume"] = true, ["publish-one"] = true, latency = true }

local broker = node.start()
local bench = { node = broker }
function bench.command(client, job, count, queue)
  return ("%s %s %d %s %s"):format(client.command, job, count, shell.quote(broker.url), queue)
end

local taken = samples.new()
local function measure(round)
  for _, job in ipairs(jobs) do
    local turns = WANTED[job.name] and math.ceil((job.turns or 1) / 3) or 0
    for turn = (round - 1) * turns + 1, round * turns do
      for _, client in ipairs(jobs.rotated(compared, turn)) do
        job.run(bench, client, job.count(events), nil, function(name, figures, why)
          if not figures then error(("%s, %s: %s"):format(client.name, name, why), 0) end
          taken:record(turn, name, client.name, nil, figures)
        end)
      end
    end
  end
end

local facts
local ok, err = pcall(function()
  facts = machine.describe(broker, compared)
  for round = 1, rounds do measure(round) end
end)
broker:stop()
if not ok then error(err, 0) end

for _, fact in ipairs(facts) do print(("%s: %s"):format(fact[1], fact[2])) end
print(("%d events, %d rounds, medians (x: of the ratios of each turn, of which the latency has three a round); "
  .. "CPU and wake-ups are those of the client, all its threads\n"):format(events, rounds))
print(("%-24s %-9s %14s %6s %17s %10s %8s"):format("", "", "CPU us/event", "", "wake-ups/1,000", "events/s", "p99 ms"))
for _, job in ipairs(SHOWN) do
  for _, client in ipairs(compared) do
    local function of(what) return taken:median(job[1], client.name, what) end
    local p99 = job[1] == "latency" and ("%.2f"):format(of(samples.field "p99_us") / 1000) or "-"
    local ratio = taken:ratio(samples.cpu_us, { job[1], client.name }, { job[1], compared[1].name })
    print(("%-24s %-9s %14.2f %5.2fx %17.0f %10.0f %8s"):format(job[2], client.name, of(samples.cpu_us),
      ratio.median, of(samples.wakeups), of(samples.rate), p99))
  end
end
local stolen = taken:over("latency", samples.field "stolen")
if stolen then
  print(("processor time that the host took, at 500 events a second: %.1f %% (%.0f to %.0f)"):format(
    stolen.median, stolen.least, stolen.most))
end
print(("resident at most, publishing, eventbus: %.1f MB"):format(
  taken:median("publish", "eventbus", samples.field "rss_kb") / 1024))

if arg[3] then
  local lines = { "| |", "|---|" .. ("---:|"):rep(#SHOWN) }
  for _, job in ipairs(SHOWN) do lines[1] = lines[1] .. " " .. job[2] .. " |" end
  for _, client in ipairs(compared) do
    local cells = { "| " .. client.name }
    for i, job in ipairs(SHOWN) do cells[i + 1] = ("%.0f"):format(taken:median(job[1], client.name, samples.wakeups)) end
    lines[#lines + 1] = table.concat(cells, " | ") .. " |"
  end
  local about = ("%s%d events, medians of %d rounds.\n\n"):format(machine.sentence(facts), events, rounds)
  marks.write(arg[3], { wakeups = about .. table.concat(lines, "\n") .. "\n" })
end
