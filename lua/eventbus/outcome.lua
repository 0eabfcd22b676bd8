--- Outcomes a handler decides itself, from any depth: reject, retry, ignore.
-- Each is a table that is raised; a handler that caught one may also return it, as first value or as the error.
-- An outcome passes through `pcall`: a handler that catches everything must raise it again or return it.

local failure = require "eventbus.failure"
local options = require "eventbus.options"
local units = require "eventbus.units"

local outcome = {}

---@class eventbus.Outcome
---@field kind "reject"|"retry"|"ignore"
---@field reason string|nil
---@field after number|nil     seconds
---@field counted boolean|nil  false: the attempt number stays as it is
local Outcome = {}
Outcome.__index = Outcome

function Outcome:__tostring()
  return ("eventbus.%s(%s)"):format(self.kind, self.reason or "")
end

local LONGEST = 28 * 86400

local function after(value)
  local seconds, expected = units.duration(value)
  if seconds and seconds > LONGEST then return nil, "at most 28 days" end
  return seconds, expected
end

local RETRY = { after = after, reason = options.any, counted = options.boolean }

local function reason_of(reason)
  if reason == nil then return nil end
  return failure.text(reason)
end

--- Ends the handler: the event goes to the dead letters now.
---@param reason? any  said in the dead letter
function outcome.reject(reason)
  error(setmetatable({ kind = "reject", reason = reason_of(reason) }, Outcome), 0)
end

--- Ends the handler: the event comes again, after `after` (rounded up to a step, see docs/reference.md) or, without it,
-- after what the retry policy says. It counts as an attempt unless `counted = false`.
---@param opts? number|string|{ after: number|string|nil, reason: any, counted: boolean|nil }
function outcome.retry(opts)
  if type(opts) == "number" or type(opts) == "string" then opts = { after = opts } end
  local given = options.check(RETRY, opts, "eventbus.retry")
  error(setmetatable({ kind = "retry", after = given.after, reason = reason_of(given.reason),
    counted = given.counted }, Outcome), 0)
end

--- Ends the handler: the event is acknowledged as if handled.
function outcome.ignore()
  error(setmetatable({ kind = "ignore" }, Outcome), 0)
end

--- Is a value one of these?
---@param value any
---@return boolean
function outcome.is(value)
  return type(value) == "table" and getmetatable(value) == Outcome
end

return outcome
