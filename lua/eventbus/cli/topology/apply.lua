--- eventbus topology apply: declares a topology. First it looks, so that it can say what it did, and so that a broker that
-- would refuse a part is left as it was. Without the management API it looks over AMQP, which tells less.

local argument = require "eventbus.topology.argument"
local connection = require "eventbus.cli.connection"
local diff = require "eventbus.topology.diff"
local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"
local plan = require "eventbus.cli.topology.plan"
local schema = require "eventbus.topology.schema"
local safe = require("eventbus.cli.text").safe
local topologies = require "eventbus.cli.topologies"

local apply = {}

-- What AMQP tells of queues and exchanges: whether they are there. Of bindings it tells nothing.
local function missing_by_amqp(bus, t)
  local list = {}
  local function look(entity, name, step, args)
    args.passive, args.record = true, false
    local ok, err = bus._hub:call(step, args)
    if ok then return end
    if err.code ~= "not_found" then exit.check(nil, err, ("cannot look for %s %s"):format(entity, name)) end
    list[#list + 1] = { action = "create", entity = entity, name = name }
  end
  for _, name in ipairs(schema.sorted_keys(t.exchanges)) do
    look("exchange", name, "exchange_declare", { exchange = name, type = t.exchanges[name].type })
  end
  for _, name in ipairs(schema.sorted_keys(t.queues)) do
    if not t.queues[name].exclusive then look("queue", name, "queue_declare", { queue = name }) end
  end
  return list
end

local function refuse(args, cli, list, name)
  if args.json then
    cli.out:line(assert(json.encode({ applied = false, differences = plan.array(list) }, { sort_keys = true })))
  else
    for _, d in ipairs(list) do
      if d.conflict then cli.out:paragraph(plan.line(cli.out, d), 4) end
    end
  end
  exit.fail(("%s cannot be declared; nothing was"):format(name), plan.REMEDY)
end

-- The broker's 406 in words, when nobody could foresee it.
local function declare(bus, t)
  local ok, err = bus:declare(t)
  if ok then return end
  if err.code == "precondition_failed" then exit.fail(err.message, plan.REMEDY) end
  exit.check(nil, err, "not all was declared")
end

local function tell(args, cli, t, name, list, knows_bindings)
  local created, names = json.array(), { exchange = 0, queue = 0, binding = 0 }
  for _, d in ipairs(list) do
    if d.action == "create" then
      created[#created + 1] = { entity = d.entity, name = d.name }
      names[d.entity] = names[d.entity] + 1
    end
  end
  local there = { exchanges = #schema.sorted_keys(t.exchanges) - names.exchange,
    queues = #schema.sorted_keys(t.queues) - names.queue,
    bindings = knows_bindings and #t.bindings - names.binding or nil }
  if args.json then
    return cli.out:line(assert(json.encode({ applied = true, created = created, there = there }, { sort_keys = true })))
  end
  for _, each in ipairs(created) do cli.out:line(cli.out:style("green", "+ "), each.entity, " ", safe(each.name)) end
  for _, d in ipairs(list) do
    if d.action == "differs" then
      cli.out:line(("~ %s %s keeps %s = %s"):format(d.entity, d.name, d.argument, argument.show(d.have)))
    end
  end
  cli.out:line(("%s: %d created; there before: %d exchanges, %d queues, %s"):format(name, #created, there.exchanges,
    there.queues, there.bindings and there.bindings .. " bindings"
      or "bindings unknown (the management API would tell)"))
end

function apply.run(args, cli)
  if args.dry_run then return plan.run(args, cli) end
  local t, name = topologies.normal(args)
  local api = connection.management(args)
  local state, why = api:state()
  local list
  if state then
    list = diff.compare(t, state)
    if diff.count(list).conflicts > 0 then refuse(args, cli, list, name) end
  end
  local bus = connection.open(args)
  if not state then
    cli.err:line("eventbus: looking over AMQP alone: ", why.message)
    list = missing_by_amqp(bus, t)
  end
  declare(bus, t)
  bus:close()
  tell(args, cli, t, name, list, state ~= nil)
end

return apply
