local timers = require "eventbus.timers"

describe("timers", function()
  it("wake what is due, soonest first, once", function()
    local t, said = timers.new(), {}
    local function object(name) return { due = function(_, now) said[#said + 1] = name .. now end } end
    t:add(3, object "c")
    t:add(1, object "a")
    t:add(2, object "b")
    assert.are.equal(1, t:next())
    t:run(2)
    assert.are.same({ "a2", "b2" }, said)
    t:run(2)
    assert.are.equal(2, #said)
    assert.are.equal(3, t:next())
  end)

  it("may be added to while they run", function()
    local t, count = timers.new(), 0
    local again = {}
    function again.due()
      count = count + 1
      if count < 3 then t:add(count, again) end
    end
    t:add(0, again)
    t:run(10)
    assert.are.equal(3, count)
    assert.is_nil(t:next())
  end)
end)
