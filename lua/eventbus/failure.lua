--- A failure: whatever a handler raised or returned, made safe to log and to carry in a header.
-- Handlers raise strings, tables, nil, objects whose __tostring raises in turn. None of it can hurt here.

local failure = {}

local FRAMES = 4

--- Text cut to a number of bytes, never inside a UTF-8 character.
---@param text string
---@param limit integer
---@return string
function failure.cut(text, limit)
  if #text <= limit then return text end
  local keep = math.max(limit - 3, 0)
  local byte = text:byte(keep + 1)
  while keep > 0 and byte >= 0x80 and byte < 0xC0 do
    byte = text:byte(keep)
    keep = keep - 1
  end
  return text:sub(1, keep) .. "..."
end

local function raised_by(value)
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring then
    local ok, text = pcall(tostring, value)
    if ok and type(text) == "string" then return text end
    return ("a %s whose __tostring failed"):format(type(value))
  end
end

--- The text of any value. A table without __tostring shows its message, or else its plain fields.
---@param value any
---@return string
function failure.text(value)
  -- What Lua says when the stack overflows again while the overflow is being told; LuaJIT does so now and then.
  if value == "error in error handling" then return value .. ", after a stack overflow most likely" end
  if type(value) == "string" then return value end
  if value == nil then return "nil was raised, without a reason" end
  local ok, text = pcall(function()
    local named = raised_by(value)
    if named then return named end
    if type(value) ~= "table" then return tostring(value) end
    local message, code = rawget(value, "message"), rawget(value, "code")
    if type(message) == "string" then
      return code ~= nil and ("%s: %s"):format(tostring(code), message) or message
    end
    local parts = {}
    for key, item in next, value do
      if type(key) == "string" and (type(item) == "string" or type(item) == "number" or type(item) == "boolean") then
        parts[#parts + 1] = ("%s = %s"):format(key, failure.cut(tostring(item), 200))
      end
      if #parts == 16 then break end
    end
    table.sort(parts)
    return #parts > 0 and "{" .. table.concat(parts, ", ") .. "}" or "a table without a message"
  end)
  return ok and text or ("a %s without a text"):format(type(value))
end

--- The code of an error that has one: text, or a number as text.
---@param value any
---@return string|nil
function failure.code(value)
  if type(value) ~= "table" then return nil end
  local code = rawget(value, "code")
  if type(code) == "string" or type(code) == "number" then return tostring(code) end
end

--- The first frames of a traceback: where it was raised, without the path down to the main loop.
---@param traceback string
---@return string
function failure.frames(traceback)
  local frames = {}
  for line in traceback:gmatch("[^\n]+") do
    local frame = line:match("^%s+(.+)$")
    -- Our own call of the handler ends what is the user's. LuaJIT names xpcall as its caller does; Lua 5.4 by any module
    -- that has it: 'eventbus.protect.xpcall'.
    if frame and frame:find("^%[C%]: in function '[%w_.]*xpcall'") then break end
    if frame and #frames > 0 and frame:find("eventbus/consumer%.lua:%d+: in function 'handle'") then
      if frames[#frames]:find("^%[C%]: ") then frames[#frames] = nil end
      break
    end
    if frame and not frame:find("^%[C%]: in function '[%w_%.]*error'") and not frame:find("(tail call", 1, true) then
      frames[#frames + 1] = frame
      if #frames == FRAMES then break end
    end
  end
  return table.concat(frames, "\n")
end

return failure
