-- examples/telegram_bot.lua against a server that answers as Telegram does, and a real broker.

local json = require "eventbus.json"
local program = require "spec.support.program"
local services = require "spec.support.services"
local wait = require "spec.support.wait"

local QUEUE, DEAD = "telegram.notifications", "deadletter.telegram.notifications"
local s

before_each(function() s = services.new() end)
after_each(function() s:stop() end)

local function message(chat_id, text)
  return { chat_id = chat_id, message = text or "Hello" }
end

describe("telegram_bot", function()
  it("posts the message to its chat, 64-bit ids to the last digit", function()
    local api = s:peer { { body = '{"ok":true}' } }
    local bot = s:start("telegram_bot", { TELEGRAM_API = api.url })
    -- What a Lua without 64-bit integers cannot hold comes as a text.
    local chat = json.decode("-1009007199254740993", { big = "string" })
    local id = s:publish("notification.telegram", message(chat, "Привіт \"світ\"\n"))
    services.handled(bot, id)
    s:publish("notification.telegram", message("@shop"))
    local requests = services.requests(api, 2)
    assert.equal("POST /bot1:secret/sendMessage", requests[1].method .. " " .. requests[1].path)
    local body = requests[1].body:gsub('"(%-%d+)"', "%1")
    assert.equal('{"chat_id":-1009007199254740993,"text":"Привіт \\"світ\\"\\n"}', body)
    assert.equal('{"chat_id":"@shop","text":"Hello"}', requests[2].body)
    wait(function() return s.node:queue(s.vhost, QUEUE).messages == 0 end, 20, "both are acknowledged")
  end)

  it("waits as long as a 429 says, asks no earlier for this chat, and counts no attempt", function()
    local api = s:peer { { status = 429, body = '{"ok":false,"parameters":{"retry_after":2}}' }, {} }
    local bot = s:start("telegram_bot", { TELEGRAM_API = api.url, RABBITMQ_RETRY_COUNT = "0" })
    local first = s:publish("notification.telegram", message(-1001, "first"))
    services.says(bot, "Telegram asks to wait 2 s")
    -- Another message to this chat is not tried meanwhile; one to another chat is.
    local second = s:publish("notification.telegram", message(-1001, "second"))
    local other = s:publish("notification.telegram", message(-1002, "other"))
    for _, id in ipairs { first, second, other } do services.handled(bot, id) end
    local at, count = {}, 0
    local requests = api:requests()
    for i, request in ipairs(requests) do
      local text = json.decode(request.body).text
      if i > 1 then at[text], count = request.at - requests[1].at, count + 1 end
    end
    assert.equal(3, count)
    assert.is_true(at.first >= 2 and at.second >= 2, ("%.3f, %.3f s"):format(at.first, at.second))
    assert.is_nil(bot:output():find("attempt 2", 1, true))
  end)

  it("rejects at once when the user has blocked the bot", function()
    local api = s:peer { { status = 403, body = '{"ok":false,"description":"Forbidden: bot was blocked by the user"}' } }
    s:start("telegram_bot", { TELEGRAM_API = api.url })
    local id = s:publish("notification.telegram")
    local event, headers = s:dead_letter(DEAD)
    assert.equal(id, event.id)
    assert.equal("rejected", headers["x-eventbus-reason"])
    assert.equal("Telegram: Forbidden: bot was blocked by the user", headers["x-eventbus-error"])
    assert.equal(1, #api:requests())
  end)

  it("follows a group that has become a supergroup, and remembers", function()
    local api = s:peer {
      { status = 400, body = '{"ok":false,"description":"Bad Request: group chat was upgraded to a supergroup chat",'
        .. '"parameters":{"migrate_to_chat_id":-1001234567890123}}' }, {},
    }
    local path = program.folder() .. "/sent.jsonl"
    local bot = s:start("telegram_bot", { TELEGRAM_API = api.url, TELEGRAM_JOURNAL = path })
    services.handled(bot, s:publish("notification.telegram", message(-100500)))
    bot:stop()
    bot = s:start("telegram_bot", { TELEGRAM_API = api.url, TELEGRAM_JOURNAL = path })
    services.handled(bot, s:publish("notification.telegram", message(-100500, "again")))
    local chats = {}
    for i, request in ipairs(api:requests()) do chats[i] = request.body:match('"chat_id":(%-%d+)') end
    assert.same({ "-100500", "-1001234567890123", "-1001234567890123" }, chats)
  end)

  it("tries again when Telegram is out of order, dead-letters after the last attempt, and never says its token", function()
    local api = s:peer { { status = 502, body = "<html>" } }
    local bot = s:start("telegram_bot", { TELEGRAM_API = api.url })
    s:publish("notification.telegram")
    local _, headers = s:dead_letter(DEAD)
    assert.equal(3, headers["x-eventbus-attempt"])
    assert.matches("Telegram answered 502", headers["x-eventbus-error"])
    assert.equal(3, #api:requests())
    api:stop()
    s:publish("notification.telegram")
    _, headers = s:dead_letter(DEAD)
    assert.matches("^127%.0%.0%.1:%d+: connection refused", headers["x-eventbus-error"])
    for _, value in pairs(headers) do assert.is_nil(tostring(value):find("secret", 1, true)) end
    assert.is_nil(bot:output():find("secret", 1, true))
  end)

  it("delivers once Telegram is back", function()
    local api = s:peer()
    local port = api.port
    api:stop()
    local bot = s:start("telegram_bot", { TELEGRAM_API = api.url, RABBITMQ_RETRY_COUNT = "500" })
    local id = s:publish("notification.telegram")
    services.says(bot, "connection refused")
    api = s:peer { port = port }
    services.handled(bot, id)
    assert.equal(1, #api:requests())
  end)

  it("sends nothing twice that it remembers, also when it was killed before the acknowledgement", function()
    local api = s:peer()
    local environment = { TELEGRAM_API = api.url, TELEGRAM_JOURNAL = program.folder() .. "/sent.jsonl" }
    local killed = s:spawn("spec/support/killed_service.lua", { SERVICE_FILE = "examples/telegram_bot.lua",
      TELEGRAM_API = api.url, TELEGRAM_JOURNAL = environment.TELEGRAM_JOURNAL })
    services.says(killed, " is ready")
    local id = s:publish("notification.telegram")
    assert.equal(137, killed:wait(20))
    local bot = s:start("telegram_bot", environment)
    services.handled(bot, id)
    assert.equal(1, #api:requests())
  end)

  it("rejects a payload that is none, and says what is wrong with it", function()
    s:start "telegram_bot"
    s:publish("notification.telegram", { message = "for whom?" })
    local _, headers = s:dead_letter(DEAD)
    assert.equal("data.chat_id is missing (integer or string)", headers["x-eventbus-error"])
  end)

  it("does not start without a token", function()
    local bot = s:spawn("telegram_bot", { TELEGRAM_TOKEN = "" })
    assert.equal(1, bot:wait(20))
    assert.matches("TELEGRAM_TOKEN is not set: it is what @BotFather gave you", bot:output(), 1, true)
  end)

  it("speaks HTTPS to whom it can trust only", function()
    local tls = s.node.tls_dir
    local api = s:peer { {}, tls = { certificate = tls .. "/server.pem", key = tls .. "/server.key" } }
    local distrusting = s:start("telegram_bot", { TELEGRAM_API = api.url, SSL_CERT_FILE = tls .. "/other-ca.pem",
      RABBITMQ_RETRY_COUNT = "0" })
    s:publish("notification.telegram")
    local _, headers = s:dead_letter(DEAD)
    assert.matches("certificate verify failed", headers["x-eventbus-error"])
    assert.equal(0, #api:requests())
    distrusting:stop()
    local bot = s:start("telegram_bot", { TELEGRAM_API = api.url, SSL_CERT_FILE = tls .. "/ca.pem" })
    services.handled(bot, s:publish("notification.telegram"))
    assert.equal(1, #api:requests())
  end)
end)
