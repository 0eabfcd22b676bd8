-- The CRM: what is known of each customer, put together from events.
--
--   CRM_DB=crm.db eventbus run examples/crm.lua
--   sqlite3 -header -column crm.db "SELECT * FROM customers"
--
-- CRM_DB  a SQLite file; without it all is in memory, and gone when the process ends
--
-- Events come in any order, and some twice. So a field belongs to whoever wrote it last by the event's own clock, not to who
-- arrived last; points are a sum, and an order counts once by its id. Event and change are one transaction.

local json = require "eventbus.json"
local store = require "eventbus.store"

local SCHEMA = {
  [[CREATE TABLE IF NOT EXISTS fields (
    customer TEXT, name TEXT, value TEXT, at TEXT NOT NULL, PRIMARY KEY (customer, name)) WITHOUT ROWID]],
  "CREATE TABLE IF NOT EXISTS points (customer TEXT PRIMARY KEY, balance INTEGER NOT NULL) WITHOUT ROWID",
  [[CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, customer TEXT NOT NULL, hundredths INTEGER NOT NULL) WITHOUT ROWID]],
  "CREATE INDEX IF NOT EXISTS orders_by_customer ON orders (customer)",
  [[CREATE VIEW IF NOT EXISTS customers AS
    SELECT c.id,
      (SELECT value FROM fields WHERE customer = c.id AND name = 'name') AS name,
      (SELECT value FROM fields WHERE customer = c.id AND name = 'email') AS email,
      (SELECT value FROM fields WHERE customer = c.id AND name = 'phone') AS phone,
      (SELECT value FROM fields WHERE customer = c.id AND name = 'segment') AS segment,
      (SELECT value FROM fields WHERE customer = c.id AND name = 'tier') AS tier,
      coalesce((SELECT balance FROM points WHERE customer = c.id), 0) AS points,
      (SELECT count(*) FROM orders WHERE customer = c.id) AS orders,
      (SELECT coalesce(sum(hundredths), 0) FROM orders WHERE customer = c.id) / 100.0 AS spent
    FROM (SELECT customer AS id FROM fields UNION SELECT customer FROM points UNION SELECT customer FROM orders) AS c]],
}

local db

local function set(event, name, value)
  if value == nil or value == json.null then return end
  if type(value) == "table" then value = assert(json.encode(value, { sort_keys = true })) end
  db:execute([[INSERT INTO fields VALUES (?, ?, ?, coalesce(strftime('%Y-%m-%dT%H:%M:%f', ?), ''))
    ON CONFLICT (customer, name) DO UPDATE SET value = excluded.value, at = excluded.at WHERE excluded.at >= at]],
    event.data.customer_id, name, value, event.timestamp)
end

local function add_points(event, points)
  db:execute("INSERT INTO points VALUES (?, ?) ON CONFLICT (customer) DO UPDATE SET balance = balance + excluded.balance",
    event.data.customer_id, points)
end

local function completed(event)
  db:execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", event.data.order_id, event.data.customer_id,
    math.floor((tonumber(event.data.total) or 0) * 100 + 0.5))
end

local changes = {
  ["customer.created"] = function(event)
    for _, name in ipairs { "name", "email", "phone" } do set(event, name, event.data[name]) end
  end,
  ["customer.updated"] = function(event)
    for name, value in pairs(event.data.changes) do set(event, name, value) end
  end,
  ["customer.segment.changed"] = function(event) set(event, "segment", event.data.new_segment) end,
  ["customer.tier.changed"] = function(event) set(event, "tier", event.data.new_tier) end,
  ["customer.points.earned"] = function(event) add_points(event, event.data.points) end,
  ["customer.points.redeemed"] = function(event) add_points(event, -event.data.points) end,
  ["order.delivered"] = completed,
  ["order.completed"] = completed,
}

local function keep(event)
  local id = event.data.customer_id
  -- An order whose customer is not named tells the CRM nothing.
  if not id then return end
  local _, first = db:once(event.id, function() changes[event.type](event) end)
  if not first then return end
  local c = db:row("SELECT * FROM customers WHERE id = ?", id)
  print(("  %s: %s, %s, %d points, %d orders"):format(id, c and c.name or "?", c and (c.tier or c.segment) or "new",
    c and c.points or 0, c and c.orders or 0))
end

local handlers = {}
for type in pairs(changes) do handlers[type] = keep end

local service = { name = "crm", queues = { "crm.orders", "crm.customers" }, handlers = handlers }

function service.start()
  local path = os.getenv "CRM_DB"
  if not path then print("  CRM_DB is not set: what the CRM learns is gone when this process ends") end
  db = assert(store.open(path, SCHEMA))
end

function service.stop()
  db:close()
end

return service
