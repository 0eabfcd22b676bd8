--- The log on stderr: nothing of an event's can pass for more than a text.

local program = require "spec.support.program"

describe("the log on stderr", function()
  it("shows control characters as escapes, and indents further lines", function()
    local p = program.start("log", { program.lua(), "-e", [[
      local write = require("eventbus.log").new()
      write("warning", "a handler failed: \27]0;owned\7\neventbus: error: forged", { id = "evt_\rx", n = 1 })
      write("info", "not shown")
    ]] })
    assert.are.equal(0, p:wait(30))
    assert.are.equal("eventbus: warning: a handler failed: \\x1b]0;owned\\x07\n  eventbus: error: forged "
      .. "(id=evt_\\x0dx, n=1)\n", p:output())
  end)
end)
