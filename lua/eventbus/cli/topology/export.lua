--- eventbus topology export: a topology as RabbitMQ definitions.

local connection = require "eventbus.cli.connection"
local file = require "eventbus.cli.file"
local topologies = require "eventbus.cli.topologies"

local export = {}

function export.run(args, cli)
  local t = topologies.normal(args)
  local vhost = args.vhost or connection.parts(args).vhost
  local made = require("eventbus.topology.definitions").of(t, vhost, { policies = args.policies })
  file.output(cli, args.output, require("eventbus.cli.pretty").json(made,
    { "vhosts", "exchanges", "queues", "policies", "bindings", "name", "vhost", "source" }) .. "\n")
end

return export
