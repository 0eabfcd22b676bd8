--- eventbus: a reliable event bus on RabbitMQ. See README.md and docs/reference.md.

local Error = require "eventbus.error"
local bus = require "eventbus.bus"
local core = require "eventbus.core"
local outcome = require "eventbus.outcome"
local protect = require "eventbus.protect"

local eventbus = {
  _VERSION = "eventbus " .. core.version,
  Error = Error,
  assert = Error.assert,
  is_error = Error.is,
  reject = outcome.reject,
  retry = outcome.retry,
  ignore = outcome.ignore,
  json = require "eventbus.json",
  envelope = require "eventbus.envelope",
  core = core,
  running = protect.running,
}

--- Connects to the broker: a bus, or nil, err. Options beat environment variables beat defaults.
---@param opts? eventbus.ConnectOptions|string  options, or just the URL
---@return eventbus.Bus|nil, eventbus.Error|nil
function eventbus.connect(opts)
  local made, err = bus.connect(opts, 3)
  return made, err
end

return eventbus
