--- meddler: a TCP relay between clients and a real server, in a process of its own, that meddles with what the server
--- sends.
---
---     local m = meddler.start(server_port, "drip", 0.02)    -- a byte every 20 ms
---     m.port, m:stop()
---
--- Manners: "pass"; "drip" SECONDS, a byte at a time; "cut" N, the first N bytes, then the end; "turn" N, the Nth byte with
--- its bits turned over. The same file is the relay when it is run as a program: meddler.lua PORT MANNER NUMBER

local socket = require "socket"

-- Answers whether the stream goes on.
local function meddle(client, bytes, from, manner, number)
  if manner == "cut" and from + #bytes >= number then
    client:send(bytes:sub(1, number - from))
    return false
  elseif manner == "turn" and from < number and number <= from + #bytes then
    local at = number - from
    bytes = bytes:sub(1, at - 1) .. string.char(255 - bytes:byte(at)) .. bytes:sub(at + 1)
  elseif manner == "drip" then
    for byte in bytes:gmatch "." do
      if not client:send(byte) then return false end
      socket.sleep(number)
    end
    return true
  end
  return client:send(bytes)
end

local function serve(port, manner, number)
  local listener = assert(socket.bind("127.0.0.1", 0, 16))
  print("listening on " .. select(2, listener:getsockname()))
  io.stdout:flush()
  local other, seen = {}, {}  -- of each end: the other one; of a server's: the bytes it has sent
  local ends = { listener }

  local function add(client)
    local server = assert(socket.connect("127.0.0.1", port))
    other[client], other[server], seen[server] = server, client, 0
    for _, one in ipairs { client, server } do
      one:settimeout(0)
      ends[#ends + 1] = one
    end
  end

  local function drop(one)
    for i = #ends, 1, -1 do
      if ends[i] == one or ends[i] == other[one] then table.remove(ends, i) end
    end
    other[one]:close()
    one:close()
  end

  local function move(one)
    local bytes, err, part = one:receive(65536)
    bytes = bytes or part
    local goes_on = err ~= "closed"
    if bytes ~= "" and seen[one] then
      goes_on = meddle(other[one], bytes, seen[one], manner, number) and goes_on
      seen[one] = seen[one] + #bytes
    elseif bytes ~= "" then
      goes_on = other[one]:send(bytes) and goes_on
    end
    if not goes_on then drop(one) end
  end

  while true do
    for _, one in ipairs((socket.select(ends))) do
      if one == listener then
        local client = listener:accept()
        if client then add(client) end
      elseif other[one] and one:getfd() >= 0 then
        move(one)
      end
    end
  end
end

if arg and arg[0] and arg[0]:match("support/meddler%.lua$") then return serve(tonumber(arg[1]), arg[2], tonumber(arg[3])) end

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local meddler = {}
meddler.__index = meddler

function meddler.start(port, manner, number)
  local process = program.start("meddler",
    { program.lua(), "spec/support/meddler.lua", tostring(port), manner, tostring(number or 0) })
  local listens = wait(function() return process:output():match("listening on (%d+)") end, 30, "the relay listens")
  return setmetatable({ process = process, port = tonumber(listens) }, meddler)
end

function meddler:stop() self.process:stop() end

return meddler
