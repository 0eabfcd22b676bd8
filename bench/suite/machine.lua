--- machine: what figures were measured on: versions, processors, settings. No names of hosts or folders.

local shell = require "bench.suite.shell"

local machine = {}

--- A list of { what, text }.
function machine.describe(broker, clients)
  local about = broker:description()
  local processor = shell.output "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1"
  local memory = tonumber(shell.output "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo") or 0
  local list = {
    { "when", os.date "!%Y-%m-%d" },
    { "machine", ("%s, %s cores, %.0f GB, %s %s; the broker and the clients share it"):format(
      processor ~= "" and processor or "processor unknown", shell.output "nproc", memory / 1e6, shell.output "uname -s",
      shell.output "uname -r | sed 's/[^0-9.].*//'") },
    { "load before", shell.output "cut -d ' ' -f 1-3 /proc/loadavg" .. " (1, 5, 15 minutes)" },
    { "broker", ("RabbitMQ %s on Erlang %s, one node, %s schedulers, plain TCP over loopback; "
      .. "durable classic queues"):format(
      about.rabbitmq, about.erlang, about.schedulers) },
    { "broker's settings", ("%s; Erlang: %s; all else as it comes"):format(about.settings, about.arguments) },
  }
  for _, client in ipairs(clients) do list[#list + 1] = { client.name, client.version() } end
  return list
end

-- Ticks of all processors since the start: those that the host of this virtual machine had for others, and all.
local function ticks()
  local file = io.open "/proc/stat"
  if not file then return nil end
  local list = {}
  for word in file:read("*l"):gmatch "%d+" do list[#list + 1] = tonumber(word) end
  file:close()
  local all = 0
  for i = 1, 8 do all = all + (list[i] or 0) end  -- those of guests are in user's
  return list[8] or 0, all
end

--- A function that tells how much of the processors the host has taken since, in per cent ("steal"); nil where the system
--- does not say.
function machine.theft()
  local stolen, all = ticks()
  return function()
    local now_stolen, now_all = ticks()
    if not now_all or now_all == all then return nil end
    return (now_stolen - stolen) / (now_all - all) * 100
  end
end

--- A description in a sentence, for the text above a table.
function machine.sentence(facts)
  local parts = {}
  for i, fact in ipairs(facts) do parts[i] = fact[1] .. ": " .. fact[2] end
  return "Measured " .. table.concat(parts, "; "):gsub("^when: ", "") .. ".\n"
end

return machine
