-- The Telegram bot: sends each notification.telegram to its chat.
--
--   TELEGRAM_TOKEN=123:abc eventbus run examples/telegram_bot.lua
--
-- TELEGRAM_API      another address than https://api.telegram.org
-- TELEGRAM_JOURNAL  a file that remembers across restarts which events were sent

local eventbus = require "eventbus"
local http = require "eventbus.http"
local journal = require "eventbus.journal"

local api = os.getenv "TELEGRAM_API" or "https://api.telegram.org"
local token = os.getenv "TELEGRAM_TOKEN" or ""
local sent = assert(journal.open(os.getenv "TELEGRAM_JOURNAL"))

local function send(event)
  if sent:has(event.id) then return end
  local chat_id = event.data.chat_id
  if chat_id == nil or event.data.message == nil then eventbus.reject("chat_id or message is missing") end

  -- No answer at all is the network's fault: failing means to try again, as the retry policy says.
  local answer, err = http.post(api .. "/bot" .. token .. "/sendMessage", { chat_id = chat_id, text = event.data.message })
  if not answer then return nil, err end

  local said = answer.json or {}
  if answer.status == 200 then
    print("  told " .. tostring(chat_id) .. ": " .. event.data.message)
    sent:add(event.id, { chat_id = chat_id })
  elseif answer.status == 429 then
    -- Too many messages: Telegram says how long to keep quiet. That is no failed attempt.
    local after = said.parameters and said.parameters.retry_after or 1
    eventbus.retry { after = after, counted = false, reason = ("Telegram asks to wait %g s"):format(after) }
  elseif answer.status == 403 or answer.status == 400 then
    -- Blocked by the user, or no such chat: trying again would change nothing.
    eventbus.reject("Telegram: " .. tostring(said.description or answer.status))
  else
    return nil, ("Telegram answered %d: %s"):format(answer.status, tostring(said.description))
  end
end

local service = {
  name = "telegram-bot",
  queue = "telegram.notifications",
  handlers = { ["notification.telegram"] = send },
}

return service
