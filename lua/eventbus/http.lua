--- A request to an HTTP or HTTPS service, as handlers need it: JSON there and back, a deadline, certificates verified.
-- Uses LuaSocket, and LuaSec for https. It blocks the calling thread (never the bus's own) for at most the deadline.

local json = require "eventbus.json"

local http = {}

local TIMEOUT = 10
local CA_FILES = {
  "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
  "/etc/ssl/ca-bundle.pem", "/usr/local/share/certs/ca-root-nss.crt", "/opt/homebrew/etc/ca-certificates/cert.pem",
}

local function need(name, package)
  local ok, module = pcall(require, name)
  if not ok then error(("eventbus.http needs %s (apt-get install %s)\n%s"):format(name, package, module), 0) end
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

-- A certificate's name covers a host when equal, or with one leading "*." for exactly one label.
local function covers(name, host)
  name, host = name:lower(), host:lower()
  if name == host then return true end
  local rest = name:match("^%*(%.[^*]+%.[^*]+)$")
  return rest ~= nil and host:match("^[^.]+(%..*)$") == rest
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

-- A socket with our deadline, which LuaSocket's http would replace by its own.
local function plain_socket(timeout)
  local self = { inner = need("socket", "lua-socket").tcp() }
  self.inner:settimeout(timeout)
  function self.settimeout() return 1 end
  return setmetatable(self, { __index = function(_, name)
    return function(s, ...) return s.inner[name](s.inner, ...) end
  end })
end

-- The same, speaking TLS once connected.
local function tls_socket(timeout)
  local ssl = need("ssl", "lua-sec")
  local file = ca_file()
  if not file then return nil, "no file of trusted certificates found; set SSL_CERT_FILE" end
  local self = plain_socket(timeout)
  function self.connect(_, host, port)
    local ok, err = self.inner:connect(host, port)
    if not ok then return nil, err end
    local secure
    secure, err = ssl.wrap(self.inner, { mode = "client", protocol = "any", verify = "peer", cafile = file,
      options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1" } })
    if not secure then return nil, err end
    self.inner = secure
    secure:sni(host)
    secure:settimeout(timeout)
    ok, err = secure:dohandshake()
    if not ok then return nil, "TLS: " .. tostring(err) end
    if not is_for(secure:getpeercertificate(), host) then return nil, "TLS: the certificate is not for " .. host end
    return 1
  end
  return self
end

--- Sends a request and reads the answer whole. Any status is an answer; nil, message is for none at all.
---@param method string
---@param url string
---@param body? any  encoded as JSON
---@param options? { headers: table, timeout: number }
---@return { status: integer, body: string, headers: table, json: any }|nil, string|nil
function http.request(method, url, body, options)
  local client, ltn12 = need("socket.http", "lua-socket"), need("ltn12", "lua-socket")
  options = options or {}
  local timeout = options.timeout or TIMEOUT
  local text = body ~= nil and assert(json.encode(body, { sort_keys = true })) or ""
  local authority = url:match("^https?://([^/?#]+)") or error("http.request: the URL must begin with http:// or https://", 2)
  local headers = { ["content-type"] = "application/json", ["content-length"] = tostring(#text),
    host = (authority:gsub("^.*@", "")) }
  for name, value in pairs(options.headers or {}) do headers[name:lower()] = value end
  local chunks, problem = {}, nil
  local secure = url:match("^https:") ~= nil
  local request = {
    method = method, headers = headers, source = ltn12.source.string(text), sink = ltn12.sink.table(chunks),
    redirect = false,
    create = function()
      local s, err = (secure and tls_socket or plain_socket)(timeout)
      problem = err
      return s, err
    end,
  }
  -- LuaSocket knows no https, but takes any socket: the scheme is ours to translate, the port with it.
  request.url = secure and url:gsub("^https:", "http:", 1) or url
  if secure and not authority:find(":%d+$") then request.port = 443 end
  local ok, status, answer_headers = client.request(request)
  if not ok then return nil, ("%s: %s"):format(headers.host, tostring(problem or status)) end
  local answer = { status = status, body = table.concat(chunks), headers = answer_headers }
  if (answer_headers["content-type"] or ""):find("json", 1, true) then answer.json = (json.decode(answer.body)) end
  return answer
end

---@return { status: integer, body: string, headers: table, json: any }|nil, string|nil
function http.post(url, body, options)
  return http.request("POST", url, body, options)
end

return http
