--- Retries through delay queues, against a real broker. The pure policy is in retry_policy_spec.lua.

local eventbus = require "eventbus"
local broker = require "spec.support.broker"

local core = eventbus.core

local function quiet() end

local shared, url, vhost, bus
local made = 0

setup(function()
  shared = broker.shared()
  url, vhost = shared:new_vhost()
  bus = eventbus.assert(eventbus.connect { url = url, source = "retry-spec", log = quiet })
end)
teardown(function() bus:close() end)

local function queue(settings)
  made = made + 1
  local name = "jobs." .. made
  eventbus.assert(bus:declare { queues = { [name] = settings or {} } })
  return name
end

local function publish(name, data)
  return eventbus.assert(bus:publish("", "job", data or {}, { routing_key = name, headers = { color = "red" } }))
end

local function pump(condition, what, seconds)
  local deadline = core.now() + (seconds or 20)
  while not condition() do
    if core.now() > deadline then error("waited in vain until " .. what, 2) end
    eventbus.assert(bus:poll(0.05))
  end
end

local function messages(name)
  local q = shared:queue(vhost, name)
  return q and q.messages
end

-- Acks are on their way while a confirm is, so not there at once.
local function empty(name)
  pump(function() return messages(name) == 0 end, name .. " is empty")
end

describe("retry", function()
  it("comes after the delays of the policy, then dead-letters with its history", function()
    local q, calls = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, function(event, ctx)
      calls[#calls + 1] = { at = core.now(), attempt = ctx.attempt, id = event.id, color = ctx.headers.color,
        key = ctx.routing_key, last = ctx.last_attempt }
      error("attempt " .. ctx.attempt, 0)
    end, { retry = { delays = { "200ms", "400ms" } } }))
    local id = publish(q)
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    assert.are.equal(3, #calls)
    for i, call in ipairs(calls) do
      assert.are.equal(i, call.attempt)
      assert.are.equal(id, call.id)
      assert.are.equal("red", call.color)
      assert.are.equal(q, call.key)
      assert.are.equal(i == 3, call.last)
    end
    assert.is_true(calls[2].at - calls[1].at >= 0.199)
    assert.is_true(calls[3].at - calls[2].at >= 0.399)
    local message = eventbus.assert(bus:get("deadletter." .. q))
    local headers = message:headers()
    assert.are.equal(3, headers["x-eventbus-attempt"])
    assert.are.equal("attempt 3", headers["x-eventbus-error"])
    assert.are.equal("failed", headers["x-eventbus-reason"])
    assert.is_nil(headers["x-death"])
    assert.is_true(headers["x-eventbus-first-failure"] < headers["x-eventbus-last-failure"])
    message:ack()
    assert.are.equal(2, sub:stats().retried)
    sub:cancel()
    for _, name in ipairs { q, q .. ".retry.200", q .. ".retry.400" } do empty(name) end
    local delay = shared:queue(vhost, q .. ".retry.200")
    assert.is_nil(delay.arguments["x-expires"])
    assert.are.equal("200", delay.arguments["x-message-ttl"])
    assert.is_true(delay.durable)
  end)

  it("succeeds when a later attempt does", function()
    local q, calls = queue(), 0
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      calls = calls + 1
      if ctx.attempt < 3 then return nil, "not yet" end
    end, { retry = { count = 5, delay = 0.05, backoff = "exponential", jitter = true } }))
    publish(q)
    pump(function() return sub:stats().handled == 1 end, "it is handled")
    assert.are.equal(3, calls)
    sub:cancel()
    empty(q)
    assert.are.equal(0, messages("deadletter." .. q))
  end)

  it("does not hold up the other events of the queue", function()
    local q, order = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, function(event, ctx)
      order[#order + 1] = event.data.n .. "/" .. ctx.attempt
      if event.data.n == 1 and ctx.attempt == 1 then error("later") end
    end, { prefetch = 1, retry = { count = 1, delay = "300ms" } }))
    for n = 1, 4 do publish(q, { n = n }) end
    pump(function() return #order == 5 end, "all are handled")
    assert.are.same({ "1/1", "2/1", "3/1", "4/1", "1/2" }, order)
    sub:cancel()
  end)

  it("with a delay of nothing comes again at once", function()
    local q, calls = queue(), 0
    local sub = eventbus.assert(bus:subscribe(q, function()
      calls = calls + 1
      error("x")
    end, { retry = { count = 2, delay = 0 } }))
    publish(q)
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    assert.are.equal(3, calls)
    assert.is_nil(messages(q .. ".retry.0"))
    sub:cancel()
  end)

  it("does not trust a client's nonsense in the attempt header", function()
    local q, attempt = queue(), nil
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx) attempt = ctx.attempt end))
    eventbus.assert(bus:publish("", "job", {}, { routing_key = q, headers = { ["x-eventbus-attempt"] = "many" } }))
    pump(function() return attempt end, "it is handled")
    assert.are.equal(1, attempt)
    sub:cancel()
  end)

  it("outlives the expiration of the event", function()
    local q, calls = queue(), 0
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      calls = calls + 1
      if ctx.attempt == 1 then error("x") end
    end, { retry = { count = 1, delay = "600ms" } }))
    local began = core.now()
    eventbus.assert(bus:publish("", "job", {}, { routing_key = q, expiration = "200ms" }))
    pump(function() return calls == 2 end, "it is handled again")
    assert.is_true(core.now() - began >= 0.6)
    sub:cancel()
  end)

  it("survives the deletion of a delay queue: it is declared again", function()
    local q, calls = queue(), 0
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      calls = calls + 1
      if ctx.attempt == 1 then error("x") end
    end, { retry = { count = 1, delay = "100ms" } }))
    shared:delete_queue(vhost, q .. ".retry.100")
    publish(q)
    pump(function() return calls == 2 end, "it is handled again", 15)
    sub:cancel()
  end)

  it("says when a delay queue exists otherwise", function()
    local q = queue()
    eventbus.assert(bus:declare { queues = { [q .. ".retry.700"] = { message_ttl = 5 } } })
    local sub, err = bus:subscribe(q, quiet, { retry = { count = 1, delay = 0.7 } })
    assert.is_nil(sub)
    assert.are.equal("precondition_failed", err.code)
    assert.are.same({ q .. ".retry.700", "x-message-ttl", "5", "700" }, { err.name, err.argument, err.have, err.want })
  end)

  it("works with quorum queues", function()
    local q, calls = queue { type = "quorum", delivery_limit = 20, dead_letter = false }, 0
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      calls = calls + 1
      if ctx.attempt == 1 then error("x") end
    end, { retry = { count = 1, delay = "100ms" } }))
    publish(q)
    pump(function() return calls == 2 end, "it is handled again", 20)
    assert.are.equal("quorum", shared:queue(vhost, q .. ".retry.100").type)
    sub:cancel()
  end)
