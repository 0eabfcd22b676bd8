--- How far a long command got, in a file: so that after an interruption it goes on there. Replaced as a whole each time, by
-- a rename: whatever interrupts, there is the old state or the new one.

local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"

local progressfile = {}

local EVERY = 0.1
local ENOENT = 2

---@class eventbus.cli.ProgressFile
local ProgressFile = {}
ProgressFile.__index = ProgressFile

local function is_state(value)
  if type(value) ~= "table" or type(value.run) ~= "string" or type(value.before) ~= "string" then return false end
  for _, name in ipairs { "line", "offset", "published", "failed" } do
    local count = value[name]
    if type(count) ~= "number" or count % 1 ~= 0 or count < 0 or count >= 2 ^ 53 then return false end
  end
  return true
end

--- The state file of `path`, and what is in it: nil when there is none. Ends the command when it is something else.
---@param path string
---@return eventbus.cli.ProgressFile, table|nil
function progressfile.open(path)
  local self = setmetatable({ path = path, saved = 0 }, ProgressFile)
  local file, err, number = io.open(path, "rb")
  if not file and number == ENOENT then return self, nil end
  -- Not none: all would be published again.
  if not file then exit.fail("cannot read the state: " .. tostring(err)) end
  local text = file:read("*a")
  file:close()
  local state = text and json.decode(text)
  if not is_state(state) then
    exit.misuse(path .. " is not a state of eventbus publish", "give another --state, or remove the file")
  end
  return self, state
end

--- Writes it; unless `now` says so, not more often than ten times a second. `before` of the state becomes what the file of
-- events has just before its offset: by that it is known again.
---@param state table
---@param events eventbus.cli.EventFile
---@param now? boolean
function ProgressFile:save(state, events, now)
  local t = require("eventbus.core").now()
  if not now and t - self.saved < EVERY then return end
  self.saved = t
  state.before = events:before(state.offset)
  local draft = self.path .. ".new"
  local file, err = io.open(draft, "wb")
  local ok = file
  if file then
    ok, err = file:write((assert(json.encode(state, { sort_keys = true }))), "\n")
    local closed, problem = file:close()
    if ok and not closed then ok, err = nil, problem end
    if ok then ok, err = os.rename(draft, self.path) end
  end
  if not ok then exit.fail("cannot write the state: " .. tostring(err), "give a --state that can be written") end
end

--- All is done: it is not needed any more.
function ProgressFile:remove()
  os.remove(self.path)
end

return progressfile
