local program = require "spec.support.program"
local wait = require "spec.support.wait"

-- All processes: pid -> { parent, command }, but for those that have ended.
local function processes()
  local list = {}
  local pipe = assert(io.popen("ps -A -ww -o pid=,ppid=,stat=,args=", "r"))
  for line in pipe:lines() do
    local pid, parent, state, command = line:match("^%s*(%d+)%s+(%d+)%s+(%S+)%s+(.*)$")
    if pid and state:sub(1, 1) ~= "Z" then list[pid] = { parent = parent, command = command } end
  end
  pipe:close()
  return list
end

-- What a demo has started: its descendants, and whatever names its folder (the broker is in a session of its own).
local function started_by(pid, folder)
  local all, found = processes(), {}
  for id, process in pairs(all) do
    local up = process.parent
    while all[up] and up ~= pid do up = all[up].parent end
    if up == pid or process.command:find(folder, 1, true) then found[id] = process.command end
  end
  return found
end

local function left_of(started)
  local all, left = processes(), {}
  for id, command in pairs(started) do
    if all[id] and all[id].command == command then left[#left + 1] = id .. " " .. command end
  end
  return table.concat(left, "\n")
end

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

describe("the demo", function()
  it("shows all it promises and leaves nothing behind", function()
    local tmp = program.folder()
    local demo = program.start("demo", { program.lua(), "examples/demo.lua" }, { TMPDIR = tmp })
    wait(function() return demo:output():find("all 7 are consuming", 1, true), demo:output() end, 120, "the services run")
    local started = started_by(demo.child.pid, tmp)
    assert.is_true(count(started) >= 10)
    local code = demo:wait(300)
    local text = demo:output()
    assert(code == 0, text)
    for _, line in ipairs {
      "lint finds no trap in it", "7 exchanges,", "all 7 are consuming",
      "every queue it reaches has handled every event", "429 Too Many Requests",
      "chat id -1001234567890 arrived to the last digit", "attempt 2 failed, retry in 1s: the carrier answered 503",
      "attempt 3 dead-lettered: the carrier answered 503",
      "x-eventbus-routing-key", "this time the handler succeeds", "no queue holds anything any more",
      "all processes have stopped", "The demo is complete",
    } do
      assert(text:find(line, 1, true), ("no %q in:\n%s"):format(line, text))
    end
    assert.is_nil(text:find("✗", 1, true))
    assert.is_nil(text:find("\27", 1, true))
    assert.equal("", left_of(started))
  end)

  it("stops everything on Ctrl-C, and fails #release", function()
    local tmp = program.folder()
    local demo = program.start("demo", { program.lua(), "examples/demo.lua" }, { TMPDIR = tmp })
    wait(function() return demo:output():find("all 7 are consuming", 1, true), demo:output() end, 120, "the services run")
    local started = started_by(demo.child.pid, tmp)
    demo:signal "INT"
    assert.equal(1, demo:wait(60), demo:output())
    wait(function()
      local left = left_of(started)
      return left == "", left
    end, 30, "nothing is left")
  end)

  it("leaves nothing behind even when it is killed", function()
    local tmp = program.folder()
    local demo = program.start("demo", { program.lua(), "examples/demo.lua" }, { TMPDIR = tmp })
    wait(function() return demo:output():find("all 7 are consuming", 1, true), demo:output() end, 120, "the services run")
    local started = started_by(demo.child.pid, tmp)
    demo:signal "KILL"
    assert.equal(137, demo:wait(20))
    wait(function()
      local left = left_of(started)
      return left == "", left
    end, 30, "nothing is left")
  end)
end)
