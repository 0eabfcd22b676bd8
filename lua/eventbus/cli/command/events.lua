--- eventbus events: the catalogue of the platform's events; envelopes checked against it. No broker is asked.

local exit = require "eventbus.cli.exit"

local events = { summary = "The catalogue of events: list, show, validate, AsyncAPI." }

function events.define(parser)
  parser:require_command(false):command_target("action")
  parser:flag("--asyncapi", "Print the catalogue as an AsyncAPI 3 document (JSON).")
  parser:flag("--json", "Print the list as JSON.")
  parser:epilog([[
Examples:
  eventbus events show order.created
  eventbus events show order.created --json | eventbus events validate -]])
  local list = parser:command("list", "List all events (also without a sub-command)."):summary("List all events.")
  list:argument("pattern", "Only these: order.*, product.#, or a part of the name."):args "?"
  list:flag("--json", "One JSON array.")
  local show = parser:command("show", "Show one event: fields, consumers, an example envelope."):summary("Show one event.")
  show:argument("type", "order.created")
  show:flag("--json", "Only the example envelope, on one line.")
  local validate = parser:command("validate", "Check envelopes against the catalogue: the envelope itself, a known type, " ..
    "the payload's fields. A file of one envelope, or of one per line."):summary("Check envelopes against the catalogue.")
  validate:argument("file", "A file, or - for standard input, which is the default."):args "?"
  validate:flag("-q --quiet", "Print only what is wrong.")
end

local function queues_of(event)
  local platform, topology = require "eventbus.platform", require "eventbus.topology"
  return topology.route(platform.topology, event.exchange, event.routing_key)
end

local function wanted(pattern)
  if not pattern then return function() return true end end
  local patterns = require "eventbus.pattern"
  if patterns.is_pattern(pattern) then return patterns.compile(pattern) end
  return function(event_type) return event_type:find(pattern, 1, true) ~= nil end
end

local function list(args, cli)
  local json, matches, found = require "eventbus.json", wanted(args.pattern), {}
  for _, event in ipairs(require("eventbus.platform").catalogue) do
    if matches(event.type) then found[#found + 1] = event end
  end
  if #found == 0 then
    exit.fail(("no event of the catalogue matches %q"):format(args.pattern), "eventbus events lists all")
  end
  if args.json then
    local result = json.array()
    for i, event in ipairs(found) do
      result[i] = { type = event.type, name = event.name, exchange = event.exchange, routing_key = event.routing_key,
        queues = json.array(queues_of(event)), example = event.example }
    end
    return cli.out:line(assert(json.encode(result, { sort_keys = true })))
  end
  local rows = { { "EVENT", "EXCHANGE", "NAME", "REACHES" } }
  for _, event in ipairs(found) do
    rows[#rows + 1] = { event.type, event.exchange, event.name, table.concat(queues_of(event), ", ") }
  end
  cli.out:rows(rows)
end

local function field_rows(fields, prefix, rows)
  for _, field in ipairs(fields) do
    local name, wants = prefix .. field[1], field[2]
    local types, optional = wants:gsub("%?$", "")
    rows[#rows + 1] = { "  " .. name, (types:gsub("|", " or ")), optional > 0 and "optional" or "" }
    if field[3] then field_rows(field[3], name .. (wants:find("array", 1, true) and "[]." or "."), rows) end
  end
  return rows
end

local function show(args, cli)
  local platform, json = require "eventbus.platform", require "eventbus.json"
  local event, message = platform.event(args.type)
  if not event then exit.fail(message, "eventbus events lists all") end
  local example = platform.example(args.type)
  if args.json then return cli.out:line(assert(json.encode(example, { sort_keys = true }))) end
  local out = cli.out
  out:line(out:style("bold", event.type), "  ", event.name)
  out:line("  exchange ", event.exchange, ", routing key ", event.routing_key)
  out:line("  reaches ", table.concat(queues_of(event), ", "))
  if event.also then out:line("  other names: ", table.concat(event.also, ", ")) end
  out:line()
  out:rows(field_rows(event.fields, "data.", { { "FIELD", "TYPE", "" } }))
  out:line()
  out:line(out:style("bold", "Example"))
  out:line(require("eventbus.cli.pretty").envelope(example))
end

local function read_all(path)
  local name, file = "standard input", io.stdin
  if path ~= "-" then
    local err
    name, file, err = path, io.open(path, "rb")
    if not file then exit.fail(tostring(err)) end
  end
  local text, why = file:read("*a")
  if file ~= io.stdin then file:close() end
  if not text then exit.fail(("cannot read %s: %s"):format(name, tostring(why))) end
  return text, name
end

-- The envelopes of a text: one, however many lines it takes, or one per line. Each with the place it begins at.
local function envelopes_in(text)
  local envelope = require "eventbus.envelope"
  local whole = envelope.decode(text)
  if whole then return { { place = "", event = whole } } end
  local found, number, filled = {}, 0, 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    if line:find("%S") then
      filled = filled + 1
      local event, err = envelope.decode(line)
      found[#found + 1] = { place = ("line %d: "):format(number), event = event, err = err }
    end
  end
  -- Nothing on any line: it was meant as one envelope, and its own error says more.
  local any = false
  for _, item in ipairs(found) do any = any or item.event ~= nil end
  if not any and (filled > 1 or #found == 0) then return { { place = "", err = select(2, envelope.decode(text)) } } end
  return found
end

local function validate(args, cli)
  local platform = require "eventbus.platform"
  local text, name = read_all(args.file or "-")
  local good, bad = 0, 0
  for _, item in ipairs(envelopes_in(text)) do
    local problems = {}
    if item.event then
      local ok, found = platform.validate(item.event)
      for i, problem in ipairs(not ok and found or {}) do problems[i] = problem.message end
    else
      problems[1] = item.err.message
    end
    if #problems == 0 then
      good = good + 1
      if not args.quiet then cli.out:line(name, ": ", item.place, item.event.type, " ", item.event.id, " is valid") end
    else
      bad = bad + 1
      for _, problem in ipairs(problems) do
        cli.out:line(name, ": ", item.place, item.event and item.event.type .. ": " or "", problem)
      end
    end
  end
  if bad == 0 then return end
  if good + bad > 1 then cli.err:line(("%d of %d envelopes are not valid"):format(bad, good + bad)) end
  return exit.FAILED
end

local ACTIONS = { list = list, show = show, validate = validate }

function events.run(args, cli)
  if args.asyncapi then
    local document = require("eventbus.platform.asyncapi").document(require("eventbus")._VERSION:match("[%d.]+"))
    return cli.out:line(require("eventbus.cli.pretty").json(document, { "asyncapi", "info" }))
  end
  return ACTIONS[args.action or "list"](args, cli)
end

return events
