--- eventbus check: the owner's alert table as a Nagios plug-in.
-- Exit codes are Nagios': 0 ok, 1 warning, 2 critical, 3 unknown.

local connection = require "eventbus.cli.connection"
local exit = require "eventbus.cli.exit"
local topologies = require "eventbus.cli.topologies"

local check = { summary = "Check queues against their alert thresholds (a Nagios plug-in)." }

-- A threshold of the command line: a number, or "off".
local function threshold(low, whole)
  return function(text)
    if text == "off" then return false end
    local n = tonumber(text)
    if n and n >= low and n < 2 ^ 53 and (not whole or n % 1 == 0) then return whole and math.floor(n) or n end
    return nil, ("expected a%s number, %g or more, or off, got %q"):format(whole and " whole" or "", low, text)
  end
end

local function percent(text)
  local n = tonumber((text:gsub("%%$", "")))
  if n and n > 0 and n < 100 then return n / 100 end
  return nil, ("expected a percentage between 0 and 100, got %q"):format(text)
end

function check.define(parser)
  connection.options(parser)
  connection.management_option(parser)
  topologies.option(parser)
  parser:option("--queue", "Check only this queue; may be repeated. It need not be in the topology."):argname("NAME")
    :count("*")
  parser:option("--depth", "More messages ready than this is critical; default 10000. off: not checked."):argname("N")
    :convert(threshold(0, true))
  parser:option("--unacked", "More unacknowledged than this is critical; default 1000."):argname("N")
    :convert(threshold(0, true))
  parser:option("--consumers", "Fewer consumers than this is critical; default 1."):argname("N")
    :convert(threshold(0, true))
  parser:option("--rate", "A rate so many deviations off the learnt baseline is a warning; default 4."):argname("N")
    :convert(threshold(0.1))
  parser:option("--warn", "Warn from this share of --depth and --unacked on, for instance 80%."):argname("PERCENT")
    :convert(percent)
  parser:option("--learn", "Samples of an hour of the week before its baseline counts; default 30."):argname("N")
    :convert(connection.count(2))
  parser:option("--state", "File of the learnt baseline; default: under $XDG_STATE_HOME/eventbus."):argname("FILE")
  parser:flag("--json", "Print the result as one JSON value.")
  parser:option("--rules", "Print alerting rules for Prometheus instead, for the metrics of rabbitmq_exporter (exporter) "
    .. "or of RabbitMQ's own rabbitmq_prometheus (plugin)."):argname("KIND"):choices(require("eventbus.cli.rules").KINDS)
  parser:epilog([[
Thresholds per queue come from the topology:
alerts = { depth = 500, consumers = 2, rate = false }. false switches one off,
also against the command line. A missing queue is critical. Dead letters need no
consumers.

  eventbus check
  eventbus check --queue search.products --depth 500 --warn 80%
  eventbus check --rules exporter > eventbus.rules.yml

Exit codes: 0 ok, 1 warning, 2 critical (also: no broker), 3 unknown (also:
wrong command line).]])
end

local function overrides_of(args)
  return { depth = args.depth, unacked = args.unacked, consumers = args.consumers, rate = args.rate, warn = args.warn }
end

-- The queues to look at, with their limits, by name.
local function wanted(args)
  local alerts = require "eventbus.cli.alerts"
  local topology = require "eventbus.topology"
  local normal = topology.normalise((topologies.load(args)))
  local names = {}
  if #args.queue > 0 then
    local seen = {}
    for _, name in ipairs(args.queue) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  else
    for name in pairs(normal.queues) do names[#names + 1] = name end
    table.sort(names)
    if #names == 0 then exit.misuse("the topology has no queues to check", "give one with --queue") end
  end
  local list, overrides = {}, overrides_of(args)
  for i, name in ipairs(names) do
    list[i] = { name = name, limits = alerts.limits(normal.queues[name], overrides) }
  end
  return list, names
end

-- Compares with what was learnt, and learns: the verdicts by queue, and what is wrong with the file.
local function judge_rates(args, reading, queues)
  local baseline = require "eventbus.cli.baseline"
  local wall = math.floor(require("eventbus.core").wall())
  local slot = baseline.slot(os.date("*t", wall))
  local file = require("eventbus.cli.baselines").open(args.state
    or require("eventbus.cli.baselines").default_path(connection.parts(args)))
  local verdicts = {}
  for _, queue in ipairs(queues) do
    local published, k = reading.queues[queue.name].published, queue.limits.rate
    if published and k then
      local record = file:record(queue.name)
      local rate = baseline.rate(record, wall, published)
      if rate then verdicts[queue.name] = baseline.take(record, slot, rate, { k = k, need = args.learn }) end
    end
  end
  file:save(wall)
  return verdicts, file.note
end

local function results_of(args, reading, queues)
  local alerts = require "eventbus.cli.alerts"
  local verdicts, notes = {}, {}
  if reading.note then notes[1] = reading.note end
  local rated = false
  for _, queue in ipairs(queues) do rated = rated or queue.limits.rate end
  if rated and reading.via == "management" then
    verdicts, notes[#notes + 1] = judge_rates(args, reading, queues)
  end
  local results = {}
  for i, queue in ipairs(queues) do
    local gauge, verdict = reading.queues[queue.name], verdicts[queue.name]
    results[i] = { gauge = gauge, limits = queue.limits, verdict = verdict,
      findings = alerts.judge(gauge, queue.limits, verdict) }
  end
  return results, notes
end

local function as_json(results, notes, status)
  local json = require "eventbus.json"
  local list = json.array {}
  for i, result in ipairs(results) do
    local g, findings = result.gauge, json.array {}
    for k, finding in ipairs(result.findings) do findings[k] = finding end
    list[i] = { queue = g.name, ready = g.ready, unacked = g.unacked, consumers = g.consumers, exists = not g.missing,
      rate = result.verdict, findings = findings }
  end
  return assert(json.encode({ status = status, queues = list, notes = json.array(notes) }, { sort_keys = true }))
end

function check.run(args, cli)
  local queues, names = wanted(args)
  if args.rules then
    cli.out:write(require("eventbus.cli.rules").text(queues, connection.parts(args).vhost, args.rules))
    return exit.OK
  end
  local nagios = require "eventbus.cli.nagios"
  local source = require("eventbus.cli.gauges").new(args)
  local reading = exit.check(source:read(names))
  local results, notes = results_of(args, reading, queues)
  source:close()
  -- What was asked for by name and did not answer is no "ok".
  local env = os.getenv("RABBITMQ_MANAGEMENT_URL")
  local asked = args.management or env and env ~= ""
  local text, status = nagios.report(results, notes,
    { floor = reading.via == "amqp" and asked and "unknown" or nil, why = reading.why })
  cli.out:line(args.json and as_json(results, notes, status) or text)
  return nagios.CODES[status]
end

--- A check that could not be made says so where the monitoring system reads: on the first line of stdout.
function check.failed(failure, cli)
  local nagios = require "eventbus.cli.nagios"
  local status = failure.code == exit.UNREACHABLE and "critical" or "unknown"
  local message, hint = failure.message, failure.hint
  if hint and not hint:find("^Usage") then message = message .. " - " .. hint end
  -- A full disk: what cannot be said on stdout is said on stderr, with a code of the same meaning.
  if not pcall(cli.out.line, cli.out, nagios.failed(message, status)) then cli.err:line("eventbus: ", message) end
  return nagios.CODES[status]
end

return check
