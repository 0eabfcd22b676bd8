--- The way to the broker, step by step: name, port, TLS, login, virtual host. Says which step fails and what to change.

local connection = require "eventbus.cli.connection"
local tls = require "eventbus.cli.doctor.tls"

local reach = {}

-- The first address of each family that a name has.
local function resolve(socket, name)
  if name:find(":", 1, true) then return { { family = "inet6", addr = name } } end
  local list, err = socket.dns.getaddrinfo(name)
  if not list or #list == 0 then return nil, err or "no address" end
  return list
end

-- A connected socket, or nil and why none of the addresses has one.
local function dial(socket, addresses, port, seconds)
  local why
  for _, address in ipairs(addresses) do
    local s = address.family == "inet6" and socket.tcp6() or socket.tcp4()
    s:settimeout(seconds)
    local ok, err = s:connect(address.addr, port)
    if ok then return s end
    why = err
    s:close()
  end
  return nil, why
end

local function address_of(host) return ("%s:%d"):format(host.name, host.port) end

-- Whether a host can be connected to.
local function look_at(report, socket, host, parts, args, seconds)
  local addresses, err = resolve(socket, host.name)
  if not addresses then
    report:error("dns", ('the name "%s" has no address (%s)'):format(host.name, err),
      "correct the host in RABBITMQ_URL or --url, or the machine's resolver")
    return false
  end
  local texts = {}
  for i, address in ipairs(addresses) do texts[i] = address.addr end
  if texts[1] ~= host.name then report:ok("dns", ("%s is %s"):format(host.name, table.concat(texts, ", "))) end
  local s
  s, err = dial(socket, addresses, host.port, seconds)
  if not s then
    report:error("tcp", ("nobody answers at %s (%s)"):format(address_of(host), err), err == "timeout"
      and "a firewall drops it, or the host is down: ask from where the broker runs"
      or "start the broker there, or correct the port: 5672 for amqp, 5671 for amqps")
    return false
  end
  report:ok("tcp", ("%s answers"):format(address_of(host)))
  if parts.tls then tls.look(report, s, host.name, parts, args, seconds) end
  s:close()
  return true
end

local function is_loopback(name)
  return name == "localhost" or name:find("^127%.") ~= nil or name == "::1"
end

-- What is unsafe about the way, whether or not it leads anywhere.
local function look_at_safety(report, parts)
  local far
  for _, host in ipairs(parts.hosts) do
    if not is_loopback(host.name) then far = far or host.name end
  end
  if far and not parts.tls then
    report:warn("plain", ("amqp to %s: password and events cross the network unencrypted"):format(far),
      "amqps:// in RABBITMQ_URL, and a TLS listener on the broker (port 5671)")
  end
  if far and parts.auth == "plain" and parts.user == "guest" then
    report:warn("guest", ('the user "guest", whose password everybody knows, over the network to %s'):format(far),
      "rabbitmqctl add_user, set_permissions, delete_user guest; then that user in RABBITMQ_URL")
  end
  if parts.tls and parts.verify == false then
    report:warn("verify", "verification is off: any certificate is taken, so anybody in between can read and change events",
      "drop verify=verify_none from the URL; cacertfile= (or --cacert) names the CA")
  end
end

local STEP = {
  refused = { "login", "check user and password in RABBITMQ_URL or --url; guest may come from the broker's own host only" },
  tls = { "tls", "cacertfile= or --cacert names the CA that signed the broker's certificate; server_name= the name in it" },
  not_found = { "vhost", "correct the virtual host at the end of the URL, or make it: rabbitmqctl add_vhost" },
  timeout = { "amqp", "the port is open, but nobody speaks AMQP there in time: an overloaded broker, or another service?" },
}

--- Goes the way. The open bus, or nil when it leads nowhere; everything else is in the report.
---@param report eventbus.cli.Report
---@param args table
---@return eventbus.Bus|nil
function reach.go(report, args)
  local parts = connection.parts(args)
  local seconds = math.min(args.timeout or 10, 10)
  local there, socket = pcall(require, "socket")
  look_at_safety(report, parts)
  if there then
    local any = false
    for _, host in ipairs(parts.hosts) do any = look_at(report, socket, host, parts, args, seconds) or any end
    if not any then return nil end
  else
    report:unseen("dns, tcp, tls", "the steps below AMQP, one by one", "install LuaSocket: apt-get install lua-socket")
  end
  local ok, bus = pcall(connection.open, args)
  if ok then
    report:ok("login", ("%s on virtual host %s"):format(
      parts.auth == "external" and "by certificate" or "user " .. parts.user, parts.vhost))
    return bus
  end
  if type(bus) ~= "table" or not bus.message then error(bus, 0) end
  local step = STEP[bus.cause_code] or { "amqp", "see the step before; eventbus needs an AMQP 0-9-1 listener" }
  report:error(step[1], bus.message, step[2])
  return nil
end

reach.is_loopback = is_loopback

return reach
