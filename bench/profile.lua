--- Where an event's cost goes: the tables of docs/performance.md, for the library beside the plain C program. Instructions
--- by part and system calls by name, under valgrind, each the difference of two runs; time in the program and in the kernel;
--- and, where perf may look, by part. Prints; asserts nothing. Run it through `make profile`.
---
---     profile.lua [EVENTS [DOCUMENT]]     of the runs that are timed; DOCUMENT: the tables are written into it as well

package.path = "./?.lua;" .. package.path

local machine = require "bench.suite.machine"
local marks = require "bench.suite.marks"
local node = require "bench.suite.node"
local shell = require "bench.suite.shell"
local valgrind = require "bench.suite.valgrind"

local LUA = os.getenv("EVENTBUS_LUA") or "lua5.4"
local QUEUE = "profile"
local events = tonumber(arg[1] or 50000)
local document = arg[2]
local broker

-- Both publish persistent events, also one at a time. `warm`: a tenth of the events comes on top.
local CLIENTS = {
  { name = "eventbus", command = function(job, count)
    local name = job == "publish-one" and "publish-one-kept" or job
    return ("%s bench/counted.lua %s %d %s %s"):format(LUA, name, count, shell.quote(broker.url), QUEUE)
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

-- What goes to the document, by the name of its place there: each text is printed when it is whole.
local texts, lines = {}, {}
local function say(line) lines[#lines + 1] = line end
local function row(cells) say("| " .. table.concat(cells, " | ") .. " |") end
local function heading(cells)
  row(cells)
  say("|---|" .. ("---:|"):rep(#cells - 1))
end
local function whole_text(name, title)
  texts[name] = table.concat(lines, "\n") .. "\n"
  lines = {}
  print(("\n## %s\n\n%s"):format(title, texts[name]))
end

-- The names of all columns, those first that are largest in all together, and a row for each.
local function rows(columns, show)
  local names, sums = {}, {}
  for _, column in ipairs(columns) do
    for name, count in pairs(column) do
      if not sums[name] then names[#names + 1] = name end
      sums[name] = (sums[name] or 0) + count
    end
  end
  table.sort(names, function(a, b) return sums[a] > sums[b] or sums[a] == sums[b] and a < b end)
  for _, name in ipairs(names) do
    local cells, some = { name }, false
    for i, column in ipairs(columns) do
      cells[i + 1] = show(column[name] or 0)
      some = some or cells[i + 1] ~= show(0)
    end
    if some then row(cells) end
  end
end

-- "32,500"; never "-0".
local function whole(n)
  local text = ("%d"):format(math.floor(n + 0.5)):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

local function titles(first)
  local list = { first }
  for _, job in ipairs(JOBS) do list[#list + 1] = job[2] end
  return list
end

-- A publish that waits takes so much longer that fewer of them will do.
local function shorter(job, count) return job == "publish-one" and count / 4 or count end

local function instructions()
  heading(titles "where")
  for _, client in ipairs(CLIENTS) do
    local columns, sums = {}, { client.warm and "**all of the plain C program**" or "**all**" }
    for _, job in ipairs(JOBS) do
      local many = 500 + shorter(job[1], 3000)
      columns[#columns + 1], sums[#sums + 1] = by_part(difference(client, job[1], 500, many, valgrind.objects))
      sums[#sums] = whole(sums[#sums])
    end
    if not client.warm then rows(columns, whole) end
    row(sums)
  end
  whole_text("instructions", "Instructions for an event")
end

local function by_name(command) return tally(valgrind.calls(command)) end

local function calls()
  local columns, cells = {}, { "call" }
  for _, client in ipairs(CLIENTS) do
    for _, job in ipairs(JOBS) do
      cells[#cells + 1] = client.name .. ": " .. job[2]
      columns[#columns + 1] = difference(client, job[1], 500, 500 + shorter(job[1], 6000), by_name)
    end
  end
  heading(cells)
  -- Below zero: of what does not depend on the events the shorter run happened to need more.
  rows(columns, function(each) return whole(math.max(0, 1000 * each)) end)
  whole_text("calls", "System calls for 1,000 events")
end

-- What the shell counts of its children: user and system seconds.
local function times(command)
  local out = must("sh -c " .. shell.quote(command .. " >/dev/null && times"))
  local user, system = out:match "\n(%d+m[%d.]+)s (%d+m[%d.]+)s"
  local function seconds(text) return tonumber(text:match "^%d+") * 60 + tonumber(text:match "m(.*)") end
  return { user = seconds(user), system = seconds(system) }
end

local function time()
  heading { "client, job", "in the program", "in the kernel", "share of the kernel" }
  for _, client in ipairs(CLIENTS) do
    for _, job in ipairs(JOBS) do
      local many = job[1] == "publish-one" and events / 10 or events
      local us = difference(client, job[1], many / 10, many, times)
      row { client.name .. ", " .. job[2], ("%.1f"):format(us.user * 1e6), ("%.1f"):format(us.system * 1e6),
        ("%.0f %%"):format(100 * us.system / (us.user + us.system)) }
    end
  end
  whole_text("time", "CPU of the process, µs for an event")
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
    say "`perf` was not there, or might not look: no shares of time by part."
    return whole_text("samples", "Time by part")
  end
  local columns = {}
  for _, job in ipairs(JOBS) do
    local many = job[1] == "publish-one" and events / 10 or events
    local parts, all = by_part(difference(CLIENTS[1], job[1], many / 10, many, sampled))
    for part, count in pairs(parts) do parts[part] = 100 * count / all end
    columns[#columns + 1] = parts
  end
  heading(titles "where")
  rows(columns, whole)
  whole_text("samples", "Time by part, per cent")
end

local ok, err = pcall(function()
  broker = node.start()
  say(machine.sentence(machine.describe(broker, {})):gsub("\n", ""))
  whole_text("machine", "Machine")
  instructions()
  calls()
  time()
  samples()
end)
if broker then broker:stop() end
if not ok then error(err, 0) end
if document then marks.write(document, texts) end
