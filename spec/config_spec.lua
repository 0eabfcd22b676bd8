local config = require "eventbus.config"

local function env(values)
  return function(name) return values[name] end
end

describe("config.resolve", function()
  it("has the platform's defaults", function()
    local c = config.resolve({}, env {})
    assert.are.equal("amqp://guest:guest@localhost:5672", c.url)
    assert.are.equal(10, c.prefetch)
    assert.are.same({ count = 3, delay = 5 }, c.retry)
    assert.are.equal(86400000, c.dlq_ttl)
    assert.are.equal(c.url, c.core.url)
  end)

  it("prefers the environment to defaults, and options to both", function()
    local set = env { RABBITMQ_URL = "amqp://other", RABBITMQ_PREFETCH = "25", RABBITMQ_RETRY_COUNT = "7",
      RABBITMQ_RETRY_DELAY = "500ms", RABBITMQ_DLQ_TTL = "1000" }
    local c = config.resolve({}, set)
    assert.are.equal("amqp://other", c.url)
    assert.are.equal(25, c.prefetch)
    assert.are.same({ count = 7, delay = 0.5 }, c.retry)
    assert.are.equal(1000, c.dlq_ttl)
    c = config.resolve({ url = "amqp://mine", prefetch = 1, retry = { count = 2 }, dlq_ttl = 60 }, set)
    assert.are.equal("amqp://mine", c.url)
    assert.are.equal(1, c.prefetch)
    assert.are.same({ count = 2, delay = 0.5 }, c.retry)
    assert.are.equal(60000, c.dlq_ttl)
  end)

  it("takes false for no retries and for dead letters that stay", function()
    local c = config.resolve({ retry = false, dlq_ttl = false }, env {})
    assert.is_false(c.retry)
    assert.are.equal(0, c.dlq_ttl)
  end)

  it("names a wrong variable", function()
    for name, value in pairs { RABBITMQ_PREFETCH = "many", RABBITMQ_RETRY_COUNT = "-1", RABBITMQ_RETRY_DELAY = "5 parsecs",
      RABBITMQ_DLQ_TTL = "1.5" } do
      local c, message = config.resolve({}, env { [name] = value })
      assert.is_nil(c)
      assert.is_truthy(message:find(name, 1, true))
      assert.is_truthy(message:find(value, 1, true))
    end
  end)

  it("takes an empty variable for an unset one", function()
    assert.are.equal(10, config.resolve({}, env { RABBITMQ_PREFETCH = "" }).prefetch)
  end)
end)
