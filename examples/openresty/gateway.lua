-- gateway: an HTTP request becomes an event.
--
--   POST /events/order.created   with the event's data as JSON; X-Tenant-Id names the tenant
--
--   202 { id }                   the broker has confirmed it
--   400 { error, problems }      not JSON, no such event, or not what the catalogue says it holds; each with its place
--   503 { error }, Retry-After   the broker takes nothing now: blocked, full, unreachable. After a "timeout" it may have it

local eventbus = require "eventbus"
local platform = require "eventbus.platform"

local gateway = {}

local RETRY_AFTER = 5
-- A client waits no longer than this for the broker.
local TIMEOUT = 3

local bus

--- Called in init_worker, where nothing can wait: the bus connects when it is first needed.
function gateway.start()
  bus = eventbus.assert(eventbus.connect {
    lazy = true, source = "http-gateway", publish_timeout = TIMEOUT,
    log = function(level, text, fields)
      ngx.log(level == "error" and ngx.ERR or level == "warning" and ngx.WARN or ngx.INFO, "eventbus: ", text, " ",
        fields and eventbus.json.encode(fields) or "")
    end,
  })
  return bus
end

local function answer(status, body)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  if status == 503 then ngx.header["Retry-After"] = RETRY_AFTER end
  ngx.say(eventbus.json.encode(body, { sort_keys = true }))
end

local function wrong(text, problems)
  answer(400, { error = text, problems = problems })
end

-- What an event of the catalogue holds, or nothing: then the client has been told what is wrong.
local function read(event_type)
  ngx.req.read_body()
  local text = ngx.req.get_body_data() or ""
  local data, err = eventbus.json.decode(text, { big = "string" })
  if err then return wrong(text == "" and "the request has no body" or err.message) end
  local ok, problems = platform.validate { type = event_type, data = data }
  if ok then return data end
  local list = eventbus.json.array {}
  for i, problem in ipairs(problems) do list[i] = { path = problem.path, message = problem.message } end
  wrong(problems[1].path == "type" and problems[1].message or ("not what %s holds"):format(event_type), list)
end

function gateway.accept(event_type)
  if ngx.req.get_method() ~= "POST" then
    ngx.header.Allow = "POST"
    return answer(405, { error = "an event is sent with POST" })
  end
  local data = read(event_type)
  if data == nil then return end
  local blocked = bus:stats().blocked
  if blocked then return answer(503, { error = "blocked: " .. blocked }) end
  local id, err = bus:publish(platform.exchange_of(event_type), event_type, data,
    { tenant_id = ngx.var.http_x_tenant_id })
  if id then return answer(202, { id = id }) end
  if err.code == "invalid" or err.code == "too_large" then return wrong(err.message) end
  answer(503, { error = ("%s: %s"):format(err.code, err.message) })
end

return gateway
