--- The retry policy: how often a failed event comes again, and after which delay.
--
-- There is one delay queue per delay, so the delays are a small, known set. Jitter draws one of four steps between the
-- delay and delay × (1 + jitter): it only ever lengthens. A delay that a handler asks for is rounded up to a step of a
-- fixed scale (about a hundred steps from 100 ms to 28 days). Pure; delays are whole milliseconds.

local options = require "eventbus.options"
local units = require "eventbus.units"

local retry = {}

local JITTER_STEPS = 3       -- beside no jitter at all
local MOST_DELAYS = 100      -- delay queues of one subscription
local LONGEST = 28 * 86400
retry.LONGEST_MS = LONGEST * 1000

-- Up to `limit` seconds a delay is rounded up to a multiple of `step`.
local SCALE = {
  { limit = 1, step = 0.1 }, { limit = 10, step = 1 }, { limit = 60, step = 5 }, { limit = 600, step = 30 },
  { limit = 3600, step = 300 }, { limit = 86400, step = 3600 }, { limit = LONGEST, step = 86400 },
}

local function delay(value)
  local seconds, expected = units.duration(value)
  if seconds and seconds > LONGEST then return nil, "at most 28 days" end
  return seconds, expected
end

local function jitter(value)
  if value == true then return 0.5 end
  if value == false then return 0 end
  return options.number(0, 1)(value)
end

retry.SCHEMA = {
  count = options.integer(0, 1000),
  delay = delay,
  delays = options.list(delay, "a list of durations, at most 28 days each"),
  backoff = options.choice("fixed", "exponential"),
  factor = options.number(1, 100),
  max_delay = delay,
  jitter = function(value)
    local result = jitter(value)
    if result == nil then return nil, "true, false or a number from 0 to 1" end
    return result
  end,
}

--- The rule for an option `retry`: a table as above, or false.
retry.rule = options.either(options.shape(retry.SCHEMA), options.exactly(false))

---@class eventbus.RetryPolicy
---@field count integer  retries after the first attempt
local Policy = {}
Policy.__index = Policy

local function base_seconds(self, n)
  local o = self.options
  if o.delays then return o.delays[n] or o.delays[#o.delays] end
  local seconds = o.delay
  if o.backoff == "exponential" and seconds > 0 then  -- 0 × ∞ is no delay at all
    seconds = math.min(seconds * (o.factor or 2) ^ (n - 1), math.max(o.max_delay or 3600, o.delay))
  end
  return seconds
end

local function step_ms(self, n, step)
  local seconds = base_seconds(self, n)
  return units.milliseconds(math.min(seconds * (1 + (self.options.jitter or 0) * step / JITTER_STEPS), LONGEST))
end

-- How many retries an option table asks for, if it says.
local function count_of(given)
  if not given then return nil end
  return given.count or (given.delays and #given.delays)
end

local function all_delays(self)
  local list, known = {}, {}
  for n = 1, self.count do
    for step = 0, (self.options.jitter or 0) > 0 and JITTER_STEPS or 0 do
      local ms = step_ms(self, n, step)
      if not known[ms] then
        known[ms] = true
        list[#list + 1] = ms
      end
    end
  end
  table.sort(list)
  return list, known
end

--- A policy from an option table (already read by the schema) over defaults; false: no retries.
---@param given table|false|nil
---@param defaults table|false|nil
---@return eventbus.RetryPolicy|nil, string|nil
function retry.policy(given, defaults)
  local merged = { delay = 5, backoff = "fixed" }
  for key, value in pairs(defaults or {}) do merged[key] = value end
  if type(given) == "table" and given.delay and not given.delays then merged.delays = nil end
  for key, value in pairs(given or {}) do merged[key] = value end
  local none = given == false or (given == nil and defaults == false)
  local self = setmetatable({ options = merged, count = none and 0 or count_of(given) or count_of(defaults) or 3 }, Policy)
  self.list, self.known = all_delays(self)
  if #self.list > MOST_DELAYS then
    return nil, ("retry: %d different delays, and a queue for each; at most %d. Lower count or max_delay")
      :format(#self.list, MOST_DELAYS)
  end
  return self
end

--- The delay before the retry that follows attempt `n` (1 is the first), or nil when no retry is left.
---@param n integer
---@param random? fun(low: integer, high: integer): integer
---@return integer|nil ms
function Policy:delay_after(n, random)
  if n > self.count then return nil end
  return self:delay_of(n, random)
end

--- The same without the limit: what the policy would wait after attempt `n`.
---@param n integer
---@param random? fun(low: integer, high: integer): integer
---@return integer ms
function Policy:delay_of(n, random)
  local steps = self.options.jitter and self.options.jitter > 0 and JITTER_STEPS or 0
  return step_ms(self, n, steps > 0 and (random or math.random)(0, steps) or 0)
end

--- Every delay the policy can choose, shortest first, each once.
---@return integer[] ms  not to be changed
function Policy:delays()
  return self.list
end

--- Whether a delay is one of them.
---@param ms integer
---@return boolean
function Policy:has(ms)
  return self.known[ms] ~= nil
end

--- The delay to use when a handler asks for `seconds`: one the policy has anyway when it is near, else the next step.
---@param seconds number
---@return integer ms
function Policy:delay_near(seconds)
  local ms, step = units.milliseconds(seconds), retry.step(seconds)
  for _, known in ipairs(self.list) do
    if known >= ms and known <= step then return known end
  end
  return step
end

--- A delay rounded up to the scale.
---@param seconds number
---@return integer ms
function retry.step(seconds)
  for _, part in ipairs(SCALE) do
    if seconds <= part.limit then
      return units.milliseconds(math.max(math.ceil(seconds / part.step - 1e-9), 1) * part.step)
    end
  end
  return units.milliseconds(LONGEST)
end

--- The name of a delay queue.
---@param queue string
---@param ms integer
---@return string
function retry.queue_name(queue, ms)
  return ("%s.retry.%d"):format(queue, ms)
end

--- What declares a delay queue: messages wait `ms`, then go back to `queue` through the default exchange.
-- It never expires: a queue that does is deleted with the messages in it, and publishing to it does not count as use.
---@param queue string
---@param ms integer
---@param like? table  the queue's normalised topology: an exclusive or a quorum queue gets delay queues of its kind
---@return { name: string, args: table }
function retry.step_for(queue, ms, like)
  local arguments = {
    ["x-message-ttl"] = ms,
    ["x-dead-letter-exchange"] = "",
    ["x-dead-letter-routing-key"] = queue,
  }
  local exclusive = like and like.exclusive or false
  if like and like.type == "quorum" then
    arguments["x-queue-type"] = "quorum"
    arguments["x-dead-letter-strategy"] = "at-least-once"
    arguments["x-overflow"] = "reject-publish"
  end
  return { name = "queue_declare", args = {
    queue = retry.queue_name(queue, ms), durable = not exclusive, exclusive = exclusive, arguments = arguments,
  } }
end

return retry
