--- eventbus topology lint: the findings of eventbus.topology.lint, for people and machines.

local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"
local safe = require("eventbus.cli.text").safe
local topologies = require "eventbus.cli.topologies"

local lint = {}

-- The platform's events, as far as a topology has their exchanges: its patterns can be asked about these.
local function events_for(t)
  local events = {}
  for _, event in ipairs(require("eventbus.platform").catalogue) do
    if type(t.exchanges) == "table" and t.exchanges[event.exchange] then events[#events + 1] = event end
  end
  return events
end

function lint.run(args, cli)
  local t, name, catalogue = topologies.given(args)
  local findings, counts = json.array(), { error = 0, warning = 0 }
  for _, finding in ipairs(require("eventbus.topology").lint(t, catalogue or events_for(t))) do
    if not (args.part and finding.code == "event-unrouted") then
      findings[#findings + 1] = finding
      counts[finding.severity] = counts[finding.severity] + 1
    end
  end
  if args.json then
    cli.out:line(assert(json.encode({ topology = name, findings = findings, errors = counts.error,
      warnings = counts.warning }, { sort_keys = true })))
  else
    for _, finding in ipairs(findings) do
      local label = finding.severity == "error" and cli.out:style("red", "error  ") or cli.out:style("yellow", "warning")
      local code = cli.out:style("dim", "[" .. finding.code .. "]")
      cli.out:paragraph(("%s  %s  %s"):format(label, safe(finding.message), code), 9)
    end
    cli.out:line(#findings == 0 and ("%s: nothing found"):format(name)
      or ("%s: errors: %d, warnings: %d"):format(name, counts.error, counts.warning))
  end
  if counts.error > 0 or (args.strict and counts.warning > 0) then return exit.FAILED end
end

return lint
