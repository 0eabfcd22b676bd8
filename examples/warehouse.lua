-- The warehouse: reserves stock for confirmed orders, says when it runs low, and notes what to buy.
--
--   WAREHOUSE_FILE=stock.jsonl eventbus run examples/warehouse.lua
--
-- WAREHOUSE_FILE  one line per event; read again at the start

local eventbus = require "eventbus"
local journal = require "eventbus.journal"

local LOW = 3
local stock, wanted = {}, {}

local apply = {
  reserved = function(record)
    for _, item in ipairs(record.items) do stock[item.sku] = (stock[item.sku] or 0) - item.quantity end
  end,
  counted = function(record)
    stock[record.sku] = record.quantity
    if record.quantity > LOW then wanted[record.sku] = nil end
  end,
  wanted = function(record) wanted[record.sku] = true end,
}

local file = assert(journal.open(os.getenv "WAREHOUSE_FILE", function(record) apply[record.what](record) end))

local function keep(event, record)
  apply[record.what](record)
  return file:add(event.id, record)
end

local function reserve(event, ctx)
  if file:has(event.id) then return end
  local items = event.data.items or {}
  -- All or nothing: an order is not reserved in part.
  for _, item in ipairs(items) do
    local left = stock[item.sku] or 0
    if left < item.quantity then return nil, ("only %d of %s left"):format(left, item.sku) end
  end
  for _, item in ipairs(items) do
    local left = stock[item.sku] - item.quantity
    if left == 0 then
      eventbus.assert(ctx:publish("products", "product.stock.out", { sku = item.sku }))
    elseif left <= LOW then
      eventbus.assert(ctx:publish("products", "product.stock.low", { sku = item.sku, quantity = left }))
    end
    print(("  reserved %d of %s, %d left"):format(item.quantity, item.sku, left))
  end
  keep(event, { what = "reserved", items = items })
end

local function buy(event)
  local sku = event.data.sku
  if file:has(event.id) or wanted[sku] then return end
  keep(event, { what = "wanted", sku = sku })
  print("  to buy: " .. sku)
end

local function count(event)
  if file:has(event.id) then return end
  keep(event, { what = "counted", sku = event.data.sku, quantity = event.data.quantity })
  print(("  %d of %s in stock"):format(event.data.quantity, event.data.sku))
end

local service = {
  name = "warehouse",
  queues = { "warehouse.orders", "warehouse.stock" },
  handlers = {
    ["order.confirmed"] = reserve,
    ["product.stock.updated"] = count, ["inventory.updated"] = count,
    ["product.stock.low"] = buy, ["inventory.low"] = buy,
    ["product.stock.out"] = buy, ["inventory.out"] = buy,
  },
}

return service
