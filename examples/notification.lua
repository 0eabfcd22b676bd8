-- The notification service: tells customers about their orders and payments by e-mail, and sends the e-mails, SMS and push
-- messages that other services ask for.
--
--   SMTP_URL=smtp://user:password@mail.example:587 MAIL_FROM="Shop <shop@example.com>" NOTIFY_DB=notify.db \
--     eventbus run examples/notification.lua
--
-- SMTP_URL            smtp:// (STARTTLS) or smtps://, see eventbus.smtp; without it mails are only printed
-- MAIL_FROM           whom mails are from
-- SMS_URL, PUSH_URL   where to POST { id, to, text }; without it such messages are only printed
-- SMS_TOKEN, PUSH_TOKEN   sent along as `Authorization: Bearer ...`
-- NOTIFY_DB           a SQLite file of customers' addresses and of what was sent; without it both are in memory
--
-- Send first, then remember, then acknowledge: killed in between, the service sends a message again, with the same
-- Message-ID or Idempotency-Key, by which mail programs and gateways know it. The other way round it would lose one.

local eventbus = require "eventbus"
local http = require "eventbus.http"
local smtp = require "eventbus.smtp"
local store = require "eventbus.store"

-- {field}, {field.of.field}, {amount|money}. What is in [square brackets] is left out when one of its fields is missing;
-- a field that is missing elsewhere makes the event a dead letter: better no mail than one with holes.
local templates = {
  order_created = { "Your order {order_number}", "Thank you for your order {order_number}[: {total|money} {currency}]." },
  order_confirmed = { "Your order {order_id} is confirmed", "Your order {order_id} is confirmed." },
  order_paid = { "Payment received",
    "We have received {payment.amount|money}[ {payment.currency}] for your order {order_id}." },
  order_shipped = { "Your order {order_id} is on its way",
    "Your order {order_id} is on its way[: {tracking.carrier} {tracking.number}]." },
  order_delivered = { "Your order {order_id} has arrived", "Your order {order_id} has arrived. Enjoy it!" },
  order_cancelled = { "Your order {order_id} is cancelled", "Your order {order_id} is cancelled: {reason}." },
  order_refunded = { "A refund for your order {order_id}",
    "{amount|money}[ {currency}] for your order {order_id} are on their way back to you." },
  customer_created = { "Welcome, {name}!", "Welcome, {name}!\n\nYour account is ready." },
  payment_failed = { "Your payment has failed", "Your payment {payment_id} has failed: {error}." },
  payment_refund_completed = { "Your refund", "Your refund of {amount|money}[ {currency}] has been paid out." },
}

local SCHEMA = {
  "CREATE TABLE IF NOT EXISTS customers (id TEXT PRIMARY KEY, email TEXT NOT NULL) WITHOUT ROWID",
  "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL) WITHOUT ROWID",
  "CREATE TABLE IF NOT EXISTS payments (id TEXT PRIMARY KEY, order_id TEXT NOT NULL) WITHOUT ROWID",
  [[CREATE TABLE IF NOT EXISTS sent (
    event TEXT PRIMARY KEY, channel TEXT NOT NULL, recipient TEXT NOT NULL, subject TEXT, text TEXT NOT NULL,
    at TEXT NOT NULL) WITHOUT ROWID]],
}

local db, mails
local setting = os.getenv

local function field(data, path)
  local value = data
  for name in path:gmatch("[^.]+") do value = type(value) == "table" and value[name] or nil end
  return (type(value) == "string" or type(value) == "number") and value or nil
end

local function text_of(value, format)
  if format == "money" and tonumber(value) then return ("%.2f"):format(value) end
  if type(value) == "number" and value % 1 == 0 then return ("%.0f"):format(value) end
  return tostring(value)
end

-- The text with its fields filled in, and the first field that is missing.
local function fill(text, data)
  local missing
  text = text:gsub("{([%w_.]+)|?(%l*)}", function(path, format)
    local value = field(data, path)
    if value == nil then
      missing = missing or path
      return ""
    end
    return text_of(value, format)
  end)
  return text, missing
end

local function render(name, text, data)
  -- Brackets first: what fills a field may hold brackets itself.
  text = text:gsub("%[([^%]]*)%]", function(part)
    local _, missing = fill(part, data)
    return missing and "" or part
  end)
  local filled, missing = fill(text, data)
  if missing then eventbus.reject(("the template %s needs %s"):format(name, missing)) end
  return filled
end

-- By e-mail. Without a server a mail is only shown.
local function deliver_email(event, message)
  if not mails then return true end
  local ok, err, permanent = mails:send { from = setting "MAIL_FROM", to = message.to, subject = message.subject,
    text = message.text, id = event.id }
  if permanent then eventbus.reject(err) end
  return ok, err
