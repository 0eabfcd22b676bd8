--- An append-only file of JSON lines that remembers which events were dealt with: for services that send something.
-- A line is written when the sending is done; after a restart the ids are known again. A line cut short by a crash is
-- skipped: its event was never acked, and comes again. The workers of one service may share a file: each reads what the
-- others wrote. It holds the newest ids only: a full file becomes <path>.old, in place of the one before. Lines are handed
-- to the system at once, so they survive the process, not a power cut: a service whose numbers must add up wants
-- eventbus.store. Without a path it remembers in memory.

local json = require "eventbus.json"

local journal = {}

local REMEMBER = 100000

---@class eventbus.Journal
---@field path string|nil
local Journal = {}
Journal.__index = Journal

local function remember(self, record)
  local id = record.id
  self._known[id] = true
  local forgotten = self._ring[self._next]
  if forgotten and forgotten ~= id then self._known[forgotten] = nil end
  self._ring[self._next] = id
  self._next = self._next % self._limit + 1
  self._lines = self._lines + 1
  if self._each then self._each(record) end
end

-- Takes in what was written since the last time, by whomever.
local function read_new(self, path)
  local file = io.open(path, "rb")
  if not file then
    self._position, self._lines = 0, 0
    return true
  end
  if file:seek("end") < self._position then self._position, self._lines = 0, 0 end
  local from = self._position
  file:seek("set", from)
  local text = file:read("*a") or ""
  file:close()
  -- A last line without its end is still being written, or never will be.
  for line, stop in text:gmatch("([^\n]*)\n()") do
    local record = json.decode(line)
    if type(record) == "table" and type(record.id) == "string" then
      remember(self, record)
    elseif self._position == 0 and (record ~= nil or line:sub(1, 1) ~= "{") then
      return nil, ("%s is not a journal: its first line is %q"):format(path, line:sub(1, 60))
    end
    self._position = from + stop - 1
  end
  return true
end

local function ends_in_midst(path)
  local file = io.open(path, "rb")
  if not file then return false end
  local midst = file:seek("end") > 0 and file:seek("end", -1) and file:read(1) ~= "\n"
  file:close()
  return midst
end

-- What a crash or a full disk left of a line is ended first, so that it stays by itself.
local function append(path, text)
  if ends_in_midst(path) then text = "\n" .. text end
  local file, err = io.open(path, "ab")
  if not file then return nil, err end
  -- One line is one write: lines of two workers do not mix.
  file:setvbuf("full", #text + 1)
  local ok
  ok, err = file:write(text)
  local closed, close_err = file:close()
  if not (ok and closed) then return nil, err or close_err end
  return true
end

--- Opens a journal. `each` is called for every record in it, earlier and later ones, in order.
---@param path? string
---@param each? fun(record: table)
---@param options? { remember: integer }  ids kept against duplicates, the newest; default 100000
---@return eventbus.Journal|nil, string|nil
function journal.open(path, each, options)
  local self = setmetatable({ path = path, _each = each, _known = {}, _ring = {}, _next = 1, _position = 0, _lines = 0,
    _limit = options and options.remember or REMEMBER }, Journal)
  if not path then return self end
  local ok, err = read_new(self, path .. ".old")
  self._position, self._lines = 0, 0
  if ok then ok, err = read_new(self, path) end
  -- Also tells at once whether it can be written.
  if ok then ok, err = append(path, "") end
  if not ok then return nil, err end
  return self
end

--- Was this event dealt with before?
---@param id string
---@return boolean
function Journal:has(id)
  if self.path and not self._known[id] then read_new(self, self.path) end
  return self._known[id] == true
end

--- Remembers an event, with what is worth keeping of it. Raises when the file cannot be written.
---@param id string
---@param record? table
---@return true
function Journal:add(id, record)
  local line = {}
  for key, value in pairs(record or {}) do line[key] = value end
  line.id = id
  if not self.path then
    remember(self, line)
    return true
  end
  if self._lines >= self._limit then
    read_new(self, self.path)
    if self._lines >= self._limit then os.rename(self.path, self.path .. ".old") end
  end
  local text, err = json.encode(line)
  local ok
  if text then ok, err = append(self.path, text .. "\n") end
  if not ok then error(("cannot write %s: %s"):format(self.path, tostring(err)), 2) end
  read_new(self, self.path)
  return true
end

return journal
