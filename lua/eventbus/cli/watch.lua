--- A watch: have a script's files changed since one last looked? By time, size and inode, a few times a second: that works
-- on every file system, and with editors that write a new file in place of the old one.

local core = require "eventbus.core"
local uv = require "luv"

local watch = {}

local INTERVAL = 0.3

local function signature(path)
  local stat = uv.fs_stat(path)
  return stat and ("%d.%d %d %d"):format(stat.mtime.sec, stat.mtime.nsec, stat.size, stat.ino) or "none"
end

--- A function that says whether files of a script have changed, once per change, and only when they have been still for a
-- moment: not while they are being written.
---@param script { files: string[] }
---@return fun(script: { files: string[] }): boolean
function watch.new(script)
  local known, seen, at = {}, {}, 0
  local function look(files)
    local changed, still = false, true
    for _, path in ipairs(files) do
      local now = signature(path)
      known[path] = known[path] or now
      changed = changed or known[path] ~= now
      still = still and (seen[path] == nil or seen[path] == now)
      seen[path] = now
    end
    return changed and still
  end
  look(script.files)
  return function(current)
    local t = core.now()
    if t < at then return false end
    at = t + INTERVAL
    if not look(current.files) then return false end
    -- Before anybody reads them: what is written from here on is another change.
    for path, now in pairs(seen) do known[path] = now end
    return true
  end
end

return watch
