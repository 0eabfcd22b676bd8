--- eventbus topology plan: what differs between the topology and the broker. What the other actions share of it is here
-- too: the comparison itself, and a difference as a line.

local argument = require "eventbus.topology.argument"
local connection = require "eventbus.cli.connection"
local diff = require "eventbus.topology.diff"
local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"
local safe = require("eventbus.cli.text").safe
local topologies = require "eventbus.cli.topologies"

local plan = {}

local SIGN = { create = "+", refused = "!", differs = "~", stale = "-", note = "?" }
local STYLE = { create = "green", refused = "red", differs = "yellow", stale = "red", note = "dim" }

--- What the broker has; ends the command when its management API does not tell.
---@param api eventbus.Management
---@return eventbus.BrokerState
function plan.state(api)
  local state, err = api:state()
  if state then return state end
  if err.code == "connection" or err.code == "refused" then
    exit.unreachable(err.message, "the management API is needed: rabbitmq-plugins enable rabbitmq_management, a user with "
      .. "the tag management; its URL is --management or RABBITMQ_MANAGEMENT_URL")
  end
  if err.code == "not_found" then
    exit.fail(('%s: there is no virtual host "%s"'):format(api.display, api.vhost))
  end
  exit.fail(err.message)
end

--- A difference as a line.
---@param terminal eventbus.cli.Terminal
---@param d eventbus.Difference
---@return string
function plan.line(terminal, d)
  local text = ("%s %s %s"):format(SIGN[d.action], d.entity, d.name)
  if d.action == "differs" then
    text = ("%s: %s is %s on the broker, wanted %s"):format(text, d.argument, argument.show(d.have), argument.show(d.want))
    text = text .. (d.conflict and (d.argument == "exclusive" and " (405)" or " (406)") or " (the broker does not mind)")
  end
  if d.message then text = text .. ": " .. d.message end
  local q = d.queue
  if q and (q.messages > 0 or q.consumers > 0) then
    text = ("%s (messages: %d, consumers: %d)"):format(text, q.messages, q.consumers)
  end
  return terminal:style(STYLE[d.action], safe(text))
end

local function plain(difference)
  local result = {}
  for key, value in pairs(difference) do result[key] = value end
  if difference.binding then
    local b = {}
    for key, value in pairs(difference.binding) do b[key] = value end
    result.binding = b
  end
  return result
end

--- The differences as a JSON array.
---@param list eventbus.Difference[]
---@return table
function plan.array(list)
  local result = json.array()
  for i, difference in ipairs(list) do result[i] = plain(difference) end
  return result
end

local PARTS = { { "create", "to create" }, { "refused", "refused" }, { "differs", "different" }, { "stale", "stale" },
  { "note", "not counted" } }

--- "2 to create, 1 stale".
---@param counts table  of eventbus.topology.diff.count
---@return string
function plan.summary(counts)
  local parts = {}
  for _, part in ipairs(PARTS) do
    if counts[part[1]] > 0 then parts[#parts + 1] = ("%d %s"):format(counts[part[1]], part[2]) end
  end
  return table.concat(parts, ", ")
end

--- What to do about declarations that fail.
plan.REMEDY = [[
A queue or exchange keeps what it was declared with. Either the topology says what the broker has;
or what policies can set (TTLs, lengths, dead-lettering, limits) goes from the declarations into
policies: eventbus topology export --policies; or, once it is empty and unused, it is deleted and
declared again: eventbus topology apply.]]

--- Shows the differences between a normalised topology and what a broker has; the counts.
---@return table counts
function plan.show(args, cli, t, name, api, state)
  local list = diff.compare(t, state, { whole = args.whole_vhost })
  local counts = diff.count(list)
  local place = ("%s, virtual host %s"):format(api.display, api.vhost)
  if args.json then
    cli.out:line(assert(json.encode({ topology = name, broker = api.display, vhost = api.vhost,
      differences = plan.array(list), counts = counts }, { sort_keys = true })))
    return counts
  end
  for _, d in ipairs(list) do cli.out:paragraph(plan.line(cli.out, d), 4) end
  if counts.conflicts > 0 then cli.out:paragraph(cli.out:style("dim", (plan.REMEDY:gsub("\n", " "))), 0) end
  local summary = plan.summary(counts)
  cli.out:paragraph(("%s against %s: %s"):format(name, place, #list - counts.note == 0 and "no difference"
    .. (counts.note > 0 and (" (%s)"):format(summary) or "") or summary), 4)
  return counts
end

function plan.run(args, cli)
  local t, name = topologies.normal(args)
  local api = connection.management(args)
  local counts = plan.show(args, cli, t, name, api, plan.state(api))
  if counts.create + counts.refused + counts.differs + counts.stale > 0 then return exit.FAILED end
end

return plan
