--- A router: which handler an event type goes to. Exact type first, then the most specific pattern.
-- `*` stands for one word, `#` for any number, none included. What patterns were asked for is remembered per type, up to
-- a bound, so that hostile types cannot make it grow.

local pattern = require "eventbus.pattern"

local router = {}

local REMEMBERED = 1024

---@class eventbus.Router
local Router = {}
Router.__index = Router

--- A router over a table of handlers, or over one function for every type. Equal tables route equally.
---@param handlers table<string, function>|function
---@return eventbus.Router|nil, string|nil
function router.new(handlers)
  local exact, patterns = {}, nil
  if type(handlers) == "function" then handlers = { ["#"] = handlers } end
  if type(handlers) ~= "table" then
    return nil, ("handlers must be a function, or a table from event types to functions, got a %s"):format(type(handlers))
  end
  if next(handlers) == nil then return nil, "the table of handlers is empty" end
  for key, handler in pairs(handlers) do
    if type(key) ~= "string" then
      return nil, ("handlers: the key %s is not an event type or pattern"):format(tostring(key))
    end
    local meta = getmetatable(handler)
    if type(handler) ~= "function" and not (type(meta) == "table" and meta.__call) then
      return nil, ("handlers: the handler of %q is a %s, not a function"):format(key, type(handler))
    end
    if pattern.is_pattern(key) then
      local entry = { key = key, handler = handler, matches = pattern.compile(key), rank = pattern.specificity(key) }
      patterns = patterns or {}
      patterns[#patterns + 1] = entry
    else
      exact[key] = handler
    end
  end
  if not patterns then return setmetatable({ exact = exact, found = exact }, Router) end
  table.sort(patterns, function(a, b)
    if a.rank ~= b.rank then return a.rank > b.rank end
    return a.key < b.key
  end)
  return setmetatable({ exact = exact, patterns = patterns, found = {}, count = 0 }, Router)
end

local function search(self, event_type)
  local handler = self.exact[event_type]
  if handler then return handler end
  for _, entry in ipairs(self.patterns) do
    if entry.matches(event_type) then return entry.handler end
  end
  return false
end

--- The handler of a type, or false.
---@param event_type string
---@return function|false
function Router:find(event_type)
  local handler = self.found[event_type]
  if not self.patterns then return handler or false end
  if handler == nil then
    if self.count >= REMEMBERED then self.found, self.count = {}, 0 end
    handler = search(self, event_type)
    self.found[event_type] = handler
    self.count = self.count + 1
  end
  return handler
end

return router
