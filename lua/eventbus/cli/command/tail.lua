--- eventbus tail: live events, without disturbing anyone.

local connection = require "eventbus.cli.connection"
local exit = require "eventbus.cli.exit"

local tail = { summary = "Watch live events as they are published." }

-- Columns of a line where there is no window, and the seconds that a reader has at the end.
local NO_WINDOW, PATIENCE = 120, 5
local PUMP = 0.02

function tail.define(parser)
  connection.options(parser)
  parser:argument("pattern", "Event types: * is one word, # any number; default: #, all."):args("*")
  parser:option("--exchange", "Watch this exchange; may be repeated. Default: those of the platform's catalogue.")
    :argname("NAME"):count("*")
  parser:option("--tenant", "Only this tenant's events; may be repeated."):argname("ID"):count("*")
  parser:option("--where", "Only events for which this Lua expression is true; it knows the fields of the envelope, "
    .. "event, headers, exchange and routing_key."):argname("LUA")
  parser:flag("--data", "The whole payload and all fields, not cut to the window.")
  parser:flag("--json", "One envelope a line, as it came.")
  parser:option("--count", "End after so many events."):argname("N"):convert(connection.count(1))
  parser:option("--for", "End after so long."):argname("TIME"):convert(connection.duration):target("duration")
  parser:option("--buffer", "Events that the broker keeps for a slow reader, dropping the oldest; default 10000.")
    :argname("N"):convert(connection.count(10))
  parser:option("--since", "Not possible."):argname("TIME"):hidden(true)
  parser:epilog([[
The queue behind it is exclusive, bounded, and gone when this ends. Only what is
published from now on is shown: exchanges keep nothing, so there is no --since.
On a direct exchange a pattern is a literal key.

  eventbus tail
  eventbus tail 'order.*' payment.failed --tenant tenant_abc
  eventbus tail --where 'data.total and data.total > 1000' --json | jq .data
  eventbus tail --exchange deadletter order.processing.failed --data]])
end

