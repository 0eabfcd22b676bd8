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

-- `during` says what has struck, for the schedule, and for whoever reads why a round has failed.
local function strike(self, fault)
  local began = wait.now()
  self.during = (self.during and self.during .. " + " or "") .. fault.name
  local heal, note, away = fault.strike(self.world)
  if note then self.during = ("%s (%s)"):format(self.during, note) end
  return { fault = fault, began = began, heal = heal, away = self.nodes > 1 and away }
end

local function heal(struck, patient)
  for _, one in ipairs(struck) do
    if one.heal and (one.fault.patient or false) == patient then one.heal() end
  end
end

local function pause(self, hold)
  if hold then wait.sleep(self.draw:between(hold[1], hold[2])) end
end

-- One fault, or two that overlap, to the recovery after the last. The time it takes is counted from the end of the
-- faults; where a cluster must do without a node, also from their begin.
local function blow(self, first, second)
  local took = 0
  local struck = { strike(self, first) }
  if struck[1].away and not second then
    took = self.world:goes_on(struck[1].began, RECOVERY, struck[1].away) - struck[1].began
  end
  pause(self, first.hold)
  if second then
    struck[2] = strike(self, second)
    pause(self, second.hold)
  end
  heal(struck, false)
  heal(struck, true)
  local healed = wait.now()
  took = math.max(took, self.world:recovered(healed, RECOVERY) - healed)
  for _, one in ipairs(struck) do
    local record = self.kinds[one.fault.name] or { count = 0, longest = 0 }
    self.kinds[one.fault.name] = record
    record.count, record.longest = record.count + 1, math.max(record.longest, took)
  end
  say(self, "%s: all goes on after %.1f s", self.during, took)
  self.during = nil
end

-- Takes the first fault out of the list, and one that may overlap with it.
local function next_two(list)
  local first = table.remove(list, 1)
  for i, fault in ipairs(list) do
    if fault.where ~= first.where then return first, table.remove(list, i) end
  end
  return first
end

-- Every fault once, in a drawn order: on one node two at a time, on three those that one node has not shown.
local function each_once(self)
  local list = {}
  for _, fault in ipairs(faults.of(self.nodes, self.fault)) do
    if self.nodes == 1 or self.fault or not fault.shown then list[#list + 1] = fault end
  end
  list = self.draw:shuffled(list)
  while list[1] do
    if self.nodes == 1 then blow(self, next_two(list)) else blow(self, table.remove(list, 1)) end
  end
end

-- Faults by weight until the time is over, a third of them two at a time.
local function until_over(self, seconds)
  local list = faults.of(self.nodes, self.fault)
  while wait.now() - self.began < seconds do
    local first, second = self.draw:weighted(list), nil
    if self.draw:number() < 1 / 3 and not self.fault then
      repeat second = self.draw:weighted(list) until second.where ~= first.where
    end
    blow(self, first, second)
    wait.sleep(self.draw:between(0, 2))
  end
end

local EVERY = 20

-- A fault each 20 s, and a sample of the clients each second in between. No client is killed: it is to grow old.
local function soak(self, seconds, gauges)
  local list, clients = {}, {}
  for _, fault in ipairs(faults.of(self.nodes)) do
    if fault.where ~= "clients" then list[#list + 1] = fault end
  end
  for _, kind in ipairs { self.world.publishers, self.world.consumers } do
    for _, each in ipairs(kind) do clients[#clients + 1] = each end
  end
  local due, ends = wait.now() + EVERY, wait.now() + seconds
  while wait.now() < ends do
    gauges:sample(clients)
    self.world.ledger:read()
    wait.sleep(1)
    if wait.now() >= due then
      due = math.max(due + EVERY, wait.now())
      blow(self, self.draw:weighted(list))
    end
  end
end

--- `o`: nodes (1 or 3), seed, folder, rate, fault (only those whose names begin so), seconds (nil: every fault once),
--- gauges (soak, see gauges.lua). Raises nothing. Returns { nodes, seed, kinds = { [name] = { count, longest } }, total
--- (of the ledger), wrong (texts), seconds, ended = whether it came to its end, and as by an operator: replaced (replicas),
--- restarted (nodes), closed and forgot (connections), moved (leaders) }.
function round.run(o)
  local self = setmetatable({ nodes = o.nodes, fault = o.fault, draw = draw.new(o.seed), kinds = {}, began = wait.now() },
    Round)
  local result = { nodes = o.nodes, seed = o.seed, kinds = self.kinds, wrong = {} }
  os.execute(("rm -rf '%s' && mkdir -p '%s'"):format(o.folder, o.folder))
  self.schedule = assert(io.open(o.folder .. "/schedule", "wb"))
  self.world = world.new { folder = o.folder, draw = self.draw }
  local function wrong(text) result.wrong[#result.wrong + 1] = tostring(text) end

  local ok, err = xpcall(function()
    self.world:start(o.nodes, o.rate)
    say(self, "%d node%s, seed %d: all runs", o.nodes, o.nodes > 1 and "s" or "", o.seed)
    self.world:recovered(wait.now(), RECOVERY)
    if o.gauges then
      soak(self, o.seconds, o.gauges)
    elseif o.seconds then
      until_over(self, o.seconds)
    else
      each_once(self)
    end
    for _, text in ipairs(self.world:finish(RECOVERY)) do wrong(text) end
    say(self, "the end")
  end, function(text) return type(text) == "string" and debug.traceback(text, 2) or text end)
  if not ok then wrong(self.during and ("%s\n  during: %s"):format(err, self.during) or err) end
  local died = self.world.proxy and self.world.proxy:died()
  if died then wrong("the proxy, of this harness, has died: " .. died) end
  self.world.ledger:read()
  result.total = self.world.ledger:verdict()
  -- Of an end that was not reached it says nothing.
  for _, kind in ipairs(ok and { "lost", "disordered", "stray" } or {}) do
    local list = result.total[kind]
    if #list > 0 then
      local text = ("%d %s: %s"):format(#list, kind, table.concat(list, ", ", 1, math.min(#list, 20)))
      -- Those that were lost have a story.
      for i = 1, kind == "lost" and math.min(#list, 5) or 0 do
        text = ("%s\n    %s"):format(text, self.world.ledger:story(list[i], self.began))
      end
      wrong(text)
    end
  end
  if #result.wrong > 0 then self.world:keep_logs() end
  self.world:stop()
  for _, text in ipairs(result.wrong) do self.schedule:write("WRONG: ", text, "\n") end
  self.schedule:close()
  local cluster = self.world.cluster or {}
  for _, act in ipairs { "replaced", "restarted", "closed", "moved", "forgot" } do result[act] = cluster[act] or 0 end
  result.ended = ok
  result.seconds = wait.now() - self.began
  -- Journals of a good round are of no use, and large.
  if #result.wrong == 0 then os.execute(("rm -f '%s'/*.published '%s'/*.consumed"):format(o.folder, o.folder)) end
  return result
end

return round
