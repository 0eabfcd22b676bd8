--- A request to an HTTP or HTTPS service, as handlers need it: JSON there and back, one deadline for all of it,
-- certificates verified, an answer of bounded size. By LuaSocket, and LuaSec for https. It blocks the calling thread (never
-- the bus's own) for at most the timeout. A connection serves one request: handlers send seldom, and a connection kept open
-- may be gone just when it is needed. Errors name the host, never the rest of the URL.

local json = require "eventbus.json"
local options = require "eventbus.options"
local stream = require "eventbus.stream"

local http = {}

local TIMEOUT = 10
local MAX_BODY = 16 * 1024 * 1024

---@class eventbus.http.Options
---@field headers table<string, string>|nil
---@field timeout number|string|nil   for the whole request, 10 s unless told
---@field content_type string|nil     the body is a text of this type, not a value to be encoded as JSON
---@field cafile string|nil           trusted certificates (PEM) instead of the system's
---@field max_body number|string|nil  of an answer, 16 MiB unless told; a larger one is an error
local OPTIONS = {
  headers = options.table, timeout = options.duration, content_type = options.string, cafile = options.string,
  max_body = options.size,
}

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

local function headers_of(authority, text, given)
  local headers = {
    ["content-type"] = given.content_type or "application/json", ["content-length"] = tostring(#text),
    host = (authority:gsub("^.*@", "")),
  }
  for name, value in pairs(given.headers or {}) do
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

local function request(method, url, body, opts, where, level)
  local authority = url:match("^https?://([^/?#]+)")
  if not authority then error(where .. ": the URL must begin with http:// or https://", level) end
  local given = options.check(OPTIONS, opts, where, level)
  local client, ltn12 = stream.need("socket.http", "lua-socket"), stream.need("ltn12", "lua-socket")
  local text = body == nil and "" or body
  if body ~= nil and not given.content_type then
    local encoded, wrong = json.encode(body, { sort_keys = true })
    if not encoded then return nil, tostring(wrong) end
    text = encoded
  end
  local headers, err = headers_of(authority, text, given)
  if not headers then return nil, err end
  if breaks_line(url) or url:find(" ", 1, true) then
    return nil, headers.host:gsub("%c", "?") .. ": a space or line break in the URL"
  end
  local chunks, secure = {}, url:match("^https:") ~= nil
  local asked = {
    method = method, headers = headers, source = ltn12.source.string(text), redirect = false,
    sink = bounded_sink(chunks, given.max_body or MAX_BODY),
    create = function() return stream.new(given.timeout or TIMEOUT, secure, given.cafile) end,
  }
  -- LuaSocket is told of no https, but takes any socket: the scheme is ours to translate, the port with it.
  asked.url = secure and url:gsub("^https:", "http:", 1) or url
  if secure and not authority:find(":%d+$") then asked.port = 443 end
  -- It raises when a peer breaks off in the midst of a folded header.
  local ran, ok, status, answer_headers = pcall(client.request, asked)
  if not ran then return nil, headers.host .. ": the answer is no HTTP" end
  if not ok or not answer_headers then return nil, ("%s: %s"):format(headers.host, tostring(status)) end
  local answer = { status = status, body = table.concat(chunks), headers = answer_headers }
  if (answer_headers["content-type"] or ""):find("json", 1, true) then
    answer.json = (json.decode(answer.body, { big = "string" }))
  end
  answer.retry_after = tonumber((answer_headers["retry-after"] or ""):match("^%s*(%d+)%s*$"))
  return answer
end

--- Sends a request and reads the answer whole. Any status is an answer; nil, message is for none at all.
---@param method string
---@param url string
---@param body? any  encoded as JSON, unless `content_type` says what text it is
---@param opts? eventbus.http.Options
---@return eventbus.http.Answer|nil, string|nil
function http.request(method, url, body, opts)
  local answer, err = request(method, url, body, opts, "http.request", 3)
  return answer, err
end

---@param url string
---@param body? any
---@param opts? eventbus.http.Options
---@return eventbus.http.Answer|nil, string|nil
function http.post(url, body, opts)
  local answer, err = request("POST", url, body, opts, "http.post", 3)
  return answer, err
end

return http
