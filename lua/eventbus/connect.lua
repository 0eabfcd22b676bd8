--- Connecting: from options to a hub whose control connection is up.

local Error = require "eventbus.error"
local config = require "eventbus.config"
local core = require "eventbus.core"
local hub = require "eventbus.hub"
local options = require "eventbus.options"

local connect = {}

-- No answer at all from a resolver or a host; each attempt has its own, shorter limit.
local LONGEST = 300

-- Waits for the connection: true, or nil and why there is none.
local function wait_up(h, how)
  local now = core.now
  local patient = how ~= false
  local deadline = how == true and math.huge or now() + (patient and how or LONGEST)
  local function decided()
    return h.state.control == "up" or h.failure.control ~= nil or (not patient and h.attempt_failed ~= nil)
  end
  local answered = h:await_that(decided, deadline)
  if h.state.control == "up" then return true end
  local err = h.failure.control or h.attempt_failed
  if not err and not answered then err = Error.new("timeout", "no connection in time") end
  return nil, err
end

-- Of a hub that never connected: in the background somebody may wait for it.
local function give_up(h)
  h.closed = true
  h:clear_out()
  h.core:close(0)
end

local function name_of_connection(settings)
  return ("%s@%s:%d"):format(settings.source, core.hostname(), core.pid())
end

--- A hub, or nil, err. Options must have been given as a table or as a URL.
---@param opts eventbus.ConnectOptions|string|nil
---@param level integer  of the user, for mistakes
---@return eventbus.Hub|nil, eventbus.Error|nil
function connect.open(opts, level)
  if type(opts) == "string" then opts = { url = opts } end
  local given = options.check(config.SCHEMA, opts, "eventbus.connect", level)
  local settings, mistake = config.resolve(given)
  if not settings then return nil, Error.new("invalid", mistake) end
  settings.core.connection_name = settings.connection_name or name_of_connection(settings)
  local h, err = hub.open(settings)
  if not h then
    if not given.url and os.getenv("RABBITMQ_URL") and err.code == "invalid" then
      err.message = "environment variable RABBITMQ_URL: " .. err.message
    end
    return nil, err
  end
  if settings.lazy then return h end
  if not h:may_wait() then
    give_up(h)
    error("eventbus.connect: it would wait for the broker, and here nothing can; give lazy = true", level)
  end
  local ok
  ok, err = h.core:start("control")
  if ok then ok, err = wait_up(h, settings.wait) end
  if ok then return h end
  give_up(h)
  return nil, err
end

return connect