end)

describe("retries and dead letters", function()
  it("lose nothing when the connections are cut again and again", function()
    local own_url, own_vhost = shared:new_vhost()
    local other = eventbus.assert(eventbus.connect { url = own_url, log = quiet, reconnect_delay = 0.05,
      reconnect_max = 0.2 })
    eventbus.assert(other:declare { queues = { cut = {} } })
    local ids, handled, count = {}, {}, 300
    for n = 1, count do
      ids[n] = eventbus.assert(other:publish_async("", "cut", { n = n })).id
    end
    eventbus.assert(other:flush())
    local calls, cuts = 0, 0
    local sub = eventbus.assert(other:subscribe("cut", function(event, ctx)
      calls = calls + 1
      -- A third succeeds at once, a third in the second attempt, a third never.
      if event.data.n % 3 == 0 or (event.data.n % 3 == 1 and ctx.attempt == 1) then error("as planned") end
      handled[event.id] = true
    end, { prefetch = 20, retry = { count = 1, delay = "100ms" } }))
    local deadline = core.now() + 180
    local function rest()
      local total = 0
      -- In the direction in which events go by themselves: one on its way is seen twice, never missed.
      for _, name in ipairs { "cut.retry.100", "cut" } do total = total + shared:queue(own_vhost, name).messages end
      return total
    end
    while core.now() < deadline do
      other:poll(0.05, 40)
      if calls > (cuts + 1) * 60 and cuts < 4 then
        shared:close_connections("cut", own_vhost)
        cuts = cuts + 1
      elseif calls >= count and rest() == 0 then
        break
      end
    end
    sub:cancel()
    local dead = {}
    while true do
      local message, err = other:get("deadletter.cut")
      assert.is_nil(err)
      if not message then break end
      dead[message:event().id] = true
      message:ack()
    end
    local lost = 0
    for n = 1, count do
      local where = n % 3 == 0 and dead or handled
      if not where[ids[n]] then lost = lost + 1 end
    end
    assert.are.equal(4, cuts)
    assert.are.equal(0, lost)
    other:close()
  end)
end)

describe("eventbus.retry", function()
  it("comes again after the time asked for, rounded up to a step", function()
    local q, times = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, function()
      times[#times + 1] = core.now()
      if #times == 1 then eventbus.retry { after = 0.25, reason = "busy" } end
    end, { retry = { count = 1, delay = 60 } }))
    publish(q)
    pump(function() return #times == 2 end, "it is handled again")
    assert.is_true(times[2] - times[1] >= 0.299)
    assert.are.equal("300", shared:queue(vhost, q .. ".retry.300").arguments["x-message-ttl"])
    sub:cancel()
  end)

  it("counts as an attempt", function()
    local q, attempts = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      attempts[#attempts + 1] = ctx.attempt
      eventbus.retry { after = "100ms", reason = "always busy" }
    end, { retry = { count = 2, delay = "100ms" } }))
    publish(q)
    pump(function() return sub:stats().dead_lettered == 1 end, "it is dead-lettered")
    assert.are.same({ 1, 2, 3 }, attempts)
    local message = eventbus.assert(bus:get("deadletter." .. q))
    assert.are.equal("always busy", message:header("x-eventbus-error"))
    message:ack()
    sub:cancel()
  end)

  it("with counted = false does not", function()
    local q, attempts = queue(), {}
    local sub = eventbus.assert(bus:subscribe(q, function(_, ctx)
      attempts[#attempts + 1] = ctx.attempt
      if #attempts <= 4 then eventbus.retry { after = "100ms", counted = false } end
    end, { retry = { count = 1, delay = "100ms" } }))
    publish(q)
    pump(function() return sub:stats().handled == 1 end, "it is handled")
    assert.are.same({ 1, 1, 1, 1, 1 }, attempts)
    sub:cancel()
  end)
end)
