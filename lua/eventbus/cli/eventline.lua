--- An event on one line, for people (`pretty`) or programs (`json`). Pure: what was delivered in, text out. Nothing in the
-- line can drive a terminal, whatever the event holds.

local json = require "eventbus.json"
local text = require "eventbus.cli.text"

local eventline = {}

local TYPE_WIDTH, TENANT_WIDTH = 22, 12

---@class eventbus.cli.Look
---@field style fun(style: string, text: string): string
---@field utf8 boolean
---@field width integer
---@field whole boolean  the payload is not cut, and the line has all fields

---@class eventbus.cli.Sighting  what was delivered
---@field event table|nil      nil: malformed
---@field problem string|nil   why it is
---@field body string        "" when it was too large to keep
---@field bytes integer
---@field exchange string
---@field routing_key string

local function field(name, value)
  if value == nil or value == json.null or value == "" then return "" end
  return (" %s=%s"):format(name, tostring(value))
end

--- The line of an event; `clock` is when it came ("22:10:24").
---@param seen eventbus.cli.Sighting
---@param clock string
---@param look eventbus.cli.Look
---@return string
function eventline.pretty(seen, clock, look)
  local ascii, mark = not look.utf8, look.utf8 and "…" or ".."
  local event = seen.event
  if not event then
    local said = ("%s malformed %s %s: %s"):format(clock, seen.exchange == "" and "(default)" or seen.exchange,
      seen.routing_key, seen.problem)
    said = text.safe(said .. "  " .. seen.body:sub(1, look.whole and -1 or 2000), ascii)
    if not look.whole then said = text.fit(said, look.width, mark):gsub(" +$", "") end
    return look.style("red", said)
  end
  local data = json.encode(event.data, { sort_keys = true }) or seen.body
  local kind = text.safe(event.type, ascii)
  local tenant = text.safe(event.tenant_id or "-", ascii)
  if not look.whole then tenant = text.fit(tenant, TENANT_WIDTH, mark) end
  if text.width(kind) < TYPE_WIDTH then kind = text.fit(kind, TYPE_WIDTH) end
  local head = #clock + text.width(kind) + text.width(tenant) + 3
  local rest
  if look.whole then
    local metadata = event.metadata and json.encode(event.metadata, { sort_keys = true })
    rest = text.safe(event.id .. field("source", event.source) .. field("correlation", event.correlation_id)
      .. field("metadata", metadata) .. "  " .. data, ascii)
  else
    -- Only what can be seen is made safe: payloads may be large.
    rest = text.safe(data:sub(1, look.width * 4), ascii)
    rest = text.fit(rest, math.max(look.width - head, 10), mark):gsub(" +$", "")
  end
  return table.concat({ look.style("dim", clock), look.style("cyan", kind), look.style("magenta", tenant), rest }, " ")
end

local function escaped(character)
  local a, b = character:byte(1, 2)
  return ("\\u%04x"):format(b or a)
end

--- The envelope as it came, on one line: line breaks between its tokens are spaces. For a terminal, the control characters
-- that JSON allows in texts are written as JSON's escapes.
---@param seen eventbus.cli.Sighting
---@param terminal boolean
---@return string
function eventline.json(seen, terminal)
  if not seen.event then
    return assert(json.encode({ malformed = { problem = seen.problem, exchange = text.safe(seen.exchange),
      routing_key = text.safe(seen.routing_key), bytes = seen.bytes, body = text.safe(seen.body:sub(1, 4096)) } },
      { sort_keys = true }))
  end
  local line = seen.body:gsub("[\r\n]", " ")
  if terminal then line = line:gsub("\194[\128-\159]", escaped):gsub("\127", escaped) end
  return line
end

return eventline
