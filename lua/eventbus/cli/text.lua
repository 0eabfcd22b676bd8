--- Text for a terminal: what others wrote, made harmless, and how many columns it fills. Pure.
-- A control character in an event or a queue's name could move the cursor, change colours or answer in the user's name;
-- here it is shown as an escape instead, and so are bytes that are no UTF-8 and marks that turn the writing around.

local text = {}

local ESCAPES = { ["\a"] = "\\a", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
  ["\v"] = "\\v" }

-- The code point of one character's bytes, or nil when they are none (too long, a surrogate, beyond Unicode).
local function decode(bytes)
  local a, b, c, d = bytes:byte(1, 4)
  local code
  if a < 0x80 then
    return #bytes == 1 and a or nil
  elseif a >= 0xC2 and a < 0xE0 and #bytes == 2 then
    code = (a - 0xC0) * 64 + b - 0x80
  elseif a >= 0xE0 and a < 0xF0 and #bytes == 3 then
    code = ((a - 0xE0) * 64 + b - 0x80) * 64 + c - 0x80
    if code < 0x800 or (code >= 0xD800 and code < 0xE000) then return nil end
  elseif a >= 0xF0 and a < 0xF5 and #bytes == 4 then
    code = (((a - 0xF0) * 64 + b - 0x80) * 64 + c - 0x80) * 64 + d - 0x80
    if code < 0x10000 or code > 0x10FFFF then return nil end
  end
  return code
end

local CHARACTER = "[%z\1-\127\192-\255][\128-\191]*"

local function within(code, ranges)
  for i = 1, #ranges, 2 do
    if code >= ranges[i] and code <= ranges[i + 1] then return true end
  end
  return false
end

-- C1 controls, marks of direction, line and paragraph separators, byte order mark, tags.
local HIDDEN = { 0x80, 0x9F, 0x061C, 0x061C, 0x200E, 0x200F, 0x2028, 0x202E, 0x2060, 0x206F, 0xFEFF, 0xFEFF,
  0xFFF9, 0xFFFB, 0xE0000, 0xE007F }
local WIDE = { 0x1100, 0x115F, 0x2E80, 0xA4CF, 0xA960, 0xA97C, 0xAC00, 0xD7A3, 0xF900, 0xFAFF, 0xFE30, 0xFE6F,
  0xFF00, 0xFF60, 0xFFE0, 0xFFE6, 0x1F300, 0x1F64F, 0x1F680, 0x1F6FF, 0x1F900, 0x1FAFF, 0x20000, 0x3FFFD }
local NARROW = { 0x0300, 0x036F, 0x0483, 0x0489, 0x0591, 0x05BD, 0x064B, 0x065F, 0x200B, 0x200D, 0x20D0, 0x20FF,
  0xFE00, 0xFE0F, 0xFE20, 0xFE2F }

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local function shown(bytes)
  if #bytes == 1 and bytes:byte() < 0x80 then return ESCAPES[bytes] or hex(bytes) end
  local code = decode(bytes)
  if not code then return hex(bytes) end
  if within(code, HIDDEN) then return ("\\u{%x}"):format(code) end
  return bytes
end

--- The text on one line, with nothing in it that a terminal would obey. `ascii`: other characters as escapes, too.
---@param s string
---@param ascii? boolean
---@return string
function text.safe(s, ascii)
  -- Continuation bytes that continue nothing.
  s = s:gsub("^[\128-\191]+", hex)
  s = s:gsub("[\192-\255][\128-\191]*", function(bytes)
    local lead = bytes:byte()
    local length = lead < 0xE0 and 2 or lead < 0xF0 and 3 or 4
    local rest = hex(bytes:sub(length + 1))
    local character = shown(bytes:sub(1, length))
    if ascii and not character:find("^\\") then character = ("\\u{%x}"):format(decode(character)) end
    return character .. rest
  end)
  s = s:gsub("([%z\1-\127])([\128-\191]+)", function(c, bytes) return c .. hex(bytes) end)
  return (s:gsub("[%z\1-\31\127]", shown))
end

local function columns(character)
  if #character < 3 then
    local code = #character == 2 and decode(character)
    return code and within(code, NARROW) and 0 or 1
  end
  local code = decode(character) or 0
  return within(code, WIDE) and 2 or within(code, NARROW) and 0 or 1
end

--- The columns that a text of `safe` fills. About right for the scripts of East Asia, too.
---@param s string
---@return integer
function text.width(s)
  if not s:find("[\128-\255]") then return #s end
  local n = 0
  for character in s:gmatch(CHARACTER) do n = n + columns(character) end
  return n
end

--- The text in exactly so many columns: filled up with spaces, or cut at its end with `mark` ("…").
---@param s string
---@param width integer
---@param mark? string
---@return string
function text.fit(s, width, mark)
  local n = text.width(s)
  if n <= width then return s .. (" "):rep(width - n) end
  mark = mark or "…"
  local room, kept, used = width - text.width(mark), {}, 0
  if room < 0 then return ("."):rep(math.max(width, 0)) end
  for character in s:gmatch(CHARACTER) do
    local more = columns(character)
    if used + more > room then break end
    kept[#kept + 1], used = character, used + more
  end
  return table.concat(kept) .. mark .. (" "):rep(room - used)
end

local BARS = {
  [true] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" },
  [false] = { "_", ".", ":", "-", "=", "+", "*", "#" },
}

--- Numbers as a row of bars, one column each; the highest is full, none is empty.
---@param values number[]
---@param utf8 boolean
---@return string
function text.bars(values, utf8)
  local levels, most = BARS[utf8], 0
  for _, value in ipairs(values) do most = math.max(most, value) end
  local row = {}
  for i, value in ipairs(values) do
    row[i] = levels[most > 0 and math.floor(value / most * (#levels - 1) + 0.5) + 1 or 1]
  end
  return table.concat(row)
end

return text
