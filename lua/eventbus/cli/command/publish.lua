--- eventbus publish: one event from the command line, or many from a file, each confirmed by the broker.

local connection = require "eventbus.cli.connection"
local merged = require "eventbus.merged"
local options = require "eventbus.options"
local units = require "eventbus.units"

local publish = { summary = "Publish events." }

-- A long run outlives a restart of the broker.
local PATIENCE = 60

local function pair(text)
  local name, value = text:match("^([^=]+)=(.*)$")
  if not name then return nil, ("expected NAME=VALUE, got %q"):format(text) end
  return { name, value }
end

local function priority(text)
  local value = options.integer(0, 255)(tonumber(text))
  if not value then return nil, ("expected a whole number from 0 to 255, got %q"):format(text) end
  return value
end

function publish.define(parser)
  parser:argument("exchange", 'The exchange; "" is the default one: --routing-key is then a queue.')
  parser:argument("type", "The event's type; with --from that of lines without one."):args("?")
  parser:argument("data", "The payload as JSON, @FILE, or - for stdin; default: null."):args("?")
  parser:option("--tenant", "tenant_id."):argname("ID")
  parser:option("--correlation", "correlation_id."):argname("ID")
  parser:option("--id", "The event's id; default: a new one."):argname("ID")
  parser:option("--source", "source; default: eventbus."):argname("NAME")
  parser:option("--metadata", "A field of metadata; may be repeated."):argname("NAME=VALUE"):count("*"):convert(pair)
  parser:option("--header", "A header, a text; may be repeated."):argname("NAME=VALUE"):count("*"):convert(pair)
  parser:option("--routing-key", "Default: the type."):argname("KEY")
  parser:flag("--mandatory", "An event that no queue takes is an error.")
  parser:option("--expiration", "Gone from a queue after so long."):argname("TIME"):convert(connection.duration)
  parser:option("--priority", "0 to 255."):argname("N"):convert(priority)
  parser:option("--count", "So many times, each with an id of its own."):argname("N"):convert(connection.count(1))
  parser:option("--from", "One event a line, - for stdin: envelopes, or objects with type and data."):argname("FILE")
  parser:option("--start", "Begin at this line of the file."):argname("LINE"):convert(connection.count(1))
  parser:flag("--resume", "Keep a state file, and go on where an earlier run was interrupted.")
  parser:option("--state", "That file; default: FILE.progress."):argname("STATE")
  parser:option("--rate", "So many a second, minute or hour: 50/s."):argname("RATE")
    :convert(require("eventbus.pace").rate)
  parser:flag("--validate", "Check payloads against the platform's catalogue first.")
  parser:flag("-n --dry-run", "Print the envelopes, publish nothing.")
  parser:flag("-q --quiet", "Do not print the ids.")
  connection.options(parser)
  parser:epilog([[
Prints the id of each event once the broker has confirmed it, in order. A line
that is no event ends it, with line and column; what came before is published.
Events that were returned or refused are named by line, and the exit code is 1.

After an interruption the same command with --resume goes on: events that were
under way are published again with the same ids, none is left out.

  eventbus publish orders order.created '{"order_id": "order_xyz"}' --mandatory
  eventbus publish products --from products.jsonl --resume --rate 200/s]])
end

local function table_of(pairs_given)
  if not pairs_given or #pairs_given == 0 then return nil end
  local result = {}
  for _, item in ipairs(pairs_given) do result[item[1]] = item[2] end
  return result
end

local function check(args)
  local misuse = require("eventbus.cli.exit").misuse
  if args.from then
    if args.data then misuse("DATA and --from exclude each other") end
    if args.id or args.count then misuse("--id and --count are for one event, not for --from") end
  elseif not args.type then
    misuse("the event's type is missing", "eventbus publish EXCHANGE TYPE DATA, or --from FILE")
  end
  if args.id and (args.count or 1) > 1 then misuse("--id and --count exclude each other: ids are unique") end
  if (args.resume or args.state or args.start) and (not args.from or args.from == "-") then
    misuse("--resume, --state and --start need --from FILE")
  end
  if args.start and (args.resume or args.state) then misuse("--start and --resume exclude each other") end
end

local function open_file(args)
  local file = require("eventbus.cli.eventfile").open(args.from)
  if not file.seekable and (args.resume or args.state or args.start) then
    require("eventbus.cli.exit").misuse(("%s is a pipe: --resume, --state and --start need a file"):format(args.from))
  end
  return file
