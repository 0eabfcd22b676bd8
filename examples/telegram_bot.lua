-- The Telegram bot: sends each notification.telegram to its chat, by the Bot API's sendMessage.
--
--   TELEGRAM_TOKEN=123:abc eventbus run examples/telegram_bot.lua
--
-- TELEGRAM_TOKEN    what @BotFather gave you
-- TELEGRAM_JOURNAL  a file that remembers across restarts which events were sent
-- TELEGRAM_API      another address than https://api.telegram.org
--
-- Send first, then remember, then acknowledge: killed in between, the bot sends a message again. The other way round it
-- would lose one, and Telegram has no key by which it knows a request again.

local eventbus = require "eventbus"
local http = require "eventbus.http"
local journal = require "eventbus.journal"
local platform = require "eventbus.platform"

local api = os.getenv "TELEGRAM_API" or "https://api.telegram.org"
local token = os.getenv "TELEGRAM_TOKEN"
local LONGEST_WAIT = 86400

local sent
local moved = {}   -- a group's id -> the id of the supergroup it has become
local quiet = {}   -- chat -> when Telegram will listen again

-- An id is a number of up to 64 bits, or "@channel"; as text it is the same on every Lua.
local function name_of(chat_id)
  if type(chat_id) == "string" or math.type and math.type(chat_id) == "integer" then return tostring(chat_id) end
  return ("%.0f"):format(chat_id)
end

local function wait(seconds)
  eventbus.retry { after = seconds, counted = false, reason = ("Telegram asks to wait %.0f s"):format(seconds) }
end

-- Every further request in this time would be refused, and counted against us.
local function keep_quiet(chat)
  local left = (quiet[chat] or 0) - eventbus.core.now()
  if left > 0 then wait(left) end
  quiet[chat] = nil
end

local function told_to_wait(chat, answer, parameters)
  local seconds = tonumber(parameters.retry_after) or answer.retry_after or 1
  seconds = math.max(1, math.min(seconds, LONGEST_WAIT))
  local now = eventbus.core.now()
  for other, untill in pairs(quiet) do
    if untill <= now then quiet[other] = nil end
  end
  quiet[chat] = now + seconds
  wait(seconds)
end

local function post(chat_id, text)
  return http.post(api .. "/bot" .. token .. "/sendMessage", { chat_id = chat_id, text = text })
end

local function send(event)
  if sent:has(event.id) then return end
  local ok, problems = platform.validate(event)
  if not ok then eventbus.reject(problems[1].message) end
  local chat_id, text = event.data.chat_id, event.data.message
  chat_id = moved[name_of(chat_id)] or chat_id
  local chat = name_of(chat_id)
  keep_quiet(chat)

  -- No answer at all is the network's fault: failing means to try again, as the retry policy says. The message of the error
  -- names the host; the token, a part of the URL, is in no message.
  local answer, err = post(chat_id, text)
  if not answer then return nil, err end
  local said = type(answer.json) == "table" and answer.json or {}
  local parameters = type(said.parameters) == "table" and said.parameters or {}

  if answer.status == 400 and parameters.migrate_to_chat_id then
    local new = parameters.migrate_to_chat_id
    print(("  %s has become %s"):format(chat, name_of(new)))
    sent:add("moved:" .. chat, { from = chat, to = new })
    chat_id, chat = new, name_of(new)
    answer, err = post(chat_id, text)
    if not answer then return nil, err end
    said = type(answer.json) == "table" and answer.json or {}
    parameters = type(said.parameters) == "table" and said.parameters or {}
  end

  if answer.status == 200 then
    sent:add(event.id, { chat_id = chat_id })
    print(("  told %s: %s"):format(chat, text))
  elseif answer.status == 429 then
    -- Too many messages: Telegram says how long to keep quiet. That is no failed attempt.
    told_to_wait(chat, answer, parameters)
  elseif answer.status == 403 or answer.status == 400 then
    -- Blocked by the user, or no such chat: trying again would change nothing.
    eventbus.reject("Telegram: " .. tostring(said.description or answer.status))
  else
    -- Out of order (5xx), or our token is wrong (401, 404).
    return nil, ("Telegram answered %d: %s"):format(answer.status, tostring(said.description))
  end
end

local service = {
  name = "telegram-bot",
  queue = "telegram.notifications",
  handlers = { ["notification.telegram"] = send },
}

function service.start()
  if not token or token == "" then error("TELEGRAM_TOKEN is not set: it is what @BotFather gave you", 0) end
  sent = assert(journal.open(os.getenv "TELEGRAM_JOURNAL", function(record)
    if record.from then moved[record.from] = record.to end
  end))
end

return service
