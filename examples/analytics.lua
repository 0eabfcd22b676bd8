-- Analytics: counts all events of the platform by day, tenant and type, and what was paid and paid back.
--
--   ANALYTICS_DB=analytics.db eventbus run examples/analytics.lua
--   sqlite3 -header -column analytics.db "SELECT * FROM revenue_by_day"
--
-- ANALYTICS_DB  a SQLite file; without it the numbers are in memory, and gone when the process ends
--
-- The id of an event and what it adds to the numbers are one transaction, on disk before the event is acknowledged: an event
-- that comes twice, or whose service was killed half way, counts once.

local store = require "eventbus.store"

-- Money is kept in hundredths: whole numbers add up exactly.
local SCHEMA = {
  [[CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, tenant TEXT NOT NULL, day TEXT NOT NULL) WITHOUT ROWID]],
  [[CREATE TABLE IF NOT EXISTS counts (
    day TEXT, tenant TEXT, type TEXT, events INTEGER NOT NULL, PRIMARY KEY (day, tenant, type)) WITHOUT ROWID]],
  -- One row per payment and refund, so that the same one told by two events is one.
  [[CREATE TABLE IF NOT EXISTS money (
    kind TEXT, of TEXT, tenant TEXT, day TEXT NOT NULL, currency TEXT NOT NULL, hundredths INTEGER NOT NULL,
    PRIMARY KEY (kind, of, tenant)) WITHOUT ROWID]],
  [[CREATE VIEW IF NOT EXISTS revenue_by_day AS
    SELECT day, tenant, currency,
      sum(CASE kind WHEN 'paid' THEN hundredths ELSE 0 END) / 100.0 AS paid,
      sum(CASE kind WHEN 'refunded' THEN hundredths ELSE 0 END) / 100.0 AS refunded,
      sum(CASE kind WHEN 'paid' THEN hundredths ELSE -hundredths END) / 100.0 AS revenue
    FROM money GROUP BY day, tenant, currency]],
}

local db

-- The day in UTC, whatever offset the event was written with. SQLite reads RFC 3339; what it cannot read is no day.
local DAY = "coalesce(date(?), 'unknown')"

local function keep_money(event, kind, of, amount, currency)
  if type(of) ~= "string" or type(amount) ~= "number" then return end
  db:execute("INSERT OR IGNORE INTO money VALUES (?, ?, ?, " .. DAY .. ", ?, ?)", kind, of, event.tenant_id or "-",
    event.timestamp, type(currency) == "string" and currency or "-", math.floor(amount * 100 + 0.5))
end

local money = {
  ["order.paid"] = function(event)
    local payment = event.data.payment
    if type(payment) ~= "table" then return end
    keep_money(event, "paid", payment.payment_id, payment.amount, payment.currency)
  end,
  -- A refund is told twice, of the order and of the payment; the payment's says that the money has gone.
  ["payment.refund.completed"] = function(event)
    keep_money(event, "refunded", event.data.payment_id, event.data.amount, event.data.currency)
  end,
}

local function count(event)
  db:transaction(function()
    local new = db:execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, " .. DAY .. ")", event.id, event.type,
      event.tenant_id or "-", event.timestamp)
    if new == 0 then return end
    db:execute("INSERT INTO counts VALUES (" .. DAY .. [[, ?, ?, 1)
      ON CONFLICT (day, tenant, type) DO UPDATE SET events = events + 1]],
      event.timestamp, event.tenant_id or "-", event.type)
    if money[event.type] and type(event.data) == "table" then money[event.type](event) end
  end)
end

local service = {
  name = "analytics",
  queue = "analytics.events",
  handlers = { ["#"] = count },
  options = { prefetch = 100 },
}

function service.start()
  local path = os.getenv "ANALYTICS_DB"
  if not path then print("  ANALYTICS_DB is not set: the numbers are gone when this process ends") end
  db = assert(store.open(path, SCHEMA))
end

function service.stop()
  for _, row in ipairs(db:query "SELECT tenant, type, sum(events) AS n FROM counts GROUP BY tenant, type") do
    print(("  %s  %s  %d"):format(row.tenant, row.type, row.n))
  end
  for _, row in ipairs(db:query "SELECT * FROM revenue_by_day") do
    print(("  %s  %s  %s  %.2f"):format(row.day, row.tenant, row.currency, row.revenue))
  end
  db:close()
end

return service
