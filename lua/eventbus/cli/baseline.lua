--- The baseline: what rate a queue usually has at this hour of the week, learnt from the rates it had. Pure: samples in,
-- verdict out; it knows no clock and no file. docs/cli.md says in words what it does.
--
-- A record belongs to one queue and is plain data:
--   { at =, published =, streak =, slots = { h37 = { n =, mean =, var = } } }
-- A slot is an hour of the week. In each, the mean and the variance are exponentially weighted: a sample has the weight
-- 1/n while there are few, and 1/MEMORY from then on. The band is mean ± k deviations; a rate outside of it STREAK times
-- in a row is an alert. An outside rate is learnt as the edge of the band, so that an outage does not become the rule at
-- once, and a lasting change does in time.

local baseline = {}

baseline.NEED = 30          -- samples of a slot before it judges
baseline.MEMORY = 240       -- samples it remembers: a check a minute fills a slot with 60 a week
baseline.STREAK = 3         -- samples in a row outside
baseline.SHORTEST = 20      -- seconds between two samples
baseline.LONGEST = 7200     -- seconds; over a longer gap there is no telling when the messages came
-- The least deviation: a queue that never varied would alert on a breath.
local LEAST_SHARE, LEAST = 0.1, 1 / 60

---@class eventbus.cli.Verdict
---@field state "learning"|"usual"|"low"|"high"
---@field alert boolean
---@field rate number
---@field low number|nil    of the band; nil while learning
---@field high number|nil
---@field n integer         samples that were there before it

--- The slot of a time of day: "h0" is Sunday 00:00 to 00:59, "h167" Saturday 23:00.
---@param date { wday: integer, hour: integer }  of os.date "*t"
---@return string
function baseline.slot(date)
  return ("h%d"):format((date.wday - 1) * 24 + date.hour)
end

--- The rate since the last sample, from the queue's counter of published messages, and what the record remembers for the
-- next one. nil and why, when there is none: "first", "soon", "gap" or "reset".
---@param record table
---@param at number         seconds
---@param published integer
---@return number|nil rate, string|nil why
function baseline.rate(record, at, published)
  local before, count = record.at, record.published
  local passed = before and at - before
  -- Too soon: the earlier sample stays the one to compare with.
  if passed and passed >= 0 and passed < baseline.SHORTEST then return nil, "soon" end
  record.at, record.published = at, published
  if not before then return nil, "first" end
  if passed < 0 or passed > baseline.LONGEST then return nil, "gap" end
  if published < count then return nil, "reset" end
  return (published - count) / passed
end

--- The band of a slot: what its rate may be. nil while it is learning.
---@param record table|nil
---@param slot string
---@param options { k: number, need: integer|nil }
---@return number|nil low, number|nil high
function baseline.band(record, slot, options)
  local cell = record and record.slots and record.slots[slot]
  if not cell or cell.n < (options.need or baseline.NEED) then return nil end
  local deviation = math.max(math.sqrt(cell.var), LEAST_SHARE * cell.mean, LEAST)
  return math.max(cell.mean - options.k * deviation, 0), cell.mean + options.k * deviation
end

local function learn(cell, rate)
  cell.n = math.min(cell.n + 1, baseline.MEMORY)
  local weight = 1 / cell.n
  local off = rate - cell.mean
  cell.mean = cell.mean + weight * off
  cell.var = (1 - weight) * (cell.var + weight * off * off)
end

--- Judges a rate by what was learnt before it, then learns it.
---@param record table
---@param slot string
---@param rate number
---@param options { k: number, need: integer|nil }
---@return eventbus.cli.Verdict
function baseline.take(record, slot, rate, options)
  record.slots = record.slots or {}
  local cell = record.slots[slot] or { n = 0, mean = 0, var = 0 }
  record.slots[slot] = cell
  local low, high = baseline.band(record, slot, options)
  local state, learnt = "usual", rate
  if not low then
    state = "learning"
  elseif rate < low then
    state, learnt = "low", low
  elseif rate > high then
    state, learnt = "high", high
  end
  local outside = state == "low" or state == "high"
  record.streak = outside and (record.streak or 0) + 1 or 0
  local n = cell.n
  learn(cell, learnt)
  return { state = state, alert = record.streak >= baseline.STREAK, rate = rate, low = low, high = high, n = n }
end

local function is_number(value)
  return type(value) == "number" and value == value and value > -math.huge and value < math.huge
end

--- Whether some data, read from a file, is a record.
---@param record any
---@return boolean
function baseline.is_record(record)
  if type(record) ~= "table" then return false end
  if record.at ~= nil and not (is_number(record.at) and is_number(record.published)) then return false end
  if record.streak ~= nil and not is_number(record.streak) then return false end
  if record.slots == nil then return true end
  if type(record.slots) ~= "table" then return false end
  for name, cell in pairs(record.slots) do
    if type(name) ~= "string" or type(cell) ~= "table" then return false end
    if not (is_number(cell.n) and is_number(cell.mean) and is_number(cell.var)) or cell.n < 0 or cell.var < 0 then
      return false
    end
  end
  return true
end

return baseline