end

local function payload(args)
  local exit, eventfile = require "eventbus.cli.exit", require "eventbus.cli.eventfile"
  local text, name = args.data, "DATA"
  if text == nil then return require("eventbus.json").null end
  if text == "-" then
    local err
    name, text, err = "stdin", io.read("*a")
    if not text then exit.misuse("cannot read stdin: " .. tostring(err)) end
  elseif text:sub(1, 1) == "@" then
    name = text:sub(2)
    local file, err = io.open(name, "rb")
    if not file then exit.misuse("cannot open " .. tostring(err)) end
    text, err = file:read("*a")
    file:close()
    if not text then exit.misuse(("cannot read %s: %s"):format(name, tostring(err))) end
  end
  local value, message = eventfile.parse(text, 1)
  if message then
    exit.misuse(("%s: %s"):format(name, message), "a text is JSON with its quotes: '\"text\"'")
  end
  return value
end

-- Where events come from: a function that answers the next number and event; nil at the end; nil, message for none.

local function from_arguments(args)
  local data, count, at = payload(args), args.count or 1, 0
  return function()
    if at >= count then return nil end
    at = at + 1
    return at, { type = args.type, data = data, id = args.id }
  end, count
end

local function from_file(args, file, run)
  if args.start then file:begin_at(args.start) end
  return function()
    local event, message = file:next()
    if not event then return nil, message end
    -- With the line in it, an event has the same id when it is published again.
    if event.id == nil then event.id = ("%s-%d"):format(run, file.line) end
    return file.line, event
  end
end

-- What the command line adds to an event, and how it is sent.
local function completed(args)
  local metadata, headers = table_of(args.metadata), table_of(args.header)
  local properties = { headers = headers, mandatory = args.mandatory or nil, priority = args.priority,
    expiration = args.expiration and units.milliseconds(args.expiration) }
  if next(properties) == nil then properties = nil end
  return function(event)
    if event.type == nil then event.type = args.type end
    if event.tenant_id == nil then event.tenant_id = args.tenant end
    if event.correlation_id == nil then event.correlation_id = args.correlation end
    if event.source == nil then event.source = args.source or "eventbus" end
    if metadata then event.metadata = merged(metadata, type(event.metadata) == "table" and event.metadata or {}) end
    return { exchange = args.exchange, routing_key = args.routing_key or event.type, event = event,
      properties = properties }
  end
end

-- What is wrong with an event before it is sent; nil for nothing.
local function problem_of(args, event)
  if type(event.type) ~= "string" or event.type == "" then
    return "it has no type: give it one, or TYPE on the command line"
  end
  if not args.validate then return nil end
  local ok, problems = require("eventbus.platform").validate(event)
  if ok then return nil end
  local texts = {}
  for i, problem in ipairs(problems) do texts[i] = problem.message end
  return table.concat(texts, "; ")
end

local function named(args, number, message)
  if not args.from then return message end
  if message:find("line " .. number, 1, true) then return message end
  return ("line %d: %s"):format(number, message)
end

local function dry_run(args, cli, source, complete, file)
  local exit, envelope = require "eventbus.cli.exit", require "eventbus.envelope"
  local bad = 0
  while true do
    local number, event = source()
    if not number and not event then break end
    local text, problem
    if number then
      local what = complete(event)
      problem = problem_of(args, what.event)
      if not problem then
        local err
        text, err = envelope.encode(what.event)
        problem = err and err.message
      end
    else
      problem, number = event, file.line
    end
    if problem then
      bad = bad + 1
      cli.err:line("eventbus: ", (args.from and args.from .. ": " or ""), named(args, number, problem))
      if file and file.broken then break end
    elseif not args.quiet then
      cli.out:line(text)
    end
  end
  return bad == 0 and exit.OK or exit.FAILED
end

-- The state of a file that is published with --resume.

