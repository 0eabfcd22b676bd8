--- samples: what was measured: figures by thing, client and variant, one for each round; medians over the rounds.
--- Written to a text file line by line, so that a run that is interrupted has not been for nothing.

local samples = {}
samples.__index = samples

function samples.new(path)
  local file = path and assert(io.open(path, "w"))
  if file then file:setvbuf "line" end
  return setmetatable({ file = file, sets = {}, failures = {} }, samples)
end

local function key(name, client, variant) return ("%s\0%s\0%s"):format(name, client, variant or "") end

function samples:record(round, name, client, variant, figures, why)
  local id = key(name, client, variant)
  local text = why and "failed: " .. why or ""
  if figures then
    local set = self.sets[id] or {}
    self.sets[id] = set
    set[#set + 1] = figures
    local words = {}
    for field, value in pairs(figures) do words[#words + 1] = ("%s=%.6f"):format(field, value) end
    table.sort(words)
    text = table.concat(words, " ")
  else
    self.failures[id] = why or "nothing was measured"
  end
  if self.file then
    self.file:write(("%d %s %s%s: %s\n"):format(round, name, client, variant and " " .. variant or "", text))
  end
end

local function median(list)
  table.sort(list)
  local half = math.floor(#list / 2)
  return #list % 2 == 1 and list[half + 1] or (list[half] + list[half + 1]) / 2
end

--- The median of `of(figures)`; nil when nothing was measured.
function samples:median(name, client, of, variant)
  local set, list = self.sets[key(name, client, variant)], {}
  for _, figures in ipairs(set or {}) do list[#list + 1] = of(figures) end
  if #list > 0 then return median(list) end
end

--- Why the last attempt failed, when it did.
function samples:failure(name, client, variant) return self.failures[key(name, client, variant)] end

-- What is asked of figures.
function samples.cpu_us(figures) return figures.cpu / figures.events * 1e6 end
-- Of 1,000 events.
function samples.wakeups(figures) return figures.wakeups / figures.events * 1000 end
function samples.rate(figures) return figures.events / figures.seconds end
function samples.field(name) return function(figures) return figures[name] end end

return samples
