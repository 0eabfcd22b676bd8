-- The texts are RabbitMQ 3.10's own; bus_spec.lua gets them from a broker.
local mismatch = require "eventbus.mismatch"

local TEXTS = {
  { "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the " ..
    "value '60000' of type 'long'", "queue", "q", "x-message-ttl", "none", "60000" },
  { "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '5' of type " ..
    "'signedint' but current is none", "queue", "q", "x-message-ttl", "5", "none" },
  { "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'a queue' in vhost 'x': received 'false' but current is " ..
    "'true'",
    "queue", "a queue", "durable", "false", "true" },
  { "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'topic'",
    "exchange", "e", "type", "direct", "topic" },
}

describe("mismatch", function()
  it("takes the broker's words apart", function()
    for _, t in ipairs(TEXTS) do
      assert.are.same({ entity = t[2], name = t[3], argument = t[4], want = t[5], have = t[6] }, mismatch.parse(t[1]))
    end
    assert.is_nil(mismatch.parse("PRECONDITION_FAILED - something else"))
  end)

  it("says it for people and keeps the broker's words", function()
    local err = mismatch.explain { code = "precondition_failed", message = TEXTS[1][1] }
    assert.are.equal("x-message-ttl", err.argument)
    assert.are.equal("60000", err.have)
    assert.are.equal("none", err.want)
    assert.is_truthy(err.message:find(
      'queue "q" exists otherwise: x-message-ttl is 60000 on the broker, asked for was none', 1, true))
    assert.is_truthy(err.message:find(TEXTS[1][1], 1, true))
    local once = err.message
    assert.are.equal(once, mismatch.explain(err).message)
  end)

  it("leaves other errors alone", function()
    local err = { code = "not_found", message = "x" }
    assert.are.equal("x", mismatch.explain(err).message)
  end)
end)
