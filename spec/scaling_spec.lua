--- The examples of docs/scaling.md run, on three nodes, and show what it says of them; its figures are `make scaling`'s.

local program = require "spec.support.program"

-- The figures of each row that begins with these words: the first column is text or a number.
local function row(text, name)
  local line = text:match("\n  " .. name .. "  +([^\n]+)")
  local found = {}
  for figure in (line or ""):gmatch "[%d.]+" do found[#found + 1] = tonumber(figure) end
  return found
end

describe("from one process to a cluster #scaling", function()
  it("runs, step by step, and loses nothing when the leader is killed", function()
    local run = program.start("scaling", { program.lua(), "examples/scaling.lua", "300" })
    local code = run:wait(540)
    local text = run:output()
    assert(code == 0, text)
    for workers, events in pairs { [1] = 200, [2] = 400, [4] = 800, [8] = 1600 } do
      assert.are.equal(events, row(text, tostring(workers))[1], text)
    end
    for _, kind in ipairs { "classic", "quorum", "stream" } do assert.are.equal(300, row(text, kind)[1], text) end
    assert.are.equal(0, row(text, "1000")[1], text)
    for count, events in pairs { [1] = 400, [2] = 800, [4] = 1600 } do
      local shown = text:match("\n  " .. count .. " +" .. events .. " +[%d.]+ +(%d+) ")
      assert.are.equal("0", shown, "out of order:\n" .. text)
    end
    for _, reader in ipairs { "reader 1, from the first", "reader 2, from the first", "reader 3, from the first" } do
      assert.are.equal(300, row(text, reader)[1], text)
    end
    assert(text:find("quorum queues like this run's", 1, true), text)
  end)
end)
