--- jobs: what is measured and how.
---
--- A job has a name; `count(events)`; `once` when one round of it is enough; `turns`, how often all clients go through it in
--- a round, when its figures scatter; `takes(client)`, whether it is for that client; `variants(long, round)`, a list, when
--- it is done several times; and `run(bench, client, count, variant, record)`, which calls `record(name, figures)`, or
--- `record(name, nil, why)`, for each thing measured. `bench` has the node, and `command`, a function that puts the words of
--- a client's program together.

local clients = require "bench.suite.clients"
local machine = require "bench.suite.machine"
local shell = require "bench.suite.shell"

local jobs = {}

--- The clients of a turn: each begins with the next, so that none is always first, or always last.
function jobs.rotated(list, turn)
  local order = {}
  for i = 1, #list do order[i] = list[(i + turn - 2) % #list + 1] end
  return order
end

local SECONDS = 120
local QUEUE = "bench"

local function figures(text)
  local found = {}
  for key, value in text:gmatch "([%w_]+)=([%d.]+)" do found[key] = tonumber(value) end
  return found.seconds and found
end

-- The figures that a process leaves at its end, or nil and why there are none.
local function outcome(process, seconds)
  local out, said, code = process.wait()
  local found = code == 0 and figures(out)
  if found then return found end
  if code == 124 then return nil, ("did not end within %d s"):format(seconds or SECONDS) end
  -- The last that is not indented, as the lines of a backtrace are.
  local last = ("\n" .. said):match ".*\n(%S[^\n]*)"
  return nil, last or "exit code " .. tostring(code)
end

local function one(bench, client, job, count, extra, seconds)
  local stolen = machine.theft()
  local found, why = outcome(shell.start(bench.command(client, job, count, QUEUE, extra), seconds or SECONDS), seconds)
  if found then found.stolen = stolen() end
  return found, why
end

local function share(part, least)
  return function(events) return math.max(least or 10, math.floor(events * part)) end
end