local function open_state(args, cli, file)
  local exit, progressfile = require "eventbus.cli.exit", require "eventbus.cli.progressfile"
  local run = require("eventbus.envelope").new({ type = "run" }).id
  local state = { file = args.from, run = run, line = (args.start or 1) - 1, offset = 0, before = "", published = 0,
    failed = 0 }
  if not args.resume and not args.state then return state, nil end
  local store, before = progressfile.open(args.state or args.from .. ".progress")
  if before then
    -- What follows may have been mended since.
    if file:before(before.offset) ~= before.before then
      exit.misuse(("%s is not what it was up to line %d when %s was written"):format(args.from, before.line, store.path),
        "publish the rest with --start LINE, or remove that file to publish all again")
    end
    state = before
    file:go_on(state.line, state.offset)
    cli.err:line(("going on after line %d: %d were published before"):format(state.line, state.published))
  end
  return state, store
end

local function conclude(args, cli, file, state, store, outcome)
  local exit = require "eventbus.cli.exit"
  local many = args.from or (args.count or 1) > 1
  if many then
    cli.err:line(("%d published%s%s"):format(state.published,
      state.failed > 0 and (", %d failed"):format(state.failed) or "",
      outcome.open > 0 and (", %d under way: they may have arrived"):format(outcome.open) or ""))
  end
  if outcome.ended and store then
    store:remove()
  elseif not outcome.ended and file and file.seekable then
    cli.err:line(("all up to line %d %s; %s"):format(state.line, state.failed > 0 and "was dealt with" or "is published",
      store and "the same command goes on there" or ("--start %d goes on there"):format(state.line + 1)))
  end
  if outcome.problem then exit.fail(outcome.problem) end
  if outcome.fatal then error(exit.of_error(outcome.fatal, "stopped"), 0) end
  return state.failed > 0 and exit.FAILED or exit.OK
end

local function send_all(args, cli, bus, caught, source, complete, file, state, store)
  local offsets, outcome = {}, { open = 0, ended = false }
  local bar = cli.err:bar("publishing", file and cli.err.tty and file:lines() or args.count)
  local s = require("eventbus.cli.stream").new(bus, { rate = args.rate, stop = function() return caught:came() end,
    told = function(number, id, err)
      -- Unknown outcomes are not passed by: the next run sends them again.
      if err and err.code ~= "returned" and err.code ~= "nacked" then
        outcome.fatal = outcome.fatal or err
        return
      end
      if err then
        state.failed = state.failed + 1
        cli.err:line("eventbus: ", named(args, number, ("%s (%s)"):format(err.message, id)))
      else
        state.published = state.published + 1
        if not args.quiet then cli.out:write(id, "\n") end
      end
      if not outcome.fatal then
        state.line, state.offset = number, offsets[number] or 0
        offsets[number] = nil
        if store then store:save(state, file) end
      end
      bar:update(file and number or state.published)
    end })
  while true do
    local number, event = source()
    if not number then
      outcome.ended, outcome.problem = event == nil, event
      break
    end
    if file then offsets[number] = file.offset end
    local what = complete(event)
    local problem, sent = problem_of(args, what.event), false
    if not problem then
      local err
      sent, err = s:publish(number, what)
      problem = err and err.message
    end
    if problem then
      outcome.problem = named(args, number, problem)
      break
    elseif not sent then
      break
    end
  end
  outcome.open = s:finish()
  outcome.fatal = outcome.fatal or s.fatal
  if outcome.fatal or outcome.open > 0 then outcome.ended = false end
  bar:finish()
  cli.out:flush()
  if store and not outcome.ended then store:save(state, file, true) end
  if outcome.problem and args.from then outcome.problem = args.from .. ": " .. outcome.problem end
  return outcome
end

function publish.run(args, cli)
  local exit = require "eventbus.cli.exit"
  check(args)
  local file = args.from and open_file(args)
  local complete = completed(args)
  local state, store = { published = 0, failed = 0, line = 0 }, nil
  if file then state, store = open_state(args, cli, file) end
  local source = file and from_file(args, file, state.run) or from_arguments(args)
  if args.dry_run then return dry_run(args, cli, source, complete, file) end
  local bus = connection.open(args, { publish_timeout = math.max(args.timeout or 0, PATIENCE) })
  local caught = require("eventbus.cli.interruption").catch(bus)
  local ok, outcome = pcall(send_all, args, cli, bus, caught, source, complete, file, state, store)
  local code = caught:code()
  caught:release()
  bus:close()
  if not ok then error(outcome, 0) end
  local result = conclude(args, cli, file, state, store, outcome)
  if code and not outcome.ended then
    cli.err:line("interrupted")
    return code
  end
  return result or exit.OK
end

return publish
