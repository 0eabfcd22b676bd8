--- The topology a command works on: the platform's, or that of `--topology FILE`.
-- FILE is Lua and returns a topology table (docs/reference.md), or a service that has one in its field `topology`.

local exit = require "eventbus.cli.exit"

local topologies = {}

--- Adds the option to a command of the parser.
---@param parser table
function topologies.option(parser)
  parser:option("--topology", "Lua file that returns a topology; default: the platform's."):argname("FILE")
end

--- The topology, its name for people, and the events published in it (the file's field `catalogue`, or nil); ends the
-- command when the file has none that can be meant.
---@param args table
---@return table topology, string name, table[]|nil catalogue
function topologies.load(args)
  if not args.topology then
    local platform = require "eventbus.platform"
    return platform.topology, "the platform's topology", platform.catalogue
  end
  local chunk, err = loadfile(args.topology)
  if not chunk then exit.misuse("--topology: " .. tostring(err)) end
  local ok, result = pcall(chunk)
  if not ok then exit.misuse("--topology: " .. tostring(result)) end
  local catalogue
  if type(result) == "table" and type(result.topology) == "table" then
    catalogue = type(result.catalogue) == "table" and result.catalogue or nil
    result = result.topology
  end
  if type(result) ~= "table" then
    exit.misuse(("--topology: %s returned a %s, not a table"):format(args.topology, type(result)))
  end
  local normal, mistake = require("eventbus.topology").check(result)
  if not normal then exit.misuse(("--topology: %s: %s"):format(args.topology, mistake)) end
  return result, args.topology, catalogue
end

--- The same, complete: eventbus.topology's normalised form. Ends the command for a wrong RABBITMQ_DLQ_TTL, too.
---@param args table
---@return table normalised, string name
function topologies.normal(args)
  local t, name = topologies.load(args)
  local normal, mistake = require("eventbus.topology").check(t)
  if not normal then exit.misuse(mistake) end
  return normal, name
end

return topologies
