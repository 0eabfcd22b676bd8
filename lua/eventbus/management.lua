--- RabbitMQ's management API over HTTP(S): what AMQP cannot tell. https://www.rabbitmq.com/docs/management#http-api
-- Each call blocks for at most the timeout. Answers nil and an error of the library: 'connection' when nobody answers
-- (the plug-in is not enabled, say), 'refused' for the user's rights, 'not_found', 'precondition_failed', 'invalid'.

local Error = require "eventbus.error"
local http = require "eventbus.http"

local management = {}

-- A list of all queues of a large virtual host, with their samples.
local MAX_BODY = 128 * 1024 * 1024

---@class eventbus.Management
---@field vhost string    of the AMQP URL, for the calls that want one
---@field display string  its address, without the password
local Management = {}
Management.__index = Management

local function escape(text)
  return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end
management.escape = escape

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function base64(text)
  return (require("mime").b64(text))
end

--- A client. `url` nil: the host, user and password of an AMQP URL's parts (eventbus.core.url), port 15672, or 15671
-- under TLS. User and password in `url` count before those of the parts.
---@param url string|nil  "http://user:password@host:15672"
---@param parts table
---@param options? { timeout: number, cafile: string }  cafile: trusted certificates, for https
---@return eventbus.Management|nil, string|nil
function management.new(url, parts, options)
  local host = parts.hosts[1].name
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  url = url or (parts.tls and "https://%s:15671" or "http://%s:15672"):format(host)
  local scheme, rest = url:match("^(https?)://(.+)$")
  if not scheme then return nil, "the management URL must begin with http:// or https://" end
  -- What stands before the last '@' is never shown, wherever an unescaped character has moved it.
  local userinfo, place = rest:match("^(.*)@(.*)$")
  if userinfo and userinfo:find("[@/?#%s%c]") then
    return nil, "the management URL: in a user or password write '@' as %40, '/' as %2F, '?' as %3F, '#' as %23, "
      .. "a space as %20"
  end
  local user, password = parts.user or "guest", parts.password or "guest"
  if userinfo then
    local u, p = userinfo:match("^([^:]*):?(.*)$")
    user, password = unescape(u), unescape(p)
  end
  local base = ("%s://%s"):format(scheme, (place or rest):gsub("/+$", ""))
  return setmetatable({
    vhost = parts.vhost, display = base, user = user, _base = base, _timeout = options and options.timeout or 10,
    _cafile = options and options.cafile,
    _authorization = "Basic " .. base64(user .. ":" .. password),
  }, Management)
end

local CODE = { [401] = "refused", [403] = "refused", [404] = "not_found", [400] = "precondition_failed",
  [405] = "not_found" }

--- One request. `path` is what follows "/api", its parts escaped (`management.escape`).
---@param method string
---@param path string
---@param body? any  sent as JSON
---@return any result, eventbus.Error|nil  true when there is no content
function Management:request(method, path, body)
  local answer, problem = http.request(method, self._base .. "/api" .. path, body,
    { timeout = self._timeout, max_body = MAX_BODY, cafile = self._cafile,
      headers = { authorization = self._authorization } })
  if not answer then
    return nil, Error.new("connection", "no answer from the management API at " .. self.display .. ": " .. problem)
  end
  if answer.status >= 200 and answer.status < 300 then
    if answer.body == "" then return true end
    if answer.json == nil then
      return nil, Error.new("malformed", self.display .. " does not speak RabbitMQ's management API")
    end
    return answer.json
  end
  local said = type(answer.json) == "table" and (answer.json.reason or answer.json.error) or answer.body
  local code = CODE[answer.status] or "connection"
  if answer.status == 401 then
    said = ('user "%s" is refused, or has no management tag'):format(self.user)
  end
  local shown = path:gsub("%?.*", "")
  return nil, Error.new(code, ("%s /api%s: %s (%d)"):format(method, shown, tostring(said), answer.status),
    { status = answer.status })
end

---@return any, eventbus.Error|nil
function Management:get(path) return self:request("GET", path) end

--- Removes something. `conditions` is a query, "if-empty=true&if-unused=true": the broker itself sees to them.
---@param path string
---@param conditions? string
---@return true|nil, eventbus.Error|nil
function Management:delete(path, conditions)
  return self:request("DELETE", conditions and path .. "?" .. conditions or path)
end

--- The path of something in the virtual host: `api:path("queues", "search.products")`.
---@param kind string
---@return string
function Management:path(kind, ...)
  local parts = { "", kind, escape(self.vhost) }
  for i = 1, select("#", ...) do parts[#parts + 1] = escape((select(i, ...))) end
  return table.concat(parts, "/")
end

--- All queues of the virtual host.
---@return table[]|nil, eventbus.Error|nil
function Management:queues() return self:get(self:path("queues")) end
---@return table[]|nil, eventbus.Error|nil
function Management:exchanges() return self:get(self:path("exchanges")) end
---@return table[]|nil, eventbus.Error|nil
function Management:bindings() return self:get(self:path("bindings")) end
---@return table[]|nil, eventbus.Error|nil
function Management:policies() return self:get(self:path("policies")) end
--- What the virtual host has of a topology: see eventbus.topology.diff.
---@return eventbus.BrokerState|nil, eventbus.Error|nil
function Management:state()
  local state = {}
  for _, kind in ipairs { "exchanges", "queues", "bindings" } do
    local list, err = self[kind](self)
    if not list then return nil, err end
    state[kind] = list
  end
  -- Not every user may ask this, and not every version knows the answer.
  local host = self:get(self:path("vhosts"))
  local default = type(host) == "table" and host.default_queue_type
  if default and default ~= "undefined" then state.default_queue_type = tostring(default) end
  return state
end

--- Version, node, listeners, totals.
---@return table|nil, eventbus.Error|nil
function Management:overview() return self:get("/overview") end

return management
