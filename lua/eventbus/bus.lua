--- A bus: publish, subscribe, declare, run. Each bus object is a view (tenant, source, ... fixed by `with`) of one hub.

local config = require "eventbus.config"
local connect = require "eventbus.connect"
local consumer = require "eventbus.consumer"
local merged = require "eventbus.merged"
local message = require "eventbus.message"
local options = require "eventbus.options"
local runner = require "eventbus.runner"
local sender = require "eventbus.sender"
local ticket = require "eventbus.ticket"
local topology = require "eventbus.topology"
local units = require "eventbus.units"

local bus = {}


local CLOSE_TIMEOUT = 3

---@class eventbus.Bus
local Bus = {}
Bus.__index = Bus

---@class eventbus.ViewFields
---@field tenant_id string|nil
---@field correlation_id string|nil
---@field metadata table|nil     joined with that of each publish
---@field source string|nil
---@field headers table|nil      joined with those of each publish
---@field traceparent string|nil
---@field mandatory boolean|nil
---@field confirm boolean|nil    false: done when it is sent, and it may be lost
local VIEW = {
  tenant_id = options.string, correlation_id = options.string, metadata = options.table, source = options.name,
  headers = options.table, traceparent = options.string, mandatory = options.boolean,
  confirm = options.boolean,
}

-- What every publish of a view has beside its envelope.
local function properties_of(defaults)
  local headers = defaults.headers
  if defaults.traceparent then headers = merged(headers, { traceparent = defaults.traceparent }) end
  if defaults.confirm == false then return { headers = headers, confirm = false } end
  if not headers and not defaults.mandatory then return nil end
  return { headers = headers, mandatory = defaults.mandatory }
end

local function new_view(hub, defaults)
  local properties = properties_of(defaults)
  local send, post = sender.usual(hub, defaults, properties)
  return setmetatable({ _hub = hub, _defaults = defaults, _properties = properties, _usual_send = send, _usual_post = post },
    Bus)
end

--- Private to the library: see sender.lua.
Bus._send, Bus._publish = sender.send, sender.publish

--- Publishes an event and waits for the broker's confirm.
---@param exchange string
---@param event_type string  also the routing key, unless opts.routing_key says otherwise
---@param data any           the payload
---@param opts? eventbus.PublishOptions
---@return string|nil id, eventbus.Error|nil err
function Bus:publish(exchange, event_type, data, opts)
  local id, err = self:_publish(exchange, event_type, data, opts, "bus:publish", 3)
  return id, err
end

--- Publishes without waiting for the confirm. Waits only for room in the outbox, when it is full.
---@param exchange string
---@param event_type string
---@param data any
---@param opts? eventbus.PublishOptions
---@return eventbus.Ticket|nil, eventbus.Error|nil
function Bus:publish_async(exchange, event_type, data, opts)
  local send = self._usual_send
  local made, err = send and send(exchange, event_type, data, opts), nil
  if not made then made, err = self:_send(exchange, event_type, data, opts, "bus:publish_async", 3) end
  return made, err
end

--- Waits until every earlier publish_async is answered: true, or nil and an error whose `failed` says how many failed and
-- `cause` is the first.
---@param timeout? number|string
---@return true|nil, eventbus.Error|nil
function Bus:flush(timeout)
  local ok, err = ticket.flush(self._hub, timeout, 2)
  return ok, err
end

--- A view of this bus with fixed fields. It shares everything else; closing either closes both.
---@param fields eventbus.ViewFields
---@return eventbus.Bus
function Bus:with(fields)
  options.argument(fields, "table", "bus:with", "the fields", 2)
  local given, defaults = options.check(VIEW, fields, "bus:with"), self._defaults
  local result = merged(defaults, given)
  if result == defaults then result = merged({}, defaults) end
  result.metadata = merged(defaults.metadata, given.metadata)
  result.headers = merged(defaults.headers, given.headers)
  if result.mandatory and result.confirm == false then error("bus:with" .. sender.CONTRADICTION, 2) end
  return new_view(self._hub, result)
end

local DECLARE = { timeout = config.rules.timeout }

--- Declares a topology: exchanges, queues, bindings. Idempotent; all requests are sent at once. The first that fails is
-- returned; a mismatch says which argument, what the broker has (`err.have`) and what was asked for (`err.want`).
---@param t table  see eventbus.topology
---@param opts? { timeout: number|string }
---@return true|nil, eventbus.Error|nil
function Bus:declare(t, opts)
  local given = options.check(DECLARE, opts, "bus:declare")
  local hub = self._hub
  local settings = { dlq_ttl = hub.config.dlq_ttl }
  local normal, mistake = topology.check(t, settings)
  if not normal then error("bus:declare: " .. mistake, 2) end
  local steps = topology.plan(normal, settings)
  local ok, err, position = hub:call_all(steps, given.timeout)
  if not ok then
    local step = steps[position]
    if step and not err.argument then
      local args = step.args
      err.message = ("%s %q: %s"):format(step.name, args.queue or args.exchange or args.destination, err.message)
    end
    return nil, err
  end
  for name, queue in next, normal.queues do
    local tells = queue.dead_letter or queue.exclusive or queue.type == "quorum"
    hub.queues[name] = tells and queue or nil
  end
  return true
end

--- Subscribes handlers to a queue. They are called by `run` and `poll`, one event at a time unless `concurrency` says more.
---@param queue string
---@param handlers table<string, function>|function  by event type or pattern
---@param opts? eventbus.SubscribeOptions
---@return eventbus.Subscription|nil, eventbus.Error|nil
function Bus:subscribe(queue, handlers, opts)
  local made, err = consumer.subscribe(self, queue, handlers, opts, 3)
  return made, err
end