local function catalogue_exchanges()
  local list, seen = {}, {}
  for _, event in ipairs(require("eventbus.platform").catalogue) do
    if not seen[event.exchange] then list[#list + 1] = event.exchange end
    seen[event.exchange] = true
  end
  return list
end

-- A line to stderr that never waits for the terminal.
local function teller(errors)
  return function(...) errors:write("eventbus: " .. table.concat({ ... }) .. "\n") end
end

-- What decides whether an event is shown: true, false; nil when the predicate failed.
local function filter_of(args, tell, counts)
  local tenants
  if #args.tenant > 0 then
    tenants = {}
    for _, id in ipairs(args.tenant) do tenants[id] = true end
  end
  local where = args.where and require("eventbus.cli.predicate").new(args.where)
  return function(seen, delivery)
    local event = seen.event
    if not event then return not tenants and not where end
    if tenants and not tenants[event.tenant_id] then return false end
    if not where then return true end
    local names = { event = event, headers = delivery:headers() or {}, exchange = seen.exchange,
      routing_key = seen.routing_key }
    for name, value in pairs(event) do
      if names[name] == nil then names[name] = value end
    end
    local matches, why = where:matches(names)
    if matches ~= nil then return matches end
    counts.failed = counts.failed + 1
    if counts.failed == 1 then
      local text = require "eventbus.cli.text"
      tell(text.safe(("--where fails on %s (%s): %s; it counts as no, and further failures are only counted"):format(
        event.id, event.type, why)))
    end
    return false
  end
end

local function sighting(delivery)
  local event, err = delivery:event()
  return { event = event, problem = err and err.message, body = delivery:oversized() and "" or delivery:body(),
    bytes = delivery:size(), exchange = delivery:exchange(), routing_key = delivery:routing_key() }
end

local function plural(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

local function summary(counts, unwritten)
  local parts = { plural(counts.shown, "event") .. " shown" }
  if counts.dropped > 0 then parts[#parts + 1] = counts.dropped .. " left out: the reader was too slow" end
  if counts.malformed > 0 then parts[#parts + 1] = counts.malformed .. " malformed" end
  if counts.failed > 0 then parts[#parts + 1] = "--where failed on " .. counts.failed end
  if unwritten > 0 then parts[#parts + 1] = "the reader did not take the last " .. plural(unwritten, "byte") end
  return table.concat(parts, ", ")
end

-- The function that shows one delivery.
local function shower(args, cli, bus, out, tell, counts)
  local eventline = require "eventbus.cli.eventline"
  local passes = filter_of(args, tell, counts)
  local look = { style = function(style, text) return cli.out:style(style, text) end,
    utf8 = require("eventbus.cli.terminal").utf8(), whole = args.data }
  local missed, measured = 0, nil

  -- The window may change its size, but need not be asked for each line.
  local function measure(second)
    if measured == second then return end
    local window = cli.out.tty and cli.out or cli.err.tty and cli.err
    measured, look.width = second, window and window:width() or NO_WINDOW
  end

  -- There is room again: say what is missing at this place.
  local function say_gap()
    local line = ("%s left out here: the reader was too slow"):format(plural(missed, "event"))
    missed = 0
    if args.json then return tell(line) end
    out:write(look.style("yellow", "-- " .. line) .. "\n")
  end

  return function(delivery)
    if args.count and counts.shown >= args.count then return end
    if missed > 0 and out.kept < out.limit / 2 then say_gap() end
    local seen = sighting(delivery)
    if not seen.event then counts.malformed = counts.malformed + 1 end
    if not passes(seen, delivery) then return end
    -- Cheap while the reader stands still: nothing is written out in full for nobody.
    local written = missed == 0
    if written then
      local clock = os.date("%H:%M:%S")
      measure(clock)
      local line = args.json and eventline.json(seen, cli.out.tty) or eventline.pretty(seen, clock, look)
      written = out:write(line .. "\n")
    end
    if not written then
      missed, counts.dropped = missed + 1, counts.dropped + 1
      return
    end
    counts.shown = counts.shown + 1
    if counts.shown == args.count then bus:stop() end
  end
end

-- Hands over what is kept, as soon as the reader takes it.
local Pump = {}
Pump.__index = Pump

function Pump:due(now)
  for _, each in ipairs(self.outlets) do
    if each.kept > 0 then each:pump() end
  end
  self.timers:add(now + PUMP, self)
end

local function follow(bus, tell)
  local lost = false
  bus:on_notice(function(notice)
    if notice.connection ~= "control" then return end
    if notice.event == "down" then
      lost = true
      tell("the connection is lost, trying again")
    elseif notice.event == "up" and lost then
      lost = false
      tell("connected again; events published in between are missing")
    elseif notice.event == "topology_failed" or notice.event == "consumer_failed" then
      tell("cannot watch again yet: ", notice.err and notice.err.message or "")
    end
  end)
end

local function open_tap(args, bus, take, tell)
  local given = #args.exchange > 0
  local exchanges = given and args.exchange or catalogue_exchanges()
  local patterns = #args.pattern > 0 and args.pattern or { "#" }
  local tap = exit.check(require("eventbus.cli.tap").open(bus, { exchanges = exchanges, patterns = patterns,
    optional = not given, buffer = args.buffer or 10000, take = take, full = function()
      tell("the queue of this tail is full: the broker drops its oldest events, and does not say how many")
    end }))
  if #tap.bound == 0 then
    exit.fail("none of the platform's exchanges exists: " .. table.concat(tap.absent, ", "),
      "eventbus topology apply declares them; --exchange watches another")
  end
  if #tap.absent > 0 then tell("no such exchange, left out: ", table.concat(tap.absent, ", ")) end
  return tap, patterns
end

function tail.run(args, cli)
  if args.since then
    exit.misuse("--since is not possible: an exchange keeps no events that are past",
      "events that failed are kept: eventbus dlq list")
  end
  for _, pattern in ipairs(args.pattern) do
    if #pattern > 255 then exit.misuse("a pattern has at most 255 bytes") end
  end
  -- A predicate with a mistake in it ends the command before anything is opened.
  if args.where then require("eventbus.cli.predicate").new(args.where) end
  local bus = connection.open(args, { reconnect_max = 5 })
  local counts = { shown = 0, dropped = 0, malformed = 0, failed = 0 }
  -- From here to their end the two streams do not wait.
  local outlet = require "eventbus.cli.outlet"
  local out, errors = outlet.new(io.stdout, 1), outlet.new(io.stderr, 2)
  local tell = teller(errors)
  local finished, why = pcall(function()
    follow(bus, tell)
    local tap, patterns = open_tap(args, bus, shower(args, cli, bus, out, tell, counts), tell)
    if cli.err.tty then
      tell(("watching %s for %s; Ctrl-C ends"):format(table.concat(tap.bound, ", "), table.concat(patterns, ", ")))
    end
    local hub = bus._hub
    Pump.due(setmetatable({ outlets = { out, errors }, timers = hub.timers }, Pump), hub.now())
    local ok, ended = bus:run { timeout = args.duration }
    exit.check(ok, ended)
    return ended
  end)
  bus:close(1)
  local signalled = finished and why == "signal"
  local taken, unwritten = pcall(out.finish, out, finished and not signalled and PATIENCE or 0.5)
  if not taken then
    -- Nobody reads any more; what ended the command before that counts more.
    finished, why, unwritten = false, finished and unwritten or why, 0
  end
  if finished and (signalled or cli.err.tty or counts.dropped + counts.failed + unwritten > 0) then
    tell(summary(counts, unwritten))
  end
  errors:finish(0.5)
  if not finished then error(why, 0) end
  if unwritten > 0 and not signalled then return exit.FAILED end
  return signalled and require("eventbus.cli.interruption").code() or exit.OK
end

return tail
