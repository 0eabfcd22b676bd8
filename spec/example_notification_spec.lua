-- examples/notification.lua against a real mail server, an HTTP gateway and a real broker.

local json = require "eventbus.json"
local program = require "spec.support.program"
local services = require "spec.support.services"
local store = require "eventbus.store"

local FROM = "Крамниця <shop@example.com>"
local OUTGOING = "deadletter.notification.outgoing"
local s, path

before_each(function()
  s = services.new()
  path = program.folder() .. "/notify.db"
end)
after_each(function() s:stop() end)

local function start(server, more)
  local environment = { SMTP_URL = server and server.url, MAIL_FROM = FROM, NOTIFY_DB = path }
  for key, value in pairs(more or {}) do environment[key] = value end
  return s:start("notification", environment)
end

local function read(mail)
  local unb64 = require("mime").unb64
  local head, body = mail.text:match("^(.-)\r\n\r\n(.*)$")
  local subject = (head:gsub("\r\n ", " ") .. "\r\n"):match("Subject: (.-)\r\n")
  subject = subject:gsub("%?= =%?", "?==?"):gsub("=%?UTF%-8%?B%?([%w+/=]-)%?=", unb64)
  if head:find("base64", 1, true) then body = unb64((body:gsub("\r\n", ""))) end
  return subject, body, head
end

local function email(template, data, recipient)
  return s:publish("notification.email", { template = template, recipient = recipient or "olena@example.com", data = data })
end

