--- alias: a node's name in another node's epmd, with a port of ours: what is sent to that node goes through our
--- route. epmd forgets the name when our connection ends; when it was epmd that ended, the one after it is told again.

local uv = require "luv"

local alias = {}

-- Milliseconds. A node asks its epmd a second after that has begun, or later.
local AGAIN = 50

local function short(n) return string.char(math.floor(n / 256), n % 256) end

-- ALIVE2_REQ: a normal node, TCP, the versions 5 to 6 of the distribution.
local function request(name, port)
  local text = "\120" .. short(port) .. "\77\0" .. short(6) .. short(5) .. short(#name) .. name .. short(0)
  return short(#text) .. text
end

-- `answered(ok)` once, and `ended()` once the name is not known any more.
local function tell(epmd_port, text, answered, ended)
  local socket, known = uv.new_tcp(), nil
  local function over()
    if socket:is_closing() then return end
    socket:close()
    if known == nil then answered(false) end
    ended()
  end
  socket:connect("127.0.0.1", epmd_port, function(err)
    if err then return over() end
    socket:write(text)
    socket:read_start(function(_, bytes)
      if not bytes then return over() end
      if known ~= nil then return end
      known = bytes:byte(2) == 0
      answered(known)
    end)
  end)
end

--- Registers `name` (before the @) with `port` in the epmd of `epmd_port`, for as long as this process lives. `done(ok)` is
--- called once, after the first answer.
function alias.keep(epmd_port, name, port, done)
  local text = request(name, port)
  local timer = uv.new_timer()
  local function answered(ok)
    if done then done(ok) end
    done = nil
  end
  local function once()
    tell(epmd_port, text, answered, function() timer:start(AGAIN, 0, once) end)
  end
  once()
end

return alias
