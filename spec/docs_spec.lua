--- The documents say what the code does: error codes, public functions, and the tests that prove the promises.

local eventbus = require "eventbus"
local config = require "eventbus.config"
local consumer = require "eventbus.consumer"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

describe("docs/errors.md", function()
  it("lists exactly the codes there are, with their retryability", function()
    local listed, count = {}, 0
    for code, retryable in read("docs/errors.md"):gmatch("\n| `([%l_]+)` |[^\n]*| (%l+) |") do listed[code] = retryable end
    for _, code in ipairs(eventbus.Error.codes) do
      count = count + 1
      local err = eventbus.Error.new(code, "x")
      assert.are.equal(err.retryable and "yes" or "no", listed[code], code)
      listed[code] = nil
    end
    assert.is_true(count > 20)
    assert.are.same({}, listed)
  end)
end)

describe("docs/reference.md", function()
  local text = read("docs/reference.md")

  it("has every public function", function()
    for name in pairs(eventbus) do assert.is_truthy(text:find("eventbus." .. name, 1, true), "eventbus." .. name) end
    local bus = eventbus.assert(eventbus.connect { url = "amqp://127.0.0.1:1", lazy = true, log = false })
    local ticket = eventbus.assert(bus:publish_async("", "x", {}))
    for prefix, object in pairs { ["bus:"] = bus, ["ticket:"] = ticket } do
      for name, member in pairs(getmetatable(object).__index) do
        if type(member) == "function" and not name:find("^_") and name ~= "answered" then
          assert.is_truthy(text:find(prefix .. name .. "(", 1, true) or text:find(prefix .. name .. "{", 1, true)
            or text:find(prefix .. name .. "`", 1, true), prefix .. name)
        end
      end
    end
    bus:close(0)
  end)

  it("has every option", function()
    for _, schema in ipairs { config.SCHEMA, consumer.SCHEMA } do
      for name in pairs(schema) do assert.is_truthy(text:find("`" .. name .. "`", 1, true), name) end
    end
  end)
end)

describe("docs/delivery.md", function()
  it("names tests that exist", function()
    local count = 0
    for spec, names in read("docs/delivery.md"):gmatch("\n|[^|\n]*| `([%l_]+_spec)`: ([^\n]*) |") do
      local source = read("spec/" .. spec .. ".lua")
      -- What every loop is promised stands apart.
      if spec == "loops_spec" then source = read("spec/support/loop_suite.lua"):gsub("\ntest%(", "\nit(") end
      for name in names:gmatch("[^;]+") do
        name = name:match("^%s*(.-)%s*$")
        assert.is_truthy(source:find('it("' .. name, 1, true), spec .. ": " .. name)
        count = count + 1
      end
    end
    assert.is_true(count > 25)
  end)
end)