describe("notification", function()
  it("mails customers of their orders and payments, to the address it has learnt", function()
    local server = s:mail_server()
    local p = start(server)
    services.handled(p, s:publish "customer.created")
    services.handled(p, s:publish "order.created")
    services.handled(p, s:publish("payment.initiated", { payment_id = "pay_789", amount = 1000, order_id = "order_xyz" }))
    for _, type in ipairs { "order.confirmed", "order.paid", "order.shipped", "order.cancelled", "order.refunded",
      "payment.failed", "payment.refund.completed", "order.processing", "order.delivered" } do
      services.handled(p, s:publish(type))
    end
    local got = {}
    for i, mail in ipairs(server:mails()) do
      assert.equal("olena@example.com", mail.to)
      assert.equal("shop@example.com", mail.from)
      got[i] = select(2, read(mail))
    end
    assert.same({
      "Welcome, Olena Kovalenko!\r\n\r\nYour account is ready.",
      "Thank you for your order ORD-2024-001: 1000.00 UAH.",
      "Your order order_xyz is confirmed.",
      "We have received 1000.00 UAH for your order order_xyz.",
      "Your order order_xyz is on its way: Nova Poshta 20450000000001.",
      "Your order order_xyz is cancelled: customer changed their mind.",
      "1000.00 UAH for your order order_xyz are on their way back to you.",
      "Your payment pay_789 has failed: insufficient funds.",
      "Your refund of 1000.00 UAH has been paid out.",
      "Your order order_xyz has arrived. Enjoy it!",
    }, got)
  end)

  it("sends Cyrillic subjects and texts so that they read back right, with the event's id as Message-ID", function()
    local server = s:mail_server()
    local p = start(server)
    local name = "Олена «Їжачок» Коваленко з дуже довгим іменем, яке не вміщається в один рядок"
    local id = email("customer_created", { name = name })
    services.handled(p, id)
    local subject, body, head = read(server:mails()[1])
    assert.equal("Welcome, " .. name .. "!", subject)
    assert.equal("Welcome, " .. name .. "!\r\n\r\nYour account is ready.", body)
    assert.truthy(head:find("Message-ID: <" .. id .. "@example.com>", 1, true))
    assert.is_nil(head:find("[\128-\255]"))
  end)

  it("sends an event that comes again once, also after it was killed before the acknowledgement", function()
    local server = s:mail_server()
    local killed = s:spawn("spec/support/killed_service.lua", { SERVICE_FILE = "examples/notification.lua",
      SMTP_URL = server.url, MAIL_FROM = FROM, NOTIFY_DB = path })
    services.says(killed, " is ready")
    local id = email("order_created", { order_number = "1" })
    assert.equal(137, killed:wait(20))
    local p = start(server)
    services.handled(p, id)
    assert.equal(1, #server:mails())
    assert.equal("Your order 1", (read(server:mails()[1])))
  end)

  it("tries again after 450, a lost connection and a server that is down; dead-letters after the last attempt", function()
    local server = s:mail_server { { rcpt = "450 4.2.1 busy" }, { drop = "data" }, {}, { done = "451 4.3.0 disk full" } }
    local p = start(server)
    services.handled(p, email("order_created", { order_number = "1" }))
    assert.matches("the recipient: 450 4.2.1 busy", p:output(), 1, true)
    assert.matches("the mail: closed", p:output(), 1, true)
    assert.equal(1, #server:mails())
    email("order_created", { order_number = "2" })
    local _, headers = s:dead_letter(OUTGOING)
    assert.matches("451 4.3.0 disk full", headers["x-eventbus-error"], 1, true)
    assert.equal(3, headers["x-eventbus-attempt"])
    server:stop()
    email("order_created", { order_number = "3" })
    _, headers = s:dead_letter(OUTGOING)
    assert.matches("connection refused", headers["x-eventbus-error"])
  end)

  it("rejects at once what the server refuses for good", function()
    local server = s:mail_server { { rcpt = "550 5.1.1 no such user" } }
    start(server)
    email("order_created", { order_number = "1" })
    local _, headers = s:dead_letter(OUTGOING)
    assert.matches("the recipient: 550 5.1.1 no such user", headers["x-eventbus-error"], 1, true)
    assert.equal("rejected", headers["x-eventbus-reason"])
    assert.equal(1, server:connections())
  end)

  it("rejects a recipient that would smuggle a header, a field that is missing, an unknown template", function()
    local server = s:mail_server()
    local p = start(server)
    local cases = {
      { "order_created", { order_number = "1" }, "a@example.com\r\nBcc: evil@example.com", "is no e-mail address" },
      { "order_cancelled", { order_id = "o1" }, nil, "the template order_cancelled needs reason" },
      { "order_paid", { order_id = "o1", payment = {} }, nil, "the template order_paid needs payment.amount" },
      { "discount", {}, nil, "there is no template discount" },
    }
    for _, case in ipairs(cases) do
      email(case[1], case[2], case[3])
      local _, headers = s:dead_letter(OUTGOING)
      assert.matches(case[4], headers["x-eventbus-error"], 1, true)
      assert.equal("rejected", headers["x-eventbus-reason"])
    end
    assert.equal(0, server:connections())
    -- Nor does a field of the data get a header of its own.
    services.handled(p, email("customer_created", { name = "Eve\r\nBcc: evil@example.com" }))
    local subject, _, head = read(server:mails()[1])
    assert.equal("Welcome, Eve Bcc: evil@example.com!", subject)
    assert.is_nil(head:find("\nBcc", 1, true))
  end)

  it("waits, by retries, for the address of a customer it has not heard of yet", function()
    local server = s:mail_server()
    local p = start(server, { RABBITMQ_RETRY_COUNT = "500" })
    local id = s:publish "order.created"
    services.says(p, "no e-mail address is known for cust_123")
    s:publish "customer.created"
    services.handled(p, id)
    assert.equal(2, #server:mails())
  end)

  it("logs in over TLS, and never says its password", function()
    local folder = s.node.tls_dir
    local server = s:mail_server { tls = { certificate = folder .. "/server.pem", key = folder .. "/server.key" },
      auth = { user = "shop", password = "s3cret" } }
    local p = start(server, { SSL_CERT_FILE = folder .. "/ca.pem" })
    services.handled(p, email("order_created", { order_number = "1" }))
    assert.same({ true, "s3cret" }, { server:mails()[1].tls, server:mails()[1].password })
    server:stop()
    email("order_created", { order_number = "2" })
    s:dead_letter(OUTGOING)
    assert.is_nil(p:output():find("s3cret", 1, true))
  end)

  it("does not start with a sender or server that is none", function()
    local p = s:spawn("notification", { SMTP_URL = "smtp://localhost", MAIL_FROM = "nobody" })
    assert.equal(1, p:wait(20))
    assert.matches('the sender "nobody" is no e-mail address', p:output(), 1, true)
    p = s:spawn("notification", { SMTP_URL = "http://u:s3cret@localhost", MAIL_FROM = FROM })
    assert.equal(1, p:wait(20))
    assert.matches("must begin with smtp://", p:output(), 1, true)
    assert.is_nil(p:output():find("s3cret", 1, true))
  end)

  it("posts SMS and push to their gateways: waits when asked, retries 5xx, rejects what is refused", function()
    local sms = s:peer { { status = 429, headers = { ["Retry-After"] = "1" } }, { status = 503 }, {}, { status = 422 } }
    local push = s:peer()
    local p = start(nil, { SMS_URL = sms.url .. "/send", SMS_TOKEN = "t0ken", PUSH_URL = push.url })
    local id = s:publish "notification.sms"
    services.handled(p, id)
    local requests = sms:requests()
    assert.equal(3, #requests)
    assert.is_true(requests[2].at - requests[1].at >= 1)
    assert.same({ id = id, to = "+380501234567", text = "Your order ORD-2024-001 is on its way" },
      (json.decode(requests[3].body)))
    assert.equal(id, requests[3].headers["idempotency-key"])
    assert.equal("Bearer t0ken", requests[3].headers.authorization)
    s:publish("notification.sms", { message = "to whom?" })
    assert.equal("the recipient or the message is missing, or is no text",
      select(2, s:dead_letter(OUTGOING))["x-eventbus-error"])
    local refused = s:publish "notification.sms"
    local event, headers = s:dead_letter(OUTGOING)
    assert.equal(refused, event.id)
    assert.equal("the sms gateway answered 422", headers["x-eventbus-error"])
    services.handled(p, s:publish "notification.push")
    assert.equal("user_123", json.decode(push:requests()[1].body).to)
    assert.is_nil(p:output():find("t0ken", 1, true))
  end)

  it("prints and remembers what it would send when no server is named", function()
    local p = start()
    assert.matches("SMTP_URL is not set: mails are only printed", p:output(), 1, true)
    services.handled(p, s:publish "order.shipped")
    services.says(p, "email to the customer of order_xyz: Your order order_xyz is on its way: Nova Poshta 20450000000001.")
    local db = assert(store.open(path))
    assert.equal(1, #db:query "SELECT * FROM sent")
    db:close()
  end)
end)
