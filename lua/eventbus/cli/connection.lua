--- The connection of a command: the options that say where the broker is, and what opens a bus with them.
-- No password is ever shown: `connection.display` is what may be printed.

local eventbus = require "eventbus"
local exit = require "eventbus.cli.exit"

local connection = {}

local DEFAULT_URL = "amqp://guest:guest@localhost:5672"
-- Seconds, thirty years: timers count whole milliseconds, and far beyond that they cannot.
local LONGEST = 1e9

--- Adds the options that say where the broker is to a command of the parser.
---@param parser table  argparse's
function connection.address_options(parser)
  parser:option("--url", "AMQP URL; default: $RABBITMQ_URL, or guest at localhost."):argname("URL")
  parser:option("--cacert", "Trusted certificates of the broker (PEM)."):argname("FILE")
  parser:option("--cert", "Client certificate (PEM)."):argname("FILE")
  parser:option("--key", "Its key (PEM)."):argname("FILE")
end

--- The same, and how long to wait for it.
---@param parser table
function connection.options(parser)
  connection.address_options(parser)
  parser:option("--timeout", "Give up on the broker after so long; default 10s."):argname("TIME")
    :convert(connection.duration)
end

--- Adds the option that says where the management API is.
---@param parser table
function connection.management_option(parser)
  parser:option("--management",
    "URL of the management API; default: $RABBITMQ_MANAGEMENT_URL, or the broker's host at port 15672."):argname("URL")
end

--- argparse's converter of a duration.
function connection.duration(text)
  local seconds, expected = require("eventbus.units").duration(text)
  if not seconds then return nil, ("expected %s, got %q"):format(expected, text) end
  if seconds > LONGEST then return nil, ("expected at most %.0f s, got %q"):format(LONGEST, text) end
  return seconds
end

--- argparse's converter of a whole number from `low` on.
function connection.count(low)
  return function(text)
    local n = tonumber(text)
    if not n or n % 1 ~= 0 or n < low or n >= 2 ^ 53 then
      return nil, ("expected a whole number, %d or more, got %q"):format(low, text)
    end
    return math.floor(n)
  end
end

--- The AMQP URL that counts. It may hold a password.
---@param args table  what the parser read
---@return string
function connection.url(args)
  local env = os.getenv("RABBITMQ_URL")
  return args.url or (env and env ~= "" and env) or DEFAULT_URL
end

--- The parts of that URL; ends the command when it is none.
---@param args table
---@return table
function connection.parts(args)
  local parts, err = eventbus.core.url(connection.url(args))
  if not parts then exit.misuse(("%s: %s"):format(args.url and "--url" or "RABBITMQ_URL", err.message)) end
  return parts
end

--- The broker's address for people.
---@param args table
---@return string
function connection.display(args)
  return connection.parts(args).display
end

--- The options of eventbus.connect that the command line says, and no others.
---@param args table
---@return table
function connection.given(args)
  if args.url then connection.parts(args) end
  return { url = args.url, cacertfile = args.cacert, certfile = args.cert, keyfile = args.key }
end

--- A bus for a command: quiet, and gone after `--timeout` when the broker is. Ends the command when it cannot connect.
---@param args table
---@param options? table  more options of eventbus.connect
---@return eventbus.Bus
function connection.open(args, options)
  connection.parts(args)
  local limit = args.timeout or 10
  local given = {
    url = connection.url(args), source = "eventbus", connection_timeout = math.max(limit, 0.001), timeout = limit,
    cacertfile = args.cacert, certfile = args.cert, keyfile = args.key, log = false,
  }
  for name, value in pairs(options or {}) do given[name] = value end
  local bus, err = eventbus.connect(given)
  if not bus then error(exit.of_error(err, "no connection to " .. connection.display(args)), 0) end
  return bus
end

--- The management API of that broker.
---@param args table
---@return eventbus.Management
function connection.management(args)
  local parts = connection.parts(args)
  local env = os.getenv("RABBITMQ_MANAGEMENT_URL")
  local url = args.management or (env and env ~= "" and env) or nil
  -- The CA of the URL is that of its host.
  local cafile = args.cacert or (not url and parts.cacertfile) or nil
  local api, err = require("eventbus.management").new(url, parts, { timeout = args.timeout or 10, cafile = cafile })
  if not api then exit.misuse(err) end
  return api
end

return connection
