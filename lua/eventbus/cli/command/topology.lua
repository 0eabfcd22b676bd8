--- eventbus topology: lint, plan, apply, prune, graph, export. One file each under eventbus/cli/topology.

local connection = require "eventbus.cli.connection"
local file = require "eventbus.cli.file"
local topologies = require "eventbus.cli.topologies"

local topology = { summary = "Check, compare, apply, prune, draw and export a topology." }

local JSON = "Print one JSON value."

-- argparse breaks the lines itself.
local function flow(text) return (text:gsub("\n", " ")) end

local function action(parser, name, summary, description, examples)
  local sub = parser:command(name, flow(description)):summary(summary)
  topologies.option(sub)
  if examples then sub:epilog("Examples:\n" .. examples) end
  return sub
end

local function whole_option(sub)
  sub:flag("--whole-vhost", "The topology is all of the virtual host: whatever it does not name is stale.")
end

function topology.define(parser)
  parser:require_command(true):command_target("action")
  parser:epilog(flow [[
A topology is a Lua table of exchanges, queues and bindings; without --topology it is the platform's. Queues of dead letters
keep them for RABBITMQ_DLQ_TTL milliseconds (a day unless set; 0 for good).]])

  local lint = action(parser, "lint", "Find what a broker accepts and what then never works.", [[
Find what a broker accepts and what then never works; no broker is asked. Exit code 1 when there are errors.]],
    "  eventbus topology lint --topology bot.lua --strict")
  lint:flag("--strict", "Exit with 1 for warnings, too.")
  lint:flag("--part", "The file is a part of a larger topology: events that reach no queue of it are no finding.")
  lint:flag("--json", JSON)

  local plan = action(parser, "plan", "Compare with the broker; name every difference.", [[
Compare with the broker through its management API and name every difference. Like diff: exit code 0 when there is none,
1 when there are. + is to be created, ~ differs (with 406 when declaring it would fail), ! is refused by any broker, - is
stale, ? is not counted: what is not the topology's own but touches it.]],
    "  eventbus topology plan --json | jq .differences")
  connection.options(plan)
  connection.management_option(plan)
  whole_option(plan)
  plan:flag("--json", JSON)

  local apply = action(parser, "apply", "Declare it on the broker; idempotent.", [[
Declare the topology: what is missing is created, what is there stays. When the broker would refuse anything, nothing is
declared and it says what to do. Removes nothing (see prune).]], "  eventbus topology apply --dry-run")
  connection.options(apply)
  connection.management_option(apply)
  apply:flag("--dry-run", "Only show what would be done: the same as plan.")
  apply:flag("--json", JSON)

  local prune = action(parser, "prune", "Remove what plan calls stale, after showing it.", [[
Remove what plan calls stale: bindings first, then queues, then exchanges. Shows it first, and asks on a terminal. A queue
with messages or consumers stays unless --force; the broker itself makes sure, at the moment of the removal.]],
    "  eventbus topology prune --dry-run\n  eventbus topology prune --yes")
  connection.options(prune)
  connection.management_option(prune)
  whole_option(prune)
  prune:flag("--dry-run", "Only show what would be removed.")
  prune:flag("-y --yes", "Do not ask.")
  prune:flag("--force", "Remove queues with their messages and consumers, too.")
  prune:flag("--json", JSON)

  local graph = action(parser, "graph", "Draw it: Graphviz, SVG or Mermaid.", [[
Draw exchanges, queues, bindings, dead-letter and retry edges. No broker is asked. SVG needs Graphviz.]], [[
  eventbus topology graph --format svg -o topology.svg
  eventbus topology graph --format mermaid >> README.md]])
  graph:option("--format", "dot, svg or mermaid; default: by the ending of the file, else dot.")
    :choices { "dot", "svg", "mermaid" }
  graph:flag("--no-retries", "Without the retry edges.")
  file.option(graph)

  local export = action(parser, "export", "RabbitMQ definitions, for rabbitmqctl import_definitions.", [[
Print the topology as RabbitMQ definitions (JSON), as rabbitmqctl import_definitions and the management API take them.]], [[
  eventbus topology export -o broker.json
  rabbitmqctl import_definitions broker.json]])
  export:flag("--policies", "What policies can say (TTLs, lengths, dead-lettering, delivery limits) as policies, so that "
    .. "operators can change it; the queues are then declared without it.")
  export:option("--vhost", "Virtual host; default: that of the broker's URL."):argname("NAME")
  export:option("--url", "AMQP URL, for the virtual host; default: $RABBITMQ_URL."):argname("URL")
  file.option(export)
end

function topology.run(args, cli)
  return require("eventbus.cli.topology." .. args.action).run(args, cli)
end

return topology
