--- The log: what a bus has to say. Warnings and errors go to stderr, unless a function takes everything.
-- A log function that raises cannot harm the bus. What goes to stderr may quote an event or a broker: control characters
-- are shown as escapes, and further lines are indented, so that none passes for a line of the log.

local log = {}

local SHOWN = { warning = true, error = true }

local function escape(c) return ("\\x%02x"):format(c:byte()) end

local function to_stderr(level, text, fields)
  if not SHOWN[level] then return end
  local parts = {}
  for key, value in pairs(fields or {}) do parts[#parts + 1] = ("%s=%s"):format(key, tostring(value)) end
  table.sort(parts)
  text = text .. (#parts > 0 and " (" .. table.concat(parts, ", ") .. ")" or "")
  text = text:gsub("[%z\1-\8\11-\31\127]", escape):gsub("\n", "\n  ")
  io.stderr:write("eventbus: ", level, ": ", text, "\n")
end

---@alias eventbus.Log fun(level: "debug"|"info"|"warning"|"error", text: string, fields: table|nil)

--- A log function from the option `log`: a function, false for silence, nil for stderr.
---@param option eventbus.Log|false|nil
---@return eventbus.Log
function log.new(option)
  if option == false then return function() end end
  if option == nil then return to_stderr end
  return function(level, text, fields)
    local ok = pcall(option, level, text, fields)
    if not ok then to_stderr(level, text, fields) end
  end
end

return log
