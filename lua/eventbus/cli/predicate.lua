--- A predicate: a Lua expression of the user's that selects events, `data.total > 100 and headers.tenant_id == "a"`.
-- It sees its names and Lua's pure functions, nothing of the system, and is ended after ten million steps.

local exit = require "eventbus.cli.exit"
local nearest = require "eventbus.nearest"

local predicate = {}

local STEPS = 1e7

local PURE = {
  string = string, math = math, table = table, tostring = tostring, tonumber = tonumber, pairs = pairs, ipairs = ipairs,
  next = next, select = select, utf8 = rawget(_G, "utf8"),
}

---@class eventbus.cli.Predicate
---@field text string
local Predicate = {}
Predicate.__index = Predicate

-- The function of a text over an environment, on every Lua.
local function load_with(text, name, env)
  if rawget(_G, "setfenv") then
    local chunk, err = loadstring(text, name)
    return chunk and setfenv(chunk, env), err
  end
  return load(text, name, "t", env)
end

local KEYWORDS = { ["and"] = true, ["or"] = true, ["not"] = true, ["nil"] = true, ["true"] = true, ["false"] = true }

-- The names that an expression looks up, read from its text. None of one with functions, long strings or comments: these are
-- looked at when they are called for.
local function names_in(text)
  local names, at, before = {}, 1, ""
  if text:find("[[", 1, true) or text:find("[=", 1, true) or text:find("--", 1, true) then return names end
  while at <= #text do
    local word, char = text:match("^[%a_][%w_]*", at), text:sub(at, at)
    if word == "function" then return {} end
    if char == '"' or char == "'" then
      repeat at = at + (text:sub(at, at) == "\\" and 2 or 1) until at > #text or text:sub(at, at) == char
      at, before = at + 1, char
    elseif word then
      local field = before == "." or before == ":" or text:find("^%s*=[^=]", at + #word)
      if not field and not KEYWORDS[word] then names[#names + 1] = word end
      at, before = at + #word, word
    elseif char:find("%d") then
      at, before = at + #text:match("^[%w.]+", at), "0"
    else
      if text:sub(at, at + 1) == ".." then char = ".." end
      at, before = at + #char, char:find("%s") and before or char
    end
  end
  return names
end

--- Compiles an expression; what is wrong with it ends the command, before anything is touched.
---@param text string
---@param option? string  "--where", for the message
---@param known? string[]  all it may name; another name is a mistake, where it would be nil without this
---@return eventbus.cli.Predicate
function predicate.new(text, option, known)
  local self = setmetatable({ text = text, names = {} }, Predicate)
  local is_known = {}
  for _, name in ipairs(known or {}) do is_known[name] = true end
  local function unknown(name) return ("there is no %s%s"):format(tostring(name), nearest.hint(name, known)) end
  local env = setmetatable({}, { __index = function(_, name)
    -- These first: an event with a field "string" must not escape a predicate that calls string.find.
    local value = PURE[name]
    if value == nil then value = self.names[name] end
    if value == nil and known and not is_known[name] then error(unknown(name), 0) end
    return value
  end, __newindex = function(_, name) error("it must not assign to " .. tostring(name), 0) end })
  local chunk, err = load_with("return (" .. text .. "\n)", "=expression", env)
  if not chunk then
    exit.misuse(("%s %q: %s"):format(option or "--where", text, (tostring(err):gsub("^expression:%d+: ", ""))),
      'it is a Lua expression, for instance: type == "order.created" and data.total > 100')
  end
  for _, name in ipairs(known and names_in(text) or {}) do
    if not is_known[name] and PURE[name] == nil then
      exit.misuse(("%s %q: %s"):format(option or "--where", text, unknown(name)),
        "it may name " .. table.concat(known, ", ") .. ", and Lua's pure functions")
    end
  end
  -- Compiled code runs no hook, and would not come to an end.
  local jit = rawget(_G, "jit")
  if jit then jit.off(chunk, true) end
  self.chunk = chunk
  return self
end

--- Does an event match? nil, message when the expression fails on it.
---@param names table<string, any>  what it may name
---@return boolean|nil, string|nil
function Predicate:matches(names)
  self.names = names
  debug.sethook(function() error("it did not come to an end", 0) end, "", STEPS)
  local ok, result = pcall(self.chunk)
  debug.sethook()
  self.names = {}
  if ok then return result and true or false end
  return nil, (tostring(result):gsub("^expression:%d+: ", ""))
end

return predicate