end

-- By a gateway that takes HTTP.
local function deliver_over(url, token, event, message)
  if not url then return true end
  local headers = { ["idempotency-key"] = event.id, authorization = token and "Bearer " .. token }
  local answer, err = http.post(url, { id = event.id, to = message.to, text = message.text }, { headers = headers })
  if not answer then return nil, err end
  local status = answer.status
  if status < 300 then return true end
  local said = ("the %s gateway answered %d"):format(message.channel, status)
  if status == 429 then
    eventbus.retry { after = math.min(answer.retry_after or 1, 86400), counted = false, reason = said }
  end
  -- Out of order, or our access is wrong: the message is good, and is kept for when that is mended.
  if status >= 500 or status == 401 or status == 403 or status == 404 or status == 408 then return nil, said end
  eventbus.reject(said)
end

local deliver = {
  email = deliver_email,
  sms = function(...) return deliver_over(setting "SMS_URL", setting "SMS_TOKEN", ...) end,
  push = function(...) return deliver_over(setting "PUSH_URL", setting "PUSH_TOKEN", ...) end,
}

local function send(event, message)
  if type(message.to) ~= "string" or type(message.text) ~= "string" then
    eventbus.reject("the recipient or the message is missing, or is no text")
  end
  if db:row("SELECT 1 AS found FROM sent WHERE event = ?", event.id) then return end
  local ok, err = deliver[message.channel](event, message)
  if not ok then return nil, err end
  db:execute("INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))", event.id,
    message.channel, message.to, message.subject, message.text)
  print(("  %s to %s: %s"):format(message.channel, message.to, (message.text:gsub("%s+", " "))))
end

local function email(event, to, name, data)
  local template = templates[name]
  return send(event, { channel = "email", to = to, subject = render(name, template[1], data),
    text = render(name, template[2], data) })
end

-- Events say only whom they are of, and each something else; which belongs to which is learnt as it goes by.
local function learn(data)
  if data.customer_id and data.email then
    db:execute("INSERT OR REPLACE INTO customers VALUES (?, ?)", data.customer_id, data.email)
  end
  if data.order_id and data.customer_id then
    db:execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", data.order_id, data.customer_id)
  end
  local payment_id = data.payment_id or field(data, "payment.payment_id")
  if payment_id and data.order_id then
    db:execute("INSERT OR REPLACE INTO payments VALUES (?, ?)", payment_id, data.order_id)
  end
end

local function address_of(data)
  if data.email then return data.email end
  local row = db:row([[SELECT email FROM customers WHERE id = coalesce(?,
    (SELECT customer FROM orders WHERE id = coalesce(?, (SELECT order_id FROM payments WHERE id = ?))))]],
    data.customer_id, data.order_id, data.payment_id)
  return row and row.email
end

local function tell_customer(event)
  local data = event.data
  learn(data)
  local name = event.type:gsub("%.", "_")
  if not templates[name] then return end
  local to = address_of(data)
  if not to then
    local of = tostring(data.customer_id or data.order_id or data.payment_id)
    -- Perhaps it is still on its way in another queue; in the end the event is a dead letter, to be replayed.
    if mails then return nil, "no e-mail address is known for " .. of end
    to = "the customer of " .. of
  end
  return email(event, to, name, data)
end

local function send_email(event)
  local data = event.data
  if not templates[data.template] then eventbus.reject("there is no template " .. tostring(data.template)) end
  return email(event, data.recipient, data.template, data.data)
end

local service = {
  name = "notification",
  queues = { "notification.orders", "notification.customers", "notification.payments", "notification.outgoing" },
  handlers = {
    ["order.*"] = tell_customer,
    ["customer.created"] = tell_customer,
    ["payment.#"] = tell_customer,
    ["notification.email"] = send_email,
    ["notification.sms"] = function(event)
      return send(event, { channel = "sms", to = event.data.phone, text = event.data.message })
    end,
    ["notification.push"] = function(event)
      return send(event, { channel = "push", to = event.data.user_id, text = event.data.message })
    end,
  },
}

function service.start()
  local url = setting "SMTP_URL"
  if url then
    mails = assert(smtp.new(url))
    assert(smtp.message { from = setting "MAIL_FROM", to = "postmaster@localhost" })
  else
    print "  SMTP_URL is not set: mails are only printed"
  end
  if not setting "NOTIFY_DB" then print "  NOTIFY_DB is not set: what was sent is forgotten when this process ends" end
  db = assert(store.open(setting "NOTIFY_DB", SCHEMA))
end

function service.stop()
  db:close()
end

return service
