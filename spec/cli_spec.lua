-- The command line itself: what every command shares.

local predicate = require "eventbus.cli.predicate"
local command = require "spec.support.command"
local program = require "spec.support.program"
local terminal = require "eventbus.cli.terminal"

describe("eventbus", function()
  it("says what it can do, and its version", function()
    local help = command.run { "--help" }
    assert.are.equal(0, help.code)
    assert.matches("RABBITMQ_URL", help.out, 1, true)
    assert.are.equal("", help.err)
    assert.are.equal(require("eventbus")._VERSION .. "\n", command.run({ "--version" }).out)
  end)

  -- argparse breaks a long line of it and leaves the next as it is: a paragraph is lines of 80 columns, or one line.
  it("has help without a ragged line at 80 columns", function()
    local function look(parser, name)
      local lines = {}
      for line in ((parser._epilog or "") .. "\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
      for i, line in ipairs(lines) do
        local ragged = line:find("^ ") or (lines[i + 1] or "") ~= "" or (lines[i - 1] or "") ~= ""
        assert(#line <= 80 or not ragged, name .. ": " .. line)
      end
      for _, each in ipairs(parser._commands) do look(each, name .. " " .. each._name) end
    end
    look(require("eventbus.cli").parser(), "eventbus")
  end)

  it("ends with 2 and the usage on stderr when the command line is wrong", function()
    local r = command.run { "completion", "fisch" }
    assert.are.equal(2, r.code)
    assert.are.equal("", r.out)
    assert.matches("Usage: eventbus completion", r.err, 1, true)
  end)

  it("names the option whose value cannot be meant", function()
    for _, case in ipairs { { { "run", "x.lua", "--prefetch", "0" }, "%-%-prefetch: expected a whole number" },
      { { "broker", "start", "--port", "many" }, '%-%-port: it cannot be "many"' },
      { { "topology", "plan", "--timeout", "soon" }, "%-%-timeout: expected a duration" },
      -- A timer of luv's raised at it, once an event was there.
      { { "exec", "q", "--timeout", "99999999999999999999s", "--dry-run", "--", "true" }, "%-%-timeout: expected at most" },
    } do
      local r = command.run(case[1])
      assert.are.equal(2, r.code)
      assert.matches(case[2], r.err)
    end
  end)

  it("completes in bash, zsh and fish", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do
      local r = command.run { "completion", shell }
      assert.are.equal(0, r.code)
      assert.matches("completion", r.out, 1, true)
    end
  end)

  it("has a man page with every command, none of whose lines is taken for a request", function()
    local parser = require("eventbus.cli").parser()
    local page = require("eventbus.cli.manpage").of(parser, "eventbus 9.9", "2024-01-15")
    for _, each in ipairs(parser._commands) do assert.matches(".SS " .. each._name .. "\n", page, 1, true) end
    local requests = { TH = true, SH = true, SS = true, TP = true, PP = true, nf = true, fi = true }
    for request in page:gmatch("\n%.(%S*)") do assert.is_true(requests[request], request) end
  end)

  -- What a command line says on stderr when stdout is on a full disk, and its exit code.
  local function on_full_disk(words)
    local path = program.folder() .. "/full.sh"
    local file = assert(io.open(path, "w"))
    file:write(program.lua(), " bin/eventbus ", words, " >/dev/full 2>", path, ".err; echo $? >", path, ".code")
    file:close()
    os.execute(("LUA_PATH='%s' LUA_CPATH='%s' sh %s"):format(package.path, package.cpath, path))
    return io.open(path .. ".err"):read("*a"), io.open(path .. ".code"):read("*l")
  end

  it("says so when the disk is full", function()
    for _, words in ipairs { "completion bash", "--help", "dlq replay --help", "--version" } do
      local err, code = on_full_disk(words)
      assert.matches("cannot write the output: No space left on device", err, 1, true, words)
      assert.are.equal("1", code, words)
    end
  end)

  it("is no warning for Nagios when the disk is full: a check that cannot report is unknown", function()
    local err, code = on_full_disk "check --rules plugin"
    assert.are.equal("eventbus: cannot write the output: No space left on device\n", err)
    assert.are.equal("3", code)
  end)
end)

describe("its output", function()
  it("on a terminal has the window's size, and ends in order (it crashed when the state closed)", function()
    local script = program.folder() .. "/size.lua"
    local file = assert(io.open(script, "w"))
    file:write([[
      local t = require("eventbus.cli.terminal").new(io.stdout, 1)
      print(t:size())
      print(t:size())
      os.exit(0, true)]])
    file:close()
    local result = script .. ".out"
    os.execute(("LUA_PATH='%s' LUA_CPATH='%s' script -qec 'stty cols 71 rows 9; exec %s %s' /dev/null </dev/null >%s; "
      .. "echo $? >>%s"):format(package.path, package.cpath, program.lua(), script, result, result))
    assert.matches("^71%s+9%s+71%s+9%s+0%s+$", io.open(result):read("*a"))
  end)

  it("that nobody reads any more ends it without a word", function()
    local ended, exit = pcall(require("eventbus.cli.exit").unwritable, "Broken pipe")
    assert.is_false(ended)
    assert.are.equal(141, exit.code)
    assert.is_nil(exit.message)
  end)
end)

describe("a progress bar", function()
  -- What it draws after so many seconds at so many of a total.
  local function drawn(done, total, seconds)
    local shown = {}
    local t = terminal.new({ write = function(_, ...) shown[#shown + 1] = table.concat { ... } end,
      flush = function() return true end })
    t.tty, t.width = true, function() return 100 end
    local bar = t:bar("publishing", total)
    bar.began, bar.now = 0, function() return seconds end
    bar:update(done)
    return table.concat(shown)
  end

  it("says how long it takes, also from an hour on (Lua 5.3 and later raised there)", function()
    assert.matches("  1/10000  0/s  27:46:30 left", drawn(1, 10000, 10), 1, true)
    assert.matches("  1/3  0/s  2:00:01 left", drawn(1, 3, 3600.25), 1, true)
    assert.matches("  5/10  1/s  0:05 left", drawn(5, 10, 5), 1, true)
    assert.matches("  0/10  0/s  -:-- left", drawn(0, 10, 5), 1, true)
    assert.matches("publishing 7  1/s", drawn(7, nil, 7), 1, true)
  end)
end)

describe("a predicate", function()
  it("is a Lua expression over the names it is given", function()
    local p = predicate.new 'data.total > 100 and headers.tenant:find("^a")'
    assert.is_true(p:matches { data = { total = 101 }, headers = { tenant = "abc" } })
    assert.is_false(p:matches { data = { total = 100 }, headers = { tenant = "abc" } })
  end)

  it("that fails on an event says why and matches nothing", function()
    local ok, why = predicate.new("data.customer.id == 1"):matches { data = {} }
    assert.is_nil(ok)
    assert.matches("attempt to index", why, 1, true)
  end)

  it("sees nothing of the system, cannot assign, and comes to an end", function()
    for _, text in ipairs { 'os.execute("true")', 'io.open("/etc/passwd")', "require('os')", "(function() x = 1 end)()",
      "(function() while true do end end)()" } do
      local ok = predicate.new(text):matches {}
      assert.is_nil(ok, text)
    end
  end)

  it("with a mistake in it ends the command before anything is touched", function()
    local ok, failure = pcall(predicate.new, "data.total >")
    assert.is_false(ok)
    assert.are.equal(2, failure.code)
    assert.matches('--where "data.total >"', failure.message, 1, true)
  end)
end)
