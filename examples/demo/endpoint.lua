-- endpoint: the world outside, on a free port of 127.0.0.1: Telegram's Bot API and a carrier.
--
--   lua5.4 examples/demo/endpoint.lua FOLDER
--
-- POST /bot<token>/sendMessage  the first is answered 429 with retry_after = 1, the rest 200
-- POST /shipments               201, or 503 while there is a file FOLDER/carrier.down
--
-- Says the URL in its first line, then each request and its answer in one.

local socket = require "socket"

local folder = arg[1]
local server = assert(socket.bind("127.0.0.1", 0, 16))
local telegrams, shipments = 0, 0

local function say(text)
  local now = socket.gettime()
  io.stdout:write(os.date("%H:%M:%S", math.floor(now)), (".%03d  "):format(math.floor(now * 1000) % 1000), text, "\n")
  io.stdout:flush()
end

local function carrier_is_down()
  local file = io.open(folder .. "/carrier.down", "rb")
  if file then file:close() end
  return file ~= nil
end

local function answer(path)
  if path:match("^/bot[^/]+/sendMessage$") then
    telegrams = telegrams + 1
    if telegrams == 1 then
      return "429 Too Many Requests", '{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 1",'
        .. '"parameters":{"retry_after":1}}'
    end
    return "200 OK", '{"ok":true,"result":{"message_id":' .. telegrams .. "}}"
  elseif path == "/shipments" then
    if carrier_is_down() then return "503 Service Unavailable", '{"error":"the carrier is down"}' end
    shipments = shipments + 1
    return "201 Created", ('{"number":"2045%010d"}'):format(shipments)
  end
  return "404 Not Found", '{"error":"no such path"}'
end

local function serve(client)
  client:settimeout(5)
  local method, path = (client:receive("*l") or ""):match("^(%S+) (%S+)")
  if not method then return end
  local size = 0
  for header in function() return client:receive("*l") end do
    if header == "" then break end
    size = tonumber(header:lower():match("^content%-length:%s*(%d+)")) or size
  end
  local body = size > 0 and client:receive(size) or ""
  local status, text = answer(path)
  say(("%s %s -> %s  %s"):format(method, (path:gsub("^/bot[^/]+", "/bot***")), status, body))
  client:send(("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(
    status, #text, text))
end

say(("listening on http://127.0.0.1:%d"):format(select(2, server:getsockname())))
while true do
  local client = server:accept()
  if client then
    pcall(serve, client)
    client:close()
  end
end
