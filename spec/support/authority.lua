--- authority: a certificate authority of a test's own, made by the openssl command, and real TLS servers (openssl
--- s_server) that show its certificates.
---
---     local ca = authority.new()                                        -- ca.file: its own certificate
---     local c = ca:issue { name = "good", alt = "DNS:localhost" }       -- c.certificate, c.key: PEM files
---     local s = authority.serve(c, { "-tls1_1" })                       -- s.port, s:output(), s:stop()
---
--- Options of issue beside these: from, to = days from now; usage = "clientAuth"; self = true: it signs itself; bits: an
--- RSA key of so many instead of an elliptic curve.

local program = require "spec.support.program"
local wait = require "spec.support.wait"

local authority = {}

local Authority = {}
Authority.__index = Authority

local CONFIGURATION = [[
[req]
distinguished_name = dn
prompt = no
[dn]
CN = eventbus
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[signer]
database = %s/index
new_certs_dir = %s
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
]]

local LEAF = [[
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = %s
subjectAltName = %s
]]

local function run(folder, command)
  local line = ("cd %s && umask 077 && %s >>log 2>&1"):format(program.quote(folder), command)
  local result = os.execute(line)
  if result == true or result == 0 then return end
  local file = assert(io.open(folder .. "/log"))
  error(command .. " failed:\n" .. file:read "*a", 3)
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- A new authority, in a folder that goes when the run ends.
function authority.new()
  local folder = program.folder()
  write(folder .. "/openssl.cnf", CONFIGURATION:format(folder, folder))
  write(folder .. "/index", "")
  run(folder, "openssl ecparam -name prime256v1 -genkey -noout -out ca.key")
  run(folder, "openssl req -new -x509 -config openssl.cnf -extensions ca -key ca.key -days 30 -subj '/CN=test CA' "
    .. "-out ca.pem")
  return setmetatable({ folder = folder, file = folder .. "/ca.pem" }, Authority)
end

local function stamp(days)
  return os.date("!%Y%m%d%H%M%SZ", os.time() + math.floor(days * 86400))
end

---@return { certificate: string, key: string }
function Authority:issue(options)
  local name = options.name
  write(("%s/%s.ext"):format(self.folder, name), LEAF:format(options.usage or "serverAuth",
    options.alt or "DNS:localhost,IP:127.0.0.1"))
  run(self.folder, (options.bits and "openssl genrsa -out %s.key " .. options.bits
    or "openssl ecparam -name prime256v1 -genkey -noout -out %s.key"):format(name))
  run(self.folder, ("openssl req -new -config openssl.cnf -key %s.key -subj '/CN=%s' -out %s.csr"):format(name,
    options.subject or name, name))
  run(self.folder, ("openssl ca -batch -config openssl.cnf -name signer -in %s.csr -out %s.pem -notext -startdate %s "
    .. "-enddate %s -extfile %s.ext -extensions leaf -keyfile %s -cert ca.pem%s"):format(name, name,
    stamp(options.from or -1), stamp(options.to or 30), name, options.self and name .. ".key" or "ca.key",
    options.self and " -selfsign" or ""))
  return { certificate = ("%s/%s.pem"):format(self.folder, name), key = ("%s/%s.key"):format(self.folder, name) }
end

local Server = {}
Server.__index = Server

--- A server that shakes hands with this certificate and then says nothing. `more`: further words of openssl s_server.
function authority.serve(identity, more)
  -- -rev answers line by line, and AMQP has no lines: after the handshake it is a broker that has stalled.
  local command = { "openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", "-cert", identity.certificate,
    "-key", identity.key }
  for _, word in ipairs(more or {}) do command[#command + 1] = word end
  local process = program.start("s_server", command)
  local port = wait.wait_until(function()
    if process:ended() then error("s_server ended: " .. process:output()) end
    return process:output():match("ACCEPT [%d.]+:(%d+)")
  end, 30, "the TLS server listens")
  return setmetatable({ process = process, port = tonumber(port) }, Server)
end

function Server:output() return self.process:output() end
function Server:stop() self.process:stop() end

return authority
