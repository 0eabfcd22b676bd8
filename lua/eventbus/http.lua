--- A request to an HTTP or HTTPS service, as handlers need it: JSON there and back, one deadline for all of it,
-- certificates verified, an answer of bounded size. By LuaSocket, and LuaSec for https. It blocks the calling thread (never
-- the bus's own) for at most the timeout. A connection serves one request: handlers send seldom, and a connection kept open
-- may be gone just when it is needed. Errors name the host, never the rest of the URL.

local json = require "eventbus.json"
local stream = require "eventbus.stream"

local http = {}

local TIMEOUT = 10
local MAX_BODY = 16 * 1024 * 1024

---@class eventbus.http.Options
---@field headers table<string, string>|nil
---@field timeout number|nil       seconds for the whole request, 10 unless told
---@field content_type string|nil  the body is a text of this type, not a value to be encoded as JSON
---@field cafile string|nil        trusted certificates (PEM) instead of the system's
---@field max_body number|nil      bytes of an answer, 16 MiB unless told; a larger one is an error

---@class eventbus.http.Answer
---@field status integer
---@field body string
---@field headers table<string, string>  names in lower case
---@field json any                 what the body says, if it is JSON; integers this Lua cannot hold are texts
---@field retry_after number|nil   seconds, when the header says so

-- What would end a line of the request.
local function breaks_line(text)
  return text:find("[%z\1-\31\127]") ~= nil
end

local function headers_of(authority, text, options)
  local headers = {
    ["content-type"] = options.content_type or "application/json", ["content-length"] = tostring(#text),
    host = (authority:gsub("^.*@", "")),
  }
  for name, value in pairs(options.headers or {}) do
    if breaks_line(name) or breaks_line(value) then return nil, "a line break in the header " .. name:gsub("%c", "?") end
    headers[name:lower()] = value
  end
  return headers
end

local function bounded_sink(chunks, most)
  local size = 0
  return function(chunk)
    if chunk then
      size = size + #chunk
      if size > most then return nil, ("the answer is larger than %d bytes"):format(most) end
      chunks[#chunks + 1] = chunk
    end
    return 1
  end
end

--- Sends a request and reads the answer whole. Any status is an answer; nil, message is for none at all.
---@param method string
---@param url string
---@param body? any  encoded as JSON, unless `content_type` says what text it is
---@param options? eventbus.http.Options
---@return eventbus.http.Answer|nil, string|nil
function http.request(method, url, body, options)
  local authority = url:match("^https?://([^/?#]+)") or error("http.request: the URL must begin with http:// or https://", 2)
  local client, ltn12 = stream.need("socket.http", "lua-socket"), stream.need("ltn12", "lua-socket")
  options = options or {}
  local text = body == nil and "" or body
  if body ~= nil and not options.content_type then
    local encoded, wrong = json.encode(body, { sort_keys = true })
    if not encoded then return nil, tostring(wrong) end
    text = encoded
  end
  local headers, err = headers_of(authority, text, options)
  if not headers then return nil, err end
  if breaks_line(url) or url:find(" ", 1, true) then
    return nil, headers.host:gsub("%c", "?") .. ": a space or line break in the URL"
  end
  local chunks, secure = {}, url:match("^https:") ~= nil
  local request = {
    method = method, headers = headers, source = ltn12.source.string(text), redirect = false,
    sink = bounded_sink(chunks, options.max_body or MAX_BODY),
    create = function() return stream.new(options.timeout or TIMEOUT, secure, options.cafile) end,
  }
  -- LuaSocket is told of no https, but takes any socket: the scheme is ours to translate, the port with it.
  request.url = secure and url:gsub("^https:", "http:", 1) or url
  if secure and not authority:find(":%d+$") then request.port = 443 end
  -- It raises when a peer breaks off in the midst of a folded header.
  local ran, ok, status, answer_headers = pcall(client.request, request)
  if not ran then return nil, headers.host .. ": the answer is no HTTP" end
  if not ok or not answer_headers then return nil, ("%s: %s"):format(headers.host, tostring(status)) end
  local answer = { status = status, body = table.concat(chunks), headers = answer_headers }
  if (answer_headers["content-type"] or ""):find("json", 1, true) then
    answer.json = (json.decode(answer.body, { big = "string" }))
  end
  answer.retry_after = tonumber((answer_headers["retry-after"] or ""):match("^%s*(%d+)%s*$"))
  return answer
end

---@param url string
---@param body? any
---@param options? eventbus.http.Options
---@return eventbus.http.Answer|nil, string|nil
function http.post(url, body, options)
  return http.request("POST", url, body, options)
end

return http
