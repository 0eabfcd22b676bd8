--- A terminal: one output stream, and what may be written to it. Colour and progress bars appear on a terminal only; in a
-- pipe or file there is plain text. A write that fails (a full disk, a closed file) ends the command; it is never silent.

local exit = require "eventbus.cli.exit"

local terminal = {}

---@class eventbus.cli.Terminal
---@field tty boolean      a person is looking
---@field colour boolean
local Terminal = {}
Terminal.__index = Terminal

local CODES = { bold = "1", dim = "2", reverse = "7",
  red = "31", green = "32", yellow = "33", blue = "34", magenta = "35", cyan = "36" }

local function is_tty(fd)
  local ok, uv = pcall(require, "luv")
  if ok then return uv.guess_handle(fd) == "tty" end
  local result = os.execute("test -t " .. fd)
  return result == true or result == 0
end

--- A terminal over a stream and its descriptor; nil: it has none. NO_COLOR (no-color.org) and TERM=dumb turn colour off.
---@param stream file*
---@param fd integer|nil
---@return eventbus.cli.Terminal
function terminal.new(stream, fd)
  local tty = fd ~= nil and is_tty(fd)
  local no_colour = os.getenv("NO_COLOR")
  local colour = tty and not (no_colour and no_colour ~= "") and os.getenv("TERM") ~= "dumb"
  return setmetatable({ stream = stream, fd = fd, tty = tty, colour = colour }, Terminal)
end

--- Writes text as it is.
function Terminal:write(...)
  if self.progress then self.progress:hide() end
  local ok, err = self.stream:write(...)
  if not ok then exit.unwritable(err) end
end

--- Writes a line, and makes it visible at once.
function Terminal:line(...)
  self:write(...)
  self:write("\n")
  self:flush()
end

function Terminal:flush()
  local ok, err = self.stream:flush()
  if not ok then exit.unwritable(err) end
end

--- The text in a style ("red", "bold", ...), where colours are shown.
---@param style string
---@param text string
---@return string
function Terminal:style(style, text)
  local code = CODES[style] or error("no such style: " .. tostring(style), 2)
  if not self.colour or text == "" then return text end
  return ("\27[%sm%s\27[0m"):format(code, text)
end

--- Whether the locale's characters are UTF-8. In any other, what we draw with is plain ASCII.
---@return boolean
function terminal.utf8()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = os.getenv(name)
    if value and value ~= "" then return value:lower():find("utf%-?8") ~= nil end
  end
  return false
end

--- Columns of the window; 80 where it has none.
---@return integer
function Terminal:width()
  return (self:size())
end

--- Columns and rows of the window; 80 × 24 where it has none.
---@return integer, integer
function Terminal:size()
  local columns, rows = tonumber(os.getenv("COLUMNS")), tonumber(os.getenv("LINES"))
  local ok, uv = pcall(require, "luv")
  if self.tty and ok then
    -- Kept: a handle whose close was never run to its end crashes luv when the state closes.
    self.window = self.window or uv.new_tty(self.fd, false)
    if self.window then
      local w, h = uv.tty_get_winsize(self.window)
      if type(w) == "number" and w > 0 then columns, rows = w, h end
    end
  end
  return columns or 80, rows or 24
end

-- The columns that a text fills: characters of UTF-8, escapes left out. Enough for what we print.
local function columns_of(text)
  local plain = text:gsub("\27%[[%d;]*m", ""):gsub("[\128-\191]", "")
  return #plain
end
terminal.columns_of = columns_of

--- Writes rows as a table: each column as wide as its widest cell, the last one as it is; cells are texts or numbers.
---@param rows table[]     the first is the header
---@param right? table<integer, boolean>  columns aligned to the right
function Terminal:rows(rows, right)
  right = right or {}
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, columns_of(tostring(cell))) end
  end
  for r, row in ipairs(rows) do
    local parts = {}
    for i, cell in ipairs(row) do
      local text = tostring(cell)
      local pad = (" "):rep(widths[i] - columns_of(text))
      parts[i] = right[i] and pad .. text or (i == #row and text or text .. pad)
    end
    local line = table.concat(parts, "  "):gsub("%s+$", "")
    self:write(r == 1 and self:style("bold", line) or line, "\n")
  end
  self:flush()
end

--- Writes a text; on a terminal broken between words, its further lines indented. Elsewhere it is one line.
---@param text string
---@param indent integer
function Terminal:paragraph(text, indent)
  if not self.tty then return self:line(text) end
  local width, column, pad = self:width() - 1, 0, (" "):rep(indent)
  for space, word in text:gmatch("(%s*)(%S+)") do
    local columns = columns_of(word)
    if column > indent and column + #space + columns > width then
      self:write("\n", pad, word)
      column = indent + columns
    else
      self:write(space, word)
      column = column + #space + columns
    end
  end
  self:line()
end

---@class eventbus.cli.Progress
local Progress = {}
Progress.__index = Progress

--- A progress bar on a terminal, nothing elsewhere. `total` nil: only a count. Ends with `finish`.
---@param what string
---@param total? integer
---@return eventbus.cli.Progress
function Terminal:bar(what, total)
  local bar = setmetatable({ terminal = self, what = what, total = total, done = 0, shown = false, drawn = -1,
    now = require("eventbus.core").now }, Progress)
  bar.began = bar.now()
  return bar
end

local function clock(seconds)
  seconds = math.floor(seconds + 0.5)
  local minutes = math.floor(seconds / 60)
  if minutes < 60 then return ("%d:%02d"):format(minutes, seconds % 60) end
  return ("%d:%02d:%02d"):format(math.floor(minutes / 60), minutes % 60, seconds % 60)
end

local function draw(self)
  local spent = self.now() - self.began
  local rate = spent > 0 and self.done / spent or 0
  local text
  if self.total and self.total > 0 then
    local share = math.min(self.done / self.total, 1)
    local left = rate > 0 and clock((self.total - self.done) / rate) or "-:--"
    local tail = (" %3d %%  %d/%d  %.0f/s  %s left"):format(math.floor(share * 100), self.done, self.total, rate, left)
    local room = math.max(math.min(self.terminal:width() - #self.what - #tail - 4, 40), 0)
    local filled = math.floor(share * room)
    text = ("%s [%s%s]%s"):format(self.what, ("#"):rep(filled), ("."):rep(room - filled), tail)
  else
    text = ("%s %d  %.0f/s"):format(self.what, self.done, rate)
  end
  self.terminal.stream:write("\r\27[K", text)
  self.terminal.stream:flush()
  self.shown = true
end

--- So many are done; redrawn ten times a second at most.
---@param done integer
function Progress:update(done)
  self.done = done
  if not self.terminal.tty then return end
  local t = self.now()
  if t - self.drawn < 0.1 then return end
  self.drawn = t
  self.terminal.progress = self
  draw(self)
end

--- Takes the bar off the line, for other output; the next update draws it again.
function Progress:hide()
  if not self.shown then return end
  self.shown = false
  self.terminal.stream:write("\r\27[K")
end

function Progress:finish()
  self:hide()
  if self.terminal.progress == self then self.terminal.progress = nil end
  self.terminal.stream:flush()
end

return terminal
