--- The board of `eventbus monitor`: rows of queues, worst first, laid out for a window. Pure: results and a size in,
-- lines out; it knows no terminal and no broker.

local alerts = require "eventbus.cli.alerts"
local text = require "eventbus.cli.text"

local board = {}

local STYLE = { critical = "red", warning = "yellow", unknown = "dim", ok = "green" }
local WORD = { critical = "CRIT", warning = "WARN", unknown = "?", ok = "ok" }
local WIDTHS = { state = 4, ready = 7, unacked = 7, consumers = 4, rate_in = 6, rate_out = 6, trend = 8 }
local GAPS = 7
local LEAST_NAME = 12

--- Sorts results: worst first, then the fullest, then by name.
---@param results eventbus.cli.Result[]
---@return eventbus.cli.Result[]
function board.sort(results)
  local function held(result) return (result.gauge.ready or 0) + (result.gauge.unacked or 0) end
  table.sort(results, function(a, b)
    local x, y = alerts.RANK[alerts.severity(a.findings)], alerts.RANK[alerts.severity(b.findings)]
    if x ~= y then return x > y end
    x, y = held(a), held(b)
    if x ~= y then return x > y end
    return a.gauge.name < b.gauge.name
  end)
  return results
end

--- A count in at most seven columns; "-" for what is not known.
---@param n number|nil
---@return string
function board.count(n)
  if not n then return "-" end
  if n < 1e6 then return alerts.grouped(n) end
  if n < 1e9 then return ("%.1fM"):format(n / 1e6) end
  return ("%.1fG"):format(n / 1e9)
end

--- A rate in at most six columns; "-" for what is not known.
---@param n number|nil
---@return string
function board.rate(n)
  if not n then return "-" end
  if n == 0 then return "0" end
  if n < 0.05 then return "<0.1" end
  if n < 99.95 then return ("%.1f"):format(n) end
  if n < 99999.5 then return ("%.0f"):format(n) end
  if n < 9999500 then return ("%.0fk"):format(n / 1000) end
  return ">10M"
end

local function right(s, width) return (" "):rep(width - text.width(s)) .. s end

--- The cells of a row, as texts.
---@param result eventbus.cli.Result
---@param utf8 boolean
function board.cells(result, utf8)
  local g = result.gauge
  return { WORD[alerts.severity(result.findings)], text.safe(g.name, not utf8), board.count(g.ready),
    board.count(g.unacked), board.count(g.consumers), board.rate(g.rate_in), board.rate(g.rate_out),
    text.bars(g.trend, utf8) }
end

board.HEADER = { "", "QUEUE", "READY", "UNACKED", "CONS", "IN/S", "OUT/S", "TREND" }

local function line_of(cells, name_width, mark)
  return table.concat({ text.fit(cells[1], WIDTHS.state), text.fit(cells[2], name_width, mark),
    right(cells[3], WIDTHS.ready), right(cells[4], WIDTHS.unacked), right(cells[5], WIDTHS.consumers),
    right(cells[6], WIDTHS.rate_in), right(cells[7], WIDTHS.rate_out), text.fit(cells[8], WIDTHS.trend, "") }, " ")
end

--- How many there are of each, for people: "2 critical, 1 warning, 21 ok".
---@param results eventbus.cli.Result[]
---@return string
function board.summary(results)
  local counts, parts = {}, {}
  for _, result in ipairs(results) do
    local severity = alerts.severity(result.findings)
    counts[severity] = (counts[severity] or 0) + 1
  end
  for _, severity in ipairs { "critical", "warning", "unknown", "ok" } do
    if counts[severity] then parts[#parts + 1] = counts[severity] .. " " .. severity end
  end
  return #parts > 0 and table.concat(parts, ", ") or "no queues"
end

---@class eventbus.cli.View
---@field results eventbus.cli.Result[]
---@field title string        the broker
---@field clock string
---@field note string|nil     what is not known
---@field trouble string|nil  why there is nothing new
---@field cursor integer      the chosen row
---@field top integer         the first row shown

--- The most rows that a window shows, given how many lines are taken by notes.
local function room(view, height)
  local fixed = 3 + (view.note and 1 or 0) + (view.trouble and 1 or 0)
  return math.max(height - fixed, 1)
end

--- Moves the cursor by some rows, and the first row shown with it.
---@param view eventbus.cli.View
---@param by integer
---@param height integer
function board.move(view, by, height)
  local count, rows = #view.results, room(view, height)
  view.cursor = math.max(math.min(view.cursor + by, count), 1)
  if view.cursor < view.top then view.top = view.cursor end
  if view.cursor >= view.top + rows then view.top = view.cursor - rows + 1 end
  view.top = math.max(math.min(view.top, count - rows + 1), 1)
end

--- The rows that a page has.
board.page = room

-- The last line: what is wrong with the chosen queue, then what the keys do.
local function footer(view, rows, width, mark)
  local chosen, count = view.results[view.cursor], #view.results
  local last = math.min(view.top + rows - 1, count)
  local place = count > rows and ("%d-%d of %d, arrows move"):format(view.top, last, count) or "arrows choose"
  local keys = place .. ", q quits"
  if not chosen or #chosen.findings == 0 then return keys end
  local said = {}
  for i, finding in ipairs(chosen.findings) do said[i] = finding.text end
  local ascii = mark == ".."
  local why = ("%s: %s"):format(text.safe(chosen.gauge.name, ascii), text.safe(table.concat(said, "; "), ascii))
  return text.fit(why, math.max(width - #keys - 2, 10), mark) .. "  " .. keys
end

--- The lines of a window: `height` of them, each `width` columns wide.
---@param view eventbus.cli.View
---@param width integer
---@param height integer
---@param look { utf8: boolean, style: fun(style: string, text: string): string }
---@return string[]
function board.lines(view, width, height, look)
  local mark, style = look.utf8 and "…" or "..", look.style
  local fixed = GAPS
  for _, column in pairs(WIDTHS) do fixed = fixed + column end
  local name_width = math.max(width - fixed, LEAST_NAME)
  board.move(view, 0, height)
  local rows = room(view, height)
  local head = ("%s  %s"):format(view.clock, board.summary(view.results))
  local title_width = math.max(width - text.width(head) - 2, 10)
  local lines = { style("bold", text.fit(text.fit(view.title, title_width, mark) .. "  " .. head, width, mark)) }
  if view.trouble then lines[#lines + 1] = style("red", text.fit(text.safe(view.trouble), width, mark)) end
  if view.note then lines[#lines + 1] = style("yellow", text.fit(text.safe(view.note), width, mark)) end
  lines[#lines + 1] = style("dim", text.fit(line_of(board.HEADER, name_width, mark), width, ""))
  for i = view.top, math.min(view.top + rows - 1, #view.results) do
    local result = view.results[i]
    local line = text.fit(line_of(board.cells(result, look.utf8), name_width, mark), width, mark)
    local severity = alerts.severity(result.findings)
    if i == view.cursor then
      line = style("reverse", line)
    elseif severity ~= "ok" then
      line = style(STYLE[severity], line)
    end
    lines[#lines + 1] = line
  end
  while #lines < height - 1 do lines[#lines + 1] = (" "):rep(width) end
  lines[height] = style("dim", text.fit(footer(view, rows, width, mark), width, mark))
  for i = #lines, height + 1, -1 do lines[i] = nil end
  return lines
end

return board
