--- route: a port of ours that leads to a broker's. Its weather and its blows are the faults of a network.

local uv = require "luv"
local stream = require "spec.chaos.stream"

local route = {}

local Route = {}
Route.__index = Route

--- `o`: host, port (0: a free one), target = { host, port }, framed (AMQP in clear text goes through it).
function route.new(o)
  local self = setmetatable({
    host = o.host or "127.0.0.1", port = o.port or 0, target = o.target, framed = o.framed or false,
    weather = { stalled = {}, armed = {} }, connections = {}, accepted = 0,
  }, Route)
  self:open()
  return self
end

function Route:open()
  if self.listener then return end
  local listener = uv.new_tcp()
  assert(listener:bind(self.host, self.port))
  assert(listener:listen(128, function(err)
    if not err then self:accept() end
  end))
  self.listener = listener
  self.port = listener:getsockname().port
end

--- Connecting is refused from now on; connections that are there stay.
function Route:refuse()
  if self.listener then self.listener:close() end
  self.listener = nil
end

local function close(socket, how)
  if socket:is_closing() then return end
  if how == "reset" and pcall(function() assert(socket:close_reset()) end) then return end
  if not socket:is_closing() then socket:close() end
end

function Route:accept()
  local client, broker = uv.new_tcp(), uv.new_tcp()
  self.listener:accept(client)
  self.accepted = self.accepted + 1
  local connection = { client = client, broker = broker, streams = {} }
  self.connections[connection] = true
  client:nodelay(true)
  local function reset() self:cut(connection, "reset") end
  broker:connect(self.target.host, self.target.port, function(err)
    if err then return reset() end
    if not self.connections[connection] then return end
    broker:nodelay(true)
    connection.streams = {
      stream.new("up", client, broker, self.weather, self.framed, reset),
      stream.new("down", broker, client, self.weather, self.framed, reset),
    }
    for _, each in ipairs(connection.streams) do each:start() end
  end)
end

--- Ends a connection: "reset" (RST to both) or "drop" (FIN to both).
function Route:cut(connection, how)
  if not self.connections[connection] then return end
  self.connections[connection] = nil
  for _, each in ipairs(connection.streams) do each.ended = true end
  close(connection.client, how)
  close(connection.broker, how)
end

function Route:cut_all(how)
  for connection in pairs(self.connections) do self:cut(connection, how) end
end

--- The broker's side is gone, and the client is not told: what it sends vanishes.
function Route:half_open()
  for connection in pairs(self.connections) do
    for _, each in ipairs(connection.streams) do each.ended = true end
    close(connection.broker, "reset")
    connection.streams = {}
    local client = connection.client
    if not client:is_closing() then
      client:read_start(function(_, bytes)
        if not bytes then self:cut(connection, "drop") end
      end)
    end
  end
end

--- Moves what may move, and forgets connections that have ended on both sides.
function Route:tick()
  for connection in pairs(self.connections) do
    local up, down = connection.streams[1], connection.streams[2]
    if up then
      up:pump()
      down:pump()
      -- One side's end is the other's, for AMQP and for Erlang: no need to keep half of it.
      if up.ended or down.ended then
        connection.ending = (connection.ending or 0) + 1
        if connection.ending > 20 then self:cut(connection, "drop") end
      end
    end
  end
end

return route
