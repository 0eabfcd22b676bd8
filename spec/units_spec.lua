local units = require "eventbus.units"

describe("units.duration", function()
  it("takes seconds and text with units", function()
    for text, seconds in pairs {
      ["5s"] = 5, ["500ms"] = 0.5, ["1m30s"] = 90, ["2h"] = 7200, ["1.5s"] = 1.5, ["1d"] = 86400, ["5"] = 5, [" 3s "] = 3,
      ["250us"] = 0.00025, ["0s"] = 0,
    } do
      assert.are.equal(seconds, units.duration(text), text)
    end
    assert.are.equal(0.25, units.duration(0.25))
    -- 2^64 and more: the integers of Lua 5.3 and later wrapped around, to some hours.
    assert.are.equal(213503982334602 * 86400.0, units.duration("213503982334602d"))
    assert.are.equal(213503982334602 * 86400.0, units.duration("213503982334601d86400s"))
  end)

  it("names what it expects instead of guessing", function()
    for _, value in ipairs { "", "s", "5x", "-5s", "5s3", "five", "1e3s", ("9"):rep(400), ("9"):rep(400) .. "s", -1, 0 / 0,
      1 / 0, {}, true } do
      local seconds, expected = units.duration(value)
      assert.is_nil(seconds, tostring(value))
      assert.is_truthy(expected:find("5s", 1, true))
    end
  end)
end)

describe("units.milliseconds", function()
  it("never shortens, and is exact for what is whole", function()
    assert.are.equal(500, units.milliseconds(0.5))
    assert.are.equal(100, units.milliseconds(0.1))
    assert.are.equal(1, units.milliseconds(0.0005))
    assert.are.equal(5000, units.milliseconds(units.duration("5s")))
    assert.is_true(units.milliseconds(units.duration("9007199254740991s9007199254740991s")) > 1.8e19)
    if math.type then assert.are.equal("integer", math.type(units.milliseconds(2.5))) end
  end)
end)

describe("units.size", function()
  it("takes bytes and text with units", function()
    assert.are.equal(65536, units.size("64KiB"))
    assert.are.equal(16000000, units.size("16MB"))
    assert.are.equal(1024, units.size(1024))
    assert.are.equal(10, units.size("10"))
  end)

  it("refuses the rest", function()
    for _, value in ipairs { "64 parsecs", "", -1, "k", {}, "1e99" } do assert.is_nil((units.size(value))) end
  end)

  -- The integers of Lua 5.3 and later wrapped around, to 1 GiB.
  it("refuses what is too large by its unit only", function()
    assert.is_nil((units.size("17179869185GiB")))
    assert.is_nil((units.size("9900001072089662kib")))
  end)
end)

describe("units.show", function()
  it("is short", function()
    assert.are.equal("500ms", units.show(500))
    assert.are.equal("1.5s", units.show(1500))
    assert.are.equal("2m", units.show(120000))
    assert.are.equal("1h", units.show(3600000))
  end)
end)
