--- Loops: which adapter a bus waits with. By name, a table of the user's own, or what the caller plainly runs in.

local nearest = require "eventbus.nearest"

local loops = {}

local NAMES = { "blocking", "cqueues", "luv", "copas", "openresty", "haproxy", "tarantool", "prosody" }
local METHODS = { "wait", "suspend", "resume", "spawn", "yieldable" }

---@class eventbus.Loop
---@field name string|nil
---@field wait fun(self, seconds: number, sleeper: eventbus.Sleeper)
---@field suspend fun(self, sleeper: eventbus.Sleeper)
---@field resume fun(self, sleeper: eventbus.Sleeper)
---@field spawn fun(self, f: function)
---@field yieldable fun(self): boolean
---@field run nil|fun(self, f: function)
---@field block nil|fun(self, seconds: number)
---@field background nil|fun(self, f: function): boolean|nil
---@field exiting nil|fun(self): boolean
---@field close nil|fun(self)
---@field uninterrupted nil|fun(self)
---@field never_blocks boolean|nil
---@field sheds boolean|nil
---@field signals boolean|nil

--- The rule for the option `loop`.
function loops.rule(value)
  if type(value) == "table" then
    if type(value.new) == "function" then return value end
    return nil, "a loop adapter: a table with a function new, see docs/loops.md"
  end
  for _, name in ipairs(NAMES) do
    if value == name then return value end
  end
  return nil, 'one of "' .. table.concat(NAMES, '", "') .. '", or a loop adapter'
    .. (type(value) == "string" and nearest.hint(value, NAMES) or "")
end

-- Only where the host itself says that the running coroutine is one of its own. That luv or copas is loaded says nothing
-- of the coroutine we are called in: these are named by the user.
local function running_in()
  local cqueues = package.loaded.cqueues
  if type(cqueues) == "table" and cqueues.running then
    local _, ours = cqueues.running()
    if ours then return "cqueues" end
  end
  local ngx = rawget(_G, "ngx")
  if type(ngx) == "table" and type(ngx.get_phase) == "function" and pcall(require, "eventbus.loop.openresty") then
    return "openresty"
  end
  if type(rawget(_G, "_TARANTOOL")) == "string" then return "tarantool" end
  local haproxy = rawget(_G, "core")
  if type(haproxy) == "table" and haproxy.register_task and haproxy.tcp then return "haproxy" end
  local prosody = rawget(_G, "prosody")
  if type(prosody) == "table" and prosody.process_type == "prosody" then return "prosody" end
  return "blocking"
end

--- The module of an adapter. Raises when it, or the host's library, is not there.
---@param option string|table|nil
---@return table
function loops.choose(option)
  if type(option) == "table" then return option end
  return require("eventbus.loop." .. (option or running_in()))
end

--- An adapter for a bus; raises when it lacks something.
---@param module table
---@param bus any  the core's
---@return eventbus.Loop
function loops.adapt(module, bus)
  local loop = module.new(bus)
  if type(loop) ~= "table" then error("eventbus: the loop adapter's new returned no table", 0) end
  for _, name in ipairs(METHODS) do
    if not (loop[name] or (name == "wait" and loop.main_turns)) then
      error(("eventbus: the loop adapter has no method %q; see docs/loops.md"):format(name), 0)
    end
  end
  return loop
end

return loops
