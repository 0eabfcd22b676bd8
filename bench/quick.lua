--- What an event costs the client: the library beside a plain C program on rabbitmq-c's own calls, in turns, on one
--- private broker. Prints medians and ratios; asserts nothing.
---
---     quick.lua [EVENTS [ROUNDS]]

local events, rounds = tonumber(arg[1] or 50000), tonumber(arg[2] or 3)

local function run(command)
  local pipe = assert(io.popen(command, "r"))
  local out = pipe:read("*a")
  pipe:close()
  return out
end

local dir = run("mktemp -d \"${TMPDIR:-/tmp}/eventbus-bench.XXXXXX\""):gsub("%s+$", "")
local url = run("bin/eventbus-broker start " .. dir):match("AMQP_URL=(%S+)")
if not url then error("the broker did not start") end

local clients = {
  { name = "plain C", command = "build/bench/floor %s " .. url .. " %d %s" },
  { name = "eventbus", command = (os.getenv("EVENTBUS_LUA") or "lua5.4") .. " bench/client.lua %s " .. url .. " %d %s" },
}

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

local samples = {}
local function measure(job, client, round)
  local out = run(client.command:format(job, events, "bench-" .. client.name:gsub("%W", "")))
  local cpu, rate = out:match('"cpu_us_per_event":([%d.]+)'), out:match('"events_per_s":([%d.]+)')
  if not cpu then error(client.name .. " " .. job .. " failed: " .. out) end
  local key = job .. client.name
  samples[key] = samples[key] or { cpu = {}, rate = {} }
  samples[key].cpu[round], samples[key].rate[round] = tonumber(cpu), tonumber(rate)
  samples[key].rss = out:match('"rss_kb":(%d+)')
end

local ok, err = pcall(function()
  for round = 1, rounds do
    for _, job in ipairs { "publish", "consume" } do
      for _, client in ipairs(clients) do measure(job, client, round) end
    end
  end
end)
os.execute("bin/eventbus-broker stop " .. dir .. " --now >/dev/null; rm -rf " .. dir)
if not ok then error(err, 0) end

print(("%d events, %d rounds, medians; CPU is that of the client process"):format(events, rounds))
print(("%-10s %-10s %16s %12s %10s"):format("job", "client", "CPU us/event", "events/s", "ratio"))
for _, job in ipairs { "publish", "consume" } do
  local floor = median(samples[job .. "plain C"].cpu)
  for _, client in ipairs(clients) do
    local s = samples[job .. client.name]
    local cpu = median(s.cpu)
    print(("%-10s %-10s %16.2f %12.0f %9.2fx"):format(job, client.name, cpu, median(s.rate), cpu / floor))
  end
end
print(("resident after publishing, eventbus: %d kB"):format(tonumber(samples["publisheventbus"].rss or 0)))
