--- The log of a consumer: one line per event and per thing worth saying, as text or JSON. Whatever an event holds, a line
-- stays one line, valid UTF-8, without control characters, and of a bounded length.

local core = require "eventbus.core"
local deadletter = require "eventbus.deadletter"
local failure = require "eventbus.failure"
local json = require "eventbus.json"
local merged = require "eventbus.merged"
local units = require "eventbus.units"

local eventlog = { FORMATS = { "text", "json" }, LEVELS = { "debug", "info", "warning", "error" } }

local COLOUR = { warning = "yellow", error = "red" }
local RANK = { debug = 1, info = 2, warning = 3, error = 4 }
local LONGEST_NAME, LONGEST_TEXT = 120, 500

---@class eventbus.cli.EventLog
---@field broken string|nil  the output is gone: why
local EventLog = {}
EventLog.__index = EventLog

--- A log on a stream. Options: format ("text"), level ("info"), fields (of every JSON line), complain (where to say, once,
-- that a line could not be written), style (function(style, text): for a terminal).
---@param stream file*
---@param options? table
---@return eventbus.cli.EventLog
function eventlog.new(stream, options)
  options = options or {}
  return setmetatable({ stream = stream, json = options.format == "json", rank = RANK[options.level or "info"],
    fields = options.fields or {}, complain = options.complain or function() end,
    style = options.style or function(_, text) return text end }, EventLog)
end

-- The bytes of a well-formed UTF-8 character at a place, 0 for none; control characters are none.
local function character(text, at)
  local byte = text:byte(at)
  if byte < 0x80 then return byte >= 0x20 and byte ~= 0x7F and 1 or 0 end
  local count = byte >= 0xC2 and byte < 0xE0 and 2 or byte >= 0xE0 and byte < 0xF0 and 3
    or byte >= 0xF0 and byte < 0xF5 and 4 or 0
  if count == 0 then return 0 end
  for i = 1, count - 1 do
    local next_byte = text:byte(at + i)
    if not next_byte or next_byte < 0x80 or next_byte > 0xBF then return 0 end
  end
  local second = text:byte(at + 1)
  -- C1 controls, overlong forms, surrogates, beyond Unicode.
  if (byte == 0xC2 and second < 0xA0) or (byte == 0xE0 and second < 0xA0) or (byte == 0xED and second > 0x9F)
    or (byte == 0xF0 and second < 0x90) or (byte == 0xF4 and second > 0x8F) then return 0 end
  return count
end

local NAMED = { [9] = "\\t", [10] = "\\n", [13] = "\\r" }

