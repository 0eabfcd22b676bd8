local outcome = require "eventbus.outcome"

local function raised(f, ...)
  local ok, value = pcall(f, ...)
  assert.is_false(ok)
  return value
end

describe("outcomes", function()
  it("are raised, and known again", function()
    local reject = raised(outcome.reject, "no customer")
    assert.is_true(outcome.is(reject))
    assert.are.equal("reject", reject.kind)
    assert.are.equal("no customer", reject.reason)
    assert.are.equal("ignore", raised(outcome.ignore).kind)
    assert.are.equal(30, raised(outcome.retry, { after = 30 }).after)
    assert.are.equal(0.5, raised(outcome.retry, "500ms").after)
    assert.is_nil(raised(outcome.retry).after)
    assert.is_false(raised(outcome.retry, { counted = false }).counted)
  end)

  it("are nothing else", function()
    for _, value in ipairs { {}, "reject", 1, true } do assert.is_false(outcome.is(value)) end
    assert.is_false(outcome.is(nil))
  end)

  it("take any reason", function()
    assert.are.equal("gone: no such order", raised(outcome.reject, { code = "gone", message = "no such order" }).reason)
  end)

  it("raise mistakes as such", function()
    local message = raised(outcome.retry, { afer = 1 })
    assert.is_false(outcome.is(message))
    assert.is_truthy(message:find('did you mean "after"', 1, true))
    assert.is_truthy(raised(outcome.retry, { after = "30 days" }):find("expected", 1, true))
    assert.is_truthy(raised(outcome.retry, { after = 29 * 86400 }):find("28 days", 1, true))
  end)
end)
