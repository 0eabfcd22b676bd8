--- round: one world, faults drawn from a seed, and what came of it.

local draw = require "spec.chaos.draw"
local faults = require "spec.chaos.faults"
local wait = require "spec.support.wait"
local world = require "spec.chaos.world"

local round = {}

local Round = {}
Round.__index = Round

-- A machine with other things to do needs this long at worst; what does not come back at all is found all the same.
local RECOVERY = 120

local function say(self, text, ...)
  local line = ("%7.1f s  " .. text):format(wait.now() - self.began, ...)
  self.schedule:write(line, "\n")
  self.schedule:flush()
  print(line)
  io.stdout:flush()
end

local function strike(self, fault)
  local heal, note = fault.strike(self.world)
  return { fault = fault, heal = heal, name = fault.name .. (note and " (" .. note .. ")" or "") }
end

local function pause(self, hold)
  if hold then wait.sleep(self.draw:between(hold[1], hold[2])) end
end

-- One fault, or two that overlap, to the recovery after the last.
local function blow(self, first, second)
  local struck = { strike(self, first) }
  pause(self, first.hold)
  if second then
    struck[2] = strike(self, second)
    pause(self, second.hold)
  end
  for _, one in ipairs(struck) do
    if one.heal then one.heal() end
  end
  local healed = wait.now()
  local took = self.world:recovered(healed, RECOVERY) - healed
  local names = {}
  for i, one in ipairs(struck) do
    names[i] = one.name
    local record = self.kinds[one.fault.name] or { count = 0, longest = 0 }
    self.kinds[one.fault.name] = record
    record.count, record.longest = record.count + 1, math.max(record.longest, took)
  end
  say(self, "%s: all goes on after %.1f s", table.concat(names, " + "), took)
end

-- Every fault once, in a drawn order; those that one node has shown are not shown again by three.
local function each_once(self)
  local list = {}
  for _, fault in ipairs(faults.of(self.nodes)) do
    if self.nodes == 1 or fault.often ~= 0 then list[#list + 1] = fault end
  end
  for _, fault in ipairs(self.draw:shuffled(list)) do blow(self, fault) end
end

-- Faults by weight until the time is over, a third of them two at a time.
local function until_over(self, seconds)
  local list = faults.of(self.nodes)
  while wait.now() - self.began < seconds do
    local first, second = self.draw:weighted(list), nil
    if self.draw:number() < 1 / 3 then
      repeat second = self.draw:weighted(list) until second.where ~= first.where
    end
    blow(self, first, second)
    wait.sleep(self.draw:between(0, 2))
  end
end

--- `o`: nodes (1 or 3), seed, folder, seconds (nil: every fault once), rate. Returns { nodes, seed, kinds = { [name] = { count, longest } },
--- total (of the ledger), wrong = list of texts, seconds }. Raises nothing.
function round.run(o)
  local self = setmetatable({ nodes = o.nodes, draw = draw.new(o.seed), kinds = {}, began = wait.now() }, Round)
  local result = { nodes = o.nodes, seed = o.seed, kinds = self.kinds, wrong = {} }
  os.execute(("rm -rf '%s' && mkdir -p '%s'"):format(o.folder, o.folder))
  self.schedule = assert(io.open(o.folder .. "/schedule", "wb"))
  self.world = world.new { folder = o.folder, draw = self.draw }
  local function wrong(text) result.wrong[#result.wrong + 1] = tostring(text) end

  local ok, err = xpcall(function()
    self.world:start(o.nodes, o.rate)
    say(self, "%d node%s, seed %d: all runs", o.nodes, o.nodes > 1 and "s" or "", o.seed)
    self.world:recovered(wait.now(), RECOVERY)
    if o.seconds then until_over(self, o.seconds) else each_once(self) end
    for _, text in ipairs(self.world:finish(RECOVERY)) do wrong(text) end
    say(self, "the end")
  end, function(text) return type(text) == "string" and debug.traceback(text, 2) or text end)
  if not ok then wrong(err) end
  self.world.ledger:read()
  result.total = self.world.ledger:verdict()
  -- Of an end that was not reached it says nothing.
  for _, kind in ipairs(ok and { "lost", "disordered", "stray" } or {}) do
    local list = result.total[kind]
    if #list > 0 then
      wrong(("%d %s: %s"):format(#list, kind, table.concat(list, ", ", 1, math.min(#list, 20))))
    end
  end
  if #result.wrong > 0 then self.world:keep_logs() end
  self.world:stop()
  for _, text in ipairs(result.wrong) do self.schedule:write("WRONG: ", text, "\n") end
  self.schedule:close()
  result.seconds = wait.now() - self.began
  -- Journals of a good round are of no use, and large.
  if #result.wrong == 0 then os.execute(("rm -f '%s'/*.published '%s'/*.consumed"):format(o.folder, o.folder)) end
  return result
end

return round
