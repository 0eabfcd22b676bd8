-- The notification service: tells customers about their orders and payments, and sends what other services ask for.
--
--   NOTIFY_URL=https://mail.example/send eventbus run examples/notification.lua
--
-- NOTIFY_URL     where to POST { id, channel, to, text }
-- NOTIFY_OUTBOX  a file of what was sent, and the memory against sending twice

local eventbus = require "eventbus"
local http = require "eventbus.http"
local journal = require "eventbus.journal"

local url = os.getenv "NOTIFY_URL"
local outbox = assert(journal.open(os.getenv "NOTIFY_OUTBOX"))

local templates = {
  ["order.created"] = "Thank you for your order {order_number}: {total} {currency}.",
  ["order.confirmed"] = "Your order {order_id} is confirmed.",
  ["order.paid"] = "We have received {payment.amount} {payment.currency} for your order {order_id}.",
  ["order.shipped"] = "Your order {order_id} is on its way: {tracking.carrier} {tracking.number}.",
  ["order.delivered"] = "Your order {order_id} has arrived. Enjoy it!",
  ["order.cancelled"] = "Your order {order_id} is cancelled: {reason}.",
  ["order.refunded"] = "{amount} for your order {order_id} are on their way back to you.",
  ["customer.created"] = "Welcome, {name}!",
  ["payment.failed"] = "Your payment {payment_id} has failed: {error}.",
  ["payment.refund.completed"] = "Your refund of {amount} has been paid out.",
}

local function render(template, data)
  return (template:gsub("{([%w_.]+)}", function(path)
    local value = data
    for name in path:gmatch("[^.]+") do value = type(value) == "table" and value[name] or nil end
    -- An integral float prints as "1000", not "1000.0".
    return type(value) == "number" and ("%.14g"):format(value) or tostring(value or "")
  end))
end

local function send(event, channel, to, text)
  if outbox:has(event.id) then return end
  local message = { id = event.id, channel = channel, to = to, text = text }
  if url then
    local answer, err = http.post(url, message)
    if not answer then return nil, err end
    if answer.status >= 500 then return nil, ("the sender of %s answered %d"):format(channel, answer.status) end
    if answer.status >= 300 then eventbus.reject(("the sender of %s refuses: %d"):format(channel, answer.status)) end
  end
  outbox:add(event.id, message)
  print(("  %s to %s: %s"):format(channel, to, text))
end

local function tell_customer(event)
  local template = templates[event.type]
  if not template then return end
  local data = event.data
  return send(event, "email", data.email or data.customer_id or "customer of " .. tostring(data.order_id or data.payment_id),
    render(template, data))
end

local service = {
  name = "notification",
  queues = { "notification.orders", "notification.customers", "notification.payments", "notification.outgoing" },
  handlers = {
    ["order.*"] = tell_customer,
    ["customer.created"] = tell_customer,
    ["payment.#"] = tell_customer,
    ["notification.email"] = function(event)
      local data = event.data
      return send(event, "email", data.recipient, render(templates[data.template] or data.template, data.data))
    end,
    ["notification.sms"] = function(event) return send(event, "sms", event.data.phone, event.data.message) end,
    ["notification.push"] = function(event) return send(event, "push", event.data.user_id, event.data.message) end,
  },
}

return service
