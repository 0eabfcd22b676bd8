--- The events of the platform: all 29 of the owner's tables, in their order.
-- Each names its exchange, routing key and payload, with an example of it. `also` lists what other texts call the event.
-- A field is { name, type, fields-of-it }; "?" after the type: may be absent; "a|b": either.
-- Where a table says "order object" or "payment details", the fields follow its examples.

local catalogue = {}

local function event(exchange, type, name, fields, example, also)
  catalogue[#catalogue + 1] = {
    type = type, name = name, exchange = exchange, routing_key = type, fields = fields, example = example, also = also,
  }
end

local ITEM = { { "product_id", "string" }, { "sku", "string" }, { "quantity", "integer" }, { "price", "number" } }
local ORDER_ID, PAYMENT_ID = { "order_id", "string" }, { "payment_id", "string" }
local CUSTOMER_ID, PRODUCT_ID = { "customer_id", "string" }, { "product_id", "string" }
local SKU, CURRENCY = { "sku", "string" }, { "currency", "string?" }

-- Orders

event("orders", "order.created", "Order Created", {
  ORDER_ID, { "order_number", "string" }, CUSTOMER_ID, { "items", "array", ITEM }, { "total", "number" },
  { "currency", "string" }, { "status", "string" },
}, {
  order_id = "order_xyz", order_number = "ORD-2024-001", customer_id = "cust_123",
  items = { { product_id = "prod_456", sku = "SKU001", quantity = 2, price = 500.00 } },
  total = 1000.00, currency = "UAH", status = "pending",
})

event("orders", "order.confirmed", "Order Confirmed", { ORDER_ID, { "status", "string" },
  { "items", "array?", { { "sku", "string" }, { "quantity", "integer" } } } },
  { order_id = "order_xyz", status = "confirmed", items = { { sku = "SKU001", quantity = 2 } } })

event("orders", "order.paid", "Order Paid", { ORDER_ID,
  { "payment", "object", { PAYMENT_ID, { "amount", "number" }, CURRENCY, { "method", "string?" } } } },
  { order_id = "order_xyz", payment = { payment_id = "pay_789", amount = 1000.00, currency = "UAH", method = "card" } })

event("orders", "order.processing", "Order Processing", { ORDER_ID }, { order_id = "order_xyz" })

event("orders", "order.shipped", "Order Shipped", { ORDER_ID,
  { "tracking", "object|string", { { "carrier", "string?" }, { "number", "string" } } } },
  { order_id = "order_xyz", tracking = { carrier = "Nova Poshta", number = "20450000000001" } })

event("orders", "order.delivered", "Order Delivered", { ORDER_ID, { "customer_id", "string?" }, { "total", "number?" } },
  { order_id = "order_xyz", customer_id = "cust_123", total = 1000.00 }, { "order.completed" })

event("orders", "order.cancelled", "Order Cancelled", { ORDER_ID, { "reason", "string" } },
  { order_id = "order_xyz", reason = "customer changed their mind" })

event("orders", "order.refunded", "Order Refunded", { ORDER_ID, { "amount", "number" }, CURRENCY },
  { order_id = "order_xyz", amount = 1000.00, currency = "UAH" })

-- Products

event("products", "product.created", "Product Created", {
  PRODUCT_ID, SKU, { "name", "string" }, { "price", "number" }, CURRENCY, { "quantity", "integer?" },
}, { product_id = "prod_456", sku = "SKU001", name = "Clay teapot", price = 500.00, currency = "UAH", quantity = 10 })

event("products", "product.updated", "Product Updated", { PRODUCT_ID, { "changes", "object" } },
  { product_id = "prod_456", changes = { name = "Clay teapot, 0.8 l" } })

event("products", "product.deleted", "Product Deleted", { PRODUCT_ID }, { product_id = "prod_456" })

event("products", "product.stock.updated", "Stock Updated", { SKU, { "quantity", "integer" } },
  { sku = "SKU001", quantity = 8 }, { "inventory.updated", "product.stock" })

event("products", "product.stock.low", "Low Stock", { SKU, { "quantity", "integer" } },
  { sku = "SKU001", quantity = 2 }, { "inventory.low" })

event("products", "product.stock.out", "Out of Stock", { SKU }, { sku = "SKU001" }, { "inventory.out" })

event("products", "product.price.changed", "Price Changed", { SKU, { "old_price", "number" }, { "new_price", "number" } },
  { sku = "SKU001", old_price = 500.00, new_price = 450.00 })

-- Customers

event("customers", "customer.created", "Customer Created", {
  CUSTOMER_ID, { "name", "string" }, { "email", "string?" }, { "phone", "string?" },
}, { customer_id = "cust_123", name = "Olena Kovalenko", email = "olena@example.com", phone = "+380501234567" })

event("customers", "customer.updated", "Customer Updated", { CUSTOMER_ID, { "changes", "object" } },
  { customer_id = "cust_123", changes = { phone = "+380507654321" } })

event("customers", "customer.segment.changed", "Segment Changed",
  { CUSTOMER_ID, { "old_segment", "string?" }, { "new_segment", "string" } },
  { customer_id = "cust_123", old_segment = "new", new_segment = "regular" }, { "segment.changed" })

event("customers", "customer.tier.changed", "Tier Changed",
  { CUSTOMER_ID, { "old_tier", "string?" }, { "new_tier", "string" } },
  { customer_id = "cust_123", old_tier = "silver", new_tier = "gold" })

event("customers", "customer.points.earned", "Points Earned",
  { CUSTOMER_ID, { "points", "integer" }, { "source", "string" } },
  { customer_id = "cust_123", points = 100, source = "order_xyz" }, { "loyalty.earned" })

event("customers", "customer.points.redeemed", "Points Redeemed", { CUSTOMER_ID, { "points", "integer" } },
  { customer_id = "cust_123", points = 50 })

-- Payments

event("payments", "payment.initiated", "Payment Initiated", { PAYMENT_ID, { "amount", "number" }, CURRENCY,
  { "order_id", "string?" } }, { payment_id = "pay_789", amount = 1000.00, currency = "UAH", order_id = "order_xyz" })

event("payments", "payment.completed", "Payment Completed", { PAYMENT_ID, ORDER_ID },
  { payment_id = "pay_789", order_id = "order_xyz" })

event("payments", "payment.failed", "Payment Failed", { PAYMENT_ID, { "error", "string" } },
  { payment_id = "pay_789", error = "insufficient funds" })

event("payments", "payment.refund.completed", "Refund Completed", { PAYMENT_ID, { "amount", "number" }, CURRENCY },
  { payment_id = "pay_789", amount = 1000.00, currency = "UAH" })

-- Notifications

event("notifications", "notification.email", "Send Email",
  { { "template", "string" }, { "recipient", "string" }, { "data", "object" } },
  { template = "order_created", recipient = "olena@example.com", data = { order_number = "ORD-2024-001" } })

event("notifications", "notification.sms", "Send SMS", { { "phone", "string" }, { "message", "string" } },
  { phone = "+380501234567", message = "Your order ORD-2024-001 is on its way" })

event("notifications", "notification.push", "Send Push", { { "user_id", "string" }, { "message", "string" } },
  { user_id = "user_123", message = "Your order ORD-2024-001 is on its way" })

-- Chats have ids beyond 32 bits, channels have names; "@name" and -1001234567890 are both Telegram's.
event("notifications", "notification.telegram", "Send Telegram",
  { { "chat_id", "integer|string" }, { "message", "string" } },
  { chat_id = -1001234567890, message = "New order ORD-2024-001: 1000.00 UAH" })

return catalogue
