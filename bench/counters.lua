--- Counts what the library costs, and compares with bench/counters.txt: instructions, under valgrind, of one encode, decode,
--- publish and delivery; how much more the last two cost late in a long run, or with 1,000 subscriptions; system calls for
--- 1,000 events. Counts repeat on a noisy machine, where times do not. Each is the difference of two runs, so that the start
--- drops out.
--- The last line reads `N passed, N failed`. Run it through `make counters`.
---
---     counters.lua [--record | NAME]    --record writes what was counted to the file; NAME: only what has this in its name

package.path = "./?.lua;" .. package.path

local node = require "bench.suite.node"
local shell = require "bench.suite.shell"
local valgrind = require "bench.suite.valgrind"

local LUA = os.getenv("EVENTBUS_LUA") or "lua5.4"
local BASELINE = "bench/counters.txt"

local record = arg[1] == "--record"
local only = not record and arg[1] or ""
local broker

-- What is published to be consumed has a queue of its own, so that nothing else is in it.
local function command_of(job, count, subscriptions)
  local queue = job:find "^publish" and "published" or "counted"
  return ("%s bench/counted.lua %s %d %s %s %d"):format(LUA, job, count, shell.quote(broker.url), queue, subscriptions or 1)
end

local function publish(count)
  local out, said, code = shell.start(("%s bench/counted.lua publish %d %s counted"):format(LUA, count,
    shell.quote(broker.url)), 300).wait()
  if code ~= 0 then error(out .. said, 0) end
end

-- What `of`, a function of valgrind, counts in a run of so many events. Those that are consumed are there before, or come
-- when all subscriptions have begun.
local function counted_in(of, job, count, subscriptions)
  local command = command_of(job, count, subscriptions)
  if job ~= "consume" then return of(command) end
  if subscriptions then return of(command, function() publish(count) end) end
  publish(count)
  return of(command)
end

-- Of one event, from the `few`th to the `many`th.
local function instructions(job, few, many, subscriptions)
  local less = counted_in(valgrind.instructions, job, few, subscriptions)
  return (counted_in(valgrind.instructions, job, many, subscriptions) - less) / (many - few)
end

local function tally(names)
  local counts = {}
  for _, name in ipairs(names) do counts[name] = (counts[name] or 0) + 1 end
  if not (counts.sendto and counts.recvfrom) then error("a trace without sendto or recvfrom: is it read right?", 0) end
  return counts
end

