--- smtp_peer: a real SMTP server on a free loopback port, in a process of its own, that answers as it is told.
---
---     local p = smtp_peer.start { { rcpt = "550 5.1.1 no such user" }, {} }   -- one entry a connection, the last repeats
---     p.url, p:mails() -> { { from, to, text, user, password, tls, at }, ... }, p:connections(), p:stop()
---
--- An entry: greeting, helo, auth, mail, rcpt, data, done = the reply in place of 2xx/3xx; drop = "greeting", "mail",
--- "rcpt", "data", "done" or "quit": the connection ends there; slow = seconds of silence before the greeting.
--- Options beside the entries: tls = { certificate =, key = } offers STARTTLS (tls.first: TLS from the first byte; the URL
--- then says smtps), auth = { user =, password = } offers AUTH, port.
--- The same file is the server when it is run as a program: smtp_peer.lua FOLDER

local cjson = require "cjson"
local socket = require "socket"

local function read_json(path)
  local file = assert(io.open(path, "rb"))
  local value = cjson.decode(file:read("*a"))
  file:close()
  return value
end

local function serve(folder)
  local told = read_json(folder .. "/told.json")
  local log = assert(io.open(folder .. "/mails.jsonl", "ab"))
  local server = assert(socket.bind("127.0.0.1", told.port or 0, 16))
  print("listening on " .. select(2, server:getsockname()))
  io.stdout:flush()
  local served = 0

  local function secure(client)
    client = assert(require("ssl").wrap(client, { mode = "server", protocol = "any", certificate = told.tls.certificate,
      key = told.tls.key }))
    client:settimeout(5)
    assert(client:dohandshake())
    return client
  end

  local function unbase64(text)
    return (require("mime").unb64(text))
  end

  local function converse(client)
    served = served + 1
    local how = told.entries[math.min(served, #told.entries)]
    local mail = { at = socket.gettime() }
    log:write(cjson.encode { connection = served }, "\n")
    log:flush()
    client:settimeout(5)
    local function say(text) assert(client:send(text .. "\r\n")) end
    local function reply(step, usual)
      if how.drop == step then
        client:close()
        error("dropped", 0)
      end
      say(how[step] or usual)
      return (how[step] or usual):find("^[23]") ~= nil
    end
    local function login(line)
      local kind, first = line:match("^AUTH (%u+) ?(%S*)")
      if kind == "PLAIN" then
        mail.user, mail.password = unbase64(first):match("^%z([^%z]*)%z(.*)$")
      else
        say "334 VXNlcm5hbWU6"
        mail.user = unbase64(client:receive "*l")
        say "334 UGFzc3dvcmQ6"
        mail.password = unbase64(client:receive "*l")
      end
      local right = mail.user == told.auth.user and mail.password == told.auth.password
      reply("auth", right and "235 2.7.0 welcome" or "535 5.7.8 bad credentials")
    end
    local function receive_data()
      local lines = {}
      for line in function() return client:receive "*l" end do
        if line == "." then
          mail.text = table.concat(lines, "\r\n")
          if reply("done", "250 2.0.0 queued") then
            log:write(cjson.encode(mail), "\n")
            log:flush()
          end
          return
        end
        lines[#lines + 1] = line:gsub("^%.", "")
      end
    end

    if told.tls and told.tls.first then
      client = secure(client)
      mail.tls = true
    end
    if how.slow then socket.sleep(how.slow) end
    if not reply("greeting", "220 sink ESMTP") then return client:close() end
    for line in function() return client:receive "*l" end do
      local verb = line:match("^%a+"):upper()
      if verb == "EHLO" then
        local offers = { "sink" }
        if told.tls and not mail.tls then offers[#offers + 1] = "STARTTLS" end
        if told.auth then offers[#offers + 1] = "AUTH " .. (told.auth.kinds or "PLAIN LOGIN") end
        for i, offer in ipairs(offers) do offers[i] = "250" .. (i == #offers and " " or "-") .. offer end
        reply("helo", table.concat(offers, "\r\n"))
      elseif verb == "STARTTLS" then
        say "220 go ahead"
        client = secure(client)
        mail.tls = true
      elseif verb == "AUTH" then
        login(line)
      elseif verb == "MAIL" then
        mail.from = line:match("<(.*)>")
        reply("mail", "250 2.1.0 ok")
      elseif verb == "RCPT" then
        mail.to = line:match("<(.*)>")
        reply("rcpt", "250 2.1.5 ok")
      elseif verb == "DATA" then
        if reply("data", "354 go on") then receive_data() end
      elseif verb == "QUIT" then
        reply("quit", "221 2.0.0 bye")
        break
      else
        say "502 5.5.1 unknown"
      end
    end
    client:close()
  end

  while true do
    local client = server:accept()
    if client then
      pcall(converse, client)
      client:close()
    end
  end
end

if arg and arg[0] and arg[0]:match("support/smtp_peer%.lua$") then return serve(arg[1]) end

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local smtp_peer = {}
smtp_peer.__index = smtp_peer

function smtp_peer.start(told)
  told = told or {}
  local self = setmetatable({ folder = program.folder() }, smtp_peer)
  local entries = {}
  for i, entry in ipairs(told) do entries[i] = next(entry) and entry or { plain = true } end
  local file = assert(io.open(self.folder .. "/told.json", "wb"))
  file:write(cjson.encode { entries = #entries > 0 and entries or { { plain = true } }, tls = told.tls, auth = told.auth,
    port = told.port })
  file:close()
  self.process = program.start("smtp-peer", { program.lua(), "spec/support/smtp_peer.lua", self.folder })
  self.port = wait(function() return self.process:output():match("listening on (%d+)") end, 30, "the mail server listens")
  -- A certificate is for a name.
  local host = told.tls and "localhost" or "127.0.0.1"
  local user = told.auth and ("%s:%s@"):format(told.auth.user, told.auth.password) or ""
  self.url = ("%s://%s%s:%s"):format(told.tls and told.tls.first and "smtps" or "smtp", user, host, self.port)
  return self
end

local function logged(self, wanted)
  local list = {}
  local file = io.open(self.folder .. "/mails.jsonl", "rb")
  if not file then return list end
  for line in file:lines() do
    local ok, record = pcall(cjson.decode, line)
    if ok and record[wanted] then list[#list + 1] = record end
  end
  file:close()
  return list
end

--- The mails it has accepted, dots undoubled.
function smtp_peer:mails()
  return logged(self, "from")
end

--- How many connections there were.
function smtp_peer:connections()
  return #logged(self, "connection")
end

function smtp_peer:stop()
  self.process:stop()
end

return smtp_peer
