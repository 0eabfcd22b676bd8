--- The file in which the baselines of a broker's queues are kept from one check to the next: JSON, replaced as a whole.
-- What is wrong with the file never ends a check: it is told in `note`, and learning begins anew or is not kept.

local baseline = require "eventbus.cli.baseline"
local json = require "eventbus.json"

local baselines = {}

local VERSION = 1
-- A queue that was not seen for so long is forgotten.
local FORGET = 60 * 86400

---@class eventbus.cli.Baselines
---@field path string|nil
---@field note string|nil   what is wrong with the file
---@field queues table<string, table>  records
local Baselines = {}
Baselines.__index = Baselines

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- Where they are kept unless told: $XDG_STATE_HOME/eventbus/baseline-HOST-PORT-VHOST.json. nil: there is no home.
---@param parts table  of the broker's URL
---@return string|nil
function baselines.default_path(parts)
  local folder, home = os.getenv("XDG_STATE_HOME"), os.getenv("HOME")
  if not folder or folder:sub(1, 1) ~= "/" then
    if not home or home == "" then return nil end
    folder = home .. "/.local/state"
  end
  local escape = require("eventbus.management").escape
  return ("%s/eventbus/baseline-%s-%d-%s.json"):format(folder, escape(parts.hosts[1].name), parts.hosts[1].port,
    escape(parts.vhost))
end

local function read(self)
  local file, err = io.open(self.path, "rb")
  if not file then
    if tostring(err):find("No such file", 1, true) then return end
    self.note = "the baseline cannot be read: " .. tostring(err)
    self.kept = false
    return
  end
  local text, problem = file:read("*a")
  file:close()
  local data = text and json.decode(text)
  if type(data) == "table" and type(data.version) == "number" and data.version ~= VERSION then
    self.note = ("the baseline %s is of version %s, this eventbus reads %d: it is neither used nor changed"):format(
      self.path, tostring(data.version), VERSION)
    self.kept = false
    return
  end
  if type(data) ~= "table" or data.version ~= VERSION or type(data.queues) ~= "table" then
    local aside = self.path .. ".bad"
    local moved = os.rename(self.path, aside)
    self.note = ("the baseline is damaged%s; learning begins anew%s"):format(problem and ": " .. problem or "",
      moved and ", the old file is " .. aside or "")
    return
  end
  for name, record in pairs(data.queues) do
    if baseline.is_record(record) then
      self.queues[name] = record
    else
      self.note = ("the baseline of %s is damaged; it is learnt anew"):format(tostring(name))
    end
  end
end

--- The baselines in a file; empty when there is none yet. `path` nil: they are not kept.
---@param path string|nil
---@return eventbus.cli.Baselines
function baselines.open(path)
  local self = setmetatable({ path = path, queues = {}, kept = path ~= nil }, Baselines)
  if path then
    read(self)
  else
    self.note = "there is no home folder to keep the baseline in: give --state FILE"
  end
  return self
end

--- The record of a queue; made when there is none.
---@param name string
---@return table
function Baselines:record(name)
  local record = self.queues[name] or {}
  self.queues[name] = record
  return record
end

local function write(path, text)
  local temporary = ("%s.%d"):format(path, require("eventbus.core").pid())
  local file, err = io.open(temporary, "wb")
  if not file then return nil, err end
  local ok
  ok, err = file:write(text)
  -- Written text may still fail to reach the disk.
  if ok then ok, err = file:flush() end
  file:close()
  if ok then ok, err = os.rename(temporary, path) end
  if not ok then os.remove(temporary) end
  return ok, err
end

--- Replaces the file. When that fails, the old one is as it was, and `note` says why.
---@param now number
function Baselines:save(now)
  if not self.kept then return end
  for name, record in pairs(self.queues) do
    if record.at and now - record.at > FORGET then self.queues[name] = nil end
  end
  local text = assert(json.encode({ version = VERSION, queues = self.queues }, { sort_keys = true }))
  local ok, err = write(self.path, text)
  if not ok then
    os.execute("mkdir -p " .. quote(self.path:match("^(.*)/[^/]*$") or ".") .. " 2>/dev/null")
    ok, err = write(self.path, text)
  end
  if not ok then self.note = "the baseline cannot be kept: " .. tostring(err) end
end

return baselines
