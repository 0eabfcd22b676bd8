--- Ctrl-C and SIGTERM while a command has a bus: the first one ends its work in order, a second one ends it now.

local core = require "eventbus.core"

local interruption = {}

---@class eventbus.cli.Interruption
local Interruption = {}
Interruption.__index = Interruption

--- Catches both signals from here on; `release` gives them back.
---@param bus eventbus.Bus
---@return eventbus.cli.Interruption
function interruption.catch(bus)
  core.trap(bus._hub.core)
  bus._hub.trapping, bus._hub.signals_seen = true, 0  -- a second signal ends every wait of the bus
  return setmetatable({ bus = bus }, Interruption)
end

--- false, true once one came, "now" after the second.
---@return boolean|string
function Interruption:came()  -- luacheck: no self
  local _, count = core.trapped()
  if not count then return false end
  return count >= 2 and "now" or true
end

--- What a shell expects, of the signal that `catch` or `bus:run` caught last: 130 after SIGINT, 143 after SIGTERM; nil
-- when none came.
---@return integer|nil
function interruption.code()
  local signal = core.trapped()
  return signal and 128 + signal
end
Interruption.code = interruption.code

function Interruption:release()
  core.untrap()
  self.bus._hub.trapping, self.bus._hub.stop_now = false, false
end

return interruption
