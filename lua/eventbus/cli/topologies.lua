--- The topology a command works on: the platform's, or that of `--topology FILE`.
-- FILE is Lua and returns a topology table (docs/reference.md), or a service that has one in its field `topology`.

local exit = require "eventbus.cli.exit"

local topologies = {}

--- Adds the option to a command of the parser.
---@param parser table
function topologies.option(parser)
  parser:option("--topology", "Lua file that returns a topology; default: the platform's."):argname("FILE")
end

--- The topology as it is given, its name for people, and the events published in it (the file's field `catalogue`, or
-- nil); ends the command when the file returns no table.
---@param args table
---@return table topology, string name, table[]|nil catalogue
function topologies.given(args)
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
  return result, args.topology, catalogue
end

--- The topology, complete (eventbus.topology's normalised form), its name for people, and the topology as it is given; ends
-- the command when it cannot be meant, or RABBITMQ_DLQ_TTL cannot.
---@param args table
---@return table normalised, string name, table topology
function topologies.normal(args)
  local t, name = topologies.given(args)
  local normal, mistake = require("eventbus.topology").check(t)
  if not normal then exit.misuse(args.topology and ("--topology: %s: %s"):format(name, mistake) or mistake) end
  return normal, name, t
end

--- The same, as it is given. The file is read once: it may be a pipe.
---@param args table
---@return table topology, string name
function topologies.load(args)
  local _, name, t = topologies.normal(args)
  return t, name
end

return topologies
