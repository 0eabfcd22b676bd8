local options = require "eventbus.options"

local SCHEMA = {
  prefetch = options.integer(1, 65535),
  log = options.either(options["function"], options.exactly(false)),
  mode = options.choice("fast", "safe"),
  timeout = options.duration,
  retry = options.shape { count = options.integer(0, 10) },
}

-- As a public function would.
local function connect(opts)
  local given = options.check(SCHEMA, opts, "lib.connect")
  return given
end

local function mistake(opts)
  local ok, message = pcall(connect, opts)
  assert.is_false(ok)
  return message
end

describe("options.check", function()
  it("gives back what is to be used", function()
    assert.are.same({ prefetch = 10, timeout = 5, log = false }, connect { prefetch = 10.0, timeout = "5s", log = false })
    assert.are.same({}, connect(nil))
  end)

  it("names the nearest option for an unknown one", function()
    assert.are.equal('lib.connect: unknown option "prefech"; did you mean "prefetch"?',
      mistake({ prefech = 1 }):match("lib%.connect.*"))
    assert.is_truthy(mistake({ 5 }):find("unknown option 1", 1, true))
  end)

  it("takes what a metatable lends", function()
    local lent = setmetatable({ prefetch = 5 }, { __index = { mode = "safe" } })
    assert.are.same({ prefetch = 5, mode = "safe" }, connect(lent))
    local hidden = setmetatable({}, { __index = { mode = "safe" }, __metatable = false })
    assert.are.same({ mode = "safe" }, connect(hidden))
  end)

  it("gives them as a plain table, for who looks at it in turn", function()
    local schema = { mode = options.string, prefetch = options.string }
    local given = { prefetch = 5, odd = 1 }
    assert.are.equal(given, options.own(schema, given))
    local own = options.own(schema, setmetatable(given, { __index = { mode = "safe", prefetch = 6, other = 7 } }))
    assert.is_nil(getmetatable(own))
    assert.are.same({ prefetch = 5, odd = 1, mode = "safe" }, own)
  end)

  it("tells of the first mistake in the order of the names, of an unknown one before", function()
    local wrong = { timeout = "soon", prefetch = 0, mode = "fats", log = 5 }
    assert.is_truthy(mistake(wrong):find('option "log": expected', 1, true))
    wrong.zzz = 1
    assert.is_truthy(mistake(wrong):find('unknown option "zzz"', 1, true))
  end)

  it("raises at the caller's line", function()
    local line
    local ok, message = pcall(function()
      line = debug.getinfo(1, "l").currentline + 1
      local _ = connect { prefech = 1 }
    end)
    assert.is_false(ok)
    assert.is_truthy(message:find("options_spec.lua:" .. line .. ":", 1, true), message)
  end)

  it("says what it expected and what it got", function()
    assert.is_truthy(mistake({ prefetch = 0 }):find(
      'option "prefetch": expected a whole number from 1 to 65535, got 0', 1, true))
    assert.is_truthy(mistake({ mode = "fats" }):find('did you mean "fast"', 1, true))
    assert.is_truthy(mistake({ log = 5 }):find("a function, or false", 1, true))
    assert.is_truthy(mistake({ timeout = "soon" }):find('got "soon"', 1, true))
    assert.is_truthy(mistake("x"):find("options must be a table", 1, true))
  end)

  it("looks into nested tables", function()
    assert.is_truthy(mistake({ retry = { cuont = 1 } }):find(
      'option "retry": unknown option "cuont"; did you mean "count"?', 1, true))
    assert.is_truthy(mistake({ retry = { count = -1 } }):find('option "retry": option "count": expected', 1, true))
    assert.is_truthy(mistake({ retry = 5 }):find('option "retry": expected a table, got 5', 1, true))
  end)
end)
