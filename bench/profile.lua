--- Where an event's cost goes: the tables of docs/performance.md, for the library beside the plain C program. Instructions
--- by part and system calls by name, under valgrind, each the difference of two runs; time in the program and in the kernel;
--- and, where perf may look, by part. Prints; asserts nothing. Run it through `make profile`.
---
---     profile.lua [EVENTS]     of the runs that are timed

package.path = "./?.lua;" .. package.path

local node = require "bench.suite.node"
local shell = require "bench.suite.shell"
local valgrind = require "bench.suite.valgrind"

local LUA = os.getenv("EVENTBUS_LUA") or "lua5.4"
local QUEUE = "profile"
local events = tonumber(arg[1] or 50000)
local broker

-- `warm`: a tenth of the events comes on top.
local CLIENTS = {
  { name = "eventbus", command = function(job, count)
    return ("%s bench/counted.lua %s %d %s %s"):format(LUA, job, count, shell.quote(broker.url), QUEUE)
  end },
  { name = "plain C", warm = true, command = function(job, count)
    return ("build/bench/peers/c %s %d %s %s"):format(job, count, shell.quote(broker.url), QUEUE)
  end },
}
local JOBS = { { "publish", "publish" }, { "publish-one", "publish, one at a time" }, { "consume", "deliver" } }

local function must(command)
  local out, said, code = shell.start(command, 600).wait()
  if code ~= 0 then error(command .. "\n" .. out .. said, 0) end
  return out, said
end

-- What `of` says of the command of a job, with a queue that has what it takes.
local function of_job(client, job, count, of)
  if job == "consume" then must(client.command("publish", count)) end
  local result = of(client.command(job, count))
  broker:clear()
  return result
end

local function tally(names)
  local counts = {}
  for _, name in ipairs(names) do counts[name] = (counts[name] or 0) + 1 end
  return counts
end

-- For one event: counts by name, of a long run without those of a short one.
local function difference(client, job, few, many, of)
  local less, parts = of_job(client, job, few, of), {}
  for name, count in pairs(of_job(client, job, many, of)) do
    parts[name] = (count - (less[name] or 0)) / (many - few) / (client.warm and 1.1 or 1)
  end
  return parts
end

-- A program or library, by the name of its file.
local function part_of(path)
  local file = path:match "[^/]*$"
  if file == "core.so" then return "our C: JSON, envelope, session, queues" end
  if file:find "^librabbitmq" then return "rabbitmq-c: the codec" end
  if file:find "^lua" or file:find "^liblua" then
    return "Lua: the user's loop and table or handler, our Lua, Lua's C API, garbage"
  end
  if file:find "^libc[.-]" or file:find "^ld[.-]" or file:find "^libm[.-]" then return "libc: memory, strings, locks" end
  if file:find "kernel" or file:find "vmlinux" then return "the kernel" end
  return "other"
end

local function by_part(objects)
  local parts, all = {}, 0
  for path, cost in pairs(objects) do
    local part = part_of(path)
    parts[part], all = (parts[part] or 0) + cost, all + cost
  end
  return parts, all
end

local function row(cells) print("| " .. table.concat(cells, " | ") .. " |") end
local function heading(title, cells)
  print(("\n## %s\n"):format(title))
  row(cells)
  local rules = {}
  for i = 1, #cells do rules[i] = "---" end
  print("|" .. table.concat(rules, "|") .. "|")
end

-- The names of all columns, the largest of the first first, and a row for each.
local function rows(columns, show)
  local names, seen = {}, {}
  for _, column in ipairs(columns) do
    for name in pairs(column) do
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
  end
  table.sort(names, function(a, b)
    local x, y = columns[1][a] or 0, columns[1][b] or 0
    return x > y or x == y and a < b
  end)
  for _, name in ipairs(names) do
    local cells, some = { name }, false
    for i, column in ipairs(columns) do
      cells[i + 1] = show(column[name] or 0)
      some = some or cells[i + 1] ~= show(0)
    end
    if some then row(cells) end
  end
end

-- Never "-0".
local function whole(n) return ("%d"):format(math.floor(n + 0.5)) end

local function instructions()
  heading("Instructions for an event", { "where", "publish", "deliver" })
  for _, client in ipairs(CLIENTS) do
    local columns, sums = {}, { client.warm and "**all of plain C**" or "**all**" }
    for _, job in ipairs { "publish", "consume" } do
      columns[#columns + 1], sums[#sums + 1] = by_part(difference(client, job, 500, 3500, valgrind.objects))
      sums[#sums] = whole(sums[#sums])
    end
    if not client.warm then rows(columns, whole) end
    row(sums)
  end
end

local function by_name(command) return tally(valgrind.calls(command)) end

local function calls()
  for _, client in ipairs(CLIENTS) do
    local titles, columns = { "call" }, {}
    for _, job in ipairs(JOBS) do
      local many = job[1] == "publish-one" and 1500 or 6000
      titles[#titles + 1] = job[2]
      columns[#columns + 1] = difference(client, job[1], 500, many, by_name)
    end
    heading("System calls for 1,000 events, " .. client.name, titles)
    rows(columns, function(each) return whole(1000 * each) end)
  end
end

-- What the shell counts of its children: user and system seconds.
local function times(command)
  local out = must("sh -c " .. shell.quote(command .. " >/dev/null && times"))
  local user, system = out:match "\n(%d+m[%d.]+)s (%d+m[%d.]+)s"
  local function seconds(text) return tonumber(text:match "^%d+") * 60 + tonumber(text:match "m(.*)") end
  return { user = seconds(user), system = seconds(system) }
end

local function time()
  heading("CPU of the process, µs for an event",
    { "client", "job", "in the program", "in the kernel", "share of the kernel" })
  for _, client in ipairs(CLIENTS) do
    for _, job in ipairs(JOBS) do
      local many = job[1] == "publish-one" and events / 10 or events
      local us = difference(client, job[1], many / 10, many, times)
      row { client.name, job[2], ("%.1f"):format(us.user * 1e6), ("%.1f"):format(us.system * 1e6),
        ("%.0f %%"):format(100 * us.system / (us.user + us.system)) }
    end
  end
end

-- Samples by program or library.
local function sampled(command)
  local path = os.tmpname()
  must(("perf record -q -e cpu-clock -F 4000 -o %s %s"):format(path, command))
  local counts = {}
  local report = must(("perf report -i %s --sort dso -F sample,dso --stdio -q"):format(path))
  for count, object in report:gmatch "(%d+)%s+(%S+)" do counts[object] = (counts[object] or 0) + tonumber(count) end
  os.remove(path)
  return counts
end

local function samples()
  if shell.output "perf record -q -e cpu-clock -o /dev/null true && echo yes" ~= "yes" then
    return print "\nperf is not here, or may not look: no shares of time by part."
  end
  local titles, columns = { "where" }, {}
  for _, job in ipairs(JOBS) do
    titles[#titles + 1] = job[2]
    local many = job[1] == "publish-one" and events / 10 or events
    local parts, all = by_part(difference(CLIENTS[1], job[1], many / 10, many, sampled))
    for part, count in pairs(parts) do parts[part] = 100 * count / all end
    columns[#columns + 1] = parts
  end
  heading("Time by part, per cent", titles)
  rows(columns, whole)
end

local ok, err = pcall(function()
  broker = node.start()
  instructions()
  calls()
  time()
  samples()
end)
if broker then broker:stop() end
if not ok then error(err, 0) end
