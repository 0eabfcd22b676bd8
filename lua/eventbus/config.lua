--- The configuration of a bus: option, else environment, else default.
-- A wrong option raises at the line of the caller of `connect`; a wrong environment variable is the world's fault and
-- answered by name.

local loops = require "eventbus.loops"
local options = require "eventbus.options"
local redact = require "eventbus.redact"
local retry = require "eventbus.retry"
local units = require "eventbus.units"

local config = {}

local positive_duration = function(value)
  local seconds, expected = units.duration(value)
  if seconds and seconds <= 0 then return nil, "more than 0 seconds" end
  return seconds, expected
end

local function metadata_table(value)
  if type(value) == "table" then return value end
  return nil, "a table"
end

local function codec(value)
  if type(value) == "table" and type(value.encode) == "function" and type(value.decode) == "function" then return value end
  return nil, "a table with functions encode and decode"
end

--- { exchange =, routing_key = }: where failed events go.
local DEAD_LETTER = { exchange = options.name, routing_key = options.name }

config.rules = {
  codec = codec,
  metadata = metadata_table,
  timeout = positive_duration,
  prefetch = options.integer(1, 65535),
  unhandled = options.either(options.choice("dead_letter", "ack"), options["function"]),
  dead_letter = options.either(options.shape(DEAD_LETTER), options.exactly(false)),
}

--- All options of `eventbus.connect`; docs/reference.md has their defaults.
---@class eventbus.ConnectOptions
---@field url string|nil
---@field source string|nil
---@field tenant_id string|nil
---@field connection_name string|nil
---@field prefetch integer|nil
---@field retry table|false|nil
---@field unhandled "dead_letter"|"ack"|function|nil
---@field dead_letter { exchange: string, routing_key: string|nil }|false|nil
---@field dlq_ttl number|string|false|nil
---@field codec eventbus.Codec|nil
---@field mandatory boolean|nil
---@field publish_timeout number|string|nil
---@field timeout number|string|nil
---@field connection_timeout number|string|nil
---@field heartbeat number|string|nil
---@field reconnect_delay number|string|nil
---@field reconnect_max number|string|nil
---@field retry_refused boolean|nil
---@field loop string|table|nil       see docs/loops.md
---@field wait boolean|number|string|nil
---@field lazy boolean|nil
---@field resend boolean|nil
---@field window integer|nil
---@field window_bytes integer|string|nil
---@field outbox integer|nil
---@field outbox_bytes integer|string|nil
---@field max_body integer|string|nil
---@field cacertfile string|nil
---@field certfile string|nil
---@field keyfile string|nil
---@field verify boolean|nil
---@field server_name string|nil
---@field log eventbus.Log|false|nil
---@field on_notice fun(notice: table)|nil
config.SCHEMA = {
  url = options.string,
  source = options.name,
  tenant_id = options.name,
  connection_name = options.string,
  prefetch = config.rules.prefetch,
  retry = retry.rule,
  unhandled = config.rules.unhandled,
  dead_letter = config.rules.dead_letter,
  dlq_ttl = options.either(units.duration, options.exactly(false)),
  codec = codec,
  mandatory = options.boolean,
  publish_timeout = positive_duration,
  timeout = positive_duration,
  connection_timeout = positive_duration,
  heartbeat = units.duration,
  reconnect_delay = positive_duration,
  reconnect_max = positive_duration,
  retry_refused = options.boolean,
  loop = loops.rule,
  wait = options.either(options.boolean, units.duration),
  lazy = options.boolean,
  resend = options.boolean,
  window = options.integer(1, 65535),
  window_bytes = options.size,
  outbox = options.integer(1, 10000000),
  outbox_bytes = options.size,
  max_body = options.size,
  cacertfile = options.string,
  certfile = options.string,
  keyfile = options.string,
  verify = options.boolean,
  server_name = options.string,
  log = options.either(options["function"], options.exactly(false)),
  on_notice = options["function"],
}

-- What the engine takes as it is.
local OF_CORE = {
  "url", "connection_name", "connection_timeout", "heartbeat", "window", "window_bytes", "outbox", "outbox_bytes",
  "max_body", "resend", "retry_refused", "reconnect_delay", "reconnect_max", "cacertfile", "certfile", "keyfile",
  "verify", "server_name",
}

local DEFAULT = {
  url = "amqp://guest:guest@localhost:5672",
  prefetch = 10,
  unhandled = "dead_letter",
  publish_timeout = 30,
  timeout = 30,
  mandatory = false,
  lazy = false,
  wait = false,
}

local function ms_option(value)
  local ms, expected = options.integer(0, 2 ^ 53)(tonumber(value))
  return ms, expected and "whole milliseconds, 0 to keep dead letters for good"
end

-- Variable, where it goes, and its rule over the text.
local ENVIRONMENT = {
  { name = "RABBITMQ_URL", key = "url", rule = options.string },
  { name = "RABBITMQ_PREFETCH", key = "prefetch", rule = function(v) return config.rules.prefetch(tonumber(v)) end },
  { name = "RABBITMQ_RETRY_COUNT", key = "retry_count", rule = function(v) return retry.SCHEMA.count(tonumber(v)) end },
  { name = "RABBITMQ_RETRY_DELAY", key = "retry_delay", rule = retry.SCHEMA.delay },
  { name = "RABBITMQ_DLQ_TTL", key = "dlq_ttl_ms", rule = ms_option },
}

local function read_environment(getenv)
  local found = {}
  for _, variable in ipairs(ENVIRONMENT) do
    local text = getenv(variable.name)
    if text and text ~= "" then
      local value, expected = variable.rule(text)
      if value == nil then
        return nil, ("environment variable %s: expected %s, got %q"):format(variable.name, expected, redact.urls(text))
      end
      found[variable.key] = value
    end
  end
  return found
end

-- The script's name without folder and ending.
local function program_name()
  local script = type(arg) == "table" and type(arg[0]) == "string" and arg[0] or "lua"
  return (script:match("([^/\\]+)$") or script):gsub("%.lua$", "")
end

---@class eventbus.Config
---@field url string
---@field source string
---@field prefetch integer
---@field retry table|false       read options; `eventbus.retry` makes the policy
---@field dlq_ttl integer         milliseconds; 0: dead letters are kept
---@field core table              what core.open takes

--- The configuration from options that the schema has read, or nil and what is wrong in the environment.
---@param given table
---@param getenv? fun(name: string): string|nil
---@return eventbus.Config|nil, string|nil
function config.resolve(given, getenv)
  local env, mistake = read_environment(getenv or os.getenv)
  if not env then return nil, mistake end
  local result = {}
  for key, value in pairs(DEFAULT) do result[key] = value end
  for _, key in ipairs { "url", "prefetch" } do
    if env[key] ~= nil then result[key] = env[key] end
  end
  for key, value in pairs(given) do result[key] = value end

  local defaults = { count = env.retry_count or 3, delay = env.retry_delay or 5 }
  if given.retry == false then
    result.retry = false
  else
    local given_retry = given.retry or {}
    if given_retry.delays and not given_retry.count then defaults.count = nil end
    for key, value in pairs(given_retry) do defaults[key] = value end
    result.retry = defaults
  end

  if given.dlq_ttl == false then
    result.dlq_ttl = 0
  elseif given.dlq_ttl then
    result.dlq_ttl = units.milliseconds(given.dlq_ttl)
  else
    result.dlq_ttl = env.dlq_ttl_ms or 86400000
  end

  result.source = result.source or program_name()
  result.core = {}
  for _, key in ipairs(OF_CORE) do result.core[key] = result[key] end
  return result
end

return config
