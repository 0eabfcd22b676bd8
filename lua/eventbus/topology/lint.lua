--- What a broker accepts and what then never works, and what it refuses whatever it has. Each check looks for one such
-- trap in a normalised topology and reports through `report(code, severity, subject, message)`; none of them needs a broker.
-- A binding that says `intended = true` is not asked about the events it matches.

local argument = require "eventbus.topology.argument"
local nearest = require "eventbus.nearest"
local pattern = require "eventbus.pattern"
local route = require "eventbus.topology.route"
local schema = require "eventbus.topology.schema"

local lint = {}

local function each(entities)
  local names, i = schema.sorted_keys(entities), 0
  return function()
    i = i + 1
    return names[i], entities[names[i]]
  end
end

local function quoted(list)
  local result = {}
  for i, item in ipairs(list) do result[i] = ('"%s"'):format(item) end
  return table.concat(result, ", ")
end

local function keys_of(events)
  local keys = {}
  for i, event in ipairs(events) do keys[i] = event.routing_key end
  return keys
end

-- The events whose messages can arrive at an exchange, directly or through other exchanges.
local function arriving(topology, catalogue, exchange)
  local upstream, events = route.upstream(topology, exchange), {}
  for _, event in ipairs(catalogue) do
    if upstream[event.exchange] then events[#events + 1] = event end
  end
  return events
end

local function unknown_exchange(topology, catalogue, report)
  local function check(subject, exchange, what)
    if exchange ~= "" and not route.kind(topology, exchange) then
      report("unknown-exchange", "error", subject, ('%s the exchange "%s", which is not declared%s'):format(
        what, exchange, nearest.hint(exchange, schema.sorted_keys(topology.exchanges))))
    end
  end
  for _, b in ipairs(topology.bindings) do
    check(b.destination, b.source, "is bound to")
    if b.kind == "exchange" then check(b.source, b.destination, "is the source of a binding for") end
  end
  for name, q in each(topology.queues) do
    if q.dead_letter then check(name, q.dead_letter.exchange, "dead-letters to") end
  end
  for name, e in each(topology.exchanges) do
    check(name, e.arguments["alternate-exchange"] or "", "has as its alternate")
  end
  for _, event in ipairs(catalogue) do check(event.type, event.exchange, "is published to") end
end

local function wildcard_on_direct(topology, _, report)
  for _, b in ipairs(topology.bindings) do
    if route.kind(topology, b.source) == "direct" and pattern.is_pattern(b.routing_key) then
      local meant = {}
      for name, q in each(topology.queues) do
        local d = q.dead_letter
        if d and d.exchange == b.source and pattern.matches(b.routing_key, d.routing_key or name) then
          meant[#meant + 1] = d.routing_key
        end
      end
      report("wildcard-on-direct", "error", b.destination,
        ('is bound with "%s" to "%s", a direct exchange, where a wildcard matches only itself; %s'):format(
          b.routing_key, b.source, #meant > 0 and "bind " .. quoted(meant) or "bind each key, or use a topic exchange"))
    end
  end
end

local function key_on_fanout(topology, _, report)
  for _, b in ipairs(topology.bindings) do
    if route.kind(topology, b.source) == "fanout" and pattern.prefix(b.routing_key) ~= "" then
      report("key-on-fanout", "warning", b.destination,
        ('is bound with "%s" to "%s", a fanout exchange, which ignores keys: everything arrives'):format(
          b.routing_key, b.source))
    end
  end
end

local function shares_prefix(prefix, key)
  return prefix ~= "" and (key == prefix or key:sub(1, #prefix + 1) == prefix .. ".")
end

-- Events below a pattern's prefix that neither it nor another binding of the same pair takes.
local function missed_by(topology, b, events)
  local missed = {}
  for _, event in ipairs(events) do
    if shares_prefix(pattern.prefix(b.routing_key), event.routing_key) then
      local taken = false
      for _, other in ipairs(topology.bindings) do
        taken = taken or (other.source == b.source and other.destination == b.destination
          and pattern.matches(other.routing_key, event.routing_key))
      end
      if not taken then missed[#missed + 1] = event.routing_key end
    end
  end
  return missed
end

local function pattern_misses(topology, catalogue, report)
  for _, b in ipairs(topology.bindings) do
    if route.kind(topology, b.source) == "topic" and pattern.is_pattern(b.routing_key) and not b.intended then
      local missed = missed_by(topology, b, arriving(topology, catalogue, b.source))
      if #missed > 0 then
        report("pattern-misses", "warning", b.destination,
          ('"%s" from "%s" misses %s (a * is exactly one word); "%s.#" takes %s'):format(b.routing_key, b.source,
            quoted(missed), pattern.prefix(b.routing_key), #missed > 1 and "them" or "it"))
      end
    end
  end
end

-- What was probably meant by a binding that matches no event.
local function meant_by(b, events, catalogue)
  if b.routing_key == "*" then return '"#" takes all events' end
  local also = {}
  for _, event in ipairs(catalogue) do
    if pattern.matches(b.routing_key, event.routing_key) then
      return ('"%s" is published to "%s"'):format(event.routing_key, event.exchange)
    end
    for _, alias in ipairs(event.also or {}) do
      if pattern.matches(b.routing_key, alias) then also[#also + 1] = event.routing_key end
    end
  end
  if #also == 0 then also[1] = nearest.find(b.routing_key, keys_of(events), math.huge) end
  return ("nearest: %s"):format(quoted(also))
end

local function matches_nothing(topology, catalogue, report)
  for _, b in ipairs(topology.bindings) do
    local kind = route.kind(topology, b.source)
    local events = arriving(topology, catalogue, b.source)
    if #events > 0 and (kind == "topic" or kind == "direct") and not b.intended then
      local matched = false
      for _, event in ipairs(events) do matched = matched or route.takes(kind, b, event.routing_key) end
      if not matched then
        report("matches-nothing", "warning", b.destination, ('"%s" from "%s" matches no event; %s'):format(
          b.routing_key, b.source, meant_by(b, events, catalogue)))
      end
    end
  end
end

local function event_unrouted(topology, catalogue, report)
  for _, event in ipairs(catalogue) do
    if route.kind(topology, event.exchange) and #route.queues(topology, event.exchange, event.routing_key) == 0 then
      report("event-unrouted", "warning", event.type,
        ('reaches no queue: published to "%s", the broker drops it'):format(event.exchange))
    end
  end
end

local function dead_letter_targets(topology)
  local targets = {}
  for _, q in pairs(topology.queues) do
    if q.dead_letter then targets[q.dead_letter.exchange] = true end
  end
  return targets
end

local function nothing_arrives(topology, catalogue, report)
  local targets, told = dead_letter_targets(topology), {}
  for _, b in ipairs(topology.bindings) do
    local declared = topology.exchanges[b.source]
    if b.kind == "queue" and declared and not declared.passive and not targets[b.source] and not told[b.source]
      and not b.intended and #catalogue > 0 and #arriving(topology, catalogue, b.source) == 0 then
      told[b.source] = true
      report("nothing-arrives", "warning", b.source,
        ('no event is published to it and no exchange is bound to it: "%s" stays empty'):format(b.destination))
    end
  end
end

-- The keys with which a queue's messages may be dead-lettered: its own, or else those they came with.
local function dead_letter_keys(topology, catalogue, name, q)
  if q.dead_letter.routing_key then return { q.dead_letter.routing_key } end
  local keys = {}
  for _, b in ipairs(topology.bindings) do
    if b.kind == "queue" and b.destination == name then
      if not pattern.is_pattern(b.routing_key) then keys[#keys + 1] = b.routing_key end
      for _, event in ipairs(arriving(topology, catalogue, b.source)) do
        if route.takes(route.kind(topology, b.source), b, event.routing_key) then keys[#keys + 1] = event.routing_key end
      end
    end
  end
  return keys
end

local function dead_letter_unroutable(topology, catalogue, report)
  for name, q in each(topology.queues) do
    local exchange = q.dead_letter and q.dead_letter.exchange
    local declared = exchange and topology.exchanges[exchange]
    if exchange and (exchange == "" or route.kind(topology, exchange)) and not (declared and declared.passive) then
      local lost = {}
      for _, key in ipairs(dead_letter_keys(topology, catalogue, name, q)) do
        if #route.queues(topology, exchange, key) == 0 then lost[#lost + 1] = key end
      end
      if #lost > 0 then
        report("dead-letter-unroutable", "error", name, ('dead-letters to "%s" with %s, where no queue is bound for %s: '
          .. "dead letters vanish"):format(exchange, quoted(lost), #lost > 1 and "them" or "it"))
      end
    end
  end
end

local function dead_letter_unused(topology, catalogue, report)
  local targets, used = dead_letter_targets(topology), {}
  for name, q in each(topology.queues) do
    if q.dead_letter then
      local exchange = q.dead_letter.exchange
      for _, key in ipairs(dead_letter_keys(topology, catalogue, name, q)) do used[exchange .. "\0" .. key] = key end
    end
  end
  for _, b in ipairs(topology.bindings) do
    if targets[b.source] and route.kind(topology, b.source) == "direct" and not b.intended
      and not pattern.is_pattern(b.routing_key) and not used[b.source .. "\0" .. b.routing_key]
      and #arriving(topology, catalogue, b.source) == 0 then
      local keys = {}
      for id, key in pairs(used) do
        if id:sub(1, #b.source + 1) == b.source .. "\0" then keys[#keys + 1] = key end
      end
      table.sort(keys)
      report("dead-letter-unused", "warning", b.destination, ('is bound with "%s" to "%s", but no queue dead-letters '
        .. "with that key%s"):format(b.routing_key, b.source, nearest.hint(b.routing_key, keys)))
    end
  end
end

local function dead_letter_loop(topology, _, report)
  for name, q in each(topology.queues) do
    local d = q.dead_letter
    if d then
      for _, target in ipairs(route.queues(topology, d.exchange, d.routing_key or name)) do
        if target == name then
          report("dead-letter-loop", "warning", name, "dead-letters into itself: what expires here is dropped by the "
            .. "broker's cycle check, what is rejected comes back at once, for ever")
        end
      end
    end
  end
end

local function internal_exchange(topology, catalogue, report)
  for name, q in each(topology.queues) do
    local e = q.dead_letter and topology.exchanges[q.dead_letter.exchange]
    if e and e.internal then
      report("internal-exchange", "error", name, ('dead-letters to "%s", which is internal: consumers publish their '
        .. "annotated dead letters there, and the broker refuses that"):format(e.name))
    end
  end
  for _, event in ipairs(catalogue) do
    local e = topology.exchanges[event.exchange]
    if e and e.internal then
      report("internal-exchange", "error", event.type, ('is published to "%s", which is internal'):format(e.name))
    end
  end
end

local function expiring_queue(topology, _, report)
  for name, q in each(topology.queues) do
    if q.arguments["x-expires"] and q.arguments["x-message-ttl"] and q.dead_letter then
      report("expires-delay-queue", "error", name, "is a delay queue with x-expires: the broker deletes an unused queue "
        .. "together with the messages in it, and publishing does not count as use")
    elseif q.arguments["x-expires"] and q.durable and not q.exclusive then
      report("expires", "warning", name, "has x-expires: without a consumer the broker deletes it with its messages")
    end
  end
end

local function quorum_without_dead_letters(topology, _, report)
  for name, q in each(topology.queues) do
    if q.type == "quorum" and not q.dead_letter then
      local limit = q.arguments["x-delivery-limit"]
      report("quorum-without-dlx", "warning", name, ("is a quorum queue with %s and no dead-letter exchange: after that "
        .. "many deliveries a message is dropped"):format(
          limit and "a delivery limit of " .. tostring(limit) or "the broker's delivery limit (20 since RabbitMQ 4)"))
    end
  end
end

local function refused(topology, _, report)
  for name, q in each(topology.queues) do
    if not q.passive then
      for _, problem in ipairs(argument.problems(q)) do
        report("refused", "error", name, problem .. ": the broker refuses the declaration (406)")
      end
    end
  end
end

local function weak_dead_lettering(topology, _, report)
  for name, q in each(topology.queues) do
    if q.type == "quorum" and q.arguments["x-dead-letter-strategy"] == "at-least-once"
      and q.arguments["x-overflow"] ~= "reject-publish" then
      report("strategy-ignored", "warning", name, 'asks for at-least-once dead-lettering; without overflow = '
        .. '"reject-publish" the broker silently does at-most-once')
    end
  end
end

local function silent_ttl(topology, _, report)
  for name, q in each(topology.queues) do
    if q.arguments["x-message-ttl"] and not q.dead_letter and not q.dead_letters then
      report("ttl-without-dlx", "warning", name, "has a message TTL and no dead-letter exchange: what expires is gone "
        .. "(dead_letters = true says that this is a queue of dead letters)")
    end
  end
end

local function transient_queue(topology, _, report)
  for name, q in each(topology.queues) do
    if not q.durable and not q.exclusive then
      report("transient", "warning", name, "is neither durable nor exclusive: lost at a restart, deprecated in RabbitMQ 4")
    end
  end
end

local function duplicate_binding(topology, _, report)
  local seen = {}
  for _, b in ipairs(topology.bindings) do
    local id = table.concat({ b.kind, b.source, b.destination, b.routing_key }, "\0")
    if seen[id] and next(b.arguments) == nil then
      report("duplicate-binding", "warning", b.destination, ('is bound twice to "%s" with "%s"'):format(
        b.source, b.routing_key))
    end
    seen[id] = true
  end
end

local CHECKS = {
  refused, unknown_exchange, wildcard_on_direct, dead_letter_unroutable, internal_exchange, expiring_queue, matches_nothing,
  pattern_misses, event_unrouted, nothing_arrives, dead_letter_unused, dead_letter_loop, quorum_without_dead_letters,
  weak_dead_lettering, silent_ttl, key_on_fanout, transient_queue, duplicate_binding,
}

--- All findings, errors first, otherwise in the order of the checks.
---@param topology table  normalised
---@param catalogue { type: string, exchange: string, routing_key: string, also?: string[] }[]
---@return { code: string, severity: "error"|"warning", subject: string, message: string }[]
function lint.findings(topology, catalogue)
  local errors, warnings = {}, {}
  local function report(code, severity, subject, message)
    local list = severity == "error" and errors or warnings
    list[#list + 1] = { code = code, severity = severity, subject = subject, message = subject .. ": " .. message }
  end
  for _, check in ipairs(CHECKS) do check(topology, catalogue, report) end
  for _, finding in ipairs(warnings) do errors[#errors + 1] = finding end
  return errors
end

return lint
