--- The broker's certificate, as LuaSec sees it: subject, issuer, expiry, and whether the chain can be verified. The
-- library's own connection decides; this says why.

local tls = {}

local SOON = 30  -- days
local DAY = 86400

local function common_name(fields)
  for _, field in ipairs(fields or {}) do
    if field.name == "commonName" then return field.value end
  end
  return "?"
end

-- Seconds since 1970 of OpenSSL's "Jan 15 10:30:00 2027 GMT".
local function seconds_of(text)
  local MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
  local month, day, hour, minute, second, year = text:match("(%a+)%s+(%d+) (%d+):(%d+):(%d+) (%d+)")
  if not month then return nil end
  local when = { year = tonumber(year), month = (MONTHS:find(month, 1, true) + 2) / 3, day = tonumber(day),
    hour = tonumber(hour), min = tonumber(minute), sec = tonumber(second), isdst = false }
  -- os.time takes local time; the difference between the two readings of one moment is the zone.
  local t = os.time(when)
  local utc = os.date("!*t", t)
  utc.isdst = false
  return t + os.difftime(t, os.time(utc))
end

local function look_at_expiry(report, name, text)
  local expires = seconds_of(text)
  local days = expires and math.floor((expires - os.time()) / DAY)
  if not days then return report:ok("certificate", ("%s, until %s"):format(name, text)) end
  if days < 0 then
    report:error("certificate", ("%s expired %d days ago (%s)"):format(name, -days, text), "renew it on the broker")
  elseif days < SOON then
    report:warn("certificate", ("%s expires in %d days (%s)"):format(name, days, text), "renew it on the broker")
  else
    report:ok("certificate", ("%s, for %d more days"):format(name, days))
  end
end

local function first_reason(problems)
  for _, at_depth in pairs(type(problems) == "table" and problems or { { problems } }) do
    if type(at_depth) == "table" and at_depth[1] then return tostring(at_depth[1]) end
    if type(at_depth) == "string" then return at_depth end
  end
  return "unknown reason"
end

--- Shakes hands on a connected socket, without insisting on anything, and reports what the broker shows.
---@param report eventbus.cli.Report
---@param socket table  LuaSocket's
---@param host string
---@param parts table   of the URL
---@param args table
---@param seconds number
function tls.look(report, socket, host, parts, args, seconds)
  local there, ssl = pcall(require, "ssl")
  if not there then
    return report:unseen("certificate", "subject and expiry of the broker's certificate",
      "install LuaSec: apt-get install lua-sec")
  end
  local parameters = { mode = "client", protocol = "any", verify = "none", options = "all",
    cafile = args.cacert or parts.cacertfile, certificate = args.cert or parts.certfile, key = args.key or parts.keyfile }
  local secure, err = ssl.wrap(socket, parameters)
  if not secure then return report:error("tls", tostring(err), "check the files of --cacert, --cert and --key") end
  socket:settimeout(seconds)
  secure:settimeout(seconds)
  if not host:find("^[%d.:]+$") then secure:sni(host) end
  local ok
  ok, err = secure:dohandshake()
  if not ok then
    return report:error("tls", ("no TLS handshake with %s: %s"):format(host, tostring(err)),
      "is this the TLS port (5671)? Does the broker want a client certificate (--cert, --key)?")
  end
  local certificate = secure:getpeercertificate()
  local name = ('certificate of "%s" by "%s"'):format(common_name(certificate:subject()),
    common_name(certificate:issuer()))
  look_at_expiry(report, name, certificate:notafter())
  local verified, problems = secure:getpeerverification()
  if verified then
    report:ok("chain", ("verified against %s"):format(parameters.cafile or "the system's certificates"))
  elseif parameters.cafile then
    report:error("chain", ("not signed by a CA of %s: %s"):format(parameters.cafile, first_reason(problems)),
      "cacertfile= or --cacert must name the file with the CA of the broker's certificate")
  end
  local info = secure:info()
  if info and info.protocol then report:ok("tls", ("%s, %s"):format(info.protocol, info.cipher or "?")) end
end

tls.seconds_of = seconds_of

return tls