-- A job that is the program's job of the same name, or `program`.
local function plain(name, part, more)
  local job = more or {}
  job.name, job.count = name, share(part)
  function job.run(bench, client, count, _, record)
    record(name, one(bench, client, job.program or name, count))
    if not job.json then bench.node:clear() end
  end
  jobs[#jobs + 1] = job
end

local function ours(client) return client.name == "eventbus" end

local function floor_or_ours(client) return client.floor or ours(client) end

-- Those that are next to one another where the broker is what bounds all.
local function next_to_the_floor(client) return floor_or_ours(client) or client.name == "php-amqp" end

jobs[#jobs + 1] = {
  name = "publish, consume", count = share(1), turns = 3,
  run = function(bench, client, count, _, record)
    record("publish", one(bench, client, "publish", count))
    record("consume", one(bench, client, "consume", count))  -- what that has left in the queue
    bench.node:clear()
  end,
}
plain("publish-one", 0.05, { turns = 3 })
plain("publish-none", 1, { turns = 3 })
plain("latency", 0.05, { turns = 9 })  -- short ones: what disturbs the machine is in few of them
-- What lies so close that the turns of all do not tell it: of few, with nobody between, in many turns.
plain("publish-none, close", 1, { program = "publish-none", turns = 10, takes = next_to_the_floor })
jobs[#jobs + 1] = {
  name = "latency, close", count = share(0.05), turns = 20, takes = floor_or_ours,
  run = function(bench, client, count, _, record)
    record("latency, close", one(bench, client, "latency", count))
    bench.node:clear()
    if not client.floor then return end
    record("latency together, close", one(bench, client, "latency-together", count))
    bench.node:clear()
  end,
}
plain("topology", 0.05, { once = true })

-- CPU of a process so far, in seconds: the kernel's ticks are hundredths.
local function cpu_of(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return 0 end
  local fields = {}
  for word in file:read("*a"):gsub("^.*%) ", ""):gmatch "%S+" do fields[#fields + 1] = word end
  file:close()
  return (tonumber(fields[12]) + tonumber(fields[13])) / 100
end

jobs[#jobs + 1] = {
  name = "consumers", count = share(0.05), once = true,
  run = function(bench, client, count, _, record)
    local process = shell.start(bench.command(client, "consumers", count, QUEUE), 2 * SECONDS)
    local pid = (process.line() or ""):match "ready pid=(%d+)"
    if not pid then
      record("consumers", outcome(process, 2 * SECONDS))
    else
      local before = cpu_of(pid)
      local ms = bench.node:reconnected(QUEUE, count)
      local spent = cpu_of(pid) - before
      os.execute("kill " .. pid)
      process.wait()
      if ms then
        record("consumers", { events = count, seconds = ms / 1000, cpu = spent })
      else
        record("consumers", nil, "not all consumers were back after a minute")
      end
    end
    bench.node:clear()
  end,
}

for _, what in ipairs { "encode", "decode" } do
  plain(what .. "-small", 2.5, { json = true })
  plain(what .. "-10k", 0.025, { json = true })
  plain(what .. "-1m", 0.002, { json = true, turns = 3 })
end

-- Several processes at once, each with its own share; figures of all together. Seconds: from the first that began to the
-- last that ended, on the clock they have in common.
local function in_parallel(bench, client, job, count, workers)
  -- The warm-up, a tenth of the share, comes on top.
  local part, processes = math.floor(count / workers / 10) * 10, {}
  for i = 1, workers do processes[i] = shell.start(bench.command(client, job, part, QUEUE), SECONDS) end
  local sum, failure = { events = part * workers, cpu = 0, rss_kb = 0 }, nil
  local began, ended = math.huge, 0
  for _, process in ipairs(processes) do
    local found, why = outcome(process)
    if found then
      began, ended = math.min(began, found.began), math.max(ended, found.began + found.seconds)
      sum.cpu, sum.rss_kb = sum.cpu + found.cpu, sum.rss_kb + found.rss_kb
    end
    failure = failure or why
  end
  if failure then return nil, failure end
  sum.seconds = ended - began
  return sum
end

jobs[#jobs + 1] = {
  name = "workers", count = share(1, 40), variants = function() return { 1, 2, 4 } end,
  takes = floor_or_ours,
  run = function(bench, client, count, workers, record)
    record("workers-publish", in_parallel(bench, client, "publish", count, workers))
    record("workers-consume", in_parallel(bench, client, "consume", count, workers))
    bench.node:clear()
  end,
}

local function publisher()
  for _, client in ipairs(clients) do
    if ours(client) then return client end
  end
end

-- One program publishes for all that consume. How events come is part of what is measured: as fast as the broker gives them,
-- in piles where there is one queue and one by one where there are many; or at a pace where each comes by itself anyway.
local function subscriptions(name, part, pace, turns)
  jobs[#jobs + 1] = {
    name = name, count = share(part), turns = turns, takes = floor_or_ours,
    variants = function() return { 1, 10, 100, 1000 } end,
    run = function(bench, client, count, number, record)
      local process = shell.start(bench.command(client, "fan", count, QUEUE, number), SECONDS)
      if process.line() then one(bench, publisher(), "spread", count, number .. pace) end
      record(name, outcome(process))
      bench.node:clear()
    end,
  }
end

subscriptions("subscriptions", 1, "")
subscriptions("subscriptions-paced", 0.1, " 500", 2)

-- Of a thousand events a tenth would not fill the window once: what was measured would be the start.
local WARM = 2000

-- A short run says little: a sample is of so many of them at most, of so many events together.
local RUNS, ENOUGH = 10, 40000

-- Figures of two runs as one; of the first, nil, and the second.
local function together(had, more)
  if not had then return more end
  local sum = { rss_kb = math.max(had.rss_kb, more.rss_kb) }
  for _, name in ipairs { "events", "seconds", "cpu", "wakeups" } do sum[name] = had[name] + more[name] end
  return sum
end

-- Figures of publishing and of consuming, or nil, nil, and why the first that failed did.
local function backlog(bench, client, number)
  local warm, published, consumed = math.max(WARM, number / 10), nil, nil
  for _ = 1, math.max(1, math.min(RUNS, math.floor(ENOUGH / number))) do
    local sent, why = one(bench, client, "publish", number, warm, 10 * SECONDS)
    if not sent then return nil, nil, why end
    local taken
    taken, why = one(bench, client, "consume", number, warm, 10 * SECONDS)
    if not taken then return nil, nil, why end
    published, consumed = together(published, sent), together(consumed, taken)
  end
  return published, consumed
end

-- A million takes minutes: once.
local function sizes(long, round)
  local list = { 1000, 10000, 100000 }
  if long and round == 1 then list[#list + 1] = 1000000 end
  return list
end

jobs[#jobs + 1] = {
  name = "backlog", takes = floor_or_ours, variants = sizes,
  run = function(bench, client, _, number, record)
    local published, consumed, why = backlog(bench, client, number)
    record("backlog-publish", published, why)
    record("backlog-consume", consumed, why)
    bench.node:clear()
  end,
}

return jobs
