--- A watch: have a script's files changed since one last looked? By time, size and inode, a few times a second: that works
-- on every file system, and with editors that write a new file in place of the old one.

local core = require "eventbus.core"
local uv = require "luv"

local watch = {}

local INTERVAL = 0.3

---@class eventbus.cli.Watch
local Watch = {}
Watch.__index = Watch

local function signature(path)
  local stat = uv.fs_stat(path)
  return stat and ("%d.%d %d %d"):format(stat.mtime.sec, stat.mtime.nsec, stat.size, stat.ino) or "none"
end

-- What was wrong may be mended in a module that only the script has that was refused.
local function files_of(script)
  local list = {}
  for _, path in ipairs(script.files) do list[#list + 1] = path end
  for _, path in ipairs(script.refused or {}) do list[#list + 1] = path end
  return list
end

---@param script eventbus.Script
---@return eventbus.cli.Watch
function watch.new(script)
  local self = setmetatable({ known = {}, seen = {}, at = 0 }, Watch)
  self:note(script)
  return self
end

--- Takes files that it has not seen before as they are now.
---@param script eventbus.Script
function Watch:note(script)
  for _, path in ipairs(files_of(script)) do
    if not self.known[path] then
      self.known[path] = signature(path)
      self.seen[path] = self.known[path]
    end
  end
end

--- Whether files of a script have changed, once per change, and only when they have been still for a moment: not while they
-- are being written.
---@param script eventbus.Script
---@return boolean
function Watch:changed(script)
  local t = core.now()
  if t < self.at then return false end
  self.at = t + INTERVAL
  self:note(script)
  local changed, still, seen = false, true, {}
  for _, path in ipairs(files_of(script)) do
    local now = signature(path)
    changed = changed or self.known[path] ~= now
    still = still and self.seen[path] == now
    seen[path] = now
  end
  self.seen = seen
  if not changed or not still then return false end
  -- Before anybody reads them: what is written from here on is another change.
  self.known = {}
  for path, now in pairs(seen) do self.known[path] = now end
  return true
end

return watch
