-- A script in both its forms, as its tests load it, and what is said of one that is wrong.

local program = require "spec.support.program"
local script = require "eventbus.script"
local service = require "eventbus.service"

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local function file(text)
  return write(program.folder() .. "/bot.lua", text)
end

local function mistake(text)
  local opened, message = script.open(file(text))
  assert.is_nil(opened)
  return message
end

describe("eventbus.script", function()
  it("loads a file that returns a table, which is a module as well", function()
    local path = file [[
      local bot = { name = "bot", queue = "q", options = { prefetch = 3 } }
      bot.handlers = { ["a.b"] = function(event) return event.data * 2 end }
      return bot
    ]]
    local bot = script.load(path)
    assert.are.equal("bot", bot.name)
    assert.are.equal(4, bot.handlers["a.b"] { data = 2 })
    assert.are.equal(6, dofile(path).handlers["a.b"] { data = 3 })
    assert.are.same({ { queue = "q", handlers = bot.handlers, options = { prefetch = 3 } } }, service.subscriptions(bot))
  end)

  it("loads a file that calls functions into the same table", function()
    local bot = script.load(file [[
      service "bot"
      source "somewhere"
      queue("q", { prefetch = 3 })
      on("a.b", function(event) twice = event.data * 2 return twice end)
      on("a.*", function() reject "no" end)
      start(function() end)
    ]])
    assert.are.equal("bot", bot.name)
    assert.are.equal("somewhere", bot.source)
    assert.are.equal("q", bot.queue)
    assert.are.same({ prefetch = 3 }, bot.options)
    assert.are.equal(4, bot.handlers["a.b"] { data = 2 })
    assert.is_nil(rawget(_G, "twice"))
    local ok, raised = pcall(bot.handlers["a.*"])
    assert.is_false(ok)
    assert.are.equal("reject", raised.kind)
    assert.is_function(bot.start)
  end)

  it("gives a handler to the queue named last, or to all", function()
    local bot = script.load(file [[
      service "bot"
      on("all", function() return "all" end)
      queue "one"
      on("x", function() return "x of one" end)
      queue("two", { prefetch = 2 })
      on("x", function() return "x of two" end)
    ]])
    local subscriptions = service.subscriptions(bot)
    assert.are.equal("one", subscriptions[1].queue)
    assert.are.equal("x of one", subscriptions[1].handlers.x())
    assert.are.equal("x of two", subscriptions[2].handlers.x())
    assert.are.equal("all", subscriptions[2].handlers.all())
    assert.are.same({ prefetch = 2 }, subscriptions[2].options)
  end)

  it("finds the modules beside it", function()
    local path = file 'local m = require "beside.words"; return { name = m.name, queue = "q", handlers = { x = print } }'
    os.execute("mkdir " .. path:gsub("bot.lua$", "beside"))
    write(path:gsub("bot.lua$", "beside/words.lua"), 'return { name = "besides" }')
    local opened = assert(script.open(path))
    assert.are.equal("besides", opened.definition.name)
    assert.are.same({ path, (path:gsub("bot.lua$", "beside/words.lua")) }, opened.files)

    write(path:gsub("bot.lua$", "beside/words.lua"), 'return { name = "again" }')
    assert.are.equal("again", assert(opened:reload()).definition.name)
  end)

  it("keeps the old modules when it cannot be loaded again", function()
    local path = file 'local m = require "kept_words"; return { name = m.name, queue = "q", handlers = { x = print } }'
    write(path:gsub("bot.lua$", "kept_words.lua"), 'return { name = "old" }')
    local opened = assert(script.open(path))
    local words = require "kept_words"
    write(path:gsub("bot.lua$", "kept_words.lua"), "return 5 +")
    local ok, message = opened:compiles()
    assert.is_nil(ok)
    assert.matches("kept_words%.lua:1", message)
    ok, message = opened:reload()
    assert.is_nil(ok)
    assert.matches("kept_words%.lua:1", message)
    assert.are.equal(words, require "kept_words")
  end)

  it("takes a new module as it is now, also when the script that first wanted it could not be loaded", function()
    local path = file 'return { name = "first", queue = "q", handlers = { x = print } }'
    local opened = assert(script.open(path))
    local wanting = 'local m = require "new_words" %s return { name = m.name, queue = "q", handlers = { x = print } }'
    local module = path:gsub("bot.lua$", "new_words.lua")
    -- Both the script and the module itself may raise.
    for name, broken in pairs { one = 'return { name = "old" }', two = "error 'not yet'" } do
      write(module, broken)
      write(path, wanting:format "error 'no'")
      assert.matches(broken:match "not yet" or "no", select(2, opened:reload()))
      assert.is_nil(package.loaded.new_words)
      assert.are.same({ path, module }, opened.refused)
      write(module, ('return { name = %q }'):format(name))
      write(path, wanting:format "")
      local again = assert(opened:reload())
      assert.are.equal(name, again.definition.name)
      opened:restore(again)
      assert.is_nil(package.loaded.new_words)
    end
  end)

  it("compiles without a module that it needs no more and that is gone (it was refused for good)", function()
    local path = file 'require "gone_words"; return { name = "one", queue = "q", handlers = { x = print } }'
    local module = write(path:gsub("bot.lua$", "gone_words.lua"), "return {}")
    local opened = assert(script.open(path))
    write(path, 'return { name = "two", queue = "q", handlers = { x = print } }')
    os.remove(module)
    assert.is_true(opened:compiles())
    opened = assert(opened:reload())
    assert.are.equal("two", opened.definition.name)
    os.remove(path)
    assert.matches("No such file", select(2, opened:compiles()), 1, true)
  end)

  it("says what is wrong, and where", function()
    assert.matches("there is no such file", select(2, script.open "/nowhere/bot.lua"), 1, true)
    assert.matches("bot%.lua:2: ", mistake "local x = 1\nlocal = 2")
    assert.matches("bot.lua:2: no luck\nstack traceback:\n[^\n]*bot.lua:2: in ", mistake "\nerror 'no luck'")
    assert.matches("neither returns a service's table nor calls functions", mistake "local x = 1", 1, true)
    assert.matches("returned a number", mistake "return 5", 1, true)
    assert.matches("must do one of them", mistake "service 'x' return {}", 1, true)
    assert.matches('on("a"): it has a handler already', mistake "on('a', print) on('a', print)", 1, true)
    assert.matches("bot.lua:1: service was called before", mistake "service 'x' service 'y'", 1, true)
    assert.matches("name is missing", mistake "return {}", 1, true)
    assert.matches("queue or queues is missing", mistake "service 'x'", 1, true)
  end)
end)

describe("eventbus.service", function()
  it("raises what is wrong with a service at the caller's line", function()
    local cases = {
      { { handlers = {}, queue = "q" }, "name is missing" },
      { { name = "n", queue = "q" }, 'queue "q": handlers are missing' },
      { { name = "n", handlers = {} }, "queue or queues is missing" },
      { { name = "n", handlers = {}, queue = 5 }, "queue must be a string, is a number" },
      { { name = "n", handlers = {}, queu = "q" }, 'unknown field "queu"; did you mean "queue"?' },
      { { name = "n", handlers = {}, queues = { "a", "a" } }, 'queues names "a" twice' },
      { { name = "n", handlers = {}, queues = { a = 5 } }, 'queue "a": must be a table' },
      { { name = "n", handlers = {}, queues = { a = { option = {} } } }, 'queue "a": unknown field "option"' },
      { { name = "n", handlers = {}, queues = { "a" }, queue = "b" }, "only one of them" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(function() service.queues(case[1]) end)
      assert.is_false(ok)
      assert.matches("script_spec%.lua:%d+: service: ", message)
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)
end)
