--- stream: one direction of a relayed connection. Bytes of one socket go to the other, in order, as the weather of
--- the route lets them. Holds at most LIMIT bytes: then it stops reading, as a full network does.
---
--- Weather, shared by all connections of a route and changed while they live: latency (seconds), bandwidth (bytes a
--- second), stalled = { up, down }. An armed blow strikes the next frame once: "corrupt" spoils a byte of it, "cut"
--- sends half of it and then resets the connection. AMQP in clear text has no checksum, TCP's is not ours to spoil:
--- there only the octets that a peer checks, type and end of a frame, are touched. In TLS it may be any byte.

local uv = require "luv"
local frames = require "spec.chaos.frames"

local stream = {}

local LIMIT = 256 * 1024

local Stream = {}
Stream.__index = Stream

--- `direction` is "up" (to the broker) or "down". `reset` is called when a cut has been sent.
function stream.new(direction, from, to, weather, framed, reset)
  return setmetatable({
    direction = direction, from = from, to = to, weather = weather, reset = reset,
    frames = framed and frames.new(direction == "up") or nil,
    queue = {}, first = 1, last = 0, queued = 0, budget = 0, at = uv.now(), reading = false, ended = false,
  }, Stream)
end

local function put(self, item)
  item.due = uv.now() + (self.weather.latency or 0) * 1000
  self.last = self.last + 1
  self.queue[self.last] = item
end

local function put_bytes(self, bytes)
  if bytes == "" then return end
  self.queued = self.queued + #bytes
  put(self, { bytes = bytes })
end

local function spoiled(bytes, at)
  return bytes:sub(1, at - 1) .. string.char((bytes:byte(at) + 64) % 256) .. bytes:sub(at + 1)
end

-- The bytes as the armed blow leaves them; true when the connection is to be reset after them.
local function struck(self, bytes)
  local corrupt, cut
  if self.frames then
    corrupt, cut = self.frames:take(bytes)
  else
    corrupt, cut = math.floor(#bytes / 2) + 1, math.floor(#bytes / 2)
  end
  local armed = self.weather.armed
  local blow = armed[self.direction]
  if blow == "corrupt" and corrupt then
    armed[self.direction] = nil
    return spoiled(bytes, corrupt), false
  elseif blow == "cut" and cut then
    armed[self.direction] = nil
    return bytes:sub(1, cut), true
  end
  return bytes, false
end

function Stream:start()
  if self.reading or self.ended then return end
  self.reading = true
  self.from:read_start(function(err, bytes)
    if self.ended then return end
    if bytes then
      local cut
      bytes, cut = struck(self, bytes)
      put_bytes(self, bytes)
      if cut then put(self, { act = "reset" }) end
      if self.queued > LIMIT then
        self.from:read_stop()
        self.reading = false
      end
    else
      put(self, { act = err and "reset" or "end" })
    end
    self:pump()
  end)
end

-- How many bytes may go now.
local function allowance(self)
  local bandwidth, now = self.weather.bandwidth, uv.now()
  if not bandwidth then
    self.budget, self.at = 0, now
    return LIMIT
  end
  -- A tenth of a second's worth may gather.
  self.budget = math.min(self.budget + bandwidth * (now - self.at) / 1000, math.max(bandwidth / 10, 1))
  self.at = now
  return math.floor(self.budget)
end

--- Sends what may go now; called on arrival and every few milliseconds.
function Stream:pump()
  while not self.ended and self.first <= self.last do
    local item = self.queue[self.first]
    if self.weather.stalled[self.direction] or item.due > uv.now() then return end
    if item.act then
      self.queue[self.first] = nil
      self.first = self.first + 1
      self.ended = true
      if item.act == "reset" then return self.reset() end
      if not self.to:is_closing() then self.to:shutdown() end
      return
    end
    local room = allowance(self)
    if room < 1 or self.to:is_closing() or self.to:get_write_queue_size() > LIMIT then return end
    local part = item.bytes:sub(1, room)
    self.to:write(part)
    if self.weather.bandwidth then self.budget = self.budget - #part end
    self.queued = self.queued - #part
    if #part < #item.bytes then
      item.bytes = item.bytes:sub(room + 1)
    else
      self.queue[self.first] = nil
      self.first = self.first + 1
    end
  end
  if not self.reading and self.queued < LIMIT / 2 then self:start() end
end

return stream
