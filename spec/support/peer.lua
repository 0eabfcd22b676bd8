--- peer: a real HTTP (or HTTPS) server on a free loopback port, in a process of its own, that answers as it is told.
---
---     local p = peer.start { { status = 429, body = '{"ok":false}' }, { status = 200 } }   -- the last one repeats
---     p.url, p:requests() -> { { method, path, body, headers, at }, ... }, p:stop()
---
--- An answer: status, body, headers = { name = text }; or raw = all bytes of it; drip = seconds between its bytes.
--- Options beside the answers: tls = { certificate =, key = } (PEM files; the URL then says https and localhost), port.
--- The same file is the server when it is run as a program: peer.lua FOLDER PORT [CERTIFICATE KEY]

local cjson = require "cjson"
local socket = require "socket"

local function serve(folder, port, certificate, key)
  local file = assert(io.open(folder .. "/answers.json", "rb"))
  local answers = cjson.decode(file:read("*a"))
  file:close()
  local log = assert(io.open(folder .. "/requests.jsonl", "ab"))
  local server = assert(socket.bind("127.0.0.1", tonumber(port), 16))
  print("listening on " .. select(2, server:getsockname()))
  io.stdout:flush()
  local served = 0

  local function answer(client)
    client:settimeout(5)
    if certificate then
      client = assert(require("ssl").wrap(client,
        { mode = "server", protocol = "any", certificate = certificate, key = key }))
      if not client:dohandshake() then return end
    end
    local method, path = (client:receive("*l") or ""):match("^(%S+) (%S+)")
    if not method then return end
    local headers = {}
    for line in function() return client:receive("*l") end do
      if line == "" then break end
      local name, value = line:match("^([^:]+):%s*(.*)$")
      headers[name:lower()] = value
    end
    local size = tonumber(headers["content-length"]) or 0
    local body = size > 0 and client:receive(size) or ""
    served = served + 1
    local told = answers[math.min(served, #answers)] or {}
    local text = told.body or "{}"
    log:write(cjson.encode { method = method, path = path, body = body, headers = headers, at = socket.gettime() }, "\n")
    log:flush()
    local more = ""
    for name, value in pairs(told.headers or {}) do more = more .. name .. ": " .. value .. "\r\n" end
    local bytes = told.raw or
      ("HTTP/1.1 %d Told\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n%s")
      :format(told.status or 200, #text, more, text)
    if not told.drip then
      client:send(bytes)
    else
      for byte in bytes:gmatch "." do
        if not client:send(byte) then break end
        socket.sleep(told.drip)
      end
    end
    client:close()
  end

  while true do
    local client = server:accept()
    if client then
      pcall(answer, client)
      client:close()
    end
  end
end

if arg and arg[0] and arg[0]:match("support/peer%.lua$") then return serve((table.unpack or unpack)(arg)) end

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local peer = {}
peer.__index = peer

function peer.start(answers)
  local self = setmetatable({ folder = program.folder() }, peer)
  local list = {}
  for i, one in ipairs(answers or {}) do list[i] = one end
  local file = assert(io.open(self.folder .. "/answers.json", "wb"))
  file:write(cjson.encode(#list > 0 and list or { { status = 200 } }))
  file:close()
  local command = { program.lua(), "spec/support/peer.lua", self.folder, tostring(answers and answers.port or 0) }
  local tls = answers and answers.tls
  if tls then command[5], command[6] = tls.certificate, tls.key end
  self.process = program.start("peer", command)
  local port = wait(function() return self.process:output():match("listening on (%d+)") end, 30, "the peer listens")
  self.port = tonumber(port)
  self.url = tls and "https://localhost:" .. port or "http://127.0.0.1:" .. port
  return self
end

function peer:requests()
  local list = {}
  local file = io.open(self.folder .. "/requests.jsonl", "rb")
  if not file then return list end
  for line in file:lines() do
    local ok, request = pcall(cjson.decode, line)
    if ok then list[#list + 1] = request end
  end
  file:close()
  return list
end

function peer:stop()
  self.process:stop()
end

return peer
