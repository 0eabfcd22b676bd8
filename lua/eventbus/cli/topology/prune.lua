--- eventbus topology prune: removes what plan calls stale. It shows what, asks, and removes bindings first. A queue goes
-- only if it is empty and unused at that very moment, which the broker checks; what came in between is kept, queue and all.

local connection = require "eventbus.cli.connection"
local diff = require "eventbus.topology.diff"
local exit = require "eventbus.cli.exit"
local json = require "eventbus.json"
local plan = require "eventbus.cli.topology.plan"
local safe = require("eventbus.cli.text").safe
local terminal = require "eventbus.cli.terminal"
local topologies = require "eventbus.cli.topologies"

local prune = {}

local ORDER = { "binding", "queue", "exchange" }

-- Why a queue stays without --force, as far as it is known before.
local function why_kept(d)
  local q = d.queue
  if not q then return nil end
  if q.messages > 0 then return ("holds %d messages"):format(q.messages) end
  if q.consumers > 0 then return ("has %d consumers"):format(q.consumers) end
  if q.type ~= "classic" then
    return ("is a %s queue, which no broker removes only if it is empty"):format(q.type)
  end
end

-- What goes, in order, and what stays, each with why.
local function sort_out(list, force)
  local going, kept = {}, {}
  for _, entity in ipairs(ORDER) do
    for _, d in ipairs(list) do
      if d.action == "stale" and d.entity == entity then
        local why = not force and why_kept(d)
        if why then kept[#kept + 1] = { difference = d, why = why } else going[#going + 1] = d end
      end
    end
  end
  return going, kept
end

local function remove(api, d, force)
  if d.entity == "binding" then
    local b = d.binding
    return api:delete(api:path("bindings", "e", b.source, b.kind == "queue" and "q" or "e", b.destination,
      b.properties_key))
  end
  if d.entity == "exchange" then return api:delete(api:path("exchanges", d.name), "if-unused=true") end
  return api:delete(api:path("queues", d.name), not force and "if-empty=true&if-unused=true" or nil)
end

local function keep_line(each)
  return safe(("kept: %s %s %s"):format(each.difference.entity, each.difference.name, each.why))
end

local function show(cli, going, kept)
  for _, d in ipairs(going) do cli.out:paragraph(plan.line(cli.out, d), 4) end
  for _, each in ipairs(kept) do cli.out:line(keep_line(each), " (--force removes it)") end
end

local function agreed(args, cli, count)
  if args.yes then return true end
  if not terminal.new(io.stdin, 0).tty then
    exit.fail("nothing was removed: nobody is there to ask", "look at the list; --yes removes it")
  end
  cli.err:write(("Remove these %d? [y/N] "):format(count))
  cli.err:flush()
  local answer = io.stdin:read("*l")
  return answer ~= nil and answer:lower():match("^%s*y") ~= nil
end

-- Removes one after the other: what went, and what stayed after all. An interruption tells how far it got.
local function remove_all(args, cli, api, going, kept)
  local removed = json.array()
  local ok, raised = pcall(function()
    for _, d in ipairs(going) do
      local done, err = remove(api, d, args.force)
      if done or err.code == "not_found" then
        removed[#removed + 1] = { entity = d.entity, name = d.name }
        if not args.json then cli.out:line("removed: ", d.entity, " ", safe(d.name)) end
      else
        kept[#kept + 1] = { difference = d, why = err.code == "precondition_failed"
          and "is in use, or no longer empty" or "stays: " .. err.message }
        if not args.json then cli.out:line(keep_line(kept[#kept])) end
      end
    end
  end)
  if not ok then
    cli.err:line(("eventbus: ended after %d of %d removals"):format(#removed, #going))
    error(raised, 0)
  end
  return removed
end

function prune.run(args, cli)
  local t, name = topologies.normal(args)
  local api = connection.management(args)
  local list = diff.compare(t, plan.state(api), { whole = args.whole_vhost })
  local going, kept = sort_out(list, args.force)
  if not args.json then show(cli, going, kept) end
  local removed = json.array()
  if #going == 0 and #kept == 0 then
    if not args.json then cli.out:line(name, ": nothing is stale") end
  elseif args.dry_run then
    if not args.json then cli.out:line(("%d would be removed, %d kept"):format(#going, #kept)) end
  elseif #going > 0 then
    if args.json and not args.yes then exit.misuse("--json does not ask: add --yes, or --dry-run") end
    if not agreed(args, cli, #going) then exit.fail("nothing was removed") end
    removed = remove_all(args, cli, api, going, kept)
  end
  if args.json then
    local would, stays = json.array(), json.array()
    for i, d in ipairs(going) do would[i] = { entity = d.entity, name = d.name } end
    for i, each in ipairs(kept) do
      stays[i] = { entity = each.difference.entity, name = each.difference.name, why = each.why }
    end
    cli.out:line(assert(json.encode({ stale = would, removed = removed, kept = stays }, { sort_keys = true })))
  end
  if #kept > 0 and not args.dry_run then return exit.FAILED end
end

return prune