-- The most frequent first: "poll 29, sendto 19".
local function listed(counts)
  local parts = {}
  for name, count in pairs(counts) do
    if count >= 0.5 then parts[#parts + 1] = { name = name, count = count } end
  end
  table.sort(parts, function(a, b) return a.count > b.count or a.count == b.count and a.name < b.name end)
  for i, part in ipairs(parts) do parts[i] = ("%s %.0f"):format(part.name, part.count) end
  return table.concat(parts, ", ")
end

-- For 1,000 events, and of which names.
local function calls(job, few, many)
  local before, after = tally(counted_in(valgrind.calls, job, few)), tally(counted_in(valgrind.calls, job, many))
  local sum, more = 0, {}
  for name, count in pairs(after) do
    more[name] = (count - (before[name] or 0)) / (many - few) * 1000
    sum = sum + more[name]
  end
  return sum, listed(more)
end

-- The same of publishes that wait, each from its send to the next one's. Where the broker takes its time the library's
-- thread does its part, with more calls; so what is counted is the publish than which a tenth of them make no more.
local function calls_one_at_a_time(count)
  local spans, span = {}, nil
  for _, name in ipairs(counted_in(valgrind.calls, "publish-one", count)) do
    if name == "sendto" then
      span = {}
      spans[#spans + 1] = span
    end
    if span then span[#span + 1] = name end
  end
  if #spans < count then error(("%d sends for %d publishes"):format(#spans, count), 0) end
  table.sort(spans, function(a, b) return #a < #b end)
  local quick = tally(spans[math.ceil(#spans / 10)])
  local sum = 0
  for name, number in pairs(quick) do
    quick[name] = 1000 * number
    sum = sum + quick[name]
  end
  return sum, listed(quick)
end

local function read_baseline()
  local baseline = {}
  for line in io.lines(BASELINE) do
    local name, value, percent = line:match("^([%w.]+)%s+(%d+)%s+(%d+)%%")
    if name then baseline[name] = { value = tonumber(value), percent = tonumber(percent) } end
  end
  return baseline
end

local function bound(base) return math.floor(base.value * (100 + base.percent) / 100) end

-- How much comes at a time depends on how busy the machine is, and with it what is shared among it: a count that is over
-- its bound is taken again, twice at most, and the least of them stands. A library that does more is over it each time.
local AGAIN = 2

local function least(name, count)
  local base = read_baseline()[name]
  local value, parts = count()
  for _ = 1, not record and base and AGAIN or 0 do
    if value <= bound(base) then break end
    print(("%-22s %9.0f: over %d, counted again%s"):format(name, value, bound(base), parts and ": " .. parts or ""))
    local again, of_these = count()
    if again < value then value, parts = again, of_these end
  end
  return math.floor(value + 0.5), parts
end

local function measure()
  local counted = {}
  local function add(name, count)
    if not name:find(only, 1, true) then return end
    local value, parts = least(name, count)
    counted[#counted + 1] = { name = name, value = value, parts = parts }
    return value
  end
  add("instructions.encode", function() return instructions("encode", 1000, 6000) end)
  add("instructions.decode", function() return instructions("decode", 1000, 6000) end)
  local publishing = add("instructions.publish", function() return instructions("publish", 500, 3500) end)
  local delivering = add("instructions.deliver", function() return instructions("consume", 500, 3500) end)
  add("flat.publish", function()
    return 100 * instructions("publish", 5000, 10000) / (publishing or instructions("publish", 500, 3500))
  end)
  add("flat.deliver", function()
    return 100 * instructions("consume", 5000, 10000) / (delivering or instructions("consume", 500, 3500))
  end)
  local one
  for _, subscriptions in ipairs { 10, 100, 1000 } do
    add("flat.subscriptions" .. subscriptions, function()
      -- From where each subscription has had its first.
      one = one or instructions("consume", 2000, 6000, 1)
      return 100 * instructions("consume", 2000, 6000, subscriptions) / one
    end)
  end
  add("calls.publish", function() return calls("publish", 2000, 8000) end)
  add("calls.one", function() return calls_one_at_a_time(500) end)
  add("calls.deliver", function() return calls("consume", 2000, 8000) end)
  return counted
end

local ok, counted = pcall(function()
  broker = node.start()
  return measure()
end)
if broker then broker:stop() end
if not ok then
  print(counted)
  print("0 passed, 1 failed")
  os.exit(1)
end

local baseline = read_baseline()
if record then
  local lines = {}
  for line in io.lines(BASELINE) do
    if line:find("^#") then lines[#lines + 1] = line end
  end
  for _, each in ipairs(counted) do
    local before = baseline[each.name]
    -- Calls depend on how fast the broker is: what the file says of them is a bound, as is what "flat" means.
    local value = each.name:find("^instr") and each.value or before and before.value or each.value
    lines[#lines + 1] = ("%-22s %8d %4d%%"):format(each.name, value, before and before.percent or 10)
  end
  local file = assert(io.open(BASELINE, "w"))
  file:write(table.concat(lines, "\n"), "\n")
  file:close()
end

local passed, failed = 0, 0
print(("%-22s %9s %9s %9s"):format("for one, or 1,000", "counted", "baseline", "at most"))
for _, each in ipairs(counted) do
  local base = read_baseline()[each.name]
  local most = base and bound(base) or 0
  local good = each.value <= most
  local better = good and each.name:find("^instr") and each.value < base.value * (100 - base.percent) / 100
  local verdict = not good and "  FAILED" or better and "  better: lower the baseline (make counters RECORD=1)" or ""
  print(("%-22s %9d %9d %9d%s%s"):format(each.name, each.value, base and base.value or 0, most,
    each.parts and "  " .. each.parts or "", verdict))
  if good then passed = passed + 1 else failed = failed + 1 end
end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
