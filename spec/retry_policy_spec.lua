local config = require "eventbus.config"
local retry = require "eventbus.retry"

local function policy(given, defaults) return assert(retry.policy(given, defaults)) end

describe("a retry policy", function()
  it("has fixed delays by default", function()
    local p = policy({ count = 3, delay = 5 })
    assert.are.same({ 5000 }, p:delays())
    assert.are.equal(5000, p:delay_after(1))
    assert.are.equal(5000, p:delay_after(3))
    assert.is_nil(p:delay_after(4))
  end)

  it("takes a list, whose last delay repeats", function()
    local p = policy { delays = { 1, 10 } }
    assert.are.equal(2, p.count)
    p = policy { delays = { 1, 10 }, count = 4 }
    assert.are.equal(1000, p:delay_after(1))
    assert.are.equal(10000, p:delay_after(4))
    assert.is_nil(p:delay_after(5))
  end)

  it("grows exponentially up to a limit", function()
    local p = policy { count = 5, delay = 1, backoff = "exponential", factor = 3, max_delay = 20 }
    assert.are.same({ 1000, 3000, 9000, 20000 }, p:delays())
    assert.are.equal(20000, p:delay_after(5))
  end)

  it("stays at no delay, exponential or not, whatever the attempt", function()
    local p = policy { count = 1000, delay = 0, backoff = "exponential", factor = 100 }
    assert.are.same({ 0 }, p:delays())
    assert.are.equal(0, p:delay_of(2 ^ 31 - 1))  -- a foreign header may claim it
  end)

  it("has jitter that only lengthens, from a small set", function()
    local p = policy { count = 2, delay = 3, jitter = 0.5 }
    assert.are.same({ 3000, 3500, 4000, 4500 }, p:delays())
    for step = 0, 3 do
      local ms = p:delay_after(1, function(low, high)
        assert.are.same({ 0, 3 }, { low, high })
        return step
      end)
      assert.are.equal(3000 + 500 * step, ms)
    end
  end)

  it("is none for false, and inherits the bus's", function()
    assert.are.equal(0, policy(false, { count = 3 }).count)
    assert.are.equal(0, policy(nil, false).count)
    assert.are.equal(7, policy({ delay = 1 }, { count = 7, delay = 5 }).count)
    assert.are.same({ 1000 }, policy({ delay = 1 }, { delays = { 2, 3 } }):delays())
    assert.are.equal(3, policy({ delay = 1 }, false).count)
  end)

  it("has as many retries as the bus's list of delays is long, unless a count is given", function()
    local of_bus = assert(config.resolve({ retry = { delays = { 1, 2, 3, 4, 5 } } }, function() end)).retry
    for _, given in ipairs { {}, { jitter = 0.5 }, { delay = 9 } } do
      assert.are.equal(5, policy(given, of_bus).count)
    end
    local p = policy(nil, of_bus)
    assert.are.equal(5, p.count)
    assert.are.equal(5000, p:delay_after(5))
    assert.are.equal(2, policy({ delays = { 7, 8 } }, of_bus).count)
    assert.are.equal(1, policy({ count = 1 }, of_bus).count)
    of_bus = assert(config.resolve({ retry = { delays = { 1, 2 }, count = 4 } }, function() end)).retry
    assert.are.equal(4, policy(nil, of_bus).count)
  end)

  it("refuses more delay queues than anyone can want", function()
    local p, why = retry.policy { count = 500, delay = 1, backoff = "exponential", factor = 1.01, jitter = 0.5 }
    assert.is_nil(p)
    assert.is_truthy(why:find("different delays", 1, true))
  end)
end)

describe("a delay a handler asks for", function()
  it("is rounded up to a step, from a bounded set", function()
    assert.are.equal(100, retry.step(0))
    assert.are.equal(100, retry.step(0.1))
    assert.are.equal(1000, retry.step(1))
    assert.are.equal(2000, retry.step(1.2))
    assert.are.equal(35000, retry.step(31))
    assert.are.equal(60000, retry.step(60))
    assert.are.equal(90000, retry.step(61))
    assert.are.equal(7200000, retry.step(3601))
    local known, count = {}, 0
    for seconds = 0, 28 * 86400, 7 do
      local ms = retry.step(seconds)
      assert.is_true(ms >= seconds * 1000)
      if not known[ms] then known[ms], count = true, count + 1 end
    end
    assert.is_true(count < 120, tostring(count))
  end)

  it("uses a queue of the policy that is near enough", function()
    local p = policy { delays = { 33, 600 } }
    assert.are.equal(33000, p:delay_near(31))
    assert.are.equal(40000, p:delay_near(36))
  end)
end)

describe("a delay queue", function()
  it("never expires and leads back through the default exchange", function()
    local step = retry.step_for("search.products", 5000)
    assert.are.equal("queue_declare", step.name)
    assert.are.equal("search.products.retry.5000", step.args.queue)
    assert.are.same({ ["x-message-ttl"] = 5000, ["x-dead-letter-exchange"] = "",
      ["x-dead-letter-routing-key"] = "search.products" }, step.args.arguments)
    assert.is_true(step.args.durable)
  end)

  it("is of its queue's kind", function()
    local step = retry.step_for("q", 5000, { type = "quorum" })
    assert.are.equal("quorum", step.args.arguments["x-queue-type"])
    assert.are.equal("at-least-once", step.args.arguments["x-dead-letter-strategy"])
    step = retry.step_for("q", 5000, { type = "classic", exclusive = true })
    assert.is_true(step.args.exclusive)
    assert.is_false(step.args.durable)
  end)
end)
