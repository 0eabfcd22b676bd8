--- A TCP or TLS connection of LuaSocket and LuaSec with one deadline for all that is done on it, however many steps and
-- addresses that takes. Only the look-up of a name is the system's and has the system's own limit. LuaSocket's clients
-- (http, smtp) take it for a socket; their own timeouts have no effect on it. It blocks the calling thread, never the bus's.

local now = require("eventbus.core").now

local stream = {}

local CA_FILES = {
  "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
  "/etc/ssl/ca-bundle.pem", "/usr/local/share/certs/ca-root-nss.crt", "/opt/homebrew/etc/ca-certificates/cert.pem",
}

--- A module of a package that the bus itself does without. Raises, with the line to type, when it is missing.
---@param name string     "socket.http"
---@param package string  "lua-socket"
---@return any
function stream.need(name, package)
  local ok, module = pcall(require, name)
  if not ok then
    error(("%s is needed and missing (apt-get install %s)\n%s"):format(name, package, tostring(module)), 0)
  end
  return module
end

local function ca_file()
  local set = os.getenv "SSL_CERT_FILE"
  if set and set ~= "" then return set end
  for _, path in ipairs(CA_FILES) do
    local file = io.open(path, "rb")
    if file then
      file:close()
      return path
    end
  end
  return nil
end

local function is_address(host)
  return host:find("^[%d.]+$") ~= nil or host:find(":", 1, true) ~= nil
end

-- A certificate's name covers a host when equal, or with one leading "*." for exactly one label.
local function covers(name, host)
  name, host = name:lower(), host:lower()
  if name == host then return true end
  local rest = not is_address(host) and name:match("^%*(%.[^*]+%.[^*]+)$")
  return rest and host:match("^[^.]+(%..*)$") == rest
end

local function is_for(certificate, host)
  for oid, extension in pairs(certificate:extensions()) do
    if oid == "2.5.29.17" then
      for _, kind in ipairs { "dNSName", "iPAddress" } do
        for _, name in ipairs(extension[kind] or {}) do
          if covers(name, host) then return true end
        end
      end
    end
  end
  return false
end

---@class eventbus.Stream
local Stream = {}
Stream.__index = Stream

--- A stream that is to end within `seconds` from now. With `secure` it speaks TLS as soon as it is connected.
---@param seconds number
---@param secure? boolean
---@param cafile? string  trusted certificates (PEM) instead of the system's
---@return eventbus.Stream
function stream.new(seconds, secure, cafile)
  return setmetatable({ _deadline = now() + seconds, _tls_first = secure or false, _cafile = cafile }, Stream)
end

-- LuaSec says which way it waits; for us it is the deadline either way.
local function problem(err)
  return (err == "wantread" or err == "wantwrite") and "timeout" or err
end

local function left(self)
  return math.max(self._deadline - now(), 0)
end

local function call(self, name, ...)
  if not self._socket then return nil, "closed" end
  self._socket:settimeout(left(self))
  local a, err, c = self._socket[name](self._socket, ...)
  if a == nil then return nil, problem(err), c end
  return a, err, c
end

function Stream:send(...) return call(self, "send", ...) end
function Stream:receive(...) return call(self, "receive", ...) end
function Stream:settimeout() return 1 end
function Stream:getfd() return self._socket and self._socket:getfd() or -1 end
function Stream:dirty() return self._socket ~= nil and self._socket:dirty() end
function Stream:close()
  if self._socket then self._socket:close() end
  self._socket = nil
  return 1
end

--- Connects to the first of the host's addresses that answers; each gets its share of the time that is left.
---@return 1|nil, string|nil
function Stream:connect(host, port)
  local socket = stream.need("socket", "lua-socket")
  local addresses, err = socket.dns.getaddrinfo(host)
  if not addresses then return nil, tostring(err) end
  err = "the name has no address"
  for i, address in ipairs(addresses) do
    local one = address.family == "inet6" and socket.tcp6() or socket.tcp4()
    one:settimeout(left(self) / (#addresses - i + 1))
    local ok
    ok, err = one:connect(address.addr, port)
    if ok then
      self._socket = one
      if self._tls_first then return self:secure(host) end
      return 1
    end
    one:close()
  end
  return nil, err
end

--- From here on TLS 1.2 or later: the certificate must be valid, and be for `host`.
---@param host string
---@return 1|nil, string|nil
function Stream:secure(host)
  local ssl = stream.need("ssl", "lua-sec")
  local file = self._cafile or ca_file()
  if not file then return nil, "TLS: no file of trusted certificates found; set SSL_CERT_FILE" end
  local wrapped, err = ssl.wrap(self._socket, { mode = "client", protocol = "any", verify = "peer", cafile = file,
    options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1" } })
  if not wrapped then return nil, ("TLS: %s (%s)"):format(tostring(err), file) end
  self._socket = wrapped
  if not is_address(host) then wrapped:sni(host) end
  wrapped:settimeout(left(self))
  local ok
  ok, err = wrapped:dohandshake()
  if not ok then return nil, "TLS: " .. tostring(problem(err)) end
  if not is_for(wrapped:getpeercertificate(), host) then return nil, "TLS: the certificate is not for " .. host end
  return 1
end

return stream
