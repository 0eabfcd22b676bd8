--- A mismatch: the broker's 406 about a declaration, taken apart and said for people.
-- The broker names one argument, the value it received and the one it has. Pure.

local mismatch = {}

local function value_of(text)
  if text == nil then return nil end
  local value = text:match("^the value '(.*)' of type") or text:match("^'(.*)'$")
  if value then return value end
  return text:match("^none") and "none" or text
end

---@class eventbus.Mismatch
---@field entity "queue"|"exchange"
---@field name string
---@field argument string  "x-message-ttl", "durable", "type", ...
---@field want string      what was asked for; "none" when nothing was
---@field have string      what the broker has

--- The parts of a 406, or nil when the text is about something else.
---@param text string
---@return eventbus.Mismatch|nil
function mismatch.parse(text)
  local argument, entity, name, rest = text:match("inequivalent arg '([^']*)' for (%a+) '(.-)' in vhost '.-': (.*)$")
  if not argument then return nil end
  local want, have = rest:match("^received (.-) but current is (.*)$")
  if not want then return nil end
  have = have:gsub("[%s.]+$", "")
  return { entity = entity, name = name, argument = argument, want = value_of(want), have = value_of(have) }
end

--- Completes an error of code "precondition_failed" in place: `argument`, `want`, `have`, and a message that says what
-- to do, followed by the broker's own words. Other errors stay as they are.
---@param err table
---@return table err
function mismatch.explain(err)
  if err.code ~= "precondition_failed" or err.argument then return err end
  local parts = mismatch.parse(err.message)
  if not parts then return err end
  err.entity, err.name, err.argument = parts.entity, parts.name, parts.argument
  err.want, err.have = parts.want, parts.have
  err.message = ("%s %q exists otherwise: %s is %s on the broker, asked for was %s (%s)"):format(parts.entity, parts.name,
    parts.argument, parts.have, parts.want, err.message)
  return err
end

return mismatch
