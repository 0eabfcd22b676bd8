--- eventbus monitor: a live view of the queues, worst first.

local connection = require "eventbus.cli.connection"
local exit = require "eventbus.cli.exit"
local topologies = require "eventbus.cli.topologies"

local monitor = { summary = "Watch the queues: depth, consumers, rates, alerts." }

-- A request of the live view may not hold up the keys for longer.
local LIMIT = 3

local function interval(text)
  local seconds, expected = connection.duration(text)
  if seconds and seconds < 0.1 then return nil, "expected 100ms or more, got " .. text end
  return seconds, expected
end

function monitor.define(parser)
  connection.options(parser)
  connection.management_option(parser)
  topologies.option(parser)
  parser:flag("--once", "Print one table and end.")
  parser:flag("--json", "One JSON value each interval, one a line.")
  parser:option("--interval", "Look again after so long; default 2s. The server's own statistics are renewed every 5s.")
    :argname("TIME"):convert(interval)
  parser:flag("--all", "All queues of the virtual host, not only the topology's (needs the management API).")
  parser:epilog([[
Keys: arrows, page up and down, home, end choose a queue; the last line says
what is wrong with it. Space looks again, q quits. Where the output is no
terminal, a table is printed each interval. The thresholds are those of
`eventbus check`.

  eventbus monitor
  eventbus monitor --once --json | jq '.queues[] | select(.severity != "ok")']])
end

-- A function that reads the gauges and judges them: results, reading; or nil, err.
local function looker(args, live)
  local alerts = require "eventbus.cli.alerts"
  local normal = require("eventbus.topology").normalise((topologies.load(args)))
  local names
  if not args.all then
    names = {}
    for name in pairs(normal.queues) do names[#names + 1] = name end
    table.sort(names)
    if #names == 0 then exit.misuse("the topology has no queues", "--all shows all of the virtual host") end
  end
  local source = require("eventbus.cli.gauges").new(args, { limit = live and LIMIT or nil })
  local function look()
    local reading, err = source:read(names)
    if not reading then return nil, err end
    local results = {}
    for name, gauge in pairs(reading.queues) do
      local limits = alerts.limits(normal.queues[name])
      -- Whether somebody should consume a queue of others, we cannot know.
      if not normal.queues[name] then limits.consumers = false end
      results[#results + 1] = { gauge = gauge, limits = limits, findings = alerts.judge(gauge, limits) }
    end
    return require("eventbus.cli.board").sort(results), reading
  end
  return look, source
end

local function as_json(results, reading)
  local alerts, json = require "eventbus.cli.alerts", require "eventbus.json"
  local list = json.array {}
  for i, result in ipairs(results) do
    local g, findings, trend = result.gauge, json.array {}, json.array {}
    for k, finding in ipairs(result.findings) do findings[k] = finding end
    for k, value in ipairs(g.trend) do trend[k] = value end
    list[i] = { queue = g.name, exists = not g.missing, ready = g.ready, unacked = g.unacked, consumers = g.consumers,
      rate_in = g.rate_in, rate_out = g.rate_out, trend = trend, state = g.state,
      severity = alerts.severity(result.findings), findings = findings }
  end
  return assert(json.encode({ at = os.date("!%Y-%m-%dT%H:%M:%SZ"), via = reading.via, note = reading.note,
    queues = list }, { sort_keys = true }))
end

local function print_table(out, results, reading, utf8)
  local board, alerts = require "eventbus.cli.board", require "eventbus.cli.alerts"
  local rows = { board.HEADER }
  for i, result in ipairs(results) do rows[i + 1] = board.cells(result, utf8) end
  out:rows(rows, { [3] = true, [4] = true, [5] = true, [6] = true, [7] = true })
  for _, result in ipairs(results) do
    for _, finding in ipairs(result.findings) do
      out:write(out:style(finding.severity == "critical" and "red" or "yellow",
        ("%s: %s"):format(require("eventbus.cli.text").safe(result.gauge.name, not utf8), finding.text)), "\n")
    end
  end
  if alerts.severity((results[1] or { findings = {} }).findings) == "ok" then out:write("all as they should be\n") end
  if reading.note then out:write(reading.note, reading.why and ": " .. reading.why or "", "\n") end
  out:flush()
end

-- In slices, so that Ctrl-C is heard.
local function sleep(seconds)
  local core = require "eventbus.core"
  local uv = require "luv"
  local till = core.now() + seconds
  while core.now() < till do uv.sleep(math.max(math.min(math.floor((till - core.now()) * 1000), 100), 1)) end
end

local function print_stream(args, cli, look, utf8)
  local json, first = require "eventbus.json", true
  while true do
    local results, reading = look()
    if not results and (first or args.once) then exit.check(results, reading) end
    if not results then
      local message = reading.message
      cli.err:line("eventbus: ", message)
      if args.json then
        cli.out:line(assert(json.encode({ at = os.date("!%Y-%m-%dT%H:%M:%SZ"), error = message }, { sort_keys = true })))
      end
    elseif args.json then
      cli.out:line(as_json(results, reading))
    else
      if not first then cli.out:write("\n") end
      if not args.once then cli.out:write(os.date("%H:%M:%S"), "\n") end
      print_table(cli.out, results, reading, utf8)
    end
    if args.once then return exit.OK end
    first = false
    sleep(args.interval or 2)
  end
end

local MOVES = { up = -1, down = 1, home = -math.huge, ["end"] = math.huge }

local function show_live(args, cli, look, utf8)
  local board, fullscreen = require "eventbus.cli.board", require "eventbus.cli.fullscreen"
  local results, reading = look()
  exit.check(results, reading)
  local view = { title = "eventbus  " .. connection.display(args), cursor = 1, top = 1 }
  local function take()
    view.clock = os.date("%H:%M:%S")
    if results then
      view.results, view.note, view.trouble, view.since = results, reading.note, nil, nil
      if reading.why then view.note = view.note .. ": " .. reading.why end
      return
    end
    view.since = view.since or view.clock
    view.trouble = ("nothing new since %s, trying again: %s"):format(view.since, reading.message)
  end
  take()
  local look_at = { utf8 = utf8, style = function(style, text) return cli.out:style(style, text) end }
  return fullscreen.run(cli.out, {
    interval = args.interval or 2,
    draw = function(width, height) return board.lines(view, width, height, look_at) end,
    tick = function()
      results, reading = look()
      take()
    end,
    key = function(name, height)
      local by = MOVES[name] or (name == "page up" and -1 or 1) * board.page(view, height)
      board.move(view, by, height)
    end,
  })
end

function monitor.run(args, cli)
  local live = cli.out.tty and not args.once and not args.json
  local utf8 = require("eventbus.cli.terminal").utf8()
  local look, source = looker(args, live)
  local show = live and show_live or print_stream
  local code = show(args, cli, look, utf8)
  source:close()
  return code
end

return monitor
