-- watch: reads what the demo's children write, shows it in the order it happened, and keeps it to be checked.

local socket = require "socket"
local children = require "demo.children"
local screen = require "demo.screen"

local watch = {}
watch.__index = watch

local function seconds_of_day(time)
  local t = os.date("*t", math.floor(time))
  return t.hour * 3600 + t.min * 60 + t.sec + time % 1
end

--- `.events`: all that services said of events; `.published`: what the publisher said; both in order.
function watch.new()
  local zero = socket.gettime()
  return setmetatable({ zero = zero, zero_of_day = seconds_of_day(zero), list = {}, events = {}, published = {},
    waiting = {}, count = 0 }, watch)
end

--- Seconds since the demo began.
function watch:now()
  return socket.gettime() - self.zero
end

--- Follows a child. kind: "service", "silent" (a service that is counted, not shown), "publisher" or "peer".
function watch:follow(child, kind)
  child.kind, child.details, child.said, child.refused = kind, {}, {}, {}
  self.list[#self.list + 1] = child
end

-- "12:00:00.000  queue  type  id  tenant  correlation  attempt 1  3 ms  done", as `eventbus run` prints it.
local function parse(self, line)
  local h, m, s, rest = line:match("^(%d%d):(%d%d):(%d%d%.%d%d%d)  (.*)$")
  if not h then return nil end
  local record = { text = rest, at = (h * 3600 + m * 60 + tonumber(s) - self.zero_of_day) % 86400 }
  local queue, type, id, attempt, outcome = rest:match("^(%S+)  (%S+)  (%S+)  %S+  %S+  attempt (%d+)  %d+ ms  (.*)$")
  if queue then
    record.queue, record.type, record.id, record.attempt, record.outcome = queue, type, id, tonumber(attempt), outcome
  end
  return record
end

local function describe(record)
  if record.outcome ~= "done" then
    return ("attempt %d %s"):format(record.attempt, (record.outcome:gsub("will be retried in", "retry in"))), "yellow"
  end
  local text = record.attempt > 1 and ("%s, attempt %d"):format(record.type, record.attempt) or record.type
  return text .. ": " .. (#record.details > 0 and table.concat(record.details, "; ") or "done")
end

local function read_service(self, child, line)
  local record = parse(self, line)
  if not record then
    -- A handler's own words: they belong to the event whose line follows.
    if line:sub(1, 2) == "  " then
      child.details[#child.details + 1] = line:match("^%s*(.*)$")
      return nil
    end
    return { at = self:now(), text = line, colour = "dim" }
  end
  if record.queue then
    record.details, child.details = child.details, {}
    self.events[#self.events + 1] = record
    record.text, record.colour = describe(record)
  elseif record.text:find(" is ready", 1, true) then
    child.ready = true
    record.text = record.text:match("is ready.*$")
  end
  return record
end

-- An event's id is "evt_" and a UUID of version 7, which begins with the milliseconds at which it was made.
local function made_at(self, id)
  local ms = tonumber((id:sub(5, 17):gsub("%-", "")), 16)
  -- Before what others did in the same millisecond.
  return ms and (ms - 1) / 1000 - self.zero or self:now()
end

local function read_publisher(self, line)
  local type, id = line:match("^  (%S+)%s+(evt_%S+)$")
  if not type then return { at = self:now(), text = line } end
  self.published[#self.published + 1] = { type = type, id = id }
  return { at = made_at(self, id), text = "publishes " .. type, colour = "bold" }
end

local function read_peer(self, child, line)
  local record = parse(self, line) or { at = self:now(), text = line }
  record.colour = "dim"
  table.insert(child.said, record.text)
  if record.text:find("/shipments -> 503", 1, true) then table.insert(child.refused, record.at) end
  return record
end

local function read(self, child, line)
  if child.kind == "publisher" then return read_publisher(self, line) end
  if child.kind == "peer" then return read_peer(self, child, line) end
  local record = read_service(self, child, line)
  if child.kind == "silent" and record and record.queue then return nil end
  return record
end

-- Lines are shown a moment late: what a process did before another may be read after it.
local LATE = 0.06

--- Reads what is new, and shows it in the order it happened; `all`: without waiting for what may come in between.
function watch:poll(all)
  for _, child in ipairs(self.list) do
    for _, line in ipairs(children.lines(child)) do
      local record = read(self, child, line)
      if record then
        self.count = self.count + 1
        record.who, record.order = child.name, self.count
        self.waiting[#self.waiting + 1] = record
      end
    end
  end
  table.sort(self.waiting, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.order < b.order
  end)
  while self.waiting[1] and (all or self.waiting[1].at < self:now() - LATE) do
    local record = table.remove(self.waiting, 1)
    screen.event(record.at, record.who, record.text, record.colour)
  end
end

--- Reads and shows until `condition` holds; what it answers, or nil when the time is over.
function watch:wait(seconds, condition)
  local deadline = socket.gettime() + seconds
  while true do
    self:poll(false)
    local result = condition()
    if result or socket.gettime() > deadline then
      self:poll(true)
      return result or nil
    end
    socket.sleep(0.02)
  end
end

--- What services said of an event, in order: all of it, or what concerns one queue or one event id.
function watch:said(filter)
  local found = {}
  for _, record in ipairs(self.events) do
    local fits = true
    for field, value in pairs(filter) do fits = fits and record[field] == value end
    if fits then found[#found + 1] = record end
  end
  return found
end

return watch
