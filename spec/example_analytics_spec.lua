-- examples/analytics.lua, its SQLite file and a real broker.

local eventbus = require "eventbus"
local platform = require "eventbus.platform"
local program = require "spec.support.program"
local services = require "spec.support.services"
local store = require "eventbus.store"
local wait = require "spec.support.wait"

local s, path

before_each(function()
  s = services.new()
  path = program.folder() .. "/analytics.db"
end)
after_each(function() s:stop() end)

local function query(sql, ...)
  local db = assert(store.open(path))
  local rows = db:query(sql, ...)
  db:close()
  return rows
end

local function count()
  local ok, rows = pcall(query, "SELECT coalesce(sum(events), 0) AS n FROM counts")
  return ok and rows[1].n or 0
end

describe("analytics", function()
  it("counts all 29 events by day, tenant and type, each once however often it comes", function()
    local p = s:start("analytics", { ANALYTICS_DB = path })
    for _, event in ipairs(platform.catalogue) do s:publish(event.type) end
    local id = s:publish("order.created", nil, { tenant_id = "other", timestamp = "2024-01-15T23:30:00-05:00" })
    for _ = 1, 3 do s:publish("order.created", nil, { tenant_id = "other", id = id }) end
    wait(function() return count() == 30, count() end, 20, "30 events are counted")
    wait(function() return s.node:queue(s.vhost, "analytics.events").messages == 0 end, 20, "the queue is empty")
    assert.equal(30, count())
    assert.equal(29, #query("SELECT DISTINCT type FROM counts WHERE tenant = 'tenant_abc' AND events = 1"))
    assert.same({ { day = "2024-01-16", events = 1 } }, query("SELECT day, events FROM counts WHERE tenant = 'other'"))
    assert.equal(0, p:stop())
    assert.matches("other  order.created  1\n", p:output(), 1, true)
  end)

  it("adds up revenue by day, tenant and currency: exact, each payment and refund once", function()
    local p = s:start("analytics", { ANALYTICS_DB = path })
    local function pay(payment_id, amount, currency, timestamp)
      return s:publish("order.paid", { order_id = "o_" .. payment_id,
        payment = { payment_id = payment_id, amount = amount, currency = currency } }, { timestamp = timestamp })
    end
    for i = 1, 10 do pay("p" .. i, 0.1, "UAH", "2024-01-15T10:00:00Z") end
    pay("p1", 0.1, "UAH", "2024-01-15T10:00:01Z")       -- the same payment, told by another event
    pay("p11", 19.99, "EUR", "2024-01-15T10:00:00Z")
    pay("p12", 5, "UAH", "2024-01-16T01:00:00+02:00")   -- still the 15th in UTC
    pay("p13", 7, "UAH", "2024-01-16T10:00:00Z")
    s:publish("order.refunded", { order_id = "o_p12", amount = 5, currency = "UAH" })
    services.handled(p, s:publish("payment.refund.completed", { payment_id = "p12", amount = 5, currency = "UAH" },
      { timestamp = "2024-01-16T11:00:00Z" }))
    assert.same({
      { day = "2024-01-15", tenant = "tenant_abc", currency = "EUR", paid = 19.99, refunded = 0, revenue = 19.99 },
      { day = "2024-01-15", tenant = "tenant_abc", currency = "UAH", paid = 6, refunded = 0, revenue = 6 },
      { day = "2024-01-16", tenant = "tenant_abc", currency = "UAH", paid = 7, refunded = 5, revenue = 2 },
    }, query "SELECT * FROM revenue_by_day ORDER BY day, currency")
  end)

  it("counts once what it was killed over between the effect and the acknowledgement", function()
    local killed = s:spawn("spec/support/killed_service.lua", { SERVICE_FILE = "examples/analytics.lua",
      ANALYTICS_DB = path })
    services.says(killed, " is ready")
    local id = s:publish "order.paid"
    assert.equal(137, killed:wait(20))
    assert.equal(1, count())
    local p = s:start("analytics", { ANALYTICS_DB = path })
    services.handled(p, id)
    assert.equal(1, count())
    assert.equal(1000, query("SELECT revenue FROM revenue_by_day")[1].revenue)
  end)

  it("loses and repeats nothing of 400 events when it is killed three times in their midst", function()
    for i = 1, 400 do assert(s.bus:publish_async("orders", "order.processing", { order_id = "o" .. i })) end
    eventbus.assert(s.bus:flush(30))
    for round = 1, 3 do
      local p = s:spawn("analytics", { ANALYTICS_DB = path })
      wait(function() return count() >= round * 60, count() end, 120, "some are counted")
      p:signal "KILL"
      assert.equal(137, p:wait(20))
    end
    s:start("analytics", { ANALYTICS_DB = path })
    wait(function() return s.node:queue(s.vhost, "analytics.events").messages == 0, count() end, 120, "all are handled")
    assert.equal(400, count())
    assert.equal(400, query("SELECT count(*) AS n FROM events")[1].n)
  end)

  it("shares its file with other workers", function()
    for _ = 1, 2 do s:start("analytics", { ANALYTICS_DB = path }) end
    for i = 1, 100 do assert(s.bus:publish_async("orders", "order.processing", { order_id = "o" .. i })) end
    eventbus.assert(s.bus:flush(30))
    wait(function() return count() == 100, count() end, 120, "all are counted")
  end)

  it("keeps numbers in memory without a file, and says that they will be gone", function()
    local p = s:start "analytics"
    assert.matches("ANALYTICS_DB is not set: the numbers are gone when this process ends", p:output(), 1, true)
    services.handled(p, s:publish "order.created")
  end)
end)
