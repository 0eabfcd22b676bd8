-- The order management system: publishes an order's whole life, each event confirmed by the broker before the next.
--
--   lua5.4 examples/oms.lua [ORDER_ID [TENANT_ID]]
--
-- OMS_CHAT   the Telegram chat of the shop's staff
-- OMS_PAUSE  seconds between two events, for people who watch

local eventbus = require "eventbus"
local platform = require "eventbus.platform"

local order_id, tenant_id = arg and arg[1] or "order_xyz", arg and arg[2] or "tenant_abc"
local chat = os.getenv "OMS_CHAT" or "-1001234567890"

local bus = eventbus.assert(eventbus.connect { source = "oms-service" })
eventbus.assert(bus:declare(platform.topology))

-- One request of one customer: all its events carry the same correlation id.
local shop = bus:with { tenant_id = tenant_id, correlation_id = "req_" .. order_id }

local function pause(seconds)
  if seconds then require("socket").sleep(seconds) end
end

local function publish(type, data)
  local event = { type = type, data = data }
  local ok, problems = platform.validate(event)
  if not ok then error(problems[1].message) end
  local id = eventbus.assert(shop:publish(platform.exchange_of(type), type, data))
  print(("  %-24s %s"):format(type, id))
  io.stdout:flush()
  pause(tonumber(os.getenv "OMS_PAUSE"))
end

local customer_id, payment_id, sku = "cust_123", "pay_" .. order_id, "SKU001"
local items = { { product_id = "prod_456", sku = sku, quantity = 2, price = 500.00 } }

publish("customer.created", { customer_id = customer_id, name = "Olena Kovalenko", email = "olena@example.com" })
publish("product.created", { product_id = "prod_456", sku = sku, name = "Clay teapot", price = 500.00, currency = "UAH" })
publish("product.stock.updated", { sku = sku, quantity = 5 })

publish("order.created", {
  order_id = order_id, order_number = "ORD-2024-001", customer_id = customer_id, items = items,
  total = 1000.00, currency = "UAH", status = "pending",
})
publish("notification.telegram", {
  chat_id = tonumber(chat) or chat,
  message = "New order ORD-2024-001: 1000.00 UAH",
})
publish("payment.initiated", { payment_id = payment_id, amount = 1000.00, currency = "UAH", order_id = order_id })
publish("payment.completed", { payment_id = payment_id, order_id = order_id })
publish("order.paid", { order_id = order_id, payment = { payment_id = payment_id, amount = 1000.00, currency = "UAH" } })
publish("order.confirmed", { order_id = order_id, status = "confirmed", items = { { sku = sku, quantity = 2 } } })
-- The worker of examples/order_processing.lua takes it from here and says order.shipped, in its own time: between events
-- of two services there is no order, and no service of the platform needs one.
publish("order.processing", { order_id = order_id })
publish("order.delivered", { order_id = order_id, customer_id = customer_id, total = 1000.00 })
publish("customer.points.earned", { customer_id = customer_id, points = 100, source = order_id })
publish("customer.tier.changed", { customer_id = customer_id, old_tier = "silver", new_tier = "gold" })
publish("notification.sms", { phone = "+380501234567", message = "100 points for your order ORD-2024-001" })

bus:close()
