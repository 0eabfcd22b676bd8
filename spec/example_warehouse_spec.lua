-- examples/warehouse.lua, its SQLite file and a real broker.

local program = require "spec.support.program"
local services = require "spec.support.services"
local store = require "eventbus.store"
local wait = require "spec.support.wait"

local s, path

before_each(function()
  s = services.new()
  path = program.folder() .. "/warehouse.db"
end)
after_each(function() s:stop() end)

local function start()
  return s:start("warehouse", { WAREHOUSE_DB = path })
end

local function query(sql)
  local db = assert(store.open(path))
  local rows = db:query(sql)
  db:close()
  return rows
end

local function on_shelf(sku)
  for _, row in ipairs(query "SELECT * FROM stock") do
    if row.sku == sku then return row.quantity end
  end
end

local function order(id, items)
  return { order_id = id, status = "confirmed", items = items }
end

local function stock(p, sku, quantity, timestamp)
  services.handled(p, s:publish("product.stock.updated", { sku = sku, quantity = quantity }, { timestamp = timestamp }))
end

-- The events of a type that search got until now.
local function heard(type, list)
  list = list or {}
  local delivery = s.bus:get "search.products"
  while delivery do
    local event = delivery:event()
    delivery:ack()
    if event.type == type then list[#list + 1] = event end
    delivery = s.bus:get "search.products"
  end
  return list
end

describe("warehouse", function()
  it("reserves stock for an order once, says that it runs low, and notes what to buy", function()
    local p = start()
    stock(p, "SKU001", 5)
    local id = s:publish("order.confirmed",
      order("o1", { { sku = "SKU001", quantity = 1 }, { sku = "SKU001", quantity = 1 } }))
    services.handled(p, id)
    services.says(p, "to buy: SKU001")
    -- The same event again, and the same order in another event.
    s:publish("order.confirmed", order("o1", { { sku = "SKU001", quantity = 2 } }), { id = id })
    services.handled(p, s:publish("order.confirmed", order("o1", { { sku = "SKU001", quantity = 2 } })))
    assert.equal(3, on_shelf "SKU001")
    local low = heard "product.stock.low"
    assert.equal(1, #low)
    assert.same({ sku = "SKU001", quantity = 3 }, low[1].data)
    assert.equal("tenant_abc", low[1].tenant_id)
    services.handled(p, s:publish("order.confirmed", order("o2", { { sku = "SKU001", quantity = 3 } })))
    assert.equal(1, #heard "product.stock.out")
    -- The owner's name for the same.
    services.handled(p, s:publish("inventory.low", { sku = "SKU002", quantity = 1 }, { exchange = "products" }))
    assert.same({ { sku = "SKU001" }, { sku = "SKU002" } }, query "SELECT * FROM to_buy ORDER BY sku")
    stock(p, "SKU001", 50)
    assert.same({ { sku = "SKU002" } }, query "SELECT * FROM to_buy")
  end)

  it("reserves nothing of an order that cannot be met, tries again, then dead-letters it", function()
    local p = start()
    stock(p, "A", 5)
    local id = s:publish("order.confirmed", order("o1", { { sku = "A", quantity = 2 }, { sku = "B", quantity = 1 } }))
    local event, headers = s:dead_letter "deadletter.warehouse.orders"
    assert.equal(id, event.id)
    assert.equal("only 0 of B left", headers["x-eventbus-error"])
    assert.equal(3, headers["x-eventbus-attempt"])
    assert.equal(5, on_shelf "A")
    assert.same({}, query "SELECT * FROM reserved")
    assert.is_nil(p:output():find("reserved", 1, true))
  end)

  it("meets an order whose stock comes before its last attempt", function()
    local p = s:start("warehouse", { WAREHOUSE_DB = path, RABBITMQ_RETRY_COUNT = "500" })
    local id = s:publish("order.confirmed", order("o1", { { sku = "A", quantity = 2 } }))
    services.says(p, "only 0 of A left")
    stock(p, "A", 5)
    services.handled(p, id)
    assert.equal(3, on_shelf "A")
  end)

  it("does not let a late count undo a later one", function()
    local p = start()
    stock(p, "A", 7, "2024-01-15T12:00:00Z")
    stock(p, "A", 9, "2024-01-15T11:00:00Z")
    assert.equal(7, on_shelf "A")
  end)

  it("says what it was killed before it could say, with the same id", function()
    local p = start()
    stock(p, "A", 4)
    p:stop()
    heard "product.stock.low"
    -- Killed after the reservation and the publish, before the acknowledgement: the rest is for the next.
    local killed = s:spawn("spec/support/killed_service.lua", { SERVICE_FILE = "examples/warehouse.lua",
      WAREHOUSE_DB = path })
    services.says(killed, " is ready")
    local id = s:publish("order.confirmed", order("o1", { { sku = "A", quantity = 2 } }))
    assert.equal(137, killed:wait(20))
    -- As if it had been killed before it crossed out what it said.
    local db = assert(store.open(path))
    db:execute("INSERT INTO to_say VALUES (?, ?, 'product.stock.low', ?)", id .. ":product.stock.low:A", id,
      '{"sku":"A","quantity":2}')
    db:close()
    p = start()
    services.handled(p, id)
    assert.equal(2, on_shelf "A")
    local low = {}
    wait(function() return #heard("product.stock.low", low) >= 2 end, 20, "it is said twice")
    assert.equal(id .. ":product.stock.low:A", low[1].id)
    assert.equal(low[1].id, low[2].id)
    assert.same({}, query "SELECT * FROM to_say")
  end)

  it("rejects an order whose items are none", function()
    start()
    for _, items in ipairs { { { sku = "A" } }, { { sku = "A", quantity = -1 } }, { { quantity = 1 } } } do
      s:publish("order.confirmed", order("o1", items))
      local _, headers = s:dead_letter "deadletter.warehouse.orders"
      assert.equal("an item has no SKU, or no whole quantity above 0", headers["x-eventbus-error"])
    end
  end)
end)
