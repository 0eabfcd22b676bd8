--- samples: what was measured: figures by thing, client and variant, one for each turn; medians over the turns, and ratios
--- of two clients, of which each is of one turn: a machine that drifts from turn to turn drifts under both. With them the
--- settings of the run, and the facts about what it was measured on.
--- Written to a text file line by line, so that a run that is interrupted has not been for nothing, and read from it.

local samples = {}
samples.__index = samples

local function write(self, ...)
  if self.file then self.file:write(table.concat({ ... }, "\t"), "\n") end
end

--- `settings`: numbers by name.
function samples.new(path, settings)
  local self = setmetatable({ sets = {}, turns = {}, failures = {}, settings = settings or {}, facts = {} }, samples)
  self.file = path and assert(io.open(path, "w"))
  if self.file then self.file:setvbuf "line" end
  for name, value in pairs(self.settings) do write(self, "setting", name, value) end
  return self
end

--- `facts`: a list of { what, text }.
function samples:tell(facts)
  self.facts = facts
  for _, fact in ipairs(facts) do write(self, "fact", fact[1], fact[2]) end
end

local function key(name, client, variant) return ("%s\0%s\0%s"):format(name, client, variant or "") end

--- `turn`: a number that all clients' figures of the same turn have in common; so is `variant`, if there is one.
function samples:record(turn, name, client, variant, figures, why)
  local id = key(name, client, variant)
  if figures then
    local set = self.sets[id] or {}
    self.sets[id] = set
    set[#set + 1] = figures
    self.turns[id] = self.turns[id] or {}
    self.turns[id][turn] = figures
    local words = {}
    for field, value in pairs(figures) do words[#words + 1] = ("%s=%.6f"):format(field, value) end
    table.sort(words)
    write(self, "sample", turn, name, client, variant or "", table.concat(words, " "))
  else
    self.failures[id] = why or "nothing was measured"
    write(self, "failure", turn, name, client, variant or "", self.failures[id])
  end
end

--- What stands in the file of a run.
function samples.read(path)
  local self, facts = samples.new(), {}
  for line in io.lines(path) do
    local words = {}
    for word in (line .. "\t"):gmatch "(.-)\t" do words[#words + 1] = word end
    local kind, turn, name, client, variant, text = table.unpack(words)
    if kind == "setting" then
      self.settings[turn] = tonumber(name)
    elseif kind == "fact" then
      facts[#facts + 1] = { turn, name }
    elseif kind == "sample" then
      local figures = {}
      for field, value in text:gmatch "([%w_]+)=(%S+)" do figures[field] = tonumber(value) end
      self:record(tonumber(turn), name, client, tonumber(variant), figures)
    else
      self:record(tonumber(turn), name, client, tonumber(variant), nil, text)
    end
  end
  self:tell(facts)
  return self
end

local function median(list)
  table.sort(list)
  local half = math.floor(#list / 2)
  return #list % 2 == 1 and list[half + 1] or (list[half] + list[half + 1]) / 2
end

--- The median of `of(figures)`, of those that have it; nil when nothing was measured.
function samples:median(name, client, of, variant)
  local set, list = self.sets[key(name, client, variant)], {}
  for _, figures in ipairs(set or {}) do list[#list + 1] = of(figures) end
  if #list > 0 then return median(list) end
end

--- `of` of one against that of another, turn by turn: { median, least, most, turns }, or nil when there is no turn in which
--- both have it. Both are { name, client, variant }.
function samples:ratio(of, one, other)
  local mine, its, list = self.turns[key(one[1], one[2], one[3])], self.turns[key(other[1], other[2], other[3])] or {}, {}
  for turn, figures in pairs(mine or {}) do
    local value, base = of(figures), its[turn] and of(its[turn])
    if value and base and value > 0 and base > 0 then list[#list + 1] = value / base end
  end
  if #list == 0 then return nil end
  local middle = median(list)
  return { median = middle, least = list[1], most = list[#list], turns = #list }
end

--- How far samples of one lie from their own median: { least, most } as parts of it, or nil.
function samples:spread(name, client, of)
  local middle, least, most = self:median(name, client, of), math.huge, 0
  if not middle or middle == 0 then return nil end
  for _, figures in ipairs(self.sets[key(name, client)]) do
    least, most = math.min(least, of(figures) / middle), math.max(most, of(figures) / middle)
  end
  return { least = least, most = most }
end

--- { median, least, most } of all clients' samples of a thing; nil when none has it.
function samples:over(name, of)
  local list = {}
  for id, set in pairs(self.sets) do
    for _, figures in ipairs(id:sub(1, #name + 1) == name .. "\0" and set or {}) do list[#list + 1] = of(figures) end
  end
  if #list == 0 then return nil end
  local middle = median(list)
  return { median = middle, least = list[1], most = list[#list] }
end

--- Why the last attempt failed, when none succeeded.
function samples:failure(name, client, variant)
  local id = key(name, client, variant)
  return not self.sets[id] and self.failures[id] or nil
end

-- What is asked of figures.
function samples.cpu_us(figures) return figures.cpu / figures.events * 1e6 end
-- Of 1,000 events; nil of a client that does not print them.
function samples.wakeups(figures) return figures.wakeups and figures.wakeups / figures.events * 1000 end
function samples.rate(figures) return figures.events / figures.seconds end
function samples.field(name) return function(figures) return figures[name] end end

return samples
