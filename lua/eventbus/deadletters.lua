--- Dead letters at work: look at those of a queue, send them back where they came from, move them, remove them.
--
-- Works on any queue, whoever dead-lettered (eventbus.letter). Each function makes one pass (eventbus.pass): over as many
-- messages as were there when it began, so that what fails again and comes back is not taken again. What is not chosen
-- stays, in its order; what is chosen is confirmed elsewhere before it is acknowledged here. Looking marks messages as
-- redelivered, and counts towards the delivery limit of a quorum queue.
--
-- All block until the pass is over, and answer its result, or nil, err when it could not begin. `result.err` says why a
-- pass ended before the end.

local deadletter = require "eventbus.deadletter"
local options = require "eventbus.options"
local pace = require "eventbus.pace"
local pass = require "eventbus.pass"

local deadletters = {}

local OURS = deadletter.HEADERS

---@class eventbus.LetterOptions
---@field select nil|fun(letter: eventbus.Letter): boolean|nil, string|nil  which; nil and a text end the pass
---@field limit integer|nil        end after so many chosen ones
---@field rate number|string|nil   chosen ones a second: 5, "5/s", "100/m"
---@field dry_run boolean|nil      only count
---@field stop nil|fun(): boolean|string|nil  asked now and then: true ends the pass in order, "now" without waiting
---@field progress nil|fun(result: eventbus.PassResult)  called now and then
local SCHEMA = {
  select = options["function"], limit = options.integer(1, 2 ^ 53), rate = pace.rate, dry_run = options.boolean,
  stop = options["function"], progress = options["function"],
}

local function schema_with(more)
  local schema = {}
  for name, rule in pairs(SCHEMA) do schema[name] = rule end
  for name, rule in pairs(more) do schema[name] = rule end
  return schema
end

local REPLAY = schema_with { to_queue = options.boolean }

local function queue_name(queue, where)
  options.argument(queue, "string", where, "the queue", 3)
  if queue == "" then error(where .. ": the queue's name is empty", 3) end
end

local function kept(code, message)
  return "keep", { code = code, message = message }
end

-- A copy can only be made of what arrived whole.
local function unfit(letter)
  local code, message = deadletter.unfit(letter._delivery)
  if code then return kept(code, message) end
end

local function hold() return "hold" end

--- Calls `visit(letter)` with each chosen one, oldest first, until it returns false. All go back to the queue at the end.
---@param bus eventbus.Bus
---@param queue string
---@param visit fun(letter: eventbus.Letter): boolean|nil
---@param opts? eventbus.LetterOptions
---@return eventbus.PassResult|nil, eventbus.Error|nil
function deadletters.browse(bus, queue, visit, opts)
  queue_name(queue, "deadletters.browse")
  options.argument(visit, "function", "deadletters.browse", "what to call", 2)
  local given = options.check(SCHEMA, opts, "deadletters.browse")
  local function act(letter)
    return visit(letter) == false and "last" or "hold"
  end
  local result, err = pass.run(bus._hub, queue, given.select, act, given)
  return result, err
end

--- Publishes them again as they were before they failed: to the exchange and with the key of the first publish, or, with
-- `to_queue`, only to the queue where they failed. Our annotations and the broker's are taken out, attempts start anew,
-- x-eventbus-replays counts one more. What no queue takes, and what nobody knows the origin of, stays.
---@param bus eventbus.Bus
---@param queue string
---@param opts? eventbus.LetterOptions|{ to_queue: boolean }
---@return eventbus.PassResult|nil, eventbus.Error|nil
function deadletters.replay(bus, queue, opts)
  queue_name(queue, "deadletters.replay")
  local given = options.check(REPLAY, opts, "deadletters.replay")
  local function act(letter)
    local exchange, key = letter.exchange, letter.routing_key
    if given.to_queue then exchange, key = "", letter.queue end
    if key == nil then
      return kept("unknown_origin", given.to_queue and "nobody wrote down in which queue it failed"
        or "nobody wrote down where it was first published")
    end
    if exchange == "" and key == queue then
      return kept("unknown_origin", "it came from this very queue, where it would go back to")
    end
    local verb, problem = unfit(letter)
    if verb then return verb, problem end
    return "send", { exchange = exchange, routing_key = key, body = letter.body,
      properties = deadletter.replayed(letter.properties, letter.headers) }
  end
  local result, err = pass.run(bus._hub, queue, given.select, given.dry_run and hold or act, given)
  return result, err
end

-- The broker does not keep what it wrote itself in x-death when a message is published again: it is said in our headers.
local function annotated(letter)
  local headers, properties = {}, letter.properties
  for name, value in pairs(letter.headers) do headers[name] = value end
  headers[OURS.cc] = headers[OURS.cc] or headers.CC
  headers.CC, headers.BCC, headers["x-death"], headers["x-delivery-count"] = nil, nil, nil, nil
  local function add(name, value)
    if headers[name] == nil then headers[name] = value end
  end
  if letter.history[1] then add(OURS.reason, letter.reason) end
  if letter.attempts > 1 then add(OURS.attempt, letter.attempts) end
  add(OURS.queue, letter.queue)
  add(OURS.exchange, letter.exchange)
  add(OURS.routing_key, letter.routing_key)
  add(OURS.first_failure, letter.first_failure)
  add(OURS.last_failure, letter.last_failure)
  add(OURS.expiration, properties.expiration)
  properties.headers, properties.mandatory, properties.user_id, properties.expiration = headers, true, nil, nil
  return properties
end

--- Moves them to another queue, as dead letters: reason, error, attempts and origin stay with them.
---@param bus eventbus.Bus
---@param queue string
---@param destination string
---@param opts? eventbus.LetterOptions
---@return eventbus.PassResult|nil, eventbus.Error|nil
function deadletters.move(bus, queue, destination, opts)
  queue_name(queue, "deadletters.move")
  queue_name(destination, "deadletters.move")
  if queue == destination then error("deadletters.move: from a queue to the same queue", 2) end
  local given = options.check(SCHEMA, opts, "deadletters.move")
  local there, err = bus:queue_info(destination)
  if not there then return nil, err end
  local function act(letter)
    local verb, problem = unfit(letter)
    if verb then return verb, problem end
    return "send", { exchange = "", routing_key = destination, body = letter.body, properties = annotated(letter) }
  end
  local result
  result, err = pass.run(bus._hub, queue, given.select, given.dry_run and hold or act, given)
  return result, err
end

--- Removes them for good: those that were there when it began, and none that came later (`bus:purge` empties a queue).
---@param bus eventbus.Bus
---@param queue string
---@param opts? eventbus.LetterOptions
---@return eventbus.PassResult|nil, eventbus.Error|nil
function deadletters.remove(bus, queue, opts)
  queue_name(queue, "deadletters.remove")
  local given = options.check(SCHEMA, opts, "deadletters.remove")
  local function act() return "remove" end
  local result, err = pass.run(bus._hub, queue, given.select, given.dry_run and hold or act, given)
  return result, err
end

--- The queues of dead letters that a topology knows: those with `dead_letters`, those named deadletter.*, and those that
-- subscriptions make for its queues. By name.
---@param topology table  normalised
---@return string[]
function deadletters.queues(topology)
  local set, list = {}, {}
  for name, queue in pairs(topology.queues) do
    if queue.dead_letters or name:find("^deadletter%.") then set[name] = true
    else set["deadletter." .. name] = true end
  end
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

return deadletters
