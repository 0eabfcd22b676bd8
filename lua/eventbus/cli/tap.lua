--- A tap: a queue of one's own that gets a copy of the live events, and harms nobody. It is exclusive and goes with the
-- connection, holds a bounded number of events and drops its oldest beyond that, so a reader that stops costs the broker
-- little and others nothing. After a reconnect it is there again, with a gap.
--
-- A tap stands where the dispatcher expects a subscription (eventbus.consumer), but settles everything with an ack and has
-- no retries and no dead letters: it looks on.

local tap = {}

-- Bytes that the queue holds at most, beside the count.
local MAX_BYTES = 64 * 1024 * 1024
local MOST_PREFETCH = 500
-- Seconds between two looks at how full the queue is; and how late one may be before this process must have stood still.
local LOOK, LATE = 2, 1

---@class eventbus.cli.Tap
---@field queue string  its name, given by the broker
local Tap = {}
Tap.__index = Tap

---@class eventbus.cli.TapOptions
---@field exchanges string[]
---@field patterns string[]
---@field optional boolean          an exchange that does not exist is left out, and told in `absent`
---@field buffer integer            events that the queue holds
---@field take fun(delivery: any)
---@field full fun()                the queue has reached its bound

--- Opens one: each pattern is bound to each exchange.
---@param bus eventbus.Bus
---@param options eventbus.cli.TapOptions
---@return eventbus.cli.Tap|nil, eventbus.Error|nil
function tap.open(bus, options)
  local hub = bus._hub
  local timeout = hub.config.timeout
  local self = setmetatable({ _hub = hub, _take = options.take, _full = options.full, _losses = 0, _held = {},
    buffer = options.buffer, absent = {}, bound = {} }, Tap)
  local declared, err = hub:call("queue_declare", { queue = "", exclusive = true, auto_delete = true,
    arguments = { ["x-max-length"] = options.buffer, ["x-max-length-bytes"] = MAX_BYTES, ["x-overflow"] = "drop-head" } },
    timeout)
  if not declared then return nil, err end
  self.queue = declared.queue
  for _, exchange in ipairs(options.exchanges) do
    local there = true
    for _, pattern in ipairs(options.patterns) do
      local ok
      ok, err = hub:call("queue_bind", { queue = self.queue, exchange = exchange, routing_key = pattern }, timeout)
      if not ok and not (options.optional and err.code == "not_found") then return nil, err end
      there = ok
      if not there then break end
    end
    table.insert(there and self.bound or self.absent, exchange)
  end
  self.prefetch = math.max(math.min(MOST_PREFETCH, math.floor(options.buffer / 4)), 1)
  local ok
  ok, err = hub:subscribe(self, { queue = self.queue, prefetch = self.prefetch }, timeout)
  if not ok then return nil, err end
  self:look_in(LOOK)
  return self
end

function Tap:look_in(seconds)
  self._next_look = self._hub.now() + seconds
  self._hub.timers:add(self._next_look, self)
end

-- The broker does not tell how many it dropped, only how many there are.
local Answer = {}
Answer.__index = Answer

function Answer:answered(ok, value)
  local one = self.tap
  one:let_go()
  if not ok or type(value) ~= "table" or one._ended then return end
  local full = value.messages >= one.buffer - one.prefetch
  if full and not one._was_full then one._full() end
  one._was_full = full
end

-- What is taken until the answer is acknowledged after it: an ack makes room, and may reach the queue first.
local function look(self)
  self._looking = true
  local asked = self._hub:ask(setmetatable({ tap = self }, Answer),
    { name = "queue_declare", args = { queue = self.queue, passive = true, record = false } })
  if not asked then self:let_go() end
end

function Tap:let_go()
  local held = self._held
  self._looking, self._held = false, {}
  for _, delivery in ipairs(held) do delivery:ack() end
end

-- What the dispatcher and the hub ask of a subscription.

function Tap:handle(delivery)
  -- This process was stopped for a while: ask before what is taken now makes room.
  if self._hub.now() > self._next_look + LATE then
    self._next_look = self._hub.now()
    look(self)
  end
  self._take(delivery)
  if self._looking then
    self._held[#self._held + 1] = delivery
  else
    delivery:ack()
  end
end

function Tap:channel_lost() self._losses = self._losses + 1 end
function Tap:noticed() end
function Tap:ended() self._ended = true end
function Tap:stats() return { queue = self.queue } end

--- Time to look how full the queue is.
function Tap:due()
  if self._ended then return end
  look(self)
  self:look_in(LOOK)
end

return tap
