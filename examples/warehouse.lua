-- The warehouse: reserves stock for confirmed orders, says when it runs low, and notes what to buy.
--
--   WAREHOUSE_DB=warehouse.db eventbus run examples/warehouse.lua
--   sqlite3 -header -column warehouse.db "SELECT * FROM stock"
--
-- WAREHOUSE_DB  a SQLite file; without it the stock is in memory, and gone when the process ends
--
-- A reservation and the words to be said about it are one transaction; the words are published after it, and crossed out.
-- Killed in between, the event comes again, finds the order reserved, and says what is not crossed out: with the same ids,
-- so that who hears it twice can tell.

local eventbus = require "eventbus"
local json = require "eventbus.json"
local store = require "eventbus.store"

local LOW = 3

local SCHEMA = {
  [[CREATE TABLE IF NOT EXISTS stock (
    sku TEXT PRIMARY KEY, quantity INTEGER NOT NULL, counted_at TEXT NOT NULL) WITHOUT ROWID]],
  [[CREATE TABLE IF NOT EXISTS reserved (
    order_id TEXT, sku TEXT, quantity INTEGER NOT NULL, PRIMARY KEY (order_id, sku))]],
  "CREATE TABLE IF NOT EXISTS to_buy (sku TEXT PRIMARY KEY) WITHOUT ROWID",
  "CREATE TABLE IF NOT EXISTS to_say (id TEXT PRIMARY KEY, cause TEXT NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL)",
}

local db

local function on_shelf(sku)
  local row = db:row("SELECT quantity FROM stock WHERE sku = ?", sku)
  return row and row.quantity or 0
end

local function say_later(event, type, data)
  db:execute("INSERT INTO to_say VALUES (?, ?, ?, ?)", ("%s:%s:%s"):format(event.id, type, data.sku), event.id, type,
    assert(json.encode(data)))
end

local function take(event, sku, quantity)
  local left = on_shelf(sku) - quantity
  -- All or nothing: raising undoes what was taken before. Perhaps stock arrives before the last attempt.
  if left < 0 then error(("only %d of %s left"):format(left + quantity, sku), 0) end
  db:execute("UPDATE stock SET quantity = ? WHERE sku = ?", left, sku)
  db:execute("INSERT INTO reserved VALUES (?, ?, ?)", event.data.order_id, sku, quantity)
  if left == 0 then
    say_later(event, "product.stock.out", { sku = sku })
  elseif left <= LOW then
    say_later(event, "product.stock.low", { sku = sku, quantity = left })
  end
  return ("  reserved %d of %s, %d left"):format(quantity, sku, left)
end

-- An order may name a SKU in two lines.
local function totals(items)
  local list, at = {}, {}
  for _, item in ipairs(items) do
    if type(item.sku) ~= "string" or type(item.quantity) ~= "number" or item.quantity % 1 ~= 0 or item.quantity < 1 then
      eventbus.reject "an item has no SKU, or no whole quantity above 0"
    end
    if not at[item.sku] then
      list[#list + 1] = { sku = item.sku, quantity = 0 }
      at[item.sku] = list[#list]
    end
    at[item.sku].quantity = at[item.sku].quantity + item.quantity
  end
  return list
end

local function reserve(event, ctx)
  local items = totals(type(event.data.items) == "table" and event.data.items or {})
  local done = {}
  db:once(event.id, function()
    -- The same order confirmed by two events is one order.
    if db:row("SELECT 1 AS found FROM reserved WHERE order_id = ?", event.data.order_id) then return end
    for i, item in ipairs(items) do done[i] = take(event, item.sku, item.quantity) end
  end)
  for _, line in ipairs(done) do print(line) end
  for _, word in ipairs(db:query("SELECT * FROM to_say WHERE cause = ? ORDER BY id", event.id)) do
    eventbus.assert(ctx:publish("products", word.type, json.decode(word.data), { id = word.id }))
    db:execute("DELETE FROM to_say WHERE id = ?", word.id)
  end
end

local function count(event)
  local sku, quantity = event.data.sku, event.data.quantity
  db:once(event.id, function()
    -- A count that comes late does not undo a later one.
    local newer = db:execute([[INSERT INTO stock VALUES (?, ?, coalesce(strftime('%Y-%m-%dT%H:%M:%f', ?), ''))
      ON CONFLICT (sku) DO UPDATE SET quantity = excluded.quantity, counted_at = excluded.counted_at
      WHERE excluded.counted_at >= counted_at]], sku, quantity, event.timestamp)
    if newer == 0 then return end
    if quantity > LOW then db:execute("DELETE FROM to_buy WHERE sku = ?", sku) end
    print(("  %d of %s in stock"):format(quantity, sku))
  end)
end

local function buy(event)
  local sku = event.data.sku
  db:once(event.id, function()
    if db:execute("INSERT OR IGNORE INTO to_buy VALUES (?)", sku) > 0 then print("  to buy: " .. sku) end
  end)
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

function service.start()
  local path = os.getenv "WAREHOUSE_DB"
  if not path then print("  WAREHOUSE_DB is not set: the stock is gone when this process ends") end
  db = assert(store.open(path, SCHEMA))
end

function service.stop()
  db:close()
end

return service
