-- examples/crm.lua, its SQLite file and a real broker.

local program = require "spec.support.program"
local services = require "spec.support.services"
local store = require "eventbus.store"

local s, path

before_each(function()
  s = services.new()
  path = program.folder() .. "/crm.db"
end)
after_each(function() s:stop() end)

local function customer(id)
  local db = assert(store.open(path))
  local row = db:row("SELECT * FROM customers WHERE id = ?", id)
  db:close()
  return row
end

describe("crm", function()
  it("adds up what it learns of a customer, also across a restart, each event once", function()
    local p = s:start("crm", { CRM_DB = path })
    s:publish "customer.created"
    s:publish "customer.tier.changed"
    s:publish "customer.segment.changed"
    local earned = s:publish "customer.points.earned"
    services.handled(p, s:publish("customer.points.earned", nil, { id = earned }))
    services.handled(p, earned)
    p:stop()
    p = s:start("crm", { CRM_DB = path })
    services.handled(p, s:publish "customer.points.redeemed")
    s:publish("customer.points.earned", nil, { id = earned })
    services.handled(p, s:publish "customer.updated")
    services.handled(p, s:publish "order.delivered")
    -- The owner's name for the same thing: the order counts once.
    services.handled(p, s:publish("order.completed", services.example "order.delivered", { exchange = "orders" }))
    assert.same({ id = "cust_123", name = "Olena Kovalenko", email = "olena@example.com", phone = "+380507654321",
      segment = "regular", tier = "gold", points = 50, orders = 1, spent = 1000 }, customer "cust_123")
    assert.matches("cust_123: Olena Kovalenko, gold, 50 points, 1 orders", p:output(), 1, true)
  end)

  it("lets the later change win, whichever comes first", function()
    local p = s:start("crm", { CRM_DB = path })
    local function change(phone, timestamp)
      services.handled(p, s:publish("customer.updated", { customer_id = "c1", changes = { phone = phone } },
        { timestamp = timestamp }))
    end
    change("second", "2024-01-15T12:00:00.5Z")
    change("first", "2024-01-15T13:59:59+02:00")
    assert.equal("second", customer("c1").phone)
    change("third", "2024-01-15T12:00:00.501Z")
    assert.equal("third", customer("c1").phone)
    services.handled(p, s:publish("customer.created", { customer_id = "c1", name = "N", phone = "at the beginning" },
      { timestamp = "2024-01-01T00:00:00Z" }))
    assert.same({ "N", "third" }, { customer("c1").name, customer("c1").phone })
  end)

  it("counts once what it was killed over between the effect and the acknowledgement", function()
    local killed = s:spawn("spec/support/killed_service.lua", { SERVICE_FILE = "examples/crm.lua", CRM_DB = path })
    services.says(killed, " is ready")
    local id = s:publish "customer.points.earned"
    assert.equal(137, killed:wait(20))
    local p = s:start("crm", { CRM_DB = path })
    services.handled(p, id)
    assert.equal(100, customer("cust_123").points)
  end)

  it("has nothing to keep of an order without a customer", function()
    local p = s:start("crm", { CRM_DB = path })
    services.handled(p, s:publish("order.delivered", { order_id = "o1" }))
  end)
end)
