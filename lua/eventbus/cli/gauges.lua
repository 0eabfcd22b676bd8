--- Gauges: what the queues look like now, from the management API, or from AMQP alone when nobody answers there.
--
-- AMQP tells how many messages are ready and how many consumers there are. The management API also tells what is
-- unacknowledged, and counts: the server samples its counters every few seconds, with its own clock, so a rate here is
-- the difference of two such samples and never a zero seen between two of them.

local Error = require "eventbus.error"
local connection = require "eventbus.cli.connection"
local core = require "eventbus.core"
local json = require "eventbus.json"

local gauges = {}

-- Seconds: a rate is over the last RATE_SPAN, the trend over TREND_POINTS samples each TREND_STEP apart. The server keeps
-- a sample every 5 s.
local RATE_SPAN, TREND_STEP, TREND_POINTS = 10, 15, 8
-- An API that did not answer is left alone for so long, as long as AMQP does.
local REST = 30

local QUERY = ("?columns=name,state,messages_ready,messages_ready_details,messages_unacknowledged,consumers,message_stats"
  .. "&msg_rates_age=%d&msg_rates_incr=5&lengths_age=%d&lengths_incr=%d"):format(RATE_SPAN + 10,
  TREND_STEP * (TREND_POINTS - 1), TREND_STEP)

---@class eventbus.cli.Gauge  what is not known is nil
---@field name string
---@field missing string|nil     why there is none: "does not exist"
---@field state string|nil
---@field ready integer|nil
---@field unacked integer|nil
---@field consumers integer|nil
---@field published integer|nil  counter of messages that came in
---@field rate_in number|nil     per second
---@field rate_out number|nil    per second: acknowledged, or delivered to those who do not acknowledge
---@field trend integer[]        ready, oldest first

---@class eventbus.cli.Reading
---@field via "management"|"amqp"
---@field note string|nil        what is not known
---@field why string|nil         what the management API's failure was
---@field queues table<string, eventbus.cli.Gauge>
---@field at number              core.now

---@class eventbus.cli.Gauges
local Gauges = {}
Gauges.__index = Gauges

--- What reads the gauges of a command's broker. `options.limit`: seconds that one request may take.
---@param args table
---@param options? { limit: number }
---@return eventbus.cli.Gauges
function gauges.new(args, options)
  local limit = math.min(args.timeout or 10, options and options.limit or 10)
  local given = {}
  for name, value in pairs(args) do given[name] = value end
  given.timeout = limit
  return setmetatable({ args = given, api = connection.management(given), rest_until = -1, history = {} }, Gauges)
end

-- What comes from the network may be anything, null included.
local function number(value)
  return type(value) == "number" and value or nil
end

-- The numbers of a list of samples, newest first, as the API has it: the change per second over the last RATE_SPAN.
local function rate_of(details)
  if type(details) ~= "table" then return nil end
  local samples = details.samples
  if type(samples) ~= "table" or #samples < 2 then return number(details.rate) end
  local newest, oldest = samples[1], samples[2]
  for i = 3, #samples do
    if newest.timestamp - samples[i].timestamp > RATE_SPAN * 1000 then break end
    oldest = samples[i]
  end
  local seconds = (newest.timestamp - oldest.timestamp) / 1000
  -- The counter fell: the broker started anew.
  if seconds <= 0 or newest.sample < oldest.sample then return nil end
  return (newest.sample - oldest.sample) / seconds
end

local OUT = { "ack", "deliver_no_ack", "get_no_ack" }

local function rates(stats)
  local out = 0
  for _, name in ipairs(OUT) do
    if stats[name] then
      local rate = rate_of(stats[name .. "_details"])
      if not rate then return nil, nil end
      out = out + rate
    end
  end
  if not stats.publish then return 0, out end
  return rate_of(stats.publish_details), out
end

