-- screen: what the demo prints. Colours and cut lines on a terminal only; a pipe gets plain text, whole.

local screen = {}

local is_terminal = os.execute("test -t 1") == true or os.execute("test -t 1") == 0
local colours = is_terminal and not os.getenv "NO_COLOR" and os.getenv "TERM" ~= "dumb"

local CODES = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", cyan = "36" }

local function width()
  if not is_terminal then return math.huge end
  local pipe = io.popen("stty size 2>/dev/null </dev/tty", "r")
  local columns = pipe and tonumber((pipe:read("*l") or ""):match("%d+ (%d+)"))
  if pipe then pipe:close() end
  return columns and columns > 40 and columns or 100
end
local columns = width()

local function paint(colour, text)
  if not colours or not colour then return text end
  return ("\27[%sm%s\27[0m"):format(CODES[colour], text)
end
screen.paint = paint

-- Characters, not bytes: continuation bytes of UTF-8 take no column.
local function length(text)
  return #text:gsub("[\128-\191]", "")
end

local function pad(text, to)
  return text .. (" "):rep(to - length(text))
end

local function cut(text, to)
  if length(text) <= to then return text end
  local kept = {}
  for character in text:gmatch("[%z\1-\127\194-\244][\128-\191]*") do
    if #kept >= to - 1 then break end
    kept[#kept + 1] = character
  end
  return table.concat(kept) .. "…"
end

function screen.write(text)
  io.stdout:write(text, "\n")
  io.stdout:flush()
end

local number = 0

function screen.section(title)
  number = number + 1
  screen.write("")
  screen.write(paint("bold", ("%d. %s"):format(number, title)))
end

--- One line of what happens: when, who, what.
function screen.event(seconds, who, text, colour)
  local head = ("%6.2f s  %s "):format(seconds, pad(who, 17))
  local shown = paint(colour, cut(text, columns - length(head)))
  screen.write(paint("dim", head:sub(1, 10)) .. paint("cyan", head:sub(11)) .. shown)
end

function screen.note(text)
  screen.write("   " .. cut(text, columns - 3))
end

function screen.passed(text)
  screen.write(paint("green", "   ✓ ") .. cut(text, columns - 5))
end

function screen.failed(text)
  screen.write(paint("red", "   ✗ ") .. text)
end

--- Rows of cells under a header; numbers to the right.
function screen.table(header, rows)
  local widths = {}
  for i, cell in ipairs(header) do widths[i] = length(cell) end
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i], length(tostring(cell))) end
  end
  local function line(row)
    local cells = {}
    for i, cell in ipairs(row) do
      local text = tostring(cell)
      cells[i] = type(cell) == "number" and (" "):rep(widths[i] - #text) .. text or pad(text, widths[i])
    end
    return "   " .. table.concat(cells, "  ")
  end
  screen.write(paint("bold", line(header)))
  for _, row in ipairs(rows) do screen.write(line(row)) end
end

return screen
