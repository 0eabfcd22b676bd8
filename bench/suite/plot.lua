--- plot: four panels of bars, one for each client, shortest first: SVG that needs no script and no font.

local samples = require "bench.suite.samples"

local plot = {}

local WIDTH, PANEL, LEFT, RIGHT, LINE, TOP = 900, 440, 150, 70, 20, 34

local PANELS = {
  { "publish", "publish, 1,000 unconfirmed: CPU µs per event", samples.cpu_us },
  { "consume", "consume: CPU µs per event", samples.cpu_us },
  { "publish-one", "publish, one at a time: CPU µs per event", samples.cpu_us },
  { "latency", "latency at 500 events/s: p99, ms", function(figures) return figures.p99_us / 1000 end },
}

local function escape(text) return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })) end

local function text_at(x, y, class, text)
  return ('<text x="%.1f" y="%.1f" class="%s">%s</text>\n'):format(x, y, class, escape(text))
end

local function panel(taken, clients, x, y, name, title, of)
  local bars, most = {}, 0
  for _, client in ipairs(clients) do
    local value = not client.json_only and taken:median(name, client.name, of)
    if value then
      bars[#bars + 1] = { client = client, value = value }
      most = math.max(most, value)
    end
  end
  table.sort(bars, function(a, b)
    if a.value ~= b.value then return a.value < b.value end
    return a.client.name < b.client.name
  end)
  local out = text_at(x, y + 16, "title", title)
  for i, bar in ipairs(bars) do
    local at = y + TOP + (i - 1) * LINE
    local class = bar.client.ours and "ours" or bar.client.floor and "floor" or "peer"
    local width = most > 0 and bar.value / most * (PANEL - LEFT - RIGHT) or 0
    out = out .. text_at(x + LEFT - 8, at + 12, "name", bar.client.name)
      .. ('<rect x="%.1f" y="%.1f" width="%.1f" height="14" class="%s"/>\n'):format(x + LEFT, at, math.max(width, 1), class)
      .. text_at(x + LEFT + width + 6, at + 12, "value", (bar.value < 100 and "%.3g" or "%.0f"):format(bar.value))
  end
  return out, TOP + #bars * LINE
end

--- The picture of a run.
---@return string svg
function plot.draw(taken, clients)
  local out, y, height = "", 10, 0
  for i, one in ipairs(PANELS) do
    local left = i % 2 == 1
    local drawn, tall = panel(taken, clients, left and 10 or WIDTH - PANEL, y, one[1], one[2], one[3])
    out, height = out .. drawn, math.max(height, tall)
    if not left then y, height = y + height + 24, 0 end
  end
  return table.concat {
    '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" ',
    ('viewBox="0 0 %d %d">\n'):format(WIDTH, y),
    "<style>.title{font-weight:bold}.name{text-anchor:end}.value{fill:#555}", ".ours{fill:#2a7d4f}.floor{fill:#999}",
    ".peer{fill:#6b8fb5}</style>\n", ('<rect width="%d" height="%d" fill="#fff"/>\n'):format(WIDTH, y), out, "</svg>\n",
  }
end

return plot