--- Any value as text that is safe in a line: at most `limit` bytes before what had to be escaped is.
---@param value any
---@param limit? integer
---@return string
function eventlog.safe(value, limit)
  local text = failure.cut(failure.text(value), limit or LONGEST_TEXT)
  if not text:find("[%c\128-\255]") then return text end
  local out, at = {}, 1
  while at <= #text do
    local count = character(text, at)
    if count == 0 then
      local byte = text:byte(at)
      out[#out + 1] = NAMED[byte] or ("\\x%02X"):format(byte)
      at = at + 1
    else
      out[#out + 1] = text:sub(at, at + count - 1)
      at = at + count
    end
  end
  return table.concat(out)
end

-- One column of a line: a name with a space in it is quoted, an absent one is "-".
local function column(value)
  if value == nil or value == json.null or value == "" then return "-" end
  local text = eventlog.safe(value, LONGEST_NAME)
  if text:find('[%s"]') then return '"' .. text:gsub('"', '\\"') .. '"' end
  return text
end

local function first_line(text)
  return (text:match("^[^\n]*"))
end

local function stamp()
  local seconds = core.wall()
  return os.date("%H:%M:%S", math.floor(seconds)) .. (".%03d"):format(math.floor(seconds % 1 * 1000))
end

local function write(self, line)
  local ok, err = self.stream:write(line, "\n")
  if ok then ok, err = self.stream:flush() end
  if ok then return end
  local why = tostring(err)
  if not self.lost then self.complain("cannot write the log: " .. why) end
  self.lost = true
  -- Whoever read it has gone: nobody is served by going on. A full disk is no reason to handle no more events.
  if why:find("Broken pipe", 1, true) then self.broken = why end
end

local function write_json(self, level, message, fields)
  local object = { time = deadletter.time(core.wall()), level = level, message = message }
  for _, set in ipairs { self.fields, fields } do
    for key, value in pairs(set) do
      if type(value) ~= "number" and type(value) ~= "boolean" then value = eventlog.safe(value) end
      if object[key] == nil then object[key] = value end
    end
  end
  write(self, json.encode(object, { sort_keys = true }) or '{"level":"error","message":"a line that is no JSON"}')
end

--- Is a level shown?
---@param level string
---@return boolean
function EventLog:shows(level)
  return RANK[level] >= self.rank
end

--- One line that is not about a single event.
---@param level "debug"|"info"|"warning"|"error"
---@param message string
---@param fields? table  for JSON, and after the text
function EventLog:say(level, message, fields)
  if not self:shows(level) then return end
  message = eventlog.safe(message, 2000)
  if self.json then return write_json(self, level, message, fields or {}) end
  local parts = {}
  for key, value in pairs(fields or {}) do parts[#parts + 1] = key .. "=" .. column(value) end
  table.sort(parts)
  local prefix = level == "info" and "" or level .. ": "
  if COLOUR[level] then prefix = self.style(COLOUR[level], prefix) end
  write(self, stamp() .. "  " .. prefix .. message .. (#parts > 0 and " (" .. table.concat(parts, ", ") .. ")" or ""))
end

--- Several lines of a program or a message: each a line of the log.
function EventLog:say_lines(level, text, fields)
  for line in text:gmatch("[^\n]+") do self:say(level, line, fields) end
end

local LEVEL = { handled = "info", ignored = "info", returned = "info", retried = "warning", dead_lettered = "error",
  dropped = "error" }

local function outcome_text(record)
  if record.outcome == "handled" then return "done" end
  if record.outcome == "returned" then return "given back to the queue" end
  if record.outcome == "ignored" then return "ignored" end
  local text = record.outcome == "retried"
    and ("failed, will be retried in %s"):format(units.show(units.milliseconds(record.delay)))
    or record.outcome == "dropped" and "dropped" or "dead-lettered"
  if record.reason and record.reason ~= "failed" then text = text .. " as " .. record.reason end
  return record.error and text .. ": " .. eventlog.safe(first_line(record.error)) or text
end

--- What became of an event: a subscription's `on_settled`.
---@param record eventbus.Settled
function EventLog:settled(record)
  local level = LEVEL[record.outcome]
  if not self:shows(level) then return end
  local event = record.event or {}
  local ms = record.seconds and record.seconds * 1000
  local text = outcome_text(record)
  if self.json then
    local function given(value) return value ~= json.null and value ~= "" and value or nil end
    return write_json(self, level, text, {
      queue = record.queue, type = record.type, id = record.id, tenant_id = given(event.tenant_id),
      correlation_id = given(event.correlation_id), attempt = record.attempt, redelivered = record.redelivered or nil,
      duration_ms = ms and math.floor(ms * 1000 + 0.5) / 1000, outcome = record.outcome, reason = record.reason,
      error = record.error, retry_in_ms = record.delay and record.delay * 1000,
    })
  end
  write(self, table.concat({ stamp(), column(record.queue), column(record.type), column(record.id),
    column(event.tenant_id), column(event.correlation_id), ("attempt %d"):format(record.attempt),
    ms and ("%.0f ms"):format(ms) or "-", COLOUR[level] and self.style(COLOUR[level], text) or text }, "  "))
end

--- A line that a program wrote.
---@param name string   of the program
---@param line string
---@param fields table  for JSON
function EventLog:output(name, line, fields)
  if not self:shows("info") then return end
  if self.json then return write_json(self, "info", eventlog.safe(line, 2000), merged({ program = name }, fields)) end
  write(self, ("%s  %s: %s"):format(stamp(), name, eventlog.safe(line, 2000)))
end

--- A line as it is: another log's.
function EventLog:raw(line)
  write(self, line)
end

return eventlog