local function trend_of(details)
  local trend = {}
  local samples = type(details) == "table" and details.samples or {}
  for i = math.min(#samples, TREND_POINTS), 1, -1 do trend[#trend + 1] = samples[i].sample end
  return trend
end

local function from_api(queue)
  local gauge = { name = queue.name, state = type(queue.state) == "string" and queue.state or nil,
    ready = number(queue.messages_ready), unacked = number(queue.messages_unacknowledged),
    consumers = number(queue.consumers), trend = trend_of(queue.messages_ready_details) }
  local stats = queue.message_stats
  if type(stats) == "table" then
    gauge.published = number(stats.publish) or 0
    gauge.rate_in, gauge.rate_out = rates(stats)
  elseif gauge.ready then
    -- Nothing has ever come to this queue since the server counts.
    gauge.published, gauge.rate_in, gauge.rate_out = 0, 0, 0
  end
  return gauge
end

local function absent(name) return { name = name, missing = "does not exist", trend = {} } end

function Gauges:by_management(names)
  local list, err = self.api:get(self.api:path("queues") .. QUERY)
  if not list then return nil, err end
  if getmetatable(list) ~= json.array_mt then
    return nil, Error.new("malformed", self.api.display .. " does not speak RabbitMQ's management API")
  end
  local queues, unrated = {}, false
  for _, queue in ipairs(list) do
    queues[queue.name] = from_api(queue)
    unrated = unrated or queue.message_stats and not queues[queue.name].rate_in
  end
  local wanted = queues
  if names then
    wanted = {}
    for _, name in ipairs(names) do wanted[name] = queues[name] or absent(name) end
  end
  return { via = "management", queues = wanted, at = core.now(),
    note = unrated and "the management API keeps no rates" or nil }
end

local function open_bus(self)
  if self.bus then return self.bus end
  local ok, bus = pcall(connection.open, self.args)
  if not ok then return nil, bus end
  self.bus = bus
  return bus
end

-- Nothing samples for us here: the trend is what was read before.
local function remember(self, name, ready)
  local history, at = self.history[name] or { at = -math.huge }, core.now()
  self.history[name] = history
  if at - history.at < TREND_STEP and #history > 0 then
    history[#history] = ready
  else
    history[#history + 1], history.at = ready, at
    if #history > TREND_POINTS then table.remove(history, 1) end
  end
  local trend = {}
  for i, value in ipairs(history) do trend[i] = value end
  return trend
end

function Gauges:by_amqp(names)
  local bus, err = open_bus(self)
  if not bus then return nil, err end
  bus:poll(0)
  local state = bus:stats().connections.control
  if state ~= "up" then
    -- Given up, by the bus but not by us: the next reading begins anew.
    if state == "failed" then self:close() end
    return nil, Error.new("connection", "the connection to " .. connection.display(self.args) .. " is lost")
  end
  local queues = {}
  for _, name in ipairs(names) do
    local info, why = bus:queue_info(name)
    if info then
      queues[name] = { name = name, ready = info.messages, consumers = info.consumers,
        trend = remember(self, name, info.messages) }
    elseif why.code == "not_found" then
      queues[name] = absent(name)
      if not why.message:find("no queue", 1, true) then queues[name].missing = why.message end
    elseif why.code == "locked" then
      queues[name] = { name = name, state = "exclusive", trend = {} }
    else
      return nil, why
    end
  end
  return { via = "amqp", queues = queues, at = core.now() }
end

--- The gauges of some queues (nil: of all there are, which AMQP cannot tell). Blocks for a request, the limit at most for
-- each of the two ways.
---@param names string[]|nil
---@return eventbus.cli.Reading|nil, eventbus.Error|eventbus.cli.Failure|nil
function Gauges:read(names)
  local err = self.api_error
  if core.now() >= self.rest_until then
    local reading
    reading, err = self:by_management(names)
    self.api_error = err
    if reading then return reading end
    self.rest_until = -1
  end
  if not names then return nil, err end
  local reading, why = self:by_amqp(names)
  if not reading then return nil, why end
  self.rest_until = core.now() + REST
  reading.note = "without the management API: no unacknowledged counts, no rates"
  reading.why = err.message
  return reading
end

function Gauges:close()
  if self.bus then self.bus:close(1) end
  self.bus = nil
end

return gauges
