--- The queues and exchanges on the broker: what of the topology is missing or otherwise, what nobody reads, where
-- messages can vanish.

local diff = require "eventbus.topology.diff"
local schema = require "eventbus.topology.schema"

local entities = {}

local function table_of(value) return type(value) == "table" and value or {} end

-- An argument of a queue, or what its policy says.
local function setting(queue, key)
  local argument = table_of(queue.arguments)["x-" .. key]
  if argument ~= nil then return argument end
  return table_of(queue.effective_policy_definition)[key]
end

local function look_at_differences(report, topology, state)
  local list = diff.compare(topology, state)
  local missing, otherwise, stale = {}, {}, {}
  for _, d in ipairs(list) do
    local name = ("%s %s"):format(d.entity, d.name)
    if d.conflict then
      if otherwise[#otherwise] ~= name then otherwise[#otherwise + 1] = name end
    elseif d.action == "create" then
      missing[#missing + 1] = name
    elseif d.action == "stale" then
      stale[#stale + 1] = name
    end
  end
  if #missing > 0 then
    report:error("topology", "missing: %s", "eventbus topology apply", missing)
  end
  if #otherwise > 0 then
    report:error("topology", "declaring fails (406), as these are declared otherwise: %s",
      "eventbus topology plan says which argument, and what to do", otherwise)
  end
  if #stale > 0 then
    report:warn("topology", "stale, and still at work: %s",
      "eventbus topology plan shows all, eventbus topology prune removes them", stale)
  end
  if #missing + #otherwise + #stale == 0 then report:ok("topology", "the broker has all of it, as it is declared") end
end

-- Read by nobody; dead letters and delays are not meant to be.
local function look_at_consumers(report, topology, queues)
  local unread, dead, count = {}, {}, 0
  for _, name in ipairs(schema.sorted_keys(topology.queues)) do
    local q, messages = queues[name], queues[name] and queues[name].messages or 0
    if q and topology.queues[name].dead_letters then
      if messages > 0 then
        dead[#dead + 1] = ("%s (%d)"):format(name, messages)
      end
    elseif q and not name:find("%.retry%.%d+$") then
      count = count + 1
      if (q.consumers or 0) == 0 then
        unread[#unread + 1] = messages > 0 and ("%s (%d waiting)"):format(name, messages) or name
      end
    end
  end
  if #unread > 0 then
    report:warn("consumers", "nobody reads %s",
      "start its service (eventbus run), or take the queue out of the topology: it fills up", unread)
  elseif count > 0 then
    report:ok("consumers", ("each of %d queues is read"):format(count))
  end
  if #dead > 0 then
    report:warn("dead letters", "in %s", "eventbus dlq list, show, replay", dead)
  end
end

local function look_at_limits(report, queues)
  local bare, transient, lazy, brief, broken = {}, {}, {}, {}, {}
  for _, q in ipairs(queues) do
    local kind = q.type or "classic"
    if kind == "quorum" and setting(q, "dead-letter-exchange") == nil then bare[#bare + 1] = q.name end
    if q.durable == false and not q.exclusive then transient[#transient + 1] = q.name end
    if setting(q, "queue-mode") == "lazy" then lazy[#lazy + 1] = q.name end
    local timeout = setting(q, "consumer-timeout")
    if type(timeout) == "number" and timeout < 60000 then
      brief[#brief + 1] = ("%s (%.14g s)"):format(q.name, timeout / 1000)
    end
    if type(q.state) == "string" and q.state ~= "running" and q.state ~= "idle" and q.state ~= "flow" then
      broken[#broken + 1] = ("%s is %s"):format(q.name, q.state)
    end
  end
  if #bare > 0 then
    report:error("delivery limit", "quorum queues without a dead-letter exchange: %s. What fails more often than the "
      .. "limit allows (20 since RabbitMQ 4, unless set) is dropped",
      "dead_letter in the topology, or a policy with dead-letter-exchange", bare)
  end
  if #transient > 0 then
    report:warn("transient", "neither durable nor exclusive: %s. Lost at a restart, refused by a later RabbitMQ 4",
      "durable = true, or exclusive", transient)
  end
  if #lazy > 0 then
    report:warn("lazy queues", "queue-mode lazy: %s. RabbitMQ 3.12 and later ignore it",
      "drop x-queue-mode; it needs a new queue", lazy)
  end
  if #brief > 0 then
    report:warn("ack timeout", "%s: a handler that takes longer loses its channel, and the event comes again",
      "a longer consumer-timeout, or quicker handlers", brief)
  end
  if #broken > 0 then
    report:error("queues", "%s", "its node is down or it lost its majority: bring the nodes back", broken)
  end
end

local function look_at_orphans(report, queues)
  local by_name, orphans, held = {}, {}, 0
  for _, q in ipairs(queues) do by_name[q.name] = q end
  for _, q in ipairs(queues) do
    local owner = q.name:match("^(.+)%.retry%.%d+$")
    if owner and not by_name[owner] then
      orphans[#orphans + 1] = q.name
      held = held + (q.messages or 0)
    end
  end
  if #orphans == 0 then return end
  if held > 0 then
    report:error("retries", ("delay queues whose main queue is gone: %%s. Their %d messages vanish when they are due")
      :format(held), "declare the main queue again (eventbus topology apply) before they are due", orphans)
  else
    report:warn("retries", "delay queues whose main queue is gone: %s",
      "eventbus topology prune, or rabbitmqctl delete_queue", orphans)
  end
end

--- With the management API.
---@param report eventbus.cli.Report
---@param topology table  normalised
---@param state eventbus.BrokerState
function entities.by_management(report, topology, state)
  local by_name = {}
  for _, q in ipairs(state.queues) do by_name[q.name] = q end
  look_at_differences(report, topology, state)
  look_at_consumers(report, topology, by_name)
  look_at_limits(report, state.queues)
  look_at_orphans(report, state.queues)
end

--- With AMQP alone.
---@param report eventbus.cli.Report
---@param topology table  normalised
---@param bus eventbus.Bus
function entities.by_amqp(report, topology, bus)
  local missing, queues, trouble = {}, {}, nil
  local function lacks(entity, name, err)
    if err.code == "not_found" then
      missing[#missing + 1] = entity .. " " .. name
    elseif err.code ~= "locked" then
      trouble = err
    end
  end
  for _, name in ipairs(schema.sorted_keys(topology.exchanges)) do
    if trouble then break end
    local ok, err = bus._hub:call("exchange_declare", { exchange = name, type = topology.exchanges[name].type,
      passive = true, record = false })
    if not ok then lacks("exchange", name, err) end
  end
  for _, name in ipairs(schema.sorted_keys(topology.queues)) do
    if trouble then break end
    local info, err = bus:queue_info(name)
    if info then
      queues[name] = { messages = info.messages, consumers = info.consumers }
    elseif not topology.queues[name].exclusive then
      lacks("queue", name, err)
    end
  end
  if #missing > 0 then
    report:error("topology", "missing: %s", "eventbus topology apply", missing)
  elseif not trouble then
    report:ok("topology", "all its exchanges and queues are there")
  end
  -- What could not be asked for is not in order.
  if trouble then
    report:error("topology", "cannot look at the queues and exchanges: " .. trouble.message, "see to that, and ask again")
  end
  look_at_consumers(report, topology, queues)
end

entities.look_at_limits, entities.look_at_orphans = look_at_limits, look_at_orphans

return entities
