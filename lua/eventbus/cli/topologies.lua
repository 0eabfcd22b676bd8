--- The topology a command works on: the platform's, or that of `--topology FILE`.
-- FILE is Lua and returns a topology table (docs/reference.md), or a service that has one in its field `topology`.

local exit = require "eventbus.cli.exit"

local topologies = {}

--- Adds the option to a command of the parser.
---@param parser table
function topologies.option(parser)
  parser:option("--topology", "Lua file that returns a topology; default: the platform's."):argname("FILE")
end

--- The topology and its name for people; ends the command when the file has none that can be meant.
---@param args table
---@return table topology, string name
function topologies.load(args)
  if not args.topology then return require("eventbus.platform").topology, "the platform's topology" end
  local chunk, err = loadfile(args.topology)
  if not chunk then exit.misuse("--topology: " .. tostring(err)) end
  local ok, result = pcall(chunk)
  if not ok then exit.misuse("--topology: " .. tostring(result)) end
  if type(result) == "table" and type(result.topology) == "table" then result = result.topology end
  if type(result) ~= "table" then
    exit.misuse(("--topology: %s returned a %s, not a table"):format(args.topology, type(result)))
  end
  local normal, mistake = require("eventbus.topology").check(result)
  if not normal then exit.misuse(("--topology: %s: %s"):format(args.topology, mistake)) end
  return result, args.topology
end

return topologies
