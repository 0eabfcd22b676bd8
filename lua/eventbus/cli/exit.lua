--- How a command ends: its exit codes, and the failure that ends it early with a message for people.
--
-- 0 done, 1 not done or something was found, 2 the command line is wrong, 3 the broker is out of reach, 70 a bug of ours,
-- 130 interrupted (by SIGTERM: 143), 141 whoever read the output went away. `eventbus check` has Nagios' codes instead:
-- 0 ok, 1 warning, 2 critical, 3 unknown.

local exit = { OK = 0, FAILED = 1, USAGE = 2, UNREACHABLE = 3, BUG = 70, INTERRUPTED = 130, PIPE = 141 }

---@class eventbus.cli.Failure
---@field code integer      exit code
---@field message string|nil what is wrong; nil: there is nobody to tell
---@field hint string|nil   what to do next
---@field cause_code string|nil  code of the library's error behind it
local Failure = {}
Failure.__index = Failure
Failure.__tostring = function(self) return self.message or "the output is closed" end

local function raise(code, message, hint)
  error(setmetatable({ code = code, message = message, hint = hint }, Failure), 0)
end

--- Ends the command: what was asked for cannot be done.
---@param message string
---@param hint? string
function exit.fail(message, hint) raise(exit.FAILED, message, hint) end

--- Ends the command: what was typed cannot be meant.
---@param message string
---@param hint? string
function exit.misuse(message, hint) raise(exit.USAGE, message, hint) end

--- Ends the command: there is no broker.
---@param message string
---@param hint? string
function exit.unreachable(message, hint) raise(exit.UNREACHABLE, message, hint) end

--- Ends the command after a write that failed. `| head` is no failure to speak of: nobody reads any more.
---@param err any  what the write said
function exit.unwritable(err)
  if tostring(err):find("EPIPE", 1, true) or tostring(err):find("Broken pipe", 1, true) then raise(exit.PIPE) end
  raise(exit.FAILED, "cannot write the output: " .. tostring(err))
end

---@param value any
---@return boolean
function exit.is_failure(value)
  return type(value) == "table" and getmetatable(value) == Failure
end

-- What to do about an error of the library, where it alone does not say.
local NEXT = {
  connection = "is a broker running there? Set RABBITMQ_URL or --url; for a private one: eventbus broker start",
  refused = "check user, password and permissions in RABBITMQ_URL or --url",
  tls = "eventbus doctor looks into the certificates",
  blocked = "the broker is short of memory or disk: free some, then run the command again",
}

local UNREACHABLE = { connection = true, refused = true, tls = true }

--- The failure that an error of the library is, for the command line.
---@param err eventbus.Error
---@param doing? string  "cannot replay evt_1"
---@return eventbus.cli.Failure
function exit.of_error(err, doing)
  local message = err.message
  if doing then message = doing .. ": " .. message end
  return setmetatable({ code = UNREACHABLE[err.code] and exit.UNREACHABLE or exit.FAILED, message = message,
    hint = NEXT[err.code], cause_code = err.code }, Failure)
end

--- The value, or the end of the command with the library's error.
function exit.check(value, err, doing)
  if value then return value end
  if exit.is_failure(err) then error(err, 0) end
  if type(err) == "table" and err.code then error(exit.of_error(err, doing), 0) end
  raise(exit.FAILED, doing and ("%s: %s"):format(doing, tostring(err)) or tostring(err))
end

return exit
