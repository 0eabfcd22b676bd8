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
    for prefix, methods in pairs { ["bus:"] = getmetatable(bus).__index, ["ticket:"] = eventbus.core.tickets.methods } do
      for name, member in pairs(methods) do
        if type(member) == "function" and not name:find("^_") then
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
  local text = read("docs/delivery.md")

  -- Each name of a list `a; b` must begin a test of the spec.
  local function check_tests(spec, names)
    local source, count = read("spec/" .. spec .. ".lua"), 0
    -- What every loop is promised stands apart.
    if spec == "loops_spec" then source = read("spec/support/loop_suite.lua"):gsub("\ntest%(", "\nit(") end
    for name in names:gmatch("[^;]+") do
      name = name:match("^%s*(.-)%s*$")
      assert.is_truthy(source:find('it("' .. name, 1, true), spec .. ": " .. name)
      count = count + 1
    end
    return count
  end

  it("names tests that exist", function()
    local count = 0
    for spec, names in text:gmatch("\n|[^|\n]*| `([%l_]+_spec)`: ([^\n]*) |") do count = count + check_tests(spec, names) end
    assert.is_true(count > 25)
  end)

  it("ends with what proves each promise: invariants, properties, faults and tests that exist", function()
    local testing, rows = read("docs/testing.md"), 0
    local faults = {}
    for _, fault in ipairs(require "spec.chaos.faults") do faults[#faults + 1] = fault.name end
    local function listed(section)
      local part = assert(testing:match("\n## " .. section .. "\n(.-)\n## "), section)
      return function(name) return part:find("\n| " .. name .. " |", 1, true) end
    end
    local invariant, property = listed("Simulation"), listed("Models")
    local function is_fault(name)
      for _, fault in ipairs(faults) do if fault:sub(1, #name) == name then return true end end
    end
    local function each(cell, known, what)
      for name in cell:gmatch("[^;]+") do
        name = name:match("^%s*(.-)%s*$")
        assert.is_truthy(name == "-" or known(name), what .. ": " .. name)
      end
    end
    local last = assert(text:match("\n## How each promise is proven\n(.*)$"))
    for promise, simulation, model, chaos, tests in last:gmatch("\n| ([^|\n]*) |([^|\n]*)|([^|\n]*)|([^|\n]*)|([^|\n]*)|") do
      if promise ~= "promise" then
        rows = rows + 1
        each(simulation:gsub(",", ";"), invariant, "simulation")
        each(model:gsub(",", ";"), property, "model")
        each(chaos, is_fault, "chaos")
        local spec, names = tests:match("^ `([%l_]+_spec)`: (.*) $")
        assert.is_truthy(spec or tests:match("^%s*$"), tests)
        if spec then check_tests(spec, names) end
      end
    end
    assert.is_true(rows > 10)
    -- Nothing that is proven goes unnamed.
    for _, section in ipairs { "Simulation", "Models" } do
      for name in testing:match("\n## " .. section .. "\n(.-)\n## "):gmatch("\n| (%*[%l ]+%*) |") do
        assert.is_truthy(last:find(name, 1, true), name)
      end
    end
  end)
end)
