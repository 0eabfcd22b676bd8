--- eventbus topology graph: a picture of a topology. Graphviz' program `dot` makes the SVG.

local config = require "eventbus.config"
local exit = require "eventbus.cli.exit"
local file = require "eventbus.cli.file"
local graphs = require "eventbus.topology.graph"
local retry = require "eventbus.retry"
local topologies = require "eventbus.cli.topologies"

local graph = {}

-- Of consumers that say nothing else: RABBITMQ_RETRY_COUNT and RABBITMQ_RETRY_DELAY.
local function policy_of_environment()
  local settings, mistake = config.resolve {}
  if not settings then exit.misuse(mistake) end
  local policy, why = retry.policy(nil, settings.retry)
  if not policy then exit.misuse(why) end
  return policy
end

local function has_graphviz()
  local result = os.execute("command -v dot >/dev/null 2>&1")
  return result == true or result == 0
end

local function svg(text)
  if not has_graphviz() then
    exit.fail("SVG needs Graphviz, whose program dot is not installed",
      "apt-get install graphviz (dnf, brew, apk: graphviz); --format dot or mermaid needs nothing")
  end
  local source, drawn = os.tmpname(), os.tmpname()
  local ok, result = pcall(function()
    file.write(source, text)
    local pipe = assert(io.popen(("dot -Tsvg -o '%s' '%s' 2>&1; echo \"rc=$?\""):format(drawn, source), "r"))
    local said = pipe:read("*a")
    pipe:close()
    local complaint, code = said:match("^(.*)rc=(%d+)\n$")
    if code ~= "0" then exit.fail("Graphviz could not draw it: " .. (complaint or said)) end
    local handle = assert(io.open(drawn, "rb"))
    local bytes = handle:read("*a")
    handle:close()
    return bytes
  end)
  os.remove(source)
  os.remove(drawn)
  if not ok then error(result, 0) end
  return result
end

local function format_of(args)
  if args.format then return args.format end
  local ending = (args.output or ""):match("%.(%w+)$")
  local known = { svg = "svg", mmd = "mermaid", mermaid = "mermaid", dot = "dot", gv = "dot" }
  if not ending or known[ending] then return known[ending] or "dot" end
  exit.misuse(("-o %s: no format of that ending"):format(args.output), "say --format dot, svg or mermaid")
end

function graph.run(args, cli)
  local format = format_of(args)
  local t, name = topologies.normal(args)
  local made = graphs.of(t, not args.no_retries and policy_of_environment() or nil)
  local text
  if format == "mermaid" then
    text = require("eventbus.topology.mermaid").text(made, name)
  else
    text = require("eventbus.topology.dot").text(made, name)
    if format == "svg" then text = svg(text) end
  end
  file.output(cli, args.output, text)
end

return graph
