--- journal: a file of lines that a process only appends to, and another reads. A line is there when `add` returns,
--- also after kill -9: the operating system has it.

local socket = require "socket"

local journal = {}

local Writer = {}
Writer.__index = Writer

function journal.open(path)
  local file = assert(io.open(path, "ab"))
  file:setvbuf "full"
  -- The process before this one may have died in the midst of a line.
  file:write "\n"
  return setmetatable({ file = file }, Writer)
end

--- `kind time id ...`
function Writer:add(kind, id, ...)
  local words = { kind, ("%.6f"):format(socket.gettime()), id, ... }
  for i = 1, #words do words[i] = tostring(words[i]) end
  self.file:write(table.concat(words, " "), "\n")
  self.file:flush()
end

local Reader = {}
Reader.__index = Reader

function journal.reader(path)
  return setmetatable({ path = path, position = 0 }, Reader)
end

--- Calls `visit(kind, time, id, rest)` for each complete line that has come since the last call.
function Reader:read(visit)
  local file = io.open(self.path, "rb")
  if not file then return end
  file:seek("set", self.position)
  local text = file:read "*a" or ""
  file:close()
  local last = 0
  for line, at in text:gmatch "([^\n]*)\n()" do
    last = at - 1
    local kind, time, id, rest = line:match "^(%u) (%d+%.%d+) (%S+) ?(.*)$"
    if kind then visit(kind, tonumber(time), id, rest) end
  end
  self.position = self.position + last
end

return journal
