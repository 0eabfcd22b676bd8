--- alias: a node's name in another node's epmd, with a port of ours: what is sent to that node goes through our
--- route.
-- It lasts as long as its connection.

local uv = require "luv"

local alias = {}

local function short(n) return string.char(math.floor(n / 256), n % 256) end

--- Registers `name` (before the @) with `port` in the epmd of `epmd_port`. `done(ok)` is called once.
function alias.register(epmd_port, name, port, done)
  local socket = uv.new_tcp()
  -- ALIVE2_REQ: a normal node, TCP, the versions 5 to 6 of the distribution.
  local request = "\120" .. short(port) .. "\77\0" .. short(6) .. short(5) .. short(#name) .. name .. short(0)
  socket:connect("127.0.0.1", epmd_port, function(err)
    if err then return done(false) end
    socket:write(short(#request) .. request)
    local answered
    socket:read_start(function(_, bytes)
      if answered then return end
      answered = true
      done(bytes ~= nil and bytes:byte(2) == 0)
    end)
  end)
  return socket
end

return alias
