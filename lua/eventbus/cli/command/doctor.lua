--- eventbus doctor: looks at the broker from a client's side and says what to change. The looking is done by the files
-- under eventbus/cli/doctor, each at one thing.

local connection = require "eventbus.cli.connection"
local exit = require "eventbus.cli.exit"
local topologies = require "eventbus.cli.topologies"

local doctor = { summary = "Is the broker reachable, safe and in order? What to change." }

function doctor.define(parser)
  connection.options(parser)
  connection.management_option(parser)
  topologies.option(parser)
  parser:flag("--json", "Print one JSON value.")
  parser:epilog("Exit codes: 0 all is well, 1 something to change, 3 no broker. Nothing is changed by looking. "
    .. "Without the management API it says what it could not see.")
end

-- The management API, when there is one that answers this user.
local function management_of(report, args)
  local api = connection.management(args)
  local state, err = api:state()
  if state then return api, state end
  report:unseen("management", "alarms, nodes, policies, arguments, bindings: " .. err.message,
    "rabbitmq-plugins enable rabbitmq_management, a user with the tag monitoring, --management URL")
end

local function look_at_timeout(report)
  report:unseen("ack timeout", "the broker's consumer_timeout, 30 minutes unless rabbitmq.conf says otherwise: "
    .. "a handler that takes longer loses its channel, and the event comes again",
    "rabbitmqctl environment | grep consumer_timeout")
end

function doctor.run(args, cli)
  local report = require("eventbus.cli.doctor.report").new()
  local topology = topologies.normal(args)
  local display, user = connection.display(args), connection.parts(args).user
  local bus = require("eventbus.cli.doctor.reach").go(report, args)
  if not bus then
    report:write(cli, args, display)
    return exit.UNREACHABLE
  end
  local server, entities = require "eventbus.cli.doctor.server", require "eventbus.cli.doctor.entities"
  server.by_amqp(report, bus)
  local api, state = management_of(report, args)
  if api then server.by_management(report, api) end
  require("eventbus.cli.doctor.permissions").look(report, bus, api, user, topology)
  if state then entities.by_management(report, topology, state) else entities.by_amqp(report, topology, bus) end
  look_at_timeout(report)
  bus:close()
  report:write(cli, args, display)
  if report.counts.warn + report.counts.error > 0 then return exit.FAILED end
end

return doctor
