local pattern = require "eventbus.pattern"

-- The definition, as slow and as plain as it can be written.
local function reference(want, key)
  local function match(w, k)
    if #w == 0 then return #k == 0 end
    local rest = { (table.unpack or unpack)(w, 2) }
    if w[1] == "#" then
      for i = 1, #k + 1 do
        if match(rest, { (table.unpack or unpack)(k, i) }) then return true end
      end
      return false
    end
    return #k > 0 and (w[1] == "*" or w[1] == k[1]) and match(rest, { (table.unpack or unpack)(k, 2) })
  end
  return match(pattern.words(want), pattern.words(key))
end

describe("pattern.matches", function()
  local cases = {
    { "order.created", "order.created", true },
    { "order.created", "order.paid", false },
    { "order.*", "order.created", true },
    { "customer.*", "customer.segment.changed", false },
    { "customer.#", "customer.segment.changed", true },
    { "customer.#", "customer", true },
    { "#", "", true },
    { "#", "a.b.c", true },
    { "*", "", false },
    { "*", "a", true },
    { "*", "a.b", false },
    { "*.created", "order.created", true },
    { "#.changed", "customer.tier.changed", true },
    { "a.#.b", "a.b", true },
    { "a.#.b", "a.x.b.y.b", true },
    { "a.#.b", "a.x.b.y", false },
    { "#.*", "a", true },
    { "#.*", "", false },
    { "*.#.*", "a", false },
    { "*.#.*", "a.b", true },
    { "#.#", "a.b", true },
    { "a.*", "a.", true },
    { "a*", "ab", false },
    { "a*", "a*", true },
    { "a.*", "ab", false },
  }
  for _, case in ipairs(cases) do
    it(("says %s for %q and %q"):format(tostring(case[3]), case[1], case[2]), function()
      assert.equal(case[3], pattern.matches(case[1], case[2]))
      assert.equal(case[3], pattern.compile(case[1])(case[2]))
    end)
  end

  it("agrees with the definition on 20,000 random pairs", function()
    local words, seed = { "a", "b", "*", "#", "" }, 42
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n + 1
    end
    local function text(choices)
      local list = {}
      for i = 1, random(6) - 1 do list[i] = words[random(choices)] end
      return table.concat(list, ".")
    end
    for _ = 1, 20000 do
      local want, key = text(5), text(2)
      local expected = reference(want, key)
      assert(pattern.matches(want, key) == expected, ("%q, %q: expected %s"):format(want, key, tostring(expected)))
    end
  end)

  it("is not slow for a hostile pattern and key", function()
    local want = ("#.a."):rep(30) .. "b"
    local key = ("a."):rep(120) .. "c"
    local began = os.clock()
    for _ = 1, 100 do assert.is_false(pattern.matches(want, key)) end
    assert.is_true(os.clock() - began < 1)
  end)
end)

describe("pattern.specificity", function()
  it("orders patterns that match the same key from exact to all", function()
    local ordered = {
      "order.created", "order.created.#", "order.*", "*.created", "order.#", "#.created", "*.*", "*.#", "#",
    }
    for i = 1, #ordered - 1 do
      local more, less = ordered[i], ordered[i + 1]
      assert(pattern.specificity(more) > pattern.specificity(less), ("%s is not above %s"):format(more, less))
    end
  end)
end)

describe("pattern.prefix", function()
  it("is the literal beginning", function()
    assert.equal("customer", pattern.prefix("customer.*"))
    assert.equal("a.b", pattern.prefix("a.b.#.c"))
    assert.equal("", pattern.prefix("#"))
    assert.equal("order.created", pattern.prefix("order.created"))
  end)
end)
