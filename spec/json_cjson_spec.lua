-- lua-cjson as the oracle of eventbus.json, both ways, for what both can say.
local cjson = require "cjson"
local json = require "eventbus.json"

local null = json.null

-- Deep equality that does not take 1 for 1.0, nor look at metatables.
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) == "number" and math.type and math.type(a) ~= math.type(b) then return false end
  if type(a) ~= "table" then return a == b end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

describe("json and lua-cjson", function()
  local seed
  local function random(n)
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
  end

  local letters = { "a", "B", "0", " ", '"', "\\", "/", "\n", "\t", "\1", "\127", "é", "ї", "€", "😀", "long text here" }
  local function text()
    local parts = {}
    for i = 1, random(8) - 1 do parts[i] = letters[random(#letters)] end
    return table.concat(parts)
  end

  -- cjson writes 14 digits at most: both libraries must agree on these.
  local numbers = {
    function() return random(2147483646) - 1073741823 end,
    function() return random(100000) / 100 end,
    function() return -random(1000) / 8 end,
    function() return 0 end,
  }
  local function value(depth)
    local kind = random(depth > 0 and 8 or 5)
    if kind == 1 then return null end
    if kind == 2 then return random(2) == 1 end
    if kind <= 3 then return text() end
    if kind <= 5 then return numbers[random(#numbers)]() end
    local t = {}
    if kind == 6 then
      for i = 1, random(5) do t[i] = value(depth - 1) end
    else
      for _ = 1, random(5) - 1 do t["k" .. text()] = value(depth - 1) end
    end
    return t
  end

  -- As numbers only: cjson 2.1.0 has no integers.
  local function alike(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then return a == b end
    for k, v in pairs(a) do
      if not alike(v, b[k]) then return false end
    end
    for k in pairs(b) do
      if a[k] == nil then return false end
    end
    return true
  end

  it("read what the other writes, for 5,000 random values", function()
    for round = 1, 5000 do
      seed = round
      local v = value(6)
      local ours, theirs = assert(json.encode(v)), cjson.encode(v)
      assert(alike(v, cjson.decode(ours)), ours)
      assert(alike(v, json.decode(theirs)), theirs)
      assert(same(v, json.decode(ours)), ours)
      assert(alike(json.decode(theirs), cjson.decode(theirs)), theirs)
    end
  end)

  it("agree which random changes of a text are still JSON", function()
    -- Only what we accept: cjson 2.1.0 takes more (control characters, NaN, hexadecimal, leading zeros).
    local accepted = 0
    for round = 1, 20000 do
      seed = round
      local bytes = cjson.encode(value(3))
      local at = random(#bytes)
      bytes = bytes:sub(1, at - 1) .. ("{}[],:\"\\01aeE+-. \n"):sub(random(18), -1):sub(1, 1) .. bytes:sub(at + 1)
      local mine, err = json.decode(bytes)
      if err == nil then
        accepted = accepted + 1
        local ok, theirs = pcall(cjson.decode, bytes)
        assert(ok, bytes)
        assert(alike(mine, theirs), bytes)
      end
    end
    assert.is_true(accepted > 1000)
  end)
end)