--- Handles events until stopped; see docs/reference.md.
---@param opts? eventbus.RunOptions
---@return true|nil, string|eventbus.Error
function Bus:run(opts)
  local ok, why = runner.run(self._hub, opts, 3)
  return ok, why
end

--- Handles what is there: at most `most` (256) events, waiting up to `timeout` (0) for the first.
---@param timeout? number|string
---@param most? integer
---@return integer|nil handled, eventbus.Error|nil err
function Bus:poll(timeout, most)
  local seconds, expected = units.duration(timeout or 0)
  if not seconds then error("bus:poll: expected " .. expected, 2) end
  if most ~= nil then options.argument(most, "number", "bus:poll", "the most events", 3) end
  local handled, err = runner.poll(self._hub, seconds, most or 256, 3)
  return handled, err
end

--- Ends `run`, in order. From a handler, a log function, on_notice or another coroutine. Without a running `run` it does
-- nothing.
function Bus:stop()
  if self._hub.may_stop then self._hub:stop() end
end

--- Closes the bus: subscriptions end, publishes under way are confirmed, connections close. Blocks up to `timeout` (3 s).
-- Idempotent. nil, err when asynchronous publishes had failed and nobody had asked.
---@param timeout? number|string
---@return true|nil, eventbus.Error|nil
function Bus:close(timeout)
  local seconds, expected = units.duration(timeout or CLOSE_TIMEOUT)
  if not seconds then error("bus:close: expected " .. expected, 2) end
  local ok, err = runner.close(self._hub, seconds)
  return ok, err
end

Bus.__close = function(self) self:close() end

--- Calls a function with each notice of the connections, beside the option `on_notice`. It must not wait.
---@param listener fun(notice: table)
function Bus:on_notice(listener)
  options.argument(listener, "function", "bus:on_notice", "the listener", 2)
  local listeners = self._hub.listeners
  listeners[#listeners + 1] = listener
end

--- Counters and states: `core` (of both connections), `subscriptions`, `connections`, `pending` publishes and `handovers`.
---@return table
function Bus:stats()
  local hub = self._hub
  local subscriptions = {}
  for _, each in next, hub.consumers do subscriptions[#subscriptions + 1] = each:stats() end
  table.sort(subscriptions, function(a, b) return a.queue < b.queue end)
  return {
    core = not hub.closed and hub.core:stats() or {}, subscriptions = subscriptions, handovers = hub.handover_count,
    pending = hub.core:unanswered(), queued = hub.last - hub.first + 1,
    connections = { control = hub.state.control, publish = hub.state.publish },
    blocked = hub.blocked.publish or false, closed = hub.closed or false,
  }
end

--- The descriptor that is readable while `poll` may find something.
---@return integer|nil
function Bus:fd()
  if self._hub.closed then return nil end
  return self._hub.core:fd()
end

function Bus:__tostring()
  return ("eventbus (%s, %s)"):format(self._defaults.source, self._hub.closed and "closed" or self._hub.state.control)
end

-- Small topology calls.

local function call(self, name, args)
  local result, err = self._hub:call(name, args)
  return result, err
end

--- { queue, messages, consumers }, or nil, err: 'not_found' when there is no such queue.
---@param queue string
---@return table|nil, eventbus.Error|nil
function Bus:queue_info(queue)
  options.argument(queue, "string", "bus:queue_info", "the queue", 2)
  return call(self, "queue_declare", { queue = queue, passive = true, record = false })
end

--- Removes all ready messages of a queue: how many.
---@param queue string
---@return integer|nil, eventbus.Error|nil
function Bus:purge(queue)
  options.argument(queue, "string", "bus:purge", "the queue", 2)
  local result, err = call(self, "queue_purge", { queue = queue })
  return result and result.messages, err
end

local DELETE = { if_unused = options.boolean, if_empty = options.boolean }

--- Deletes a queue: how many messages went with it.
---@param queue string
---@param opts? { if_unused: boolean, if_empty: boolean }
---@return integer|nil, eventbus.Error|nil
function Bus:delete_queue(queue, opts)
  options.argument(queue, "string", "bus:delete_queue", "the queue", 2)
  local given = options.check(DELETE, opts, "bus:delete_queue")
  local result, err = call(self, "queue_delete", { queue = queue, if_unused = given.if_unused, if_empty = given.if_empty })
  if result then self._hub.queues[queue] = nil end
  return result and result.messages, err
end

--- Deletes an exchange.
---@param exchange string
---@param opts? { if_unused: boolean }
---@return true|nil, eventbus.Error|nil
function Bus:delete_exchange(exchange, opts)
  options.argument(exchange, "string", "bus:delete_exchange", "the exchange", 2)
  local given = options.check({ if_unused = DELETE.if_unused }, opts, "bus:delete_exchange")
  local result, err = call(self, "exchange_delete", { exchange = exchange, if_unused = given.if_unused })
  return result and true, err
end

--- Takes one message off a queue: nil without an error when it is empty.
---@param queue string
---@return eventbus.Message|nil, eventbus.Error|nil
function Bus:get(queue)
  options.argument(queue, "string", "bus:get", "the queue", 2)
  local delivery, more = self._hub:get(queue)
  if not delivery then return nil, delivery == nil and more or nil end
  return message.new(self._hub, delivery, queue, more)
end

--- A bus, or nil, err; see docs/reference.md for the options.
---@param opts eventbus.ConnectOptions|string|nil
---@param level integer
---@return eventbus.Bus|nil, eventbus.Error|nil
function bus.connect(opts, level)
  local hub, err = connect.open(opts, level + 1)
  if not hub then return nil, err end
  local settings = hub.config
  return new_view(hub, { source = settings.source, tenant_id = settings.tenant_id, mandatory = settings.mandatory or nil })
end

return bus
