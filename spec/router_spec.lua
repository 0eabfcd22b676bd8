local router = require "eventbus.router"

local function named(name) return function() return name end end

local function route(handlers, event_type)
  local handler = assert(router.new(handlers)):find(event_type)
  return handler and handler()
end

describe("router", function()
  local handlers = {
    ["order.created"] = named "exact", ["order.*"] = named "star", ["order.#"] = named "hash", ["#"] = named "all",
    ["*.created"] = named "created",
  }

  it("prefers the exact type, then the most specific pattern", function()
    assert.are.equal("exact", route(handlers, "order.created"))
    assert.are.equal("star", route(handlers, "order.paid"))
    assert.are.equal("hash", route(handlers, "order.item.added"))
    assert.are.equal("hash", route(handlers, "order"))
    assert.are.equal("created", route(handlers, "customer.created"))
    assert.are.equal("all", route(handlers, "payment.refund.completed"))
  end)

  it("finds nothing where nothing matches", function()
    assert.is_false(route({ ["order.*"] = named "x" }, "customer.created"))
    assert.is_false(route({ ["order.*"] = named "x" }, "order"))
    assert.is_false(route({ ["order.*"] = named "x" }, "order.a.b"))
  end)

  it("takes one function for all, and callable tables", function()
    assert.are.equal("f", route(named "f", "whatever"))
    assert.are.equal("c", route({ ["a"] = setmetatable({}, { __call = function() return "c" end }) }, "a"))
  end)

  it("says what is wrong with the handlers", function()
    local function wrong(value) return select(2, router.new(value)) end
    assert.is_truthy(wrong("x"):find("got a string", 1, true))
    assert.is_truthy(wrong({}):find("empty", 1, true))
    assert.is_truthy(wrong({ named "x" }):find("the key 1", 1, true))
    assert.is_truthy(wrong({ ["a.b"] = 5 }):find('"a.b" is a number', 1, true))
  end)

  it("does not grow with hostile types", function()
    local r = router.new(handlers)
    for i = 1, 5000 do r:find("order." .. i) end
    local count = 0
    for _ in pairs(r.found) do count = count + 1 end
    assert.is_true(count <= 1024)
    assert.are.equal("star", r:find("order.77")())
  end)
end)
