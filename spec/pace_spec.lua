local pace = require "eventbus.pace"

describe("a pace", function()
  it("is read as people write it", function()
    for text, rate in pairs { ["5/s"] = 5, ["120/m"] = 2, ["7200/h"] = 2, ["0.5/s"] = 0.5, ["5"] = 5, [" 5 / s "] = 5 } do
      assert.are.equal(rate, pace.rate(text))
    end
    for _, wrong in ipairs { "0/s", "-1/s", "x", "5/d", "", "/s", "5/s/s" } do
      local rate, expected = pace.rate(wrong)
      assert.is_nil(rate, wrong)
      assert.matches("a rate", expected, 1, true)
    end
  end)

  it("lets so many go a second, and no burst after a pause", function()
    local p, t, gone = pace.new(10), 100, 0
    while t < 105 do
      if p:next(t) <= t then
        p:step()
        gone = gone + 1
      else
        t = math.max(p:next(t), t + 0.001)
      end
    end
    assert.is_true(gone >= 49 and gone <= 52, tostring(gone))
    gone = 0
    while p:next(200) <= 200 do
      p:step()
      gone = gone + 1
    end
    assert.is_true(gone <= 2, tostring(gone))
  end)

  it("without a rate is no bound", function()
    assert.are.equal(5, pace.new():next(5))
  end)
end)
