--- gauges: memory, descriptors and threads of processes over time, and whether they stay flat. Linux: it reads /proc.

local uv = require "luv"

local gauges = {}

local Gauges = {}
Gauges.__index = Gauges

-- Garbage collection and the allocator breathe by this much.
local KILOBYTES, SHARE = 4096, 0.15
-- A connection that is just being made.
local DESCRIPTORS = 2

function gauges.new()
  return setmetatable({ list = {}, by_name = {} }, Gauges)
end

local function read(pid)
  local file = io.open(("/proc/%s/status"):format(pid), "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  local descriptors = 0
  local folder = uv.fs_scandir(("/proc/%s/fd"):format(pid))
  while folder and uv.fs_scandir_next(folder) do descriptors = descriptors + 1 end
  return { memory = tonumber(text:match "VmRSS:%s*(%d+)"), threads = tonumber(text:match "Threads:%s*(%d+)"),
    descriptors = descriptors }
end

--- Takes one sample of each client.
function Gauges:sample(clients)
  for _, client in ipairs(clients) do
    local series = self.by_name[client.name]
    if not series then
      series = { name = client.name }
      self.by_name[client.name] = series
      self.list[#self.list + 1] = series
    end
    series[#series + 1] = read(client.pid)
  end
end

-- The highest value of a part of the samples.
local function highest(series, what, from, to)
  local most = 0
  for i = math.max(math.floor(from), 1), math.min(math.ceil(to), #series) do
    most = math.max(most, series[i][what] or 0)
  end
  return most
end

--- Prints what was seen. Of each process the last third is held against the second: the first is for warming up.
--- Returns how many gauges are flat, and a list of texts about those that are not.
function Gauges:verdict()
  local flat, risen = 0, {}
  print "\n  process                    samples   memory (kB)         descriptors   threads"
  for _, series in ipairs(self.list) do
    local third = #series / 3
    local function both(what)
      return highest(series, what, third, 2 * third), highest(series, what, 2 * third, #series)
    end
    local m1, m2 = both "memory"
    local d1, d2 = both "descriptors"
    local t1, t2 = both "threads"
    print(("  %-26s %7d   %7d to %7d   %3d to %3d   %3d to %3d"):format(series.name, #series, m1, m2, d1, d2, t1, t2))
    local function judge(what, ok, before, after)
      if ok then
        flat = flat + 1
      else
        risen[#risen + 1] = ("%s of %s rose from %d to %d"):format(what, series.name, before, after)
      end
    end
    judge("memory", m2 <= m1 * (1 + SHARE) + KILOBYTES, m1, m2)
    judge("descriptors", d2 <= d1 + DESCRIPTORS, d1, d2)
    judge("threads", t2 <= t1, t1, t2)
  end
  return flat, risen
end

return gauges
