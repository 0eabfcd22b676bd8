--- tools/run-tests: whatever becomes of a test, it is counted; and what was begun ends with the run.

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local folder

local function file(name, text)
  local path = folder .. "/" .. name
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
  return path
end

local PASSES = "describe('a', function() it('holds', function() end) it('holds too', function() end) end)"
local FAILS = "describe('b', function() it('holds', function() end) it('does not', function() error('broken') end) end)"

-- Says in a file which process it has started.
local WAITS = "describe('w', function() it('waits', function() os.execute('echo $$ >%s; exec sleep 60') end) end)"

local function gone(pid)
  local alive = os.execute("kill -0 " .. pid .. " 2>/dev/null")
  return alive ~= true and alive ~= 0
end

-- It makes its Lua's paths itself, as when make calls it.
local function start(environment, ...)
  local version = rawget(_G, "jit") and "jit" or _VERSION:match "5%.%d"
  environment.JOBS, environment.LUA_PATH, environment.LUA_CPATH = environment.JOBS or "3", ";;", ";;"
  return program.start("run-tests", { "tools/run-tests", "--lua", version, ... }, environment)
end

-- Its output and exit code.
local function run(...)
  local p = start({}, ...)
  local code = p:wait(60)
  return p:output(), code
end

describe("tools/run-tests", function()
  before_each(function() folder = program.folder() end)

  it("adds up what passed", function()
    local out, code = run("--busted", file("a_spec.lua", PASSES), file("b_spec.lua", PASSES))
    assert.matches("a_spec %([^)]+%): 2 passed %(%d+ s%)\n", out)
    assert.matches("\n4 passed, 0 failed\n$", out)
    assert.are.equal(0, code)
  end)

  it("names what failed, and shows its output", function()
    local out, code = run("--busted", file("a_spec.lua", PASSES), file("b_spec.lua", FAILS))
    assert.matches("b_spec %([^)]+%): 1 passed, 1 failed, exit code 1; all of it in build/spec/log/", out)
    assert.matches("\nnot passed: Error %-> [^\n]*b_spec.lua @ 1 | b does not |[^\n]*broken", out)
    assert.matches("\n3 passed, 1 failed\n$", out)
    assert.are_not.equal(0, code)
    os.remove(out:match "all of it in (%S+)")
  end)

  it("takes a file that ends in its midst, or is killed, for a failure, and goes on with the others", function()
    for _, how in ipairs { "os.exit(0)", "os.execute('kill -9 $PPID')" } do
      local out, code = run("--busted", file("a_spec.lua", PASSES), file("b_spec.lua", PASSES),
        file("c_spec.lua", ("describe('c', function() it('ends', function() %s end) end)"):format(how)))
      assert.matches("c_spec %([^)]+%): 0 passed, without a summary, 1 failed", out)
      assert.matches("\n4 passed, 1 failed\n$", out)
      assert.are_not.equal(0, code)
      os.remove(out:match "all of it in (%S+)")
    end
  end)

  it("takes a file that hangs for a failure when its time is over, and ends it", function()
    local told = folder .. "/pid"
    local hangs = file("h_spec.lua", WAITS:format(told))
    for _, others in ipairs { {}, { file("a_spec.lua", PASSES) } } do
      local out, pid
      -- In its time the one must have begun, and the other passed: a machine that stands still gets more.
      for _, seconds in ipairs { 2, 8, 32 } do
        os.remove(told)
        local p = start({ BUSTED_TIMEOUT = tostring(seconds) }, "--busted", hangs, (table.unpack or unpack)(others))
        assert.are_not.equal(0, p:wait(seconds + 60))
        out = p:output()
        for log in out:gmatch "all of it in (%S+)" do os.remove(log) end
        local f = io.open(told)
        pid = f and f:read "*l"
        if f then f:close() end
        if pid and out:find(("\n%d passed, 1 failed\n$"):format(#others * 2)) then break end
      end
      assert.matches("h_spec %([^)]+%): 0 passed, without a summary, 1 failed, exit code 124", out)
      assert.matches(("\n%d passed, 1 failed\n$"):format(#others * 2), out)
      assert.is_truthy(pid, out)
      wait.wait_until(function() return gone(pid) end, 30, "what the spec has started has ended")
    end
  end)

  it("runs a whole folder, and passes options on", function()
    file("a_spec.lua", PASSES)
    file("b_spec.lua", FAILS)
    file("other.lua", "error 'not a spec'")
    local out, code = run("--busted", folder, "--filter=holds")
    assert.matches("\n3 passed, 0 failed\n$", out)
    assert.are.equal(0, code)
  end)

  it("does not call it a success when nothing was run", function()
    local out, code = run("--busted", file("a_spec.lua", PASSES), "--filter=no.such")
    assert.matches("there was nothing to run\n0 passed, 1 failed\n$", out)
    assert.are_not.equal(0, code)
    local p = start({ JOBS = "many" }, "--busted", folder .. "/a_spec.lua")
    assert.are.equal(2, p:wait(20))
    assert.matches("JOBS=many: expected a number from 1\n$", p:output())
    out, code = run("--busted", folder .. "/c_spec.lua")
    assert.matches("there is no %S+/c_spec.lua\n$", out)
    assert.are.equal(2, code)
  end)

  it("ends what it has begun when it is interrupted", function()
    local told = folder .. "/pid"
    local p = start({}, "--busted", file("w_spec.lua", WAITS:format(told)), file("a_spec.lua", PASSES))
    local pid = wait.wait_until(function()
      local f = io.open(told)
      local text = f and f:read("*l")
      if f then f:close() end
      return text
    end, 30, "the spec waits")
    p:signal("INT")
    assert.are.equal(130, p:wait(20))
    wait.wait_until(function() return gone(pid) end, 30, "what the spec has started has ended")
  end)
end)
