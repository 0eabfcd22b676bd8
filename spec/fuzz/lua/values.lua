--- Any Lua values, made of bytes: each byte chooses what comes next, so that a small change of the bytes is a small change
-- of the value. Where there are no more bytes come zeros.

local json = require "eventbus.json"

local NODES = 3000  -- of one value; what is in it twice counts twice

local SPECIAL = { 0, -1, 0.5, 1e15, 1e16, 2 ^ 53, 2 ^ 53 + 2, -2 ^ 53, 2 ^ 63, -2 ^ 63, 2 ^ 64, 1e300, 5e-324, 1 / 0, -1 / 0,
  0 / 0, -1 / (1 / 0), 255, 256, 2 ^ 31 }

local function raises() error "a metamethod ran" end
-- Read raw, it is the list { 7 }.
local armed = setmetatable({ 7 }, { __index = raises, __newindex = raises, __len = raises, __pairs = raises, __eq = raises,
  __tostring = raises })
local UNSENDABLE = { print, coroutine.create(raises), io.stdout, function() end }

local values = {}

local Maker = {}
Maker.__index = Maker

function values.maker(bytes)
  return setmetatable({ bytes = bytes, at = 0, left = NODES, tables = {}, weights = {} }, Maker)
end

function Maker:byte()
  self.at = self.at + 1
  return self.bytes:byte(self.at) or 0
end

function Maker:below(n) return self:byte() % n end

function Maker:text()
  local n = self:byte()
  local size = n < 192 and n % 64 or 5
  local text = self.bytes:sub(self.at + 1, self.at + size)
  self.at = self.at + size
  return n < 192 and text or text:rep(n - 191)
end

function Maker:integer()
  local n = 0
  for _ = 1, 8 do n = n * 256 + self:byte() end
  return n
end

-- Every float is a whole number times a power of two.
function Maker:float()
  local whole = 0
  for _ = 1, 6 do whole = whole * 256 + self:byte() end
  local scaled = whole * 2.0 ^ (self:byte() * 8 + self:byte() - 1074)
  return self:below(2) == 1 and -scaled or scaled
end

function Maker:list(list)
  for i = 1, self:below(12) do list[i] = self:any() end
end

function Maker:object(object)
  for _ = 1, self:below(12) do object[self:text()] = self:any() end
end

local KEYS = {
  function(maker) return maker:text() end,
  function(maker) return maker:below(8) end,
  function(maker) return maker:below(8) - 4 + 0.5 end,
  function(maker) return maker:below(2) == 1 end,
  function(maker) return maker:below(3) + 1 end,
}

function Maker:mixed(mixed)
  for _ = 1, self:below(6) do mixed[KEYS[1 + self:below(#KEYS)](self)] = self:any() end
end

function Maker:marked(list)
  json.array(list)
  if self:below(4) == 0 then self:object(list) else self:list(list) end
end

function Maker:wide(list)
  local value, count = self:scalar(), self:byte() * 4
  for i = 1, math.min(count, self.left) do list[i] = value end
  self.left = self.left - count
end

-- The value inside of many tables.
function Maker:deep(outermost)
  local depth, objects = self:byte() + self:byte(), self:below(2) == 1
  depth = math.min(depth, self.left)
  self.left = self.left - depth
  local innermost = outermost
  for _ = 2, depth do
    local inner = {}
    innermost[objects and "in" or 1] = inner
    innermost = inner
  end
  innermost[1] = self:any()
end

local SCALARS = {
  function() return json.null end,
  function() return true end,
  function() return false end,
  function(maker) return maker:byte() - 128 end,
  Maker.integer, Maker.float,
  function(maker) return SPECIAL[1 + maker:below(#SPECIAL)] end,
  Maker.text, Maker.text,
  function(maker) return string.char(maker:byte()):rep(maker:byte() * 4) end,
}
local TABLES = { Maker.list, Maker.list, Maker.object, Maker.object, Maker.mixed, Maker.marked, Maker.wide, Maker.deep }

function Maker:scalar() return SCALARS[1 + self:below(#SCALARS)](self) end

function Maker:table(fill)
  local made, before = {}, self.left
  self.tables[#self.tables + 1] = made
  fill(self, made)
  self.weights[made] = before - self.left
  return made
end

-- One that is there already: elsewhere in the value, or around this place.
function Maker:seen()
  local made = self.tables[1 + self:below(math.max(1, #self.tables))]
  local weight = made and self.weights[made] or 1
  if not made or weight > self.left then return json.null end
  self.left = self.left - weight
  return made
end

--- The next value.
function Maker:any()
  if self.left <= 0 then return json.null end
  self.left = self.left - 1
  local choice = self:below(32)
  if choice < 12 then return self:scalar() end
  if choice < 28 then return self:table(TABLES[1 + choice % #TABLES]) end
  if choice < 30 then return self:seen() end
  if choice == 30 then return armed end
  return UNSENDABLE[1 + self:below(#UNSENDABLE)]
end

return values
