--- A file of events, one JSON object a line: an envelope, or any part of one that has a type or gets it from the command.
-- Read line by line, so that its size does not matter. What is wrong is named by line and column. Empty lines are skipped.

local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"

local eventfile = {}

---@class eventbus.cli.EventFile
---@field name string
---@field line integer    of what was read last
---@field offset integer  bytes up to its end
---@field seekable boolean  a file; false: a pipe, whose bytes come once
---@field broken boolean  it cannot be read on
local EventFile = {}
EventFile.__index = EventFile

--- Opens one; "-" is stdin. Ends the command when it cannot.
---@param path string
---@return eventbus.cli.EventFile
function eventfile.open(path)
  local self = setmetatable({ name = path == "-" and "stdin" or path, line = 0, offset = 0, seekable = false,
    broken = false }, EventFile)
  if path == "-" then
    self.file = io.stdin
    return self
  end
  local file, err = io.open(path, "rb")
  if not file then exit.misuse("cannot open " .. tostring(err)) end
  -- A folder opens, and reads as nothing.
  local ok, problem = file:read(0)
  if ok == nil and problem then exit.misuse(("cannot read %s: %s"):format(path, problem)) end
  self.file, self.seekable = file, file:seek("cur", 0) ~= nil
  return self
end

--- The bytes just before an offset, in hexadecimal: whether a file is still the same up to there.
---@param offset integer
---@return string|nil
function EventFile:before(offset)
  local from = math.max(offset - 64, 0)
  self.file:seek("set", from)
  local bytes = offset > from and self.file:read(offset - from) or ""
  self.file:seek("set", self.offset)
  -- The last line may have no end: then the offset is one byte further than the file.
  return (bytes:gsub("\n$", ""):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- How many lines it has; nil for stdin and other pipes: to count them would be to take them.
---@return integer|nil
function EventFile:lines()
  if not self.seekable then return nil end
  local count, last = 0, "\n"
  self.file:seek("set", 0)
  while true do
    local block = self.file:read(65536)
    if not block then break end
    count = count + select(2, block:gsub("\n", ""))
    last = block:sub(-1)
  end
  self.file:seek("set", self.offset)
  return last == "\n" and count or count + 1
end

--- Goes on after a line whose end is known.
function EventFile:go_on(line, offset)
  self.line, self.offset = line, offset
  self.file:seek("set", offset)
end

local function without_nulls(event)
  for name, value in pairs(event) do
    if value == json.null and name ~= "data" then event[name] = nil end
  end
  return event
end

--- A JSON value of somebody's text; nil and what is wrong with it, at which line and column.
---@param text string
---@param first_line integer  the number of its first line
---@return any, string|nil
function eventfile.parse(text, first_line)
  local value, err = json.decode(text)
  if err == nil then return value end
  local message = err.message:gsub("beyond ([^;]+); decode with .*$", function(limit)
    return ("beyond %s; %s"):format(limit, limit == "2^53" and "Lua 5.3 and later keep it: run the command with one of them"
      or "write it as a string")
  end)
  return nil, (message:gsub("line (%d+), column (%d+) %(byte %d+%)", function(line, column)
    return ("line %d, column %s"):format(line + first_line - 1, column)
  end, 1))
end

-- The next line; nil at the end; nil and a message when it cannot be read.
local function next_line(self)
  local text, problem = self.file:read("*l")
  if text then
    self.line, self.offset = self.line + 1, self.offset + #text + 1
    return text
  end
  self.broken = problem ~= nil
  return nil, problem and ("cannot read on after line %d: %s"):format(self.line, problem)
end

--- Passes by the lines before one, whatever is in them.
---@param line integer
function EventFile:begin_at(line)
  while self.line < line - 1 and next_line(self) do end
end

--- The next event: a table of envelope fields; nil at the end; nil and a message when the line is none.
---@return table|nil, string|nil
function EventFile:next()
  while true do
    local text, problem = next_line(self)
    if not text then return nil, problem end
    if text:find("%S") then
      local value, message = eventfile.parse(text, self.line)
      if message then return nil, message end
      if type(value) ~= "table" or getmetatable(value) == json.array_mt then
        return nil, ("line %d: not a JSON object"):format(self.line)
      end
      return without_nulls(value)
    end
  end
end

return eventfile
