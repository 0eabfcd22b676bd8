-- The CRM: what is known of each customer, added up from events.
--
--   CRM_FILE=customers.jsonl eventbus run examples/crm.lua
--
-- CRM_FILE  one line per event; read again at the start

local journal = require "eventbus.journal"

local customers = {}

local function customer(id)
  local found = customers[id] or { points = 0, orders = 0, spent = 0 }
  customers[id] = found
  return found
end

-- How each event changes a customer. Events may arrive in any order: nothing here needs another to have come before.
local changes = {
  ["customer.created"] = function(c, data) c.name, c.email, c.phone = data.name, data.email, data.phone end,
  ["customer.updated"] = function(c, data)
    for name, value in pairs(data.changes) do c[name] = value end
  end,
  ["customer.segment.changed"] = function(c, data) c.segment = data.new_segment end,
  ["customer.tier.changed"] = function(c, data) c.tier = data.new_tier end,
  ["customer.points.earned"] = function(c, data) c.points = c.points + data.points end,
  ["customer.points.redeemed"] = function(c, data) c.points = c.points - data.points end,
  ["order.delivered"] = function(c, data) c.orders, c.spent = c.orders + 1, c.spent + (data.total or 0) end,
}
changes["order.completed"] = changes["order.delivered"]

local function apply(record)
  changes[record.type](customer(record.data.customer_id), record.data)
end

local file = assert(journal.open(os.getenv "CRM_FILE", apply))

local function keep(event)
  -- An order whose customer is not named tells the CRM nothing.
  if file:has(event.id) or not event.data.customer_id then return end
  local record = { type = event.type, data = event.data }
  apply(record)
  file:add(event.id, record)
  local id = event.data.customer_id
  local c = customers[id]
  print(("  %s: %s, %s, %d points, %d orders"):format(id, c.name or "?", c.tier or c.segment or "new", c.points, c.orders))
end

local handlers = {}
for type in pairs(changes) do handlers[type] = keep end

local service = { name = "crm", queues = { "crm.orders", "crm.customers" }, handlers = handlers }

return service
