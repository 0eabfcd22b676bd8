--- The predicate of --where: what it sees of an event that means no good.

local exit = require "eventbus.cli.exit"
local predicate = require "eventbus.cli.predicate"

describe("a predicate", function()
  it("has Lua's functions, whatever an event's fields are called", function()
    local where = predicate.new 'string.find(data.text, "x", 1, true) and tostring(n) == "1"'
    local event = { data = { text = "axb" }, n = 1 }
    assert.is_true(where:matches(event))
    event.string, event.tostring, event.data.text = {}, "no function", "bxa"
    assert.is_true(where:matches(event))
  end)

  it("comes to an end, and leaves nothing behind", function()
    for _, text in ipairs { "(function() while true do end end)()",
      "(function() local function f() return f() end return f() end)()" } do
      local answer, why = predicate.new(text):matches {}
      assert.is_nil(answer)
      assert.is_truthy(why:find("did not come to an end", 1, true), why)
      assert.is_nil((debug.gethook()))
    end
  end)

  it("sees nothing of the system", function()
    for _, name in ipairs { "os", "io", "require", "load", "loadstring", "dofile", "debug", "package", "_G", "getmetatable",
      "setmetatable", "rawset", "rawget", "pcall", "coroutine", "getfenv", "setfenv", "collectgarbage" } do
      assert.is_false(predicate.new(name .. " ~= nil"):matches {}, name)
    end
  end)

  it("that is no expression ends the command with a hint", function()
    for _, text in ipairs { "", "data.", "1) or (", "x = 1", "return true", "\27Lua", "data.n == 1 end" } do
      local ok, failure = pcall(predicate.new, text)
      assert.is_false(ok)
      assert.is_true(exit.is_failure(failure), tostring(failure))
      assert.are.equal(exit.USAGE, failure.code)
    end
  end)
end)
