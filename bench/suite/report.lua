--- report: the document of a run. All figures come from the samples; what is missing says why.

local plot = require "bench.suite.plot"
local samples = require "bench.suite.samples"

local report = {}

local HEAD = [[
# Benchmarks

`make bench` writes this file, figures and all: nothing in it is typed by hand, and each run replaces it. The same jobs go
through the library and through what one would take instead, in turns, on one private broker that shares the machine with
them. What counts most is the CPU time of the client's process (user and system, all threads): the broker bounds the
throughput, the client decides what is left of the machine. [bench/peers](../bench/peers/README.md) has the programs, and
says what each job does precisely.

![CPU per event and latency, by client](benchmarks.svg)
]]

-- Notes under the tables: each reason once, in order of appearance, with the clients that it is about.
local function new_notes()
  local notes = { list = {}, numbers = {} }
  function notes.mark(who, text)
    local number = notes.numbers[text]
    if not number then
      number = #notes.list + 1
      notes.list[number], notes.numbers[text] = { text = text, clients = {} }, number
    end
    local about = notes.list[number].clients
    if not about[who] then
      about[who] = true
      about[#about + 1] = who
    end
    return (" [%d]"):format(number)
  end
  return notes
end

local function number(value)
  if value == nil then return nil end
  if value < 10 then return ("%.2f"):format(value) end
  if value < 100 then return ("%.1f"):format(value) end
  local text = ("%.0f"):format(value):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

local function row(cells) return "| " .. table.concat(cells, " | ") .. " |\n" end

-- The first column is text, the others are figures.
local function heading(cells)
  local rules = {}
  for i = 1, #cells do rules[i] = i == 1 and "---" or "---:" end
  return row(cells) .. "|" .. table.concat(rules, "|") .. "|\n"
end

-- A cell: the median as `show` has it; "-" and a note where there is none.
local function cell(run, client, name, of, show, variant)
  local value = run.taken:median(name, client.name, of, variant)
  local noted = client.notes and client.notes[name]
  if value then return show(value) .. (noted and run.notes.mark(client.name, noted) or "") end
  local why = client.cannot and client.cannot[name] or run.taken:failure(name, client.name, variant)
  if not why then return "-" end
  return "-" .. run.notes.mark(client.name, why)
end

-- A median with the ratio of two, { name, client, variant } each.
local function with_ratio(run, of, one, other)
  local ratio = run.taken:ratio(of, one, other)
  return function(value)
    if not ratio then return number(value) end
    return ("%s (%.2f×)"):format(number(value), ratio.median)
  end
end

local function against(run, client, name, of, reference)
  return with_ratio(run, of, { name, client.name }, { name, reference })
end

local function of_clients(run, f)
  for _, client in ipairs(run.clients) do
    if not client.json_only then f(client) end
  end
end

local function floor_of(clients)
  for _, client in ipairs(clients) do
    if client.floor then return client.name end
  end
end

local MAIN = { { "publish", "publish, 1,000 unconfirmed" }, { "publish-one", "publish, one at a time" },
  { "publish-none", "publish, no confirms" }, { "consume", "consume" } }

local function main_table(run, of)
  local titles = { "client" }
  for _, job in ipairs(MAIN) do titles[#titles + 1] = job[2] end
  local text = heading(titles)
  of_clients(run, function(client)
    local cells = { client.name }
    for _, job in ipairs(MAIN) do
      cells[#cells + 1] = cell(run, client, job[1], of, against(run, client, job[1], of, floor_of(run.clients)))
    end
    text = text .. row(cells)
  end)
  return text
end

local function cpu(run)
  return "\n## CPU of the client, µs per event\n\nBuilding or decoding the envelope is part of it; × is against plain C. "
    .. "Lower is better.\n\n" .. main_table(run, samples.cpu_us)
end

local function throughput(run)
  return "\n## Events per second\n\nClient and broker together, on the same cores. Higher is better.\n\n"
    .. main_table(run, samples.rate)
end

local function p50_ms(figures) return figures.p50_us / 1000 end
local function p99_ms(figures) return figures.p99_us / 1000 end

-- Per cent of the processors.
local QUIET = 1

-- Of a turn of which it is known, or nil.
local function quiet_p99_ms(figures) return (figures.stolen or math.huge) <= QUIET and p99_ms(figures) or nil end

-- One event in a hundred is what the host of the machine decides about more than the client does.
local function quiet_turns(run)
  local floor = floor_of(run.clients)
  local text = ("\nThe p99 of turns in which the host of this virtual machine had at most %d %% of its processors for "
    .. "others (steal in\n/proc/stat); × is of those in which that holds for plain C as well, so many:\n\n"):format(QUIET)
    .. heading { "client", "turns", "p99" }
  of_clients(run, function(client)
    local ratio = run.taken:ratio(quiet_p99_ms, { "latency", client.name }, { "latency", floor })
    text = text .. row { client.name, tostring(ratio and ratio.turns or 0),
      cell(run, client, "latency", quiet_p99_ms, against(run, client, "latency", quiet_p99_ms, floor)) }
  end)
  return text
end

local function latency(run)
  local text = "\n## Latency at 500 events a second, ms\n\nA turn has a twentieth of a round's events. "
    .. "From before the publish until the event is decoded, before its\nack. Each event finds the client asleep: the CPU is "
    .. "what it costs to be woken for one, µs per event, publishing\nincluded; wake-ups are those of 1,000 events, of all "
    .. "threads, where the program counts them.\n\n"
    .. heading { "client", "p50", "p99", "p99.9", "CPU", "wake-ups" }
  local floor = floor_of(run.clients)
  of_clients(run, function(client)
    local cells = { client.name }
    for _, name in ipairs { "p50_us", "p99_us", "p999_us" } do
      local function ms(figures) return figures[name] / 1000 end
      cells[#cells + 1] = cell(run, client, "latency", ms, against(run, client, "latency", ms, floor))
    end
    for _, of in ipairs { samples.cpu_us, samples.wakeups } do
      cells[#cells + 1] = cell(run, client, "latency", of, against(run, client, "latency", of, floor))
    end
    text = text .. row(cells)
  end)
  return text .. quiet_turns(run)
end

-- What the ratios of the two tables before are worth.
local function scatter(run)
  local floor, titles = floor_of(run.clients), { "client" }
  for _, job in ipairs(MAIN) do titles[#titles + 1] = job[2] end
  titles[#titles + 1] = "latency, p99"
  local text = "\n## How far the ratios scatter\n\nThe least and the most of the ratios of the turns: of the "
    .. "CPU, and of the "
    .. "latency's p99. The row of\n" .. floor .. " is its samples against their median: how far the machine "
    .. "itself drifted.\n\n"
    .. heading(titles)
  of_clients(run, function(client)
    local cells = { client.name }
    local function add(name, of)
      local range
      if client.floor then
        range = run.taken:spread(name, client.name, of)
      else
        range = run.taken:ratio(of, { name, client.name }, { name, floor })
      end
      cells[#cells + 1] = range and ("%.2f–%.2f×"):format(range.least, range.most) or "-"
    end
    for _, job in ipairs(MAIN) do add(job[1], samples.cpu_us) end
    add("latency", p99_ms)
    text = text .. row(cells)
  end)
  local taken = { "taken by the host, %" }
  local function add(name)
    local range = run.taken:over(name, samples.field "stolen")
    taken[#taken + 1] = range and ("%.1f (%.0f–%.0f)"):format(range.median, range.least, range.most) or "-"
  end
  for _, job in ipairs(MAIN) do add(job[1]) end
  add "latency"
  return text .. row(taken) .. "\nThe last row: how much of the processors of this virtual machine its host had for others "
    .. "(steal in /proc/stat),\nof all clients' samples the median, the least and the most. Slow events are slower then, "
    .. "whoever sends them.\n"
end

-- The jobs of few clients in many turns.
local function close(run)
  local floor = floor_of(run.clients)
  local text = ("\n## Close to one another\n\nOnce more %s, the library and who else is near, in turns with nobody between "
    .. "them:\nwhat lies closer than the tables before can tell. × is the median of the ratios of so many turns.\n")
    :format(floor)
  -- `columns`: { title, what of the figures }; the turns are those in which the first is known of both. `apart`, of a job:
  -- what only the floor does, and how that is called.
  local function lay(job, columns, apart)
    local titles = { "client", "turns" }
    for _, column in ipairs(columns) do titles[#titles + 1] = column[1] end
    text = text .. "\n" .. heading(titles)
    local function line(title, client, name)
      if not run.taken:median(name, client.name, columns[1][2]) then return end
      local ratio = run.taken:ratio(columns[1][2], { name, client.name }, { job, floor })
      local cells = { title, tostring(ratio and ratio.turns or 0) }
      for _, column in ipairs(columns) do
        cells[#cells + 1] = cell(run, client, name, column[2],
          with_ratio(run, column[2], { name, client.name }, { job, floor }))
      end
      text = text .. row(cells)
    end
    of_clients(run, function(client)
      line(client.name, client, job)
      if apart and client.floor then line(client.name .. apart[2], client, apart[1]) end
    end)
  end
  lay("publish-none, close", { { "no confirms, events/s", samples.rate }, { "CPU, µs", samples.cpu_us } })
  text = text .. ("\nOf %s the publisher is a process of its own; in one process it does both by turns, as the library "
    .. "does. CPU and wake-ups\nas in the table of all clients.\n"):format(floor)
  local together = { "latency together, close", ", one process" }
  lay("latency, close", { { "p50, ms", p50_ms }, { "p99, ms", p99_ms }, { "CPU, µs", samples.cpu_us },
    { "wake-ups", samples.wakeups } }, together)
  text = text .. "\nAnd of the turns in which the host left the machine alone, as above:\n"
  lay("latency, close", { { "p99, ms", quiet_p99_ms } }, together)
  return text
end

local function seconds(figures) return figures.seconds end
local function cpu_ms(figures) return figures.cpu * 1000 end
local function megabytes(figures) return figures.rss_kb / 1024 end

local function topology(run)
  local count = number(run.taken:median("topology", floor_of(run.clients), samples.field "events") or 0):gsub("%.0+$", "")
  local text = ("\n## %s queues, %s consumers, memory\n\nDeclaring the queues; all connections broken, until the broker has "
    .. "all consumers\nagain (clients that recover by themselves, told to wait 0.1 s); the largest resident size "
    .. "after publishing and after consuming %s events.\n\n"):format(count, count, number(run.settings.events))
    .. heading { "client", "declare, s", "CPU, ms", "reconnect, s", "CPU, ms", "MB, publish", "MB, consume" }
  of_clients(run, function(client)
    text = text .. row { client.name, cell(run, client, "topology", seconds, number),
      cell(run, client, "topology", cpu_ms, number),
      cell(run, client, "consumers", seconds, number), cell(run, client, "consumers", cpu_ms, number),
      cell(run, client, "publish", megabytes, number), cell(run, client, "consume", megabytes, number) }
  end)
  return text
end

local SIZES = { { "small", "0.4 KB" }, { "10k", "10 KB" }, { "1m", "1 MB" } }

local function json(run)
  local titles = { "" }
  for _, what in ipairs { "encode", "decode" } do
    for _, size in ipairs(SIZES) do titles[#titles + 1] = what .. " " .. size[2] end
  end
  local text = "\n## JSON of an envelope, µs of CPU\n\n"
    .. "× is how many times as fast as lua-cjson on Lua 5.4. Higher is better. `eventbus` is `eventbus.envelope`,\n"
    .. "which checks each field; `eventbus.json` does what the others do.\n\n" .. heading(titles)
  for _, client in ipairs(run.clients) do
    if not (client.cannot and client.cannot["encode-small"]) then
      local cells = { client.json or client.name }
      for _, what in ipairs { "encode", "decode" } do
        for _, size in ipairs(SIZES) do
          local name = what .. "-" .. size[1]
          -- The other way round: how many times as fast.
          cells[#cells + 1] = cell(run, client, name, samples.cpu_us,
            with_ratio(run, samples.cpu_us, { name, "cjson" }, { name, client.name }))
        end
      end
      text = text .. row(cells)
    end
  end
  return text
end

local function workers(run)
  local text = "\n## 1, 2 and 4 processes\n\nOne queue for all of them. Events per second: from the first "
    .. "process whose clock started to the last\nthat ended.\n\n"
    .. heading { "client", "processes", "publish, events/s", "CPU, µs", "consume, events/s", "CPU, µs" }
  for _, client in ipairs(run.clients) do
    if client.floor or client.name == "eventbus" then
      for _, n in ipairs { 1, 2, 4 } do
        local cells = { client.name, tostring(n) }
        for _, name in ipairs { "workers-publish", "workers-consume" } do
          cells[#cells + 1] = cell(run, client, name, samples.rate, number, n)
          cells[#cells + 1] = cell(run, client, name, samples.cpu_us, number, n)
        end
        text = text .. row(cells)
      end
    end
  end
  return text
end

-- A table of one job in several sizes: a row for each, with the cost against that of the first.
local function flat(run, name, unit, sizes, clients)
  local text = heading { "client", unit, "CPU, µs per event", "events/s", "MB" }
  for _, client in ipairs(clients) do
    for _, n in ipairs(sizes) do
      local show = with_ratio(run, samples.cpu_us, { name, client.name, n }, { name, client.name, sizes[1] })
      text = text .. row { client.name, number(n):gsub("%.%d+$", ""),
        cell(run, client, name, samples.cpu_us, show, n), cell(run, client, name, samples.rate, number, n),
        cell(run, client, name, megabytes, number, n) }
    end
  end
  return text
end

local function growth(run)
  local sizes = run.settings.long == 1 and { 1000, 10000, 100000, 1000000 } or { 1000, 10000, 100000 }
  local both = {}
  for _, client in ipairs(run.clients) do
    if client.floor or client.name == "eventbus" then both[#both + 1] = client end
  end
  return ("\n## 1 to 1,000 subscriptions\n\nEvents over that many queues, one connection that consumes, a channel for each. "
    .. "The library publishes in both cases;\n× is against one subscription of the same client. At 500 events a second each "
    .. "comes by itself, from however many queues:\n\n")
    .. flat(run, "subscriptions-paced", "subscriptions", { 1, 10, 100, 1000 }, both)
    .. ("\n%s events as fast as the broker has them: of one queue in piles, of many one by one, each a wake-up.\n\n"):format(
      number(run.settings.events))
    .. flat(run, "subscriptions", "subscriptions", { 1, 10, 100, 1000 }, both)
    .. ("\n## A backlog\n\nThat many events published and confirmed, then consumed, when a tenth as many and 2,000 at least "
    .. "have warmed\nthe client up; ten runs of 1,000 are one sample, and four of 10,000%s. MB: the largest resident "
    .. "size.\n\n"):format(run.settings.long == 1 and "; a million is done once" or "; `LONG=1` adds a million")
    .. flat(run, "backlog-publish", "published", sizes, both) .. "\n"
    .. flat(run, "backlog-consume", "consumed", sizes, both)
end

--- The document and the plot.
---@return string markdown, string svg
function report.write(taken, clients)
  local run = { taken = taken, clients = clients, settings = taken.settings, notes = new_notes() }
  local body = cpu(run) .. throughput(run) .. latency(run) .. scatter(run) .. close(run) .. topology(run) .. json(run)
    .. workers(run) .. growth(run)
  local text = HEAD .. ("\n%s events a round, rounds: %d (the topology and the reconnect: one; of publishing, "
    .. "consuming and JSON of\n1 MB three turns in each, of the latency nine), medians. A tenth more comes before each "
    .. "clock starts.\n\nIn each turn all clients run once, and each turn begins with the next of them. The "
    .. "machine drifts: a "
    .. "ratio (×) is the\nmedian of the ratios of the turns, of a client's figure to that of the other in the same turn. It "
    .. "need not be the ratio of\nthe two medians.\n"):format(
      number(run.settings.events), run.settings.rounds) .. body
  if #run.notes.list > 0 then
    text = text .. "\n## Notes\n\n"
    for i, note in ipairs(run.notes.list) do
      text = text .. ("- [%d] %s: %s.\n"):format(i, table.concat(note.clients, "; "), note.text)
    end
  end
  text = text .. "\n## Measured on\n\n"
  for _, fact in ipairs(taken.facts) do text = text .. ("- **%s**: %s\n"):format(fact[1], fact[2]) end
  return text, plot.draw(taken, clients)
end

--- What is printed at the end of a run: what it was measured on, and the CPU table, for a terminal.
function report.summary(taken, clients)
  local run, lines = { taken = taken, clients = clients }, {}
  for i, fact in ipairs(taken.facts) do lines[i] = ("%s: %s"):format(fact[1], fact[2]) end
  local LINE = "%-24s" .. (" %16s"):rep(5)
  lines[#lines + 1] = "\n" .. LINE:format("CPU us per event", "publish", "one", "none", "consume", "p99 ms")
  of_clients(run, function(client)
    local cells = {}
    local function add(name, of)
      local value = taken:median(name, client.name, of)
      local text = value and against(run, client, name, of, floor_of(clients))(value) or "-"
      -- In a terminal's bytes.
      cells[#cells + 1] = (text:gsub("×", "x"))
    end
    for _, job in ipairs(MAIN) do add(job[1], samples.cpu_us) end
    add("latency", p99_ms)
    lines[#lines + 1] = LINE:format(client.name, cells[1], cells[2], cells[3], cells[4], cells[5])
  end)
  return table.concat(lines, "\n")
end

return report
