--- Sends mails by SMTP, as handlers need it: a deadline for the whole conversation, STARTTLS or TLS with the certificate
-- verified, headers that nothing can be smuggled into, UTF-8 encoded. By LuaSocket's smtp, and LuaSec for TLS. It blocks the
-- calling thread (never the bus's own) for at most the timeout. A connection carries one mail.
--
--   local mails = assert(smtp.new("smtp://user:password@mail.example:587"))
--   mails:send { from = "Shop <shop@example.com>", to = "olena@example.com", subject = "Привіт", text = "..." }

local core = require "eventbus.core"
local failure = require "eventbus.failure"
local options = require "eventbus.options"
local stream = require "eventbus.stream"

local smtp = {}

local TIMEOUT = 30
local OPTIONS = { timeout = options.duration }
local PORTS = { smtp = 25, smtps = 465 }
-- 5xx that speak of the login or of TLS (RFC 4954), whatever command they answer: the mail is all right.
local ACCESS = { ["530"] = true, ["534"] = true, ["535"] = true, ["538"] = true }

---@class eventbus.smtp.Mail
---@field from string        "shop@example.com" or "Shop <shop@example.com>"
---@field to string          likewise, one recipient
---@field subject string     line breaks become spaces
---@field text string        plain text, UTF-8
---@field id string|nil      makes the Message-ID: a mail that is sent again keeps it

-- "Name <address>" or "address": the address, the name. Only what needs no quoting can be written to a server.
local function mailbox(text, what)
  if type(text) ~= "string" then return nil, what .. " is missing" end
  local name, address = text:match("^%s*([^<>]-)%s*<([^<>]*)>%s*$")
  address = address or text
  if not address:find("^[%w!#$%%&'*+/=?^_`{|}~.-]+@[%w.-]+$") or #address > 254 then
    return nil, ("%s %q is no e-mail address"):format(what, failure.cut(address:gsub("%c", "?"), 80))
  end
  return address, name
end

-- UTF-8 in a header, RFC 2047: lines of at most 76 bytes, the first with its name; no character split between words.
local function encoded(text)
  text = text:gsub("%c+", " ")
  if not text:find("[\128-\255]") and #text < 900 and not text:find("=?", 1, true) then return text end
  local b64 = stream.need("mime", "lua-socket").b64
  local words, word, most = {}, "", 36
  for character in text:gmatch("[%z\1-\127\192-\255][\128-\191]*") do
    if #word + #character > most then
      words[#words + 1], word, most = word, "", 45
    end
    word = word .. character
  end
  words[#words + 1] = word
  for i, one in ipairs(words) do words[i] = "=?UTF-8?B?" .. b64(one) .. "?=" end
  return table.concat(words, "\r\n ")
end

local function header_of(name, address)
  if not name or name == "" then return address end
  if name:find("[\128-\255]") then return encoded(name) .. " <" .. address .. ">" end
  return '"' .. name:gsub("%c+", " "):gsub('[\\"]', "") .. '" <' .. address .. ">"
end

-- The body and how it is encoded: as it is when any server takes it so, else base64.
local function body_of(text)
  text = text:gsub("\r\n?", "\n"):gsub("\n+$", "")
  local plain = not text:find("[%z\1-\8\11-\31\127-\255]")
  for line in text:gmatch("[^\n]+") do plain = plain and #line <= 900 end
  if plain then return text:gsub("\n", "\r\n"), "7bit" end
  local lines = stream.need("mime", "lua-socket").b64((text:gsub("\n", "\r\n"))):gsub(("."):rep(76), "%0\r\n")
  return lines:gsub("\r\n$", ""), "base64"
end

--- A mail as it travels, before dots are doubled, with the addresses for the envelope; or nil and what is wrong with it.
---@param mail eventbus.smtp.Mail
---@return { from: string, to: string, text: string }|nil, string|nil
function smtp.message(mail)
  local from, from_name = mailbox(mail.from, "the sender")
  if not from then return nil, from_name end
  local to, to_name = mailbox(mail.to, "the recipient")
  if not to then return nil, to_name end
  local body, encoding = body_of(mail.text or "")
  local lines = {
    "From: " .. header_of(from_name, from), "To: " .. header_of(to_name, to), "Subject: " .. encoded(mail.subject or ""),
    "Date: " .. os.date "!%a, %d %b %Y %H:%M:%S +0000", "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=UTF-8", "Content-Transfer-Encoding: " .. encoding,
    "Auto-Submitted: auto-generated",   -- no out-of-office answers
  }
  if mail.id then
    lines[#lines + 1] = ("Message-ID: <%s@%s>"):format(mail.id:gsub("[^%w._-]", "_"):sub(1, 200), from:match("@(.*)$"))
  end
  return { from = from, to = to, text = table.concat(lines, "\r\n") .. "\r\n\r\n" .. body }
end

---@class eventbus.smtp.Sender
---@field display string  host and port, for messages
local Sender = {}
Sender.__index = Sender

local function unescape(text)
  return text and (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- A sender for "smtp://[user:password@]host[:port]" (STARTTLS when offered) or "smtps://..." (TLS from the first byte).
-- With a user TLS is required; "?tls=never" does without, "?tls=always" requires it for mails without a user, too.
---@param url string
---@param opts? { timeout: number|string }  for one mail, 30 s unless told
---@return eventbus.smtp.Sender|nil, string|nil
function smtp.new(url, opts)
  local given = options.check(OPTIONS, opts, "smtp.new")
  local scheme, rest = url:match("^(%l+)://(.*)$")
  if not PORTS[scheme] then return nil, "the URL of a mail server must begin with smtp:// or smtps://" end
  local place, query = rest:match("^([^?]*)%??(.*)$")
  local userinfo, authority = place:match("^(.*)@([^@]*)$")
  local address = (authority or place):gsub("/$", "")
  local host, port = address:match "^%[([%x:.]+)%]:?(%d*)$"
  if not host then host, port = address:match "^([%w.-]+):?(%d*)$" end
  local tls = query:match("^tls=(%l+)$")
  if not host or (query ~= "" and tls ~= "never" and tls ~= "always") then
    return nil, "the URL of a mail server looks like smtp://user:password@host:587, with ?tls=never or ?tls=always"
  end
  local user, password = (userinfo or ""):match("^([^:]*):(.*)$")
  if userinfo and not user then return nil, "the URL of a mail server has a user without a password" end
  port = tonumber(port) or PORTS[scheme]
  return setmetatable({
    display = host .. ":" .. port, _host = host, _port = port, _secure = scheme == "smtps",
    _user = unescape(user), _password = unescape(password), _tls = tls or (user and "always" or "offered"),
    _timeout = given.timeout or TIMEOUT,
  }, Sender)
end

local function hello(session)
  session.try(session.tp:command("EHLO", (core.hostname():gsub("[^%w.-]", "-"))))
  return select(2, session.try(session.tp:check "2.."))
end

-- TLS, where it is wanted and not there yet.
local function secure(self, session, peer, offers)
  if self._secure or self._tls == "never" then return offers end
  if not offers:find("[ -]STARTTLS") then
    if self._tls == "always" then session.try(nil, "it offers no STARTTLS; ?tls=never would send without") end
    return offers
  end
  session.try(session.tp:command "STARTTLS")
  session.try(session.tp:check "2..")
  session.try(peer:secure(self._host))
  return hello(session)
end

local function authenticate(self, session, offers)
  if not self._user then return end
  if offers:find("AUTH[^\n]*PLAIN") then
    session:plain(self._user, self._password)
  else
    session:auth(self._user, self._password, offers)
  end
end

local function converse(self, message, at)
  local client, ltn12 = stream.need("socket.smtp", "lua-socket"), stream.need("ltn12", "lua-socket")
  local mime = stream.need("mime", "lua-socket")
  local peer = stream.new(self._timeout, self._secure)
  local session = client.open(self._host, self._port, function() return peer end)
  session.try(session.tp:check "2..")
  local offers = secure(self, session, peer, hello(session))
  at.step = "the login"
  authenticate(self, session, offers)
  at.step, at.mail = "the sender", true
  session:mail("<" .. message.from .. ">")
  at.step = "the recipient"
  session:rcpt("<" .. message.to .. ">")
  at.step = "the mail"
  session:data(ltn12.source.chain(ltn12.source.string(message.text), mime.stuff()))
  -- From here on it is the server's; how we part no longer matters.
  at.accepted = true
  session:quit()
  session:close()
  return true
end

--- Sends one mail. nil, message, permanent: `permanent` is true when trying again would change nothing, because the mail
-- itself is wrong or the server refuses it for good (5xx); what concerns our access (login, TLS) or can pass (4xx, no
-- answer) is not.
---@param mail eventbus.smtp.Mail
---@return true|nil, string|nil, boolean|nil
function Sender:send(mail)
  local message, wrong = smtp.message(mail)
  if not message then return nil, wrong, true end
  local at = { step = "the connection" }
  local ok, reply = stream.need("socket", "lua-socket").protect(converse)(self, message, at)
  if ok or at.accepted then return true end
  reply = failure.cut(tostring(reply):gsub("%c+", " "), 300)
  local answered = reply:match("^%d%d%d")
  local permanent = at.mail and answered and answered:sub(1, 1) == "5" and not ACCESS[answered] or false
  return nil, ("%s, %s: %s"):format(self.display, at.step, reply), permanent
end

return smtp
