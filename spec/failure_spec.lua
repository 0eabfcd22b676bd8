local failure = require "eventbus.failure"

describe("failure.text", function()
  it("says what Lua's own shortest text stands for", function()
    assert.are.equal("error in error handling, after a stack overflow most likely", failure.text("error in error handling"))
  end)

  it("has a text for whatever was raised", function()
    assert.are.equal("plain", failure.text("plain"))
    assert.are.equal("nil was raised, without a reason", failure.text(nil))
    assert.are.equal("42", failure.text(42))
    assert.are.equal("false", failure.text(false))
    assert.are.equal("E1: broken", failure.text { code = "E1", message = "broken" })
    assert.are.equal("broken", failure.text { message = "broken" })
    assert.are.equal("{a = 1, b = x}", failure.text { b = "x", a = 1 })
    assert.are.equal("a table without a message", failure.text {})
    assert.are.equal("named", failure.text(setmetatable({}, { __tostring = function() return "named" end })))
  end)

  it("survives a __tostring that raises or returns no string", function()
    local raising = setmetatable({}, { __tostring = function() error("no") end })
    assert.are.equal("a table whose __tostring failed", failure.text(raising))
    local odd = setmetatable({}, { __tostring = function() return {} end })
    assert.are.equal("a table whose __tostring failed", failure.text(odd))
    assert.is_string(failure.text(setmetatable({}, { __metatable = "locked" })))
    assert.is_string(failure.text(setmetatable({}, { __index = function() error("no") end })))
  end)
end)

describe("failure.cut", function()
  it("cuts between characters", function()
    assert.are.equal("short", failure.cut("short", 10))
    assert.are.equal("abc...", failure.cut("abcdefghij", 6))
    assert.are.equal("é...", failure.cut("éééééé", 6))
    assert.are.equal(6, #failure.cut(("x"):rep(1000), 6))
  end)
end)

describe("failure.frames", function()
  it("ends at our call of the handler, also when a loaded module has xpcall under a name of its own", function()
    package.loaded["a.module"] = { xpcall = xpcall, error = error }
    finally(function() package.loaded["a.module"] = nil end)
    local traces = {}
    for _, names in ipairs { { "xpcall", "error" }, { "a.module.xpcall", "a.module.error" } } do
      traces[#traces + 1] = failure.frames(("stack traceback:\n\t[C]: in function '%s'\n\tbot.lua:3: in function <bot.lua:2>"
        .. "\n\t[C]: in function '%s'\n\tconsumer.lua:9: in upvalue 'invoke'"):format(names[2], names[1]))
    end
    local _, real = xpcall(function() error("x") end, function() return failure.frames(debug.traceback("", 2)) end)
    assert.are.same({ "bot.lua:3: in function <bot.lua:2>", "bot.lua:3: in function <bot.lua:2>" }, traces)
    assert.is_falsy(real:find("xpcall", 1, true), real)
    assert.is_truthy(real:find("failure_spec.lua", 1, true), real)
  end)

  it("keeps the user's first frames", function()
    local frames
    local function inner() frames = failure.frames(debug.traceback("", 1)) end
    local function outer() inner() return true end
    outer()
    assert.is_truthy(frames:find("failure_spec.lua", 1, true))
    local _, count = frames:gsub("\n", "")
    assert.is_true(count <= 3)
  end)

  it("ends at our call of the handler, whatever module's xpcall it is called", function()
    for _, name in ipairs { "xpcall", "eventbus.protect.xpcall" } do
      assert.are.equal("bot.lua:3: in function <bot.lua:2>", failure.frames("stack traceback:\n" ..
        "\t[C]: in function 'error'\n\tbot.lua:3: in function <bot.lua:2>\n\t[C]: in function '" .. name .. "'\n" ..
        "\tlua/eventbus/consumer.lua:70: in upvalue 'invoke'"))
    end
  end)
end)
