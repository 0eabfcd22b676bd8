--- An append-only file of JSON lines, one per event: the memory with which a small service handles each event once.
-- A line is written when the event's work is done; after a restart the ids are known again and the service's state is the
-- sum of the lines. A last line cut short by a crash is dropped, and its event, which was never acked, comes again.
-- Without a path it remembers in memory only. One process per file.

local json = require "eventbus.json"

local journal = {}

local Journal = {}
Journal.__index = Journal

local REMEMBER = 100000

local function remember(self, id)
  self._known[id] = true
  local forgotten = self._ring[self._next]
  if forgotten then self._known[forgotten] = nil end
  self._ring[self._next] = id
  self._next = self._next % self._limit + 1
end

local function read_lines(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

--- Opens a journal and hands each earlier record to `each`, in order.
---@param path? string
---@param each? fun(record: table)
---@param options? { remember: integer }  ids kept against duplicates, the newest; default 100000
---@return table|nil, string|nil
function journal.open(path, each, options)
  local self = setmetatable({ path = path, _known = {}, _ring = {}, _next = 1,
    _limit = options and options.remember or REMEMBER }, Journal)
  if not path then return self end
  local text, whole = read_lines(path), 0
  for line, stop in text:gmatch("([^\n]*)\n()") do
    local record, err = json.decode(line)
    if type(record) ~= "table" or type(record.id) ~= "string" then
      return nil, ("%s is not a journal: %s"):format(path, tostring(err or line:sub(1, 60)))
    end
    whole = stop - 1
    remember(self, record.id)
    if each then each(record) end
  end
  if whole < #text then
    local rewritten = io.open(path, "wb")
    if rewritten then
      rewritten:write(text:sub(1, whole))
      rewritten:close()
    end
  end
  local err
  self._file, err = io.open(path, "ab")
  if not self._file then return nil, err end
  return self
end

--- Was this event handled before?
---@param id string
---@return boolean
function Journal:has(id)
  return self._known[id] == true
end

--- Remembers an event as handled, with what is worth keeping of it.
---@param id string
---@param record? table
---@return true
function Journal:add(id, record)
  local line = { id = id }
  for key, value in pairs(record or {}) do line[key] = value end
  if self._file then
    local ok, err = self._file:write(json.encode(line), "\n")
    if ok then ok, err = self._file:flush() end
    if not ok then error(("cannot write %s: %s"):format(self.path, tostring(err)), 2) end
  end
  remember(self, id)
  return true
end

function Journal:close()
  if self._file then self._file:close() end
  self._file = nil
end

return journal
