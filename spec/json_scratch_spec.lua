--- The scratch memory that eventbus.json keeps from call to call: never in two hands, and not larger than it must be.

local json = require "eventbus.json"
local garbage = require "spec.support.garbage"
local program = require "spec.support.program"

local function encoded(value, options)
  return assert(json.encode(value, options))
end

describe("json called from within itself", function()
  it("works in a finalizer that runs in the middle of a call", function()
    local runs, wrong = 0, 0
    local function work()
      runs = runs + 1
      local text = json.encode { runs, ("f"):rep(100), { a = "\\" } }
      local back = json.decode '{"a":["\\n","\\t\\u00e9"]}'
      if text ~= ("[%d,\"%s\",{\"a\":\"\\\\\"}]"):format(runs, ("f"):rep(100)) then wrong = wrong + 1 end
      if back.a[2] ~= "\té" then wrong = wrong + 1 end
    end
    local value = {}
    for i = 1, 200 do
      value[i] = { name = "line\n" .. i, list = { i, i + 1 } }
    end
    local want = encoded(value, { sort_keys = true })
    for _ = 1, 300 do
      for _ = 1, 20 do garbage(work) end
      assert(encoded(json.decode(want), { sort_keys = true }) == want)
    end
    collectgarbage()
    assert.equal(0, wrong)
    assert.is_true(runs > 1000)
  end)

  it("works in many coroutines", function()
    local threads = {}
    for i = 1, 50 do
      threads[i] = coroutine.wrap(function()
        for round = 1, 20 do
          local text = encoded { i, round }
          coroutine.yield()
          assert.are.same({ i, round }, json.decode(text))
        end
        return true
      end)
    end
    for _ = 1, 21 do
      for i = 1, 50 do threads[i]() end
    end
  end)

  it("works deep in coroutines with little stack", function()
    local function deep(n)
      if n == 0 then return encoded(json.decode(("["):rep(100) .. ("]"):rep(100))) end
      return (coroutine.wrap(deep)(n - 1))
    end
    assert.equal(("["):rep(100) .. ("]"):rep(100), deep(20))
  end)
end)

-- Kilobytes that the process holds; `kept` after a large text, `left` after as many small ones as let go of its buffer.
local LARGE_THEN_SMALL = [[
  local json = require "eventbus.json"
  local function resident()
    collectgarbage()
    collectgarbage()
    for line in io.lines "/proc/self/status" do
      local kb = line:match "^VmRSS:%s+(%d+)"
      if kb then return tonumber(kb) end
    end
  end
  assert(json.encode { ("x"):rep(3000000) })
  local kept = resident()
  for _ = 1, 16 do assert(json.encode { "x" }) end
  print(kept - resident())
]]

-- What a sanitizer keeps of freed memory is not ours.
describe("json's buffer #memory", function()
  it("is given back when a large text needed it and none after it", function()
    local child = program.start("json", { program.lua(), "-e", LARGE_THEN_SMALL })
    assert.are.equal(0, child:wait(60), child:output())
    assert.is_true(tonumber(child:output()) > 2000, child:output())
  end)
end)
