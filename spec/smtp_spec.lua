-- eventbus.smtp against a real SMTP server.

local broker = require "spec.support.broker"
local program = require "spec.support.program"
local smtp = require "eventbus.smtp"
local smtp_peer = require "spec.support.smtp_peer"

local running = {}

local function start(told)
  local p = smtp_peer.start(told)
  running[#running + 1] = p
  return p
end

local function mail(fields)
  local m = { from = "Shop <shop@example.com>", to = "olena@example.com", subject = "Hello", text = "Hello.", id = "evt_1" }
  for name, value in pairs(fields or {}) do m[name] = value end
  return m
end

-- A mail's headers as a mail program reads them: unfolded, encoded words decoded; and its body decoded.
local function read(text)
  local unb64 = require("mime").unb64
  local head, body = text:match("^(.-)\r\n\r\n(.*)$")
  local headers, count = {}, {}
  for line in (head:gsub("\r\n ", " ") .. "\r\n"):gmatch("(.-)\r\n") do
    local name, value = line:match("^([%w-]+): (.*)$")
    assert(name, "a line that is no header: " .. line)
    value = value:gsub("%?= =%?", "?==?"):gsub("=%?UTF%-8%?B%?([%w+/=]-)%?=", unb64)
    headers[name:lower()] = value
    count[name:lower()] = (count[name:lower()] or 0) + 1
  end
  for name, n in pairs(count) do assert(n == 1, name .. " comes twice") end
  if headers["content-transfer-encoding"] == "base64" then body = unb64((body:gsub("\r\n", ""))) end
  return headers, body
end

after_each(function()
  for _, p in ipairs(running) do p:stop() end
  running = {}
end)

describe("smtp.message", function()
  it("encodes Cyrillic so that it reads back as it was, in lines and words of the allowed length", function()
    local subject = ("Ваше замовлення ORD-2024-001 вже в дорозі "):rep(4)
    local text = ("Доброго дня, Олено!\nДякуємо за замовлення.\n"):rep(20)
    local message = assert(smtp.message(mail { subject = subject, text = text, to = "Олена Коваленко <olena@example.com>" }))
    for line in (message.text .. "\r\n"):gmatch("(.-)\r\n") do
      assert.is_true(#line <= 78, line)
      assert.is_nil(line:find("[\128-\255\r\n]"))
    end
    for word in message.text:gmatch("=%?UTF%-8%?B%?(.-)%?=") do
      local decoded = require("mime").unb64(word)
      assert.is_nil(decoded:find("^[\128-\191]"), "a character is split between two words")
    end
    local headers, body = read(message.text)
    assert.equal(subject, headers.subject)
    assert.equal("Олена Коваленко <olena@example.com>", headers.to)
    assert.equal((text:gsub("\n+$", ""):gsub("\n", "\r\n")), body)
  end)

  it("refuses a recipient or sender that would smuggle a line, or is no address", function()
    for _, bad in ipairs {
      "a@b.c\r\nBcc: evil@example.com", "a@b.c\nDATA", "a@b.c>\r\nRCPT TO:<evil@example.com", "a b@c.d", "nobody", "", "<>",
      "a@b.c, d@e.f", "олена@example.com", "x <a@b.c> y", ("a"):rep(300) .. "@b.c",
    } do
      for _, field in ipairs { "to", "from" } do
        local message, err = smtp.message(mail { [field] = bad })
        assert.is_nil(message, bad)
        assert.matches("is no e%-mail address$", err)
        assert.is_nil(err:find("%c"))
      end
    end
    assert.equal("the sender is missing", select(2, smtp.message { to = "a@b.c" }))
  end)

  it("keeps a subject, a name and an id in one header each, whatever they hold", function()
    local message = assert(smtp.message(mail {
      subject = "Hi\r\nBcc: evil@example.com\r\n\r\nbody", id = "evt\r\nBcc: evil@example.com",
      to = 'Eve "x"\r\nBcc: evil@example.com <eve@example.com>',
    }))
    local headers = read(message.text)
    assert.is_nil(headers.bcc)
    assert.equal("Hi Bcc: evil@example.com body", headers.subject)
    assert.equal('"Eve x Bcc: evil@example.com" <eve@example.com>', headers.to)
    assert.equal("<evt__Bcc__evil_example.com@example.com>", headers["message-id"])
  end)
end)

describe("sender:send", function()
  it("delivers a mail as it was, dots at the beginning of lines included", function()
    local p = start()
    local text = ".\n..\n.hidden\nlast\n."
    assert(assert(smtp.new(p.url)):send(mail { text = text }))
    local got = p:mails()[1]
    assert.equal("shop@example.com", got.from)
    assert.equal("olena@example.com", got.to)
    local headers, body = read(got.text)
    assert.equal((text:gsub("\n", "\r\n")), body)
    assert.equal('"Shop" <shop@example.com>', headers.from)
    assert.equal("<evt_1@example.com>", headers["message-id"])
    assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d %+0000$", headers.date)
  end)

  it("tells what is refused for good from what may pass", function()
    local cases = {
      { { rcpt = "550 5.1.1 no such user" }, "the recipient: 550 5.1.1 no such user", true },
      { { rcpt = "450 4.2.1 try later" }, "the recipient: 450 4.2.1 try later", false },
      { { mail = "530 5.7.0 log in first" }, "the sender: 530 5.7.0 log in first", false },
      { { mail = "553 5.7.1 not you" }, "the sender: 553 5.7.1 not you", true },
      { { data = "451 4.3.0 disk full" }, "the mail: 451 4.3.0 disk full", false },
      { { done = "554-5.7.1 spam\r\n554 5.7.1 really" }, "the mail: 554-5.7.1 spam 554 5.7.1 really", true },
      -- These concern us, not the mail.
      { { greeting = "554 5.3.2 no service" }, "the connection: 554 5.3.2 no service", false },
      { { helo = "502 what" }, "the connection: 502 what", false },
      { { drop = "rcpt" }, "the recipient: closed", false },
      { { drop = "done" }, "the mail: closed", false },
    }
    local told = {}
    for i, case in ipairs(cases) do told[i] = case[1] end
    local p = start(told)
    local sender = assert(smtp.new(p.url))
    for _, case in ipairs(cases) do
      local ok, err, permanent = sender:send(mail())
      assert.is_nil(ok)
      assert.equal("127.0.0.1:" .. p.port .. ", " .. case[2], err)
      assert.equal(case[3], permanent, case[2])
    end
    assert.equal(0, #p:mails())
    assert.equal(#cases, p:connections())
  end)

  it("refuses a wrong address for good, without asking the server", function()
    local p = start()
    local ok, err, permanent = assert(smtp.new(p.url)):send(mail { to = "a@b.c\r\nBcc: evil@example.com" })
    assert.is_nil(ok)
    assert.matches("no e%-mail address", err)
    assert.is_true(permanent)
    assert.equal(0, p:connections())
  end)

  it("has sent a mail that was accepted, however the server parts", function()
    local p = start { { drop = "quit" } }
    assert(assert(smtp.new(p.url)):send(mail()))
    assert.equal(1, #p:mails())
  end)

  it("gives up after its timeout on a server that is silent, and on one that is not there", function()
    local p = start { { slow = 20 } }
    local ok, err, permanent = assert(smtp.new(p.url, { timeout = 0.5 })):send(mail())
    assert.is_nil(ok)
    assert.matches("the connection: timeout", err)
    assert.is_false(permanent)
    p:stop()
    ok, err, permanent = assert(smtp.new(p.url)):send(mail())
    assert.is_nil(ok)
    assert.matches("connection refused", err)
    assert.is_false(permanent)
  end)
end)

describe("smtp.new", function()
  it("takes a timeout as text, and raises at its caller for one that cannot be meant", function()
    local p = start { { slow = 20 } }
    local ok, err = assert(smtp.new(p.url, { timeout = "500ms" })):send(mail())
    assert.is_nil(ok)
    assert.matches("the connection: timeout", err)
    for _, given in ipairs { { timeout = "5x" }, { tiemout = 5 } } do
      local fine, message = pcall(function() local sender = smtp.new(p.url, given) return sender end)
      assert.is_false(fine)
      assert.matches("^[^:]*smtp_spec%.lua:%d+: smtp%.new: .*option", message)
    end
  end)
end)

describe("sender:send with TLS", function()
  local tls

  setup(function()
    assert(pcall(require, "ssl"), "lua-sec is missing; type: make deps")
    local folder = broker.shared().tls_dir
    tls = { certificate = folder .. "/server.pem", key = folder .. "/server.key", ca = folder .. "/ca.pem",
      other_ca = folder .. "/other-ca.pem" }
  end)

  -- What sending says, in a process of its own: trust comes from its environment.
  local function send(url, ca)
    local script = program.folder() .. "/send.lua"
    local file = assert(io.open(script, "wb"))
    file:write(([[
      local sender = assert(require("eventbus.smtp").new(%q))
      local ok, err, permanent = sender:send { from = "a@b.c", to = "d@e.f", subject = "s", text = "t" }
      print(ok and "sent" or err, permanent)
    ]]):format(url))
    file:close()
    local p = program.start("send", { program.lua(), script }, { SSL_CERT_FILE = ca or tls.ca })
    assert(p:wait(20))
    return p:output()
  end

  it("asks for TLS before the login, and logs in by what the server offers", function()
    for _, kinds in ipairs { "PLAIN", "LOGIN" } do
      local p = start { tls = tls, auth = { user = "me", password = "s3cret", kinds = kinds } }
      assert.matches("^sent", send(p.url))
      local got = p:mails()[1]
      assert.same({ true, "me", "s3cret" }, { got.tls, got.user, got.password })
    end
  end)

  it("speaks TLS from the first byte to smtps", function()
    local p = start { tls = { certificate = tls.certificate, key = tls.key, first = true } }
    assert.matches("^sent", send(p.url))
    assert.is_true(p:mails()[1].tls)
  end)

  it("sends no password without TLS, nor to a certificate it cannot trust", function()
    local bare = start { auth = { user = "me", password = "s3cret" } }
    local said = send(bare.url)
    assert.matches("it offers no STARTTLS", said)
    assert.is_nil(said:find("s3cret", 1, true))
    local strange = start { tls = tls, auth = { user = "me", password = "s3cret" } }
    assert.matches("certificate verify failed", send(strange.url, tls.other_ca))
    assert.equal(0, #bare:mails() + #strange:mails())
    assert.matches("^sent", send(bare.url .. "?tls=never"))
  end)

  it("tries again later when the login is refused: that is not the mail's fault", function()
    local p = start { tls = tls, auth = { user = "me", password = "s3cret" } }
    local said = send((p.url:gsub("s3cret", "wr0ng")))
    assert.matches("the login: 535 5.7.8 bad credentials%s+false", said)
    assert.is_nil(said:find("wr0ng", 1, true))
  end)
end)

describe("smtp.new", function()
  it("says what an URL should look like, and never repeats it", function()
    for _, url in ipairs { "http://u:s3cret@h", "smtp://", "smtp://u:s3cret@h:x", "smtp://u:s3cret@h?tls=perhaps", "s3cret",
      "smtp://s3cret@h" } do
      local sender, err = smtp.new(url)
      assert.is_nil(sender, url)
      assert.is_string(err)
      assert.is_nil(err:find("s3cret", 1, true))
    end
    assert.equal("mail.example:25", assert(smtp.new "smtp://mail.example").display)
    assert.equal("mail.example:465", assert(smtp.new "smtps://u:p%40@mail.example/").display)
    assert.equal("::1:587", assert(smtp.new "smtp://[::1]:587").display)
  end)
end)
