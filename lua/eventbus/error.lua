--- Errors: what the world causes, as a value with a code from a closed list (docs/errors.md).
-- The C core makes the same kind: every error of the library has this one metatable.

local core = require "eventbus.core"

---@class eventbus.Error
---@field code string         branch on this, never on the message
---@field message string      for people
---@field retryable boolean   whether the same again later can succeed
---@field reply_code integer|nil  AMQP's, when the broker sent one
---@field path string|nil     the place in a payload or envelope
---@field cause any
local Error = {
  metatable = core.error_metatable,
  codes = core.codes,
}

--- A new error. Raises for a code that is not in the list.
---@param code string
---@param message string
---@param fields? table  more fields, for instance `cause`
---@return eventbus.Error
function Error.new(code, message, fields)
  return core.error(code, message, fields)
end

--- Is a value an error of this library?
---@param value any
---@return boolean
function Error.is(value)
  return type(value) == "table" and getmetatable(value) == core.error_metatable
end

--- Like `assert`, on every Lua: returns all it was given when the first is true, else raises the second as it is, a table
-- included.
function Error.assert(value, err, ...)
  if value then return value, err, ... end
  if err == nil then err = "assertion failed!" end
  error(err, 0)
end

return Error
